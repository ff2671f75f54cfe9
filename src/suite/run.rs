//! Runs one suite: its processes, its output, its deadline, and whoever interrupts it.
//!
//! What ends a suite first asks (SIGINT for Ctrl-C, else SIGTERM, to its process group), and kills when the grace is over
//! or at the second Ctrl-C. What the suite leaves running when it ends by itself is ended the same way. The environment of
//! the suite is the caller's, under the given variables.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use futures::StreamExt as _;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::{OwnedWriteHalf, pipe};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::codec::{FramedRead, LinesCodec};

use super::processes;
use super::stream::{Stream, Tail};
use super::supervisor::{self, Report};
use crate::redact::{self, Redactor};

/// How long an output may stay open when nothing of the suite runs any more: then someone else holds it.
const DRAIN: Duration = Duration::from_secs(1);

/// What to run.
#[derive(Debug)]
pub struct Spec<'a> {
    /// Program and arguments.
    pub command: &'a [String],
    /// Where.
    pub directory: &'a Path,
    /// On top of this process's own.
    pub variables: &'a BTreeMap<String, String>,
    /// How long it may take.
    pub timeout: Option<Duration>,
    /// How long it gets to end by itself when asked.
    pub grace: Duration,
    /// Takes the session's keys out of its output.
    pub redactor: Redactor,
    /// A child of this process that is none of the suite's: the session's agent.
    pub except: Option<Pid>,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// By itself.
    Exited(i32),
    /// By a signal that envctl didn't send.
    Signalled(i32),
    /// Its time was over.
    TimedOut(Duration),
    /// The user interrupted it.
    Interrupted,
    /// The session ended under it.
    SessionLost,
    /// It could not be started: the kernel's error number.
    NotStarted(i32),
    /// The process that supervises it was killed.
    SupervisorLost,
}

/// A suite that has ended.
#[derive(Debug)]
pub struct Ran {
    /// How.
    pub end: End,
    /// When it was started.
    pub started: SystemTime,
    /// How long it took.
    pub took: Duration,
    /// The end of its output, both streams as they came.
    pub output: String,
    /// What it left running; it was ended.
    pub left: Vec<String>,
    /// What still runs, since it may not be ended: another user's.
    pub remain: Vec<String>,
    /// It did not end in its grace, or at the second Ctrl-C.
    pub killed: bool,
}

/// SIGINT and SIGTERM of this process.
#[derive(Debug)]
pub struct Interrupts {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Interrupts {
    /// From now on they are received here.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn new() -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// The next one.
    pub async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::SIGINT,
            _ = self.terminate.recv() => Signal::SIGTERM,
        }
    }
}

