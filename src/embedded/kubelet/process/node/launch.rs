//! From a prepared process to a running program, and on to its end: the same for a container's first program and for
//! an exec. The caller stays as the program's parent: it forwards signals and reaps.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, open};
use nix::libc;
use nix::pty::{PtyMaster, grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, pthread_sigmask};
use nix::sys::stat::{Mode, umask};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{
    Gid, Pid, Uid, chdir, dup2_stderr, dup2_stdin, dup2_stdout, execve, fchown, pipe2, read, setsid, write,
};

use super::super::super::runtime::ExitStatus;
use super::super::sys;
use super::super::wire::{Channel, During, Failure, Progress};
use super::identity::Identity;
use super::namespaces::Privilege;

/// Standing for SIGKILL towards the parent of an exec'd program, which must outlive the program.
pub const KILL_PROGRAM: i32 = 64;
/// Open files a program may have without asking: what containers commonly start with.
const OPEN_FILES: u64 = 1 << 20;
/// What a `PATH` is if the environment has none.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The standard streams of a program.
#[derive(Debug)]
pub enum Stdio {
    /// Input, output, error.
    Pipes([OwnedFd; 3]),
    /// One terminal, opened in the container.
    Terminal,
}

/// A program about to be started in the caller's namespaces.
pub struct Launch<'a> {
    /// Program and arguments.
    pub argv: &'a [String],
    /// The whole environment.
    pub env: Vec<(String, String)>,
    /// Where it starts.
    pub working_dir: &'a Path,
    /// Who it runs as.
    pub identity: Identity,
    /// Whether the caller could have become anyone.
    pub privilege: Privilege,
    /// What could not be given as asked.
    pub warnings: Vec<String>,
}

impl Launch<'_> {
    /// Starts the program, reports that, waits for its end, reports that. Gives the caller's exit code.
    pub fn run(self, channel: &Channel, stdio: Stdio) -> i32 {
        let started = self.start(channel, stdio);
        let program = match started {
            Ok(program) => program,
            Err(failure) => {
                let _node_gone = channel.send(&Progress::Failed(failure), &[]);
                return 1;
            }
        };
        let status = attend(program);
        let _node_gone = channel.send(&Progress::Ended(status), &[]);
        0
    }

    fn start(&self, channel: &Channel, stdio: Stdio) -> Result<Pid, Failure> {
        let (terminal, streams) = match stdio {
            Stdio::Pipes(pipes) => {
                // So that a program that isn't root can open /dev/stdout anew.
                for fd in &pipes {
                    let _refused =
                        fchown(fd, Some(Uid::from_raw(self.identity.uid)), Some(Gid::from_raw(self.identity.gid)));
                }
                (None, pipes)
            }
            Stdio::Terminal => {
                let (terminal, other) = open_terminal(&self.identity).during(|| "opening a terminal".to_owned())?;
                let same = || other.try_clone().during(|| "opening a terminal".to_owned());
                let streams = [same()?, same()?, other];
                (Some(terminal), streams)
            }
        };
        let (report, reporter) = pipe2(OFlag::O_CLOEXEC).during(|| "making a pipe".to_owned())?;
        let all = SigSet::all();
        pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&all), None).during(|| "blocking signals".to_owned())?;
        let (pid, _pidfd) = sys::fork(0, || {
            let failure = self.become_program(&streams, terminal.is_some());
            let message = serde_json::to_vec(&failure).unwrap_or_default();
            let _parent_gone = write(&reporter, &message);
            127
        })
        .during(|| "forking".to_owned())?;
        drop(reporter);
        drop(streams);
        let mut message = Vec::new();
        let mut part = [0; 1024];
        loop {
            match read(&report, &mut part) {
                Ok(0) => break,
                Ok(length) => message.extend_from_slice(&part[..length]),
                Err(nix::errno::Errno::EINTR) => {}
                Err(error) => return Err(error).during(|| "waiting for exec".to_owned()),
            }
        }
        if !message.is_empty() {
            let _reaped = waitpid(Pid::from_raw(pid), None);
            let failure = serde_json::from_slice(&message);
            return Err(failure.unwrap_or(Failure::Sandbox { what: "starting a program".to_owned(), errno: libc::EIO }));
        }
        let fds: Vec<_> = terminal.iter().map(AsFd::as_fd).collect();
        channel
            .send(&Progress::Started { warnings: self.warnings.clone() }, &fds)
            .during(|| "reporting a start".to_owned())?;
        Ok(Pid::from_raw(pid))
    }

    /// In the child: everything up to `execve`. Returns only on failure.
    fn become_program(&self, streams: &[OwnedFd; 3], terminal: bool) -> Failure {
        match self.try_become(streams, terminal) {
            Ok(never) => match never {},
            Err(failure) => failure,
        }
    }

    fn try_become(&self, streams: &[OwnedFd; 3], terminal: bool) -> Result<std::convert::Infallible, Failure> {
        setsid().during(|| "starting a session".to_owned())?;
        dup2_stdin(&streams[0])
            .and_then(|()| dup2_stdout(&streams[1]))
            .and_then(|()| dup2_stderr(&streams[2]))
            .during(|| "connecting the standard streams".to_owned())?;
        if terminal {
            sys::set_controlling_terminal(std::io::stdin().as_fd()).during(|| "taking the terminal".to_owned())?;
        }
        sys::close_on_exec_from(3);
        umask(Mode::from_bits_truncate(0o022));
        limit_open_files();
        // Before and after the change of user, as runc does: either may lack the permission.
        let entered = chdir(self.working_dir);
        self.identity.assume(self.privilege)?;
        if entered.is_err() {
            chdir(self.working_dir).during(|| format!("changing to {}", self.working_dir.display()))?;
        }
        sys::reset_signal_handlers();
        let none = SigSet::empty();
        pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&none), None).during(|| "unblocking signals".to_owned())?;
        Err(self.exec())
    }

    /// `execvpe` with the container's own `PATH`, and with precise answers.
    fn exec(&self) -> Failure {
        let Some(program) = self.argv.first().filter(|program| !program.is_empty()) else {
            return Failure::CommandNotFound { program: String::new(), searched: "an empty command".to_owned() };
        };
        let strings = |items: Vec<String>| items.into_iter().map(CString::new).collect::<Result<Vec<_>, _>>();
        let env = self.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let (Ok(argv), Ok(env)) = (strings(self.argv.to_vec()), strings(env)) else {
            return Failure::NotExecutable { program: program.clone(), errno: libc::EINVAL };
        };
        let path = self.env.iter().find(|(name, _)| name == "PATH").map_or(DEFAULT_PATH, |(_, value)| value);
        let candidates: Vec<PathBuf> = if program.contains('/') {
            vec![PathBuf::from(program)]
        } else {
            path.split(':')
                .map(|directory| Path::new(if directory.is_empty() { "." } else { directory }).join(program))
                .collect()
        };
        let mut refused = None;
        for candidate in &candidates {
            let Ok(file) = CString::new(candidate.as_os_str().as_encoded_bytes()) else { continue };
            let Err(error) = execve(&file, &argv, &env);
            // An existing file whose interpreter is missing also answers ENOENT.
            if candidate.exists() && !(candidate.is_dir() && candidates.len() > 1) {
                refused = Some(error as i32);
            }
            if !matches!(error as i32, libc::ENOENT | libc::ENOTDIR | libc::EACCES) {
                refused = Some(error as i32);
                break;
            }
        }
        match refused {
            Some(errno) => Failure::NotExecutable { program: program.clone(), errno },
            None => {
                let searched = if candidates.len() > 1 || !program.contains('/') {
                    format!("$PATH ({path})")
                } else {
                    self.working_dir.join(program).parent().unwrap_or(Path::new("/")).display().to_string()
                };
                Failure::CommandNotFound { program: program.clone(), searched }
            }
        }
    }
}

