//! `envctl __suite CONTROL PROGRAM ARGUMENT…`: the small process between envctl and a suite.
//!
//! It is a child subreaper, so that a process which the suite detached (a daemon, even with a session of its own) becomes
//! its child and cannot escape. It does what single bytes on the control socket say, and reports in lines of JSON. When the
//! socket closes, envctl is gone by whatever end: it kills everything. One thread, one loop, nothing timed: deadlines
//! are envctl's.
//!
//! The program, its arguments and its environment are this process's own, so that no secret passes a command line.
//!
//! `envctl __beside …` is the same for the process of `envctl swap`, which stays at the caller's terminal ([`Place`]).

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, killpg};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::processes;

/// A byte on the control socket: SIGINT to the suite's process group.
pub const INTERRUPT: u8 = b'i';
/// SIGTERM to the suite's process group.
pub const TERMINATE: u8 = b't';
/// SIGKILL to every process of the suite.
pub const KILL: u8 = b'k';

/// A line to envctl.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "report", rename_all = "camelCase")]
pub enum Report {
    /// The program runs.
    Started,
    /// It could not be started: the kernel's error number. The last line.
    NotStarted {
        /// `errno`.
        errno: i32,
    },
    /// The suite's own process has ended; others of it may still run and are being ended.
    Exited {
        /// Its exit code, unless a signal ended it.
        code: Option<i32>,
        /// The signal that ended it.
        signal: Option<i32>,
        /// What it left running.
        left: Vec<String>,
    },
    /// Nothing of the suite runs any more, but for those that may not be ended (another user's). The last line.
    Done {
        /// What still runs.
        remain: Vec<String>,
    },
}

/// Where the program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In a session of its own: one group to signal, and no terminal to be stopped by.
    OwnSession,
    /// In the caller's process group, at its terminal: a debugger needs that. The terminal's own signals reach it by themselves.
    Terminal,
}

/// The process's main function.
pub fn main(place: Place) -> ExitCode {
    let mut arguments = std::env::args_os().skip(2);
    let control = arguments.next().and_then(|number| number.to_str()?.parse().ok()).filter(|number| *number > 2);
    let (Some(control), Some(program)) = (control, arguments.next()) else {
        return ExitCode::from(2);
    };
    // SAFETY: nothing else in this process, which has only just started, owns the descriptor; if nobody opened it the
    // next call fails and the process ends.
    let control = unsafe { OwnedFd::from_raw_fd(control) };
    if fcntl(&control, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).is_err() {
        std::mem::forget(control);
        return ExitCode::from(2);
    }
    match supervise(UnixStream::from(control), place, &program, arguments) {
        Ok(()) => ExitCode::SUCCESS,
        // envctl sees the socket close and takes over; there is nobody else to tell.
        Err(_) => ExitCode::FAILURE,
    }
}

struct Supervisor {
    control: UnixStream,
    suite: Pid,
    place: Place,
    /// The suite's own process has ended.
    exited: bool,
    /// Whatever is found is killed.
    killing: bool,
    envctl_is_gone: bool,
}

fn supervise(
    mut control: UnixStream,
    place: Place,
    program: &OsString,
    arguments: impl Iterator<Item = OsString>,
) -> io::Result<()> {
    nix::sys::prctl::set_child_subreaper(true)?;
    let mut watched = SigSet::empty();
    watched.add(Signal::SIGCHLD);
    watched.thread_block()?;
    if place == Place::Terminal {
        // Ctrl-C is for the program to answer.
        let mut terminal = SigSet::empty();
        terminal.extend([Signal::SIGINT, Signal::SIGQUIT, Signal::SIGHUP]);
        terminal.thread_block()?;
    }
    let children = SignalFd::with_flags(&watched, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    let mut command = Command::new(program);
    command.args(arguments);
    // What is blocked here would stay so for the program: no debugger works without SIGCHLD.
    // SAFETY: both are async-signal-safe, and this process has one thread.
    unsafe {
        command.pre_exec(move || {
            if place == Place::OwnSession {
                nix::unistd::setsid()?;
            }
            SigSet::empty().thread_set_mask().map_err(io::Error::from)
        });
    }
    let child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            return report(&mut control, &Report::NotStarted { errno: error.raw_os_error().unwrap_or(0) });
        }
    };
    let suite = Pid::from_raw(i32::try_from(child.id()).map_err(io::Error::other)?);
    drop(child);
    close_streams()?;
    control.set_nonblocking(true)?;
    let mut supervisor = Supervisor { control, suite, place, exited: false, killing: false, envctl_is_gone: false };
    supervisor.report(&Report::Started);
    loop {
        // Both are level triggered, so that nothing is missed between looking and waiting.
        let control = (!supervisor.envctl_is_gone).then(|| PollFd::new(supervisor.control.as_fd(), PollFlags::POLLIN));
        let mut descriptors: Vec<PollFd<'_>> = vec![PollFd::new(children.as_fd(), PollFlags::POLLIN)];
        descriptors.extend(control);
        match poll(&mut descriptors, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        supervisor.listen();
        while children.read_signal()?.is_some() {}
        if supervisor.reap()? {
            return Ok(());
        }
    }
}

