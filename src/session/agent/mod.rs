//! The agent: the background process that owns a session.
//!
//! It executes; the command line only asks ([`super::protocol`]) and displays. [`owner`] is the one task that holds
//! the session's state; [`connection`] turns each caller's lines into its messages; [`environment`] is what it owns.
//!
//! Invariants: the lock it inherited is held until the process ends, by whatever end; the session's directory is gone
//! before that, unless it was killed. SIGTERM is `down`.

mod connection;
mod environment;
mod memory;
mod owner;
mod work;

use std::fs::File;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::process::ExitCode;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use tracing::{error, info};
use tracing_subscriber::EnvFilter;

use super::state::{SessionDirectory, StateDirectory};

/// What an agent is started with; see [`super::launch`].
struct Inheritance {
    directory: SessionDirectory,
    /// Held, never read: its lock is this process's life.
    lock: File,
    listener: std::os::unix::net::UnixListener,
    creator: std::os::unix::net::UnixStream,
}

/// The agent process: `envctl __agent DIRECTORY LOCK LISTENER CREATOR`.
pub fn main() -> ExitCode {
    let Some(inheritance) = inherit(std::env::args_os().skip(2)) else {
        return ExitCode::from(2);
    };
    memory::keep_small();
    // Whatever an error quotes, the log has no keys.
    let redactor = crate::redact::Shared::default();
    let for_log = redactor.clone();
    let filter = EnvFilter::try_from_env("ENVCTL_LOG").unwrap_or_else(|_unset| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        // Its complaint about a log that cannot be written (a full disk) goes to that same log, and panics.
        .log_internal_errors(false)
        .with_writer(move || for_log.get().writer(std::io::stderr()))
        .init();
    // Two workers are plenty for one session's API and kubelet, and each costs stack and allocator arenas.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(cause) => {
            error!(%cause, "the agent's runtime could not be started");
            return ExitCode::FAILURE;
        }
    };
    info!(version = env!("CARGO_PKG_VERSION"), directory = %inheritance.directory.path().display(), "agent started");
    let Inheritance { directory, lock, listener, creator } = inheritance;
    let ended = runtime.block_on(serve(directory, listener, creator, redactor));
    // A blocking call that hangs must not keep the session from ending.
    runtime.shutdown_background();
    // Until the very end: the kernel takes it with the process.
    std::mem::forget(lock);
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(cause) => {
            error!(%cause, "the agent ended badly");
            ExitCode::FAILURE
        }
    }
}

async fn serve(
    directory: SessionDirectory,
    listener: std::os::unix::net::UnixListener,
    creator: std::os::unix::net::UnixStream,
    redactor: crate::redact::Shared,
) -> Result<(), AgentError> {
    listener.set_nonblocking(true)?;
    creator.set_nonblocking(true)?;
    let listener = tokio::net::UnixListener::from_std(listener)?;
    let creator = tokio::net::UnixStream::from_std(creator)?;
    // sessions/<id>, so the state directory is two up.
    let state = directory.path().ancestors().nth(2).map(|path| StateDirectory::at(path.to_owned()));
    let state = state.ok_or_else(|| AgentError::Directory(directory.path().to_owned()))?;
    owner::Owner::new(state, directory, redactor)?.run(listener, creator).await
}

/// Takes over the open files by the numbers given, and keeps them from the agent's own children: a child that held
/// the lock would make a dead session look live.
fn inherit(mut arguments: impl Iterator<Item = std::ffi::OsString>) -> Option<Inheritance> {
    let directory = SessionDirectory::at(PathBuf::from(arguments.next()?));
    let mut file = || {
        let number: RawFd = arguments.next()?.to_str()?.parse().ok().filter(|number| *number > 2)?;
        // SAFETY: nothing else in this process, which has only just started, owns the descriptor; if nobody opened it,
        // the next call fails and it is given up again without being closed.
        let file = unsafe { OwnedFd::from_raw_fd(number) };
        match fcntl(&file, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)) {
            Ok(_) => Some(file),
            Err(_) => {
                std::mem::forget(file);
                None
            }
        }
    };
    Some(Inheritance { lock: file()?.into(), listener: file()?.into(), creator: file()?.into(), directory })
}

/// Why an agent ended other than by `down`.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// Sockets or signals could not be set up.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The session's files.
    #[error(transparent)]
    Session(#[from] super::SessionError),
    /// Started by something else than envctl.
    #[error("{} is not a session's directory", .0.display())]
    Directory(PathBuf),
}