/// Runs a suite to its end, whatever that is; `say` gets sentences for the user. Its output goes to `output`, its session's
/// end is `lost`.
///
/// # Errors
/// When it cannot even be tried: no pipes, no process.
pub async fn run(
    spec: &Spec<'_>,
    output: &mpsc::Sender<(Stream, Vec<u8>)>,
    interrupts: &mut Interrupts,
    lost: impl Future<Output = ()>,
    mut say: impl FnMut(&str),
) -> io::Result<Ran> {
    // What the supervisor would lose if it were killed comes here.
    nix::sys::prctl::set_child_subreaper(true)?;
    let started = (SystemTime::now(), Instant::now());
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    let (out_read, out_write) = io::pipe()?;
    let (err_read, err_write) = io::pipe()?;
    let mut child = spawn(spec, theirs.into(), out_write, err_write)?;
    ours.set_nonblocking(true)?;
    let (reports, control) = tokio::net::UnixStream::from_std(ours)?.into_split();
    let mut reports = FramedRead::new(reports, LinesCodec::new());
    let tail = Arc::new(Mutex::new(Tail::default()));
    let (done, is_done) = watch::channel(false);
    let mut readers = JoinSet::new();
    for (stream, pipe) in [(Stream::Out, out_read), (Stream::Err, err_read)] {
        let pipe = pipe::Receiver::from_owned_fd(OwnedFd::from(pipe))?;
        let carrier = Carrier { stream, clean: spec.redactor.stream(), output: output.clone(), tail: tail.clone() };
        readers.spawn(carry(pipe, carrier, is_done.clone()));
    }
    let mut watch = Watch { control, end: None, killed: false, left: Vec::new(), deadline: None, asked: 0 };
    let timeout = async {
        match spec.timeout {
            Some(timeout) => tokio::time::sleep(timeout).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(timeout, lost);
    let remain = loop {
        let deadline = watch.deadline;
        let grace_over = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            line = reports.next() => match line.and_then(Result::ok).and_then(|line| serde_json::from_str(&line).ok()) {
                Some(Report::Started) => {}
                Some(Report::NotStarted { errno }) => {
                    watch.end = Some(End::NotStarted(errno));
                    break Vec::new();
                }
                Some(Report::Exited { code, signal, left }) => watch.exited(code, signal, left, spec.grace),
                Some(Report::Done { remain }) => break remain,
                None => {
                    watch.end.get_or_insert(End::SupervisorLost);
                    end_all(spec.except).await?;
                    break Vec::new();
                }
            },
            signal = interrupts.next() => {
                watch.asked += 1;
                if watch.asked == 1 {
                    say("interrupted: asking the suite to end (again to kill it)");
                    // Also one that has ended by itself and left something: no other suite is to be run.
                    watch.end = None;
                    watch.ask(End::Interrupted, signal, spec.grace).await;
                } else {
                    watch.kill().await;
                }
            }
            () = &mut timeout, if watch.end.is_none() => {
                watch.ask(End::TimedOut(spec.timeout.unwrap_or_default()), Signal::SIGTERM, spec.grace).await;
            }
            () = &mut lost, if watch.end.is_none() => {
                watch.ask(End::SessionLost, Signal::SIGTERM, spec.grace).await;
            }
            () = grace_over => watch.kill().await,
        }
    };
    let took = started.1.elapsed();
    done.send_replace(true);
    loop {
        tokio::select! {
            reader = readers.join_next() => if reader.is_none() { break },
            // Someone does not take the output, and the user does not want to wait for that.
            _ = interrupts.next() => {
                watch.end = Some(End::Interrupted);
                readers.abort_all();
            }
        }
    }
    // It has reported its last line, or is dead.
    child.wait()?;
    let output = tail.lock().unwrap_or_else(PoisonError::into_inner).text();
    let Watch { end, killed, left, .. } = watch;
    Ok(Ran { end: end.unwrap_or(End::SupervisorLost), started: started.0, took, output, left, remain, killed })
}

/// What is known of a suite that runs.
struct Watch {
    control: OwnedWriteHalf,
    /// Why it ends, once that is clear.
    end: Option<End>,
    killed: bool,
    left: Vec<String>,
    /// When the grace is over.
    deadline: Option<tokio::time::Instant>,
    /// Interruptions so far.
    asked: u32,
}

impl Watch {
    fn exited(&mut self, code: Option<i32>, signal: Option<i32>, left: Vec<String>, grace: Duration) {
        self.end.get_or_insert(match (code, signal) {
            (Some(code), _) => End::Exited(code),
            (None, signal) => End::Signalled(signal.unwrap_or_default()),
        });
        self.left = left;
        self.deadline = self.deadline.or(Some(tokio::time::Instant::now() + grace));
    }

    async fn ask(&mut self, end: End, signal: Signal, grace: Duration) {
        self.end.get_or_insert(end);
        let byte = if signal == Signal::SIGINT { supervisor::INTERRUPT } else { supervisor::TERMINATE };
        // A supervisor that is gone is told by the end of its reports.
        let _gone = self.control.write_all(&[byte]).await;
        self.deadline = Some(tokio::time::Instant::now() + grace);
    }

    async fn kill(&mut self) {
        self.killed = true;
        self.deadline = None;
        let _gone = self.control.write_all(&[supervisor::KILL]).await;
    }
}

/// Starts the supervisor, which starts the suite.
fn spawn(spec: &Spec<'_>, control: OwnedFd, out: io::PipeWriter, err: io::PipeWriter) -> io::Result<Child> {
    let mut command = Command::new(crate::session::launch::THIS_PROGRAM);
    command.arg0("envctl").arg("__suite").arg(control.as_raw_fd().to_string());
    command.args(spec.command.iter().map(OsString::from));
    command.current_dir(spec.directory).envs(spec.variables).stdout(out).stderr(err).process_group(0);
    // A suite cannot share the terminal with envctl: reading it would stop the suite.
    if io::IsTerminal::is_terminal(&io::stdin()) {
        command.stdin(Stdio::null());
    }
    let number = control.as_raw_fd();
    // SAFETY: fcntl is async-signal-safe; `control` is open until after the spawn.
    unsafe {
        command.pre_exec(move || supervisor::hand_over(std::os::fd::BorrowedFd::borrow_raw(number)));
    }
    let child = command.spawn();
    debug_assert!(control.as_fd().as_raw_fd() == number);
    child
}

/// Where one output of the suite goes.
struct Carrier {
    stream: Stream,
    clean: redact::Stream,
    output: mpsc::Sender<(Stream, Vec<u8>)>,
    tail: Arc<Mutex<Tail>>,
}

impl Carrier {
    async fn pass_on(&mut self, chunk: Vec<u8>) {
        if chunk.is_empty() {
            return;
        }
        self.tail.lock().unwrap_or_else(PoisonError::into_inner).push(&chunk);
        // Whoever writes has ended only with this process.
        let _ended = self.output.send((self.stream, chunk)).await;
    }
}

/// One output of the suite, chunk by chunk, to where it goes; ends with its end.
async fn carry(mut pipe: pipe::Receiver, mut to: Carrier, mut done: watch::Receiver<bool>) {
    let mut buffer = vec![0; 32 * 1024];
    loop {
        let read = tokio::select! {
            biased;
            read = pipe.read(&mut buffer) => read,
            () = async {
                let _sender_is_there = done.wait_for(|done| *done).await.is_ok();
                tokio::time::sleep(DRAIN).await;
            } => break,
        };
        let Ok(read @ 1..) = read else { break };
        let chunk = to.clean.push(&buffer[..read]);
        to.pass_on(chunk).await;
    }
    let rest = to.clean.finish();
    to.pass_on(rest).await;
}

/// The supervisor was killed, and what it had is this process's now: all of it is killed.
async fn end_all(except: Option<Pid>) -> io::Result<()> {
    let mut children = signal(SignalKind::child())?;
    loop {
        let found = processes::below(Pid::this(), except);
        let refused = processes::signal(&found, Signal::SIGKILL);
        if found.len() == refused.len() {
            return Ok(());
        }
        // The end of each is a signal, since this process is their reaper.
        children.recv().await;
    }
}