/// Forwards signals to `program` and reaps whatever ends, until the program does.
fn attend(program: Pid) -> ExitStatus {
    let all = SigSet::all();
    loop {
        // Before the first wait: the program may have ended while its start was being reported.
        loop {
            match waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) if pid == program => return ExitStatus::Code(code),
                Ok(WaitStatus::Signaled(pid, signal, _)) if pid == program => return ExitStatus::Signal(signal as i32),
                Ok(WaitStatus::StillAlive) | Err(_) => break,
                Ok(_) => {}
            }
        }
        match sys::wait_for_signal(&all) {
            Some(libc::SIGCHLD) | None => {}
            Some(signal) => forward(program, if signal == KILL_PROGRAM { libc::SIGKILL } else { signal }),
        }
    }
}

fn forward(program: Pid, signal: i32) {
    if let Ok(signal) = Signal::try_from(signal) {
        let _ended = nix::sys::signal::kill(program, signal);
    }
}

/// A new pseudo-terminal of the container: the side that goes to the agent, and the program's.
fn open_terminal(identity: &Identity) -> io::Result<(PtyMaster, OwnedFd)> {
    let terminal = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC)?;
    grantpt(&terminal)?;
    unlockpt(&terminal)?;
    let other =
        open(ptsname_r(&terminal)?.as_str(), OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC, Mode::empty())?;
    let _refused = fchown(&other, Some(Uid::from_raw(identity.uid)), None);
    Ok((terminal, other))
}

/// As high as allowed, up to [`OPEN_FILES`].
fn limit_open_files() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _refused = setrlimit(Resource::RLIMIT_NOFILE, hard.min(OPEN_FILES), hard);
    }
}

/// Whoever needs memory most badly should take it from a pod, not from the agent.
pub fn offer_to_the_oom_killer() {
    let _refused = fs::write("/proc/self/oom_score_adj", "500");
}
