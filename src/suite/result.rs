//! What came of `envctl test`, as a document for machines and as sentences for people.

use std::path::PathBuf;

use serde::Serialize;

use super::junit::Counts;
use super::leftovers::Leftover;
use super::run::{End, Ran};
use crate::cli::exit::Exit;
use crate::cluster::Removal;
use crate::provision::Failure;

/// `--result FILE` and `-o json`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Document {
    /// Of this document's form.
    pub version: u32,
    /// `passed`, `failed`, or `error` when envctl or the environment failed.
    pub result: &'static str,
    /// A stable name: [`Reason`]'s, [`crate::provision::Cause::reason`]'s, or `LeftBehind`, `LeftoversUnknown`,
    /// `TeardownIncomplete`, `SessionLost`, `ReportNotWritten`.
    pub reason: String,
    /// What envctl exits with.
    pub exit_code: u8,
    /// All of it.
    pub took_milliseconds: u64,
    /// Where it ran.
    pub session: SessionPart,
    /// In the order in which they ran.
    pub suites: Vec<SuiteResult>,
    /// What the suites left behind in the cluster; absent where that was not looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leftovers: Option<Vec<Leftover>>,
    /// Why the environment did not come up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Box<Failure>>,
    /// What taking it down came to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub removal: Option<Removal>,
    /// What could not be reported, one sentence each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
}

impl Document {
    /// Of a test that has not failed yet.
    pub fn new(session: SessionPart) -> Self {
        Self {
            version: 1,
            result: "passed",
            reason: "Passed".to_owned(),
            exit_code: 0,
            took_milliseconds: 0,
            session,
            suites: Vec::new(),
            leftovers: None,
            failure: None,
            removal: None,
            problems: Vec::new(),
        }
    }

    /// It is envctl or the environment that failed; what that exits with.
    pub fn error(&mut self, reason: &str) -> Exit {
        self.result = "error";
        reason.clone_into(&mut self.reason);
        Exit::Failed
    }
}

/// The session of a test.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionPart {
    /// Its id.
    pub id: String,
    /// Its namespace.
    pub namespace: String,
    /// The environment's name.
    pub environment: String,
    /// Whether it is still up.
    pub kept: bool,
}

/// One suite.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SuiteResult {
    /// Its name.
    pub name: String,
    /// Its stage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// As it would be typed.
    pub command: String,
    /// Why it ended as it did.
    pub reason: Reason,
    /// The same for people.
    pub message: String,
    /// What it means as envctl's exit code.
    pub exit_code: u8,
    /// RFC 3339.
    pub started: String,
    /// How long it ran.
    pub took_milliseconds: u64,
    /// Processes that it left running, which were ended.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ended_processes: Vec<String>,
    /// Processes that could not be ended: another user's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remaining_processes: Vec<String>,
    /// Its JUnit XML.
    pub junit: JunitPart,
    /// The one screen of its failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<PathBuf>,
    /// The services' logs of its time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logs: Option<PathBuf>,
}

/// A suite's JUnit XML.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct JunitPart {
    /// Where it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// Whether the suite wrote it; else envctl did.
    pub collected: bool,
    /// What it says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub counts: Option<Counts>,
    /// What is wrong with it, or why a file of the report is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// Why a suite ended as it did, by a stable name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Reason {
    /// It exited with 0.
    Passed,
    /// It exited with another code.
    Failed,
    /// A signal ended it.
    Signalled,
    /// Its time was over.
    TimedOut,
    /// The user interrupted it.
    Interrupted,
    /// The session ended under it.
    SessionLost,
    /// Its program exists but cannot be executed.
    NotExecutable,
    /// There is no such program.
    NotFound,
    /// The process that supervises it was killed.
    SupervisorLost,
}

impl Reason {
    /// The stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Passed => "Passed",
            Self::Failed => "Failed",
            Self::Signalled => "Signalled",
            Self::TimedOut => "TimedOut",
            Self::Interrupted => "Interrupted",
            Self::SessionLost => "SessionLost",
            Self::NotExecutable => "NotExecutable",
            Self::NotFound => "NotFound",
            Self::SupervisorLost => "SupervisorLost",
        }
    }

    /// Whether it is the suite that failed, not envctl or the environment.
    pub fn is_suites(self) -> bool {
        matches!(self, Self::Passed | Self::Failed | Self::Signalled)
    }
}

/// Reason, sentence and exit code of a suite that has ended. `exists`: whether its program does.
pub fn judged(ran: &Ran, exists: bool) -> (Reason, String, Exit) {
    let (reason, mut message, exit) = match ran.end {
        End::Exited(0) => (Reason::Passed, "passed".to_owned(), Exit::Ok),
        End::Exited(code) => {
            let exit = u8::try_from(code).map_or(Exit::Failed, Exit::Command);
            (Reason::Failed, format!("exited with code {code}"), exit)
        }
        End::Signalled(signal) => {
            let name = nix::sys::signal::Signal::try_from(signal).map_or("a signal", nix::sys::signal::Signal::as_str);
            // As shells say it.
            let exit = u8::try_from(128 + signal).map_or(Exit::Failed, Exit::Command);
            (Reason::Signalled, format!("was ended by {name}"), exit)
        }
        End::TimedOut(after) => {
            (Reason::TimedOut, format!("did not end within {}", crate::cli::duration::human(after)), Exit::Timeout)
        }
        End::Interrupted => (Reason::Interrupted, "was interrupted".to_owned(), Exit::Interrupted),
        End::SessionLost => (Reason::SessionLost, "lost its session, which ended meanwhile".to_owned(), Exit::Failed),
        End::NotStarted(_) if !exists => {
            (Reason::NotFound, "was not started: no such program".to_owned(), Exit::NotFound)
        }
        End::NotStarted(errno) => {
            let why = match nix::errno::Errno::from_raw(errno) {
                nix::errno::Errno::EACCES => "its program is not executable (`chmod +x`)".to_owned(),
                nix::errno::Errno::ENOENT => "the interpreter in its first line is missing".to_owned(),
                nix::errno::Errno::ENOEXEC => {
                    "its program is neither a binary of this machine nor a script with `#!`".to_owned()
                }
                other => other.desc().to_owned(),
            };
            (Reason::NotExecutable, format!("was not started: {why}"), Exit::NotExecutable)
        }
        End::SupervisorLost => (
            Reason::SupervisorLost,
            "was killed: its supervising process was ended from outside".to_owned(),
            Exit::Failed,
        ),
    };
    if ran.killed && !reason.is_suites() {
        message.push_str(", and had to be killed");
    }
    (reason, message, exit)
}
