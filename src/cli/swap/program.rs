//! The process that stands in for a service: at this terminal, below a small process that ends it with everything it began when
//! envctl goes, by whatever end ([`crate::suite::supervisor`]).

use std::ffi::OsString;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command};

use futures::StreamExt as _;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use tokio::io::AsyncWriteExt as _;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio_util::codec::{FramedRead, LinesCodec};

use crate::cli::exit::Exit;
use crate::cli::run::exists;
use crate::error::Error;
use crate::on_host::Environment;
use crate::session::launch;
use crate::suite::processes;
use crate::suite::supervisor::{self, Report};

/// What it can be asked.
#[derive(Debug, Clone, Copy)]
pub enum Ask {
    /// SIGINT.
    Interrupt,
    /// SIGTERM.
    Terminate,
    /// To end at once, with everything it began.
    Kill,
}

/// A command that runs.
#[derive(Debug)]
pub struct Program {
    reports: FramedRead<OwnedReadHalf, LinesCodec>,
    control: OwnedWriteHalf,
    /// The process between.
    child: Child,
    name: OsString,
    is_absent: bool,
    code: Option<u8>,
}

impl Program {
    /// Starts it.
    ///
    /// # Errors
    /// When the kernel refuses; that there is no such command is told by [`Self::ended`].
    pub fn start(
        program: &OsString,
        arguments: &[OsString],
        environment: &Environment,
        directory: &Path,
    ) -> Result<Self, Error> {
        let refused = || Error::io("start the command");
        nix::sys::prctl::set_child_subreaper(true).map_err(std::io::Error::from).map_err(refused())?;
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().map_err(refused())?;
        let mut command = Command::new(launch::THIS_PROGRAM);
        command.arg("__beside").arg(theirs.as_raw_fd().to_string()).arg(program).args(arguments);
        command.current_dir(directory).envs(&environment.variables);
        if let Some(own) = environment.own_path() {
            let path = std::env::var_os("PATH").unwrap_or_default();
            let mut all = OsString::from(own);
            if !path.is_empty() {
                all.push(":");
                all.push(path);
            }
            command.env("PATH", all);
        }
        let handed = theirs.as_fd().as_raw_fd();
        // SAFETY: fcntl is async-signal-safe, and the descriptor is open until after the fork.
        unsafe {
            command.pre_exec(move || supervisor::hand_over(std::os::fd::BorrowedFd::borrow_raw(handed)));
        }
        let child = command.spawn().map_err(refused())?;
        drop(theirs);
        ours.set_nonblocking(true).map_err(refused())?;
        let (reports, control) = tokio::net::UnixStream::from_std(ours).map_err(refused())?.into_split();
        Ok(Self {
            reports: FramedRead::new(reports, LinesCodec::new()),
            control,
            child,
            name: program.clone(),
            is_absent: !exists(program, directory),
            code: None,
        })
    }

    async fn report(&mut self) -> Option<Report> {
        serde_json::from_str(&self.reports.next().await?.ok()?).ok()
    }

    /// Its exit code, as a shell tells it. May be dropped and asked again.
    ///
    /// # Errors
    /// When it could not be started.
    pub async fn ended(&mut self) -> Result<u8, Error> {
        if let Some(code) = self.code {
            return Ok(code);
        }
        let code = loop {
            match self.report().await {
                Some(Report::Started) => {}
                Some(Report::Exited { code, signal, .. }) => {
                    break code.or_else(|| Some(128 + signal?)).and_then(|code| u8::try_from(code).ok()).unwrap_or(255);
                }
                Some(Report::NotStarted { errno }) => {
                    let why = std::io::Error::from_raw_os_error(errno);
                    let exit = if self.is_absent || why.kind() == std::io::ErrorKind::NotFound {
                        Exit::NotFound
                    } else {
                        Exit::NotExecutable
                    };
                    return Err(Error::Failed {
                        what: format!("cannot run {}: {why}", self.name.display()),
                        hint: None,
                        exit,
                    });
                }
                // The process between was killed: what it held has come to this one.
                Some(Report::Done { .. }) | None => {
                    processes::signal(&processes::below(Pid::this(), None), Signal::SIGKILL);
                    break 137;
                }
            }
        };
        self.code = Some(code);
        Ok(code)
    }

    /// Until nothing of it runs any more.
    pub async fn done(&mut self) {
        loop {
            match self.report().await {
                Some(Report::Done { .. } | Report::NotStarted { .. }) | None => break,
                Some(_) => {}
            }
        }
        // It has said its last word, or was killed: this doesn't wait.
        let _reaped = self.child.wait();
    }

    /// Asks; whether it is still there is told by [`Self::ended`].
    pub async fn ask(&mut self, what: Ask) {
        let byte = match what {
            Ask::Interrupt => supervisor::INTERRUPT,
            Ask::Terminate => supervisor::TERMINATE,
            Ask::Kill => supervisor::KILL,
        };
        let _gone = self.control.write_all(&[byte]).await;
    }
}
