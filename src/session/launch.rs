//! Starting a session's agent, or finding the one that is there: the command line's side.
//!
//! Who wants a session holds the lock of the `sessions` directory while looking and creating, so there is one agent
//! to an identity. The new agent inherits three open files: the lock that is its life (taken here, so the session is
//! never seen without an owner), the listening socket (so callers can connect before the agent runs), and one end of
//! a socket pair whose other end is its creator (so an agent whose creator dies at any moment knows).

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use super::record::Record;
use super::socket::ShortPath;
pub use super::socket::connect;
use super::state::{LEFT, NEW, SessionDirectory, StateDirectory};
use super::{SessionError, lookup};
use crate::cluster::tenancy::record::Lodged;

/// A session's agent that can be spoken to.
#[derive(Debug)]
pub enum Agent {
    /// There was none: started now. The stream is its creator's, and closing it before ready ends the session.
    Created(UnixStream),
    /// It was there.
    Found(UnixStream),
    /// It is there no more but for its process's last moments: [`wait_until_gone`], then ask again.
    Ending,
}

/// This same program. Not `current_exe()`: that names a path, at which another build may be by now.
pub const THIS_PROGRAM: &str = "/proc/self/exe";

/// Finds the session of this record's identity, or starts its agent: `program` is an envctl.
///
/// # Errors
/// When the state directory refuses, or the agent's program cannot be started; nothing is left then.
pub fn open_or_create(state: &StateDirectory, record: &Record, program: &Path) -> Result<Agent, SessionError> {
    let guard = lock_sessions(state)?;
    sweep_locked(state)?;
    let directory = state.session(&record.id);
    if directory.is_live() {
        return match connect(&directory) {
            Ok(stream) => Ok(Agent::Found(stream)),
            Err(SessionError::Io { source, .. }) if source.kind() == io::ErrorKind::ConnectionRefused => {
                Ok(Agent::Ending)
            }
            Err(error) => Err(error),
        };
    }
    let fresh = SessionDirectory(state.sessions().join(format!("{NEW}{}", record.id)));
    let created = create(&fresh, &directory, record, program);
    if created.is_err() {
        remove(fresh.path());
        remove(directory.path());
    }
    drop(guard);
    created.map(Agent::Created)
}

/// A session whose agent is gone without anybody having asked for it: what its files told before they were removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dead {
    /// Its id.
    pub id: String,
    /// Its project, where its record could still be read.
    pub root: Option<PathBuf>,
    /// Why, one sentence.
    pub why: String,
    /// Whether it has something on a cluster that is still there ([`left`]).
    pub left: bool,
}

/// Removes the files of sessions whose agent is gone; the kernel has taken everything else. Returns which sessions were found dead. The
/// files of those that have something on a cluster are kept until that is gone too: [`left`].
///
/// # Errors
/// When the state directory refuses.
pub fn sweep(state: &StateDirectory) -> Result<Vec<Dead>, SessionError> {
    // The usual case takes no lock: nothing is dead.
    if state.all()?.iter().all(|directory| directory.is_left() || directory.is_live()) {
        return Ok(Vec::new());
    }
    let _guard = lock_sessions(state)?;
    sweep_locked(state)
}

fn sweep_locked(state: &StateDirectory) -> Result<Vec<Dead>, SessionError> {
    let mut swept = Vec::new();
    for dead in state.all()?.into_iter().filter(|directory| !directory.is_live()) {
        if dead.is_left() {
            continue;
        }
        if dead.is_new() {
            // Its maker was killed: there has been no session to tell of.
            fs::remove_dir_all(dead.path()).map_err(SessionError::io("remove", dead.path()))?;
            continue;
        }
        let record = dead.record().ok();
        if let Some(record) = &record {
            lookup::clear_current(&record.root, &record.id);
        }
        // An agent that is killed can't say why.
        let why = fs::read_to_string(dead.why_ended()).unwrap_or_else(|_killed| "its agent was killed".to_owned());
        let why = match crate::embedded::sweep_engine(dead.path()) {
            Ok(()) => why,
            Err(error) => format!(
                "{why}; containers of it may be left in the Docker engine (`docker ps -a --filter label={}={}`): {error}",
                crate::embedded::ENGINE_LABEL,
                dead.path().display()
            ),
        };
        let id = dead.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
        let left = Lodged::is_in(dead.path());
        if left {
            // Out of the way of the next session of this identity.
            let aside = state.sessions().join(format!("{LEFT}{id}-{}", uuid::Uuid::new_v4().simple()));
            fs::rename(dead.path(), &aside).map_err(SessionError::io("move", dead.path()))?;
        } else {
            fs::remove_dir_all(dead.path()).map_err(SessionError::io("remove", dead.path()))?;
        }
        swept.push(Dead { id, root: record.map(|record| record.root), why, left });
    }
    Ok(swept)
}

