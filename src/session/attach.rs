//! Being attached to a session: an open connection to its agent, which the kernel closes with the process. A shared
//! session ends a moment after the last one has gone, so there is nothing to count and nothing to clean up.
//!
//! This is the client's half, for the command line and for tests; it knows of an answer only what it needs.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use serde::Deserialize;

use super::SessionError;
use super::client::{Session, touch};
use super::lookup::{self, Query};
use super::project;
use super::record::Record;
use super::socket::connect;
use super::state::StateDirectory;

/// The version of the language spoken with an agent; changes with every change that an older side would misread.
pub const PROTOCOL: u32 = 1;

/// Variables by which a test runner names one run to each of the processes that it starts, in order of precedence.
pub const RUN_VARIABLES: [&str; 3] = ["ENVCTL_RUN_ID", "NEXTEST_RUN_ID", "PYTEST_XDIST_TESTRUNUID"];

/// Why a process could not be attached.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// There is no such session, or it cannot be read.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// It did not come up.
    #[error("the session did not come up: {message}")]
    Failed {
        /// The agent's sentence.
        message: String,
        /// Its whole line, with the evidence.
        line: String,
    },
    /// It is being taken down: once its lock is free, a new one can be made.
    #[error("the session is being taken down")]
    Ending,
    /// The agent went away, or said something else than expected.
    #[error("the session's agent did not attach this process: {0}")]
    Agent(String),
    /// The `envctl` that should bring the session up could not be run.
    #[error("cannot run {program} to bring the session up: {source}")]
    NoProgram {
        /// What was run.
        program: String,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// The `envctl` that should have brought it up failed; its words are on standard error.
    #[error("`{program} run --shared` failed ({status}); what it said is on standard error")]
    NotUp {
        /// What was run.
        program: String,
        /// How it ended.
        status: String,
    },
}

impl AttachError {
    /// What to do about it, one sentence.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Session(error) => error.hint(),
            Self::NoProgram { .. } => Some("put envctl on the PATH, or name it in ENVCTL".to_owned()),
            _ => None,
        }
    }
}

/// A connection that keeps a session alive until it is dropped, with the session as it was when it was ready.
#[derive(Debug)]
pub struct Attachment {
    session: Session,
    stream: UnixStream,
}

impl std::ops::Deref for Attachment {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.session
    }
}

impl Attachment {
    /// The connection: whoever inherits it is attached, too.
    pub fn stream(&self) -> &UnixStream {
        &self.stream
    }
}

/// Which run this process belongs to: the runner's own id, else the parent process (its id and when it started).
pub fn run_id() -> String {
    let named = RUN_VARIABLES.iter().find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()));
    named.unwrap_or_else(|| {
        let parent = std::os::unix::process::parent_id();
        let stat = std::fs::read_to_string(format!("/proc/{parent}/stat")).unwrap_or_default();
        // The name in parentheses may hold blanks; the start is the 22nd field, the 20th after the name.
        let started = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(19)).unwrap_or("0");
        format!("parent-{parent}-{started}")
    })
}

/// The session of this run, attached until the result is dropped (or the process ends, by whatever end):
///
/// 1. the one that `ENVCTL_SESSION` names (under `envctl test` and `envctl run`),
/// 2. the one that `envctl up` left in this project,
/// 3. the one that this run's processes share ([`run_id`]): if there is none yet, the program `envctl` (or what `ENVCTL`
///    names) brings it up; it ends a moment after the last process of the run.
///
/// # Errors
/// When it could not be brought up, or there are several environment files and `ENVCTL_FILE` names none.
pub fn attach() -> Result<Attachment, AttachError> {
    let state = StateDirectory::from_env()?;
    let start = std::env::current_dir().map_err(SessionError::io("tell", "."))?;
    if let Some(named) = std::env::var("ENVCTL_SESSION").ok().filter(|name| !name.is_empty()) {
        let record = lookup::find(&state, &Query { named: Some(&named), file: None, start: &start })?;
        return attach_to(&state, &record);
    }
    let live = state.live()?;
    let current = lookup::read_current(&start);
    if let Some(record) = current.and_then(|current| live.iter().find(|record| record.id == current.id)) {
        return attach_to(&state, record);
    }
    let run = run_id();
    if let Some(record) = of_run(&live, &start, &run, None) {
        match attach_to(&state, record) {
            Err(AttachError::Ending | AttachError::Session(SessionError::Io { .. })) => {}
            answered => return answered,
        }
    }
    bring_up(&state, &run)
}

/// The same for every test of this process, attached until the process ends.
///
/// # Errors
/// As [`attach`]; it is tried once.
pub fn shared() -> Result<&'static Session, &'static AttachError> {
    static ATTACHED: OnceLock<Result<Attachment, AttachError>> = OnceLock::new();
    ATTACHED.get_or_init(attach).as_ref().map(|attachment| &attachment.session)
}