impl Supervisor {
    fn report(&mut self, line: &Report) {
        // A socket that is closed is seen by the next read.
        let _closed = report(&mut self.control, line);
    }

    /// Does what envctl asks.
    fn listen(&mut self) {
        let mut bytes = [0; 16];
        loop {
            match self.control.read(&mut bytes) {
                Ok(0) => {
                    self.envctl_is_gone = true;
                    self.killing = true;
                    return;
                }
                Ok(read) => bytes[..read].iter().for_each(|byte| self.asked(*byte)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_broken) => {
                    self.envctl_is_gone = true;
                    self.killing = true;
                    return;
                }
            }
        }
    }

    fn asked(&mut self, byte: u8) {
        let signal = match byte {
            INTERRUPT => Signal::SIGINT,
            TERMINATE => Signal::SIGTERM,
            KILL => {
                self.killing = true;
                return;
            }
            _ => return,
        };
        if self.exited || self.place == Place::Terminal {
            // Its group's number may be another's by now.
            processes::signal(&processes::below(Pid::this(), None), signal);
        } else {
            // The group may just have ended: then the next signal of a child says so.
            let _ended = killpg(self.suite, signal);
        }
    }

    /// Takes in what has ended. `true`: nothing of the suite is left, or nothing that may be ended.
    fn reap(&mut self) -> io::Result<bool> {
        let mut ended = None;
        let none_left = loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) if pid == self.suite => ended = Some((Some(code), None)),
                Ok(WaitStatus::Signaled(pid, signal, _)) if pid == self.suite => {
                    ended = Some((None, Some(signal as i32)));
                }
                Ok(WaitStatus::StillAlive) => break false,
                Ok(_) | Err(Errno::EINTR) => {}
                Err(Errno::ECHILD) => break true,
                Err(errno) => return Err(errno.into()),
            }
        };
        if let Some((code, signal)) = ended {
            self.exited = true;
            let left = if none_left { Vec::new() } else { processes::below(Pid::this(), None) };
            self.report(&Report::Exited { code, signal, left: left.iter().map(ToString::to_string).collect() });
            if !self.killing {
                processes::signal(&left, Signal::SIGTERM);
            }
        }
        if none_left {
            self.report(&Report::Done { remain: Vec::new() });
            return Ok(true);
        }
        if self.killing {
            let left = processes::below(Pid::this(), None);
            let refused = processes::signal(&left, Signal::SIGKILL);
            if !refused.is_empty() && refused.len() == left.len() {
                self.report(&Report::Done { remain: refused.iter().map(ToString::to_string).collect() });
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn report(control: &mut UnixStream, line: &Report) -> io::Result<()> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    // Far less than a socket's buffer: never partial.
    control.write_all(&text)
}

/// The suite has them now; held here too, they would never come to their end.
fn close_streams() -> io::Result<()> {
    let nothing = File::options().read(true).write(true).open("/dev/null")?;
    for stream in 0..3 {
        // SAFETY: the standard streams are replaced by an open file; whoever wrote to them writes nowhere.
        if unsafe { libc::dup2(std::os::fd::AsRawFd::as_raw_fd(&nothing), stream) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// For the caller's `pre_exec`: lets the control socket pass to this process.
///
/// # Errors
/// When it isn't open.
pub fn hand_over(control: BorrowedFd<'_>) -> io::Result<()> {
    fcntl(control, FcntlArg::F_SETFD(FdFlag::empty())).map(drop).map_err(io::Error::from)
}