/// Removes a session's directory, by its agent, as its last act.
///
/// # Errors
/// When the state directory refuses.
pub fn remove_own(state: &StateDirectory, directory: &SessionDirectory) -> Result<(), SessionError> {
    let _guard = lock_sessions(state)?;
    if Lodged::is_in(directory.path()) {
        // The next command's sweep puts this aside.
        let why = "it was taken down, but something of it is still on its cluster";
        return fs::write(directory.why_ended(), why).map_err(SessionError::io("write", directory.why_ended()));
    }
    fs::remove_dir_all(directory.path()).map_err(SessionError::io("remove", directory.path()))
}

/// What dead sessions left on clusters, put aside by [`sweep`].
///
/// # Errors
/// When the state directory refuses.
pub fn left(state: &StateDirectory) -> Result<Vec<SessionDirectory>, SessionError> {
    sweep(state)?;
    Ok(state.all()?.into_iter().filter(SessionDirectory::is_left).collect())
}

/// Forgets what a dead session left: it is gone from its cluster.
///
/// # Errors
/// When the state directory refuses.
pub fn forget_left(state: &StateDirectory, directory: &SessionDirectory) -> Result<(), SessionError> {
    let _guard = lock_sessions(state)?;
    match fs::remove_dir_all(directory.path()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(SessionError::io("remove", directory.path())(error))
        }
        _ => Ok(()),
    }
}

/// Removes everything in a session's directory but its record and, instead of itself, why it ended: by an agent whose
/// session nobody asked to end, as its last act. The next command tells, and removes the rest.
///
/// # Errors
/// When the state directory refuses.
pub fn leave_word(state: &StateDirectory, directory: &SessionDirectory, why: &str) -> Result<(), SessionError> {
    let _guard = lock_sessions(state)?;
    if Lodged::is_in(directory.path()) {
        // Something is still on a cluster: the next command puts this aside, and tells why with it.
        return fs::write(directory.why_ended(), why).map_err(SessionError::io("write", directory.why_ended()));
    }
    let entries = fs::read_dir(directory.path()).map_err(SessionError::io("read", directory.path()))?;
    for entry in entries.filter_map(Result::ok).filter(|entry| entry.path() != directory.record_path()) {
        let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let removed = if is_directory { fs::remove_dir_all(entry.path()) } else { fs::remove_file(entry.path()) };
        removed.map_err(SessionError::io("remove", entry.path()))?;
    }
    fs::write(directory.why_ended(), why).map_err(SessionError::io("write", directory.why_ended()))
}

/// Blocks until the agent of a session is gone. At once where there is none.
///
/// # Errors
/// When the lock cannot be waited for.
pub fn wait_until_gone(directory: &SessionDirectory) -> Result<(), SessionError> {
    match File::open(directory.lock()) {
        Ok(lock) => wait_until_free(&lock, directory),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(SessionError::io("open", directory.lock())(error)),
    }
}

/// Blocks until the agent that holds this (already opened) lock file is gone.
///
/// # Errors
/// When the lock cannot be waited for.
pub fn wait_until_free(lock: &File, directory: &SessionDirectory) -> Result<(), SessionError> {
    lock.lock_shared().map_err(SessionError::io("wait for", directory.lock()))
}