/// The live session that a run shares in a project; of several environments, the one of `file`.
pub fn of_run<'a>(live: &'a [Record], start: &Path, run: &str, file: Option<&Path>) -> Option<&'a Record> {
    let root = project::find_root(start);
    let mut found = live.iter().filter(|record| {
        record.root == root
            && record.shared.as_ref().is_some_and(|shared| shared.run.as_deref() == Some(run))
            && file.is_none_or(|file| record.file == file)
    });
    // Two environments of one run: which is meant is for the environment file to say.
    found.next().filter(|_| found.next().is_none())
}

/// Attaches to a live session, which is waited for if it is coming up.
///
/// # Errors
/// When it does not come up, or ends.
pub fn attach_to(state: &StateDirectory, record: &Record) -> Result<Attachment, AttachError> {
    let stream = connect(&state.session(&record.id))?;
    touch(state, &record.id);
    ask(stream, &format!(r#"{{"protocol":{PROTOCOL},"request":"attach"}}"#))
}

/// Asks over a new connection to be attached, by the line given, and waits until the session is ready.
///
/// # Errors
/// When it does not come up, or ends.
pub fn ask(stream: UnixStream, call: &str) -> Result<Attachment, AttachError> {
    #[derive(Deserialize)]
    struct Answer {
        reply: String,
        #[serde(default)]
        record: Option<Record>,
        #[serde(default)]
        failure: Option<Why>,
        #[serde(default)]
        why: Option<String>,
        #[serde(default)]
        message: Option<String>,
    }
    #[derive(Deserialize)]
    struct Why {
        message: String,
    }
    let broken = |error: std::io::Error| match error.kind() {
        // It ended with this connection in its queue.
        std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::BrokenPipe => AttachError::Ending,
        _ => AttachError::Agent(error.to_string()),
    };
    (&stream).write_all(format!("{call}\n").as_bytes()).map_err(broken)?;
    let mut lines = BufReader::new(&stream);
    let mut line = String::new();
    loop {
        line.clear();
        if lines.read_line(&mut line).map_err(broken)? == 0 {
            return Err(AttachError::Ending);
        }
        // Of most answers only the name matters, and what else they hold may look like anything.
        #[derive(Deserialize)]
        struct Peek {
            reply: String,
        }
        let not_understood = |error: serde_json::Error| AttachError::Agent(format!("{error}: {}", line.trim_end()));
        let Peek { reply } = serde_json::from_str(&line).map_err(not_understood)?;
        if matches!(reply.as_str(), "event" | "accepted" | "queued") {
            continue;
        }
        if reply == "ending" {
            return Err(AttachError::Ending);
        }
        let answer: Answer = serde_json::from_str(&line).map_err(not_understood)?;
        return match (answer.reply.as_str(), answer.record, answer.failure) {
            ("up", Some(record), _) => {
                drop(lines);
                Ok(Attachment { session: Session::of(record), stream })
            }
            ("failed", _, Some(Why { message })) => Err(AttachError::Failed { message, line }),
            ("ended", ..) => Err(AttachError::Agent(answer.why.unwrap_or_else(|| "the session has ended".to_owned()))),
            (other, ..) => Err(AttachError::Agent(answer.message.unwrap_or_else(|| format!("it said {other:?}")))),
        };
    }
}

/// Lets `envctl` bring the session up, and attaches before letting go of it.
fn bring_up(state: &StateDirectory, run: &str) -> Result<Attachment, AttachError> {
    let program = std::env::var("ENVCTL").ok().filter(|name| !name.is_empty()).unwrap_or_else(|| "envctl".to_owned());
    // It is attached for as long as it runs, which is until its input ends: with this process at the latest.
    let mut child = Command::new(&program)
        .args(["run", "--shared", "--run-id", run, "--", "sh", "-c", r#"echo "$ENVCTL_SESSION"; exec cat >/dev/null"#])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|source| AttachError::NoProgram { program: program.clone(), source })?;
    let mut id = String::new();
    let read = child.stdout.take().map(|stdout| BufReader::new(stdout).read_line(&mut id));
    let attached = if matches!(read, Some(Ok(1..))) {
        let record = state.session(id.trim()).record();
        record.map_err(AttachError::from).and_then(|record| attach_to(state, &record)).map(Some)
    } else {
        Ok(None)
    };
    let status = let_go(child);
    match attached? {
        Some(attachment) => Ok(attachment),
        None => Err(AttachError::NotUp { program, status }),
    }
}

/// Closes its input and waits for its end.
fn let_go(mut child: Child) -> String {
    drop(child.stdin.take());
    match child.wait() {
        Ok(status) => status.to_string(),
        Err(error) => error.to_string(),
    }
}