/// The same for a lock that was opened while the agent still lived. It removes the file before it is gone, so who opens it only then finds
/// nothing to wait for; where it could not be opened, that is all there is.
///
/// # Errors
/// When the lock cannot be waited for.
pub fn wait_for_end(opened: &io::Result<File>, directory: &SessionDirectory) -> Result<(), SessionError> {
    match opened {
        Ok(lock) => wait_until_free(lock, directory),
        Err(_already_gone) => wait_until_gone(directory),
    }
}

/// The lock under which session directories come and go: that of their parent itself.
fn lock_sessions(state: &StateDirectory) -> Result<File, SessionError> {
    let sessions = state.sessions();
    DirBuilder::new().recursive(true).mode(0o700).create(&sessions).map_err(SessionError::io("create", &sessions))?;
    let file = File::open(&sessions).map_err(SessionError::io("open", &sessions))?;
    file.lock().map_err(SessionError::io("lock", &sessions))?;
    Ok(file)
}

fn create(
    fresh: &SessionDirectory,
    directory: &SessionDirectory,
    record: &Record,
    program: &Path,
) -> Result<UnixStream, SessionError> {
    let private = |path: &Path| {
        OpenOptions::new()
            .append(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(SessionError::io("create", path))
    };
    DirBuilder::new().mode(0o700).create(fresh.path()).map_err(SessionError::io("create", fresh.path()))?;
    let lock = private(&fresh.lock())?;
    lock.lock().map_err(SessionError::io("lock", fresh.lock()))?;
    let log = private(&fresh.log())?;
    record.write(&fresh.record_path())?;
    let short = ShortPath::of(fresh)?;
    let listener = UnixListener::bind(&short.socket).map_err(SessionError::io("listen on", fresh.socket()))?;
    let (creator, agents_end) = UnixStream::pair().map_err(SessionError::io("make a socket for", directory.path()))?;
    fs::rename(fresh.path(), directory.path()).map_err(SessionError::io("create", directory.path()))?;
    spawn(directory, [lock.into(), listener.into(), agents_end.into()], log, program)?;
    Ok(creator)
}

/// glibc's settings of a process; a user's own are left as they are.
const TUNABLES: &str = "GLIBC_TUNABLES";
/// Objects are read and dropped by the hundred: with glibc's 7 pieces a size in a thread's cache, every other one is sought in an arena that
/// threads share. (Another C library knows nothing of this.)
const CACHES: &str = "glibc.malloc.tcache_count=1000";

/// Starts the program as an agent, detached from the terminal and from this process.
fn spawn(directory: &SessionDirectory, inherited: [OwnedFd; 3], log: File, program: &Path) -> Result<(), SessionError> {
    let cannot_start = || SessionError::io("start the agent from", program);
    let mut command = Command::new(program);
    command.arg0("envctl").arg("__agent").arg(directory.path());
    let numbers = inherited.each_ref().map(AsRawFd::as_raw_fd);
    command.args(numbers.map(|number| number.to_string()));
    let second = log.try_clone().map_err(cannot_start())?;
    command.stdin(Stdio::null()).stdout(log).stderr(second).current_dir("/");
    if std::env::var_os(TUNABLES).is_none() {
        command.env(TUNABLES, CACHES);
    }
    // In the child only: another child of this process that held the lock would make a dead session look live.
    let become_agent = move || {
        nix::unistd::setsid()?;
        // Whatever else the caller happened to have open (a pipe that someone reads to its end) must not live on in the agent.
        // SAFETY: the call only marks descriptors of this process; a kernel without it (before 5.11) refuses.
        unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
        for number in numbers {
            // SAFETY: `inherited` is open until after the spawn.
            let file = unsafe { BorrowedFd::borrow_raw(number) };
            fcntl(file, FcntlArg::F_SETFD(FdFlag::empty()))?;
        }
        Ok(())
    };
    // SAFETY: setsid, close_range and fcntl are async-signal-safe, and nothing else happens between fork and exec.
    unsafe {
        command.pre_exec(become_agent);
    }
    // The child is not waited for: it outlives this process, and its end is seen by its lock.
    let spawned = command.spawn().map(drop).map_err(cannot_start());
    drop(inherited);
    spawned
}

fn remove(path: &Path) {
    // Best effort after another failure, which is the one to report; the next command sweeps what is left.
    let _next_command_sweeps = fs::remove_dir_all(path);
}
