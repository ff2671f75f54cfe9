//! Why an environment did not come up: everything needed to understand it, on one screen.
//!
//! A [`Failure`] is a value: gathered once, serialized for `-o json`, and rendered for people by
//! [`Failure::render`]. Reason names ([`Cause::reason`]) are API: they never change silently.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::cluster::refusal::{Denied, Refusal};
use crate::plan::NodeId;

/// Why an environment did not come up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// The node that failed; `None` when it concerns no single node.
    pub node: Option<NodeId>,
    /// Why, with what belongs to that cause.
    pub cause: Cause,
    /// One sentence.
    pub message: String,
    /// What the user can do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Last lines of the failed containers, the previous run first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub logs: Vec<LogTail>,
    /// What its probes answered, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub probes: Vec<ProbeResult>,
    /// The node's Kubernetes events, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<EventLine>,
    /// What was waiting for it, directly or not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waiting: Vec<NodeId>,
    /// The other nodes that were not ready at that moment, and what each was doing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unfinished: Vec<Unfinished>,
    /// Milliseconds since `up` began.
    pub at: u64,
}

/// A node that was not ready when another failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Unfinished {
    /// Which.
    pub node: NodeId,
    /// What it was doing, for people.
    pub doing: String,
}

/// Why, by a stable name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all_fields = "camelCase")]
pub enum Cause {
    /// An image's build command failed.
    BuildFailed {
        /// As it would be typed.
        command: String,
        /// Where it ran.
        directory: String,
        /// Its exit code; `None` when it could not be started or was ended by a signal.
        code: Option<i32>,
        /// The last lines of its output, both streams as they came.
        output: Vec<String>,
    },
    /// No such image, or a name that isn't one.
    ImageNotFound {
        /// As in the pod's spec.
        image: String,
    },
    /// It could not be brought to where the cluster runs it.
    ImageNotLoaded {
        /// As in the pod's spec.
        image: String,
    },
    /// A registry refused an image that was to be pushed.
    ImageNotPushed {
        /// Its name.
        image: String,
    },
    /// No Docker engine answers, which an image is to be built by.
    EngineUnavailable,
    /// A Secret, ConfigMap, or a key of one, doesn't exist.
    MissingConfig,
    /// The container's command doesn't exist or can't be run.
    CommandNotFound {
        /// As the runtime said it.
        detail: String,
    },
    /// It ended by itself with code 0 while it should serve.
    ExitedEarly,
    /// It crashed more often than the crash budget allows.
    CrashLoop {
        /// How often it was restarted.
        restarts: i32,
        /// The last exit code.
        code: i32,
    },
    /// A job's pods failed more often than it allows.
    JobFailed {
        /// The Job's own reason: `BackoffLimitExceeded`, `DeadlineExceeded`, ….
        job_reason: String,
        /// The last exit code, if a container ended.
        code: Option<i32>,
    },
    /// No node can take the pod.
    Unschedulable,
    /// The quota of the namespace is used up.
    QuotaExceeded,
    /// The user may not do it there.
    Forbidden {
        /// The request that no rule allows, where it is one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        denied: Option<Denied>,
    },
    /// A policy of the cluster refused it.
    AdmissionRefused {
        /// `ValidatingAdmissionPolicy no-x`, `admission webhook x.example.com`, `PodSecurity restricted:latest`.
        by: String,
    },
    /// The API refused the object.
    Rejected {
        /// `Kind/name`.
        object: String,
        /// The HTTP status code; 0 when there was no answer.
        status: u16,
    },
    /// The deployment's own progress deadline passed.
    ProgressDeadlineExceeded,
    /// It runs but wasn't ready within the time that the caller gave.
    NeverReady,
    /// The time that the caller gave ended before it could start.
    TimedOut,
    /// A key could not be issued.
    KeyNotIssued {
        /// The end of what the service said instead, without keys.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        output: Vec<String>,
    },
    /// The environment file asks for something that this version doesn't do yet.
    NotYet,
    /// The cluster could not be reached or stopped working.
    ClusterUnavailable,
    /// The cluster doesn't accept the user's credentials (any more).
    CredentialsRefused,
    /// The session's namespace is being deleted, or is gone, and not by the session.
    NamespaceLost,
    /// The session's own files could not be written.
    StateUnwritable,
    /// The caller stopped waiting.
    Interrupted,
}

impl Cause {
    /// Of a refusal by the API; `None` where its words say nothing in particular.
    pub fn of_refusal(refusal: &Refusal) -> Option<Self> {
        Some(match refusal {
            Refusal::Denied(denied) => Self::Forbidden { denied: Some(denied.clone()) },
            Refusal::Escalation { .. } => Self::Forbidden { denied: None },
            Refusal::QuotaExceeded { .. } | Refusal::QuotaUnspecified { .. } => Self::QuotaExceeded,
            Refusal::Policy { by } => Self::AdmissionRefused { by: by.clone() },
            Refusal::NamespaceLost { .. } => Self::NamespaceLost,
            Refusal::NotAuthenticated => Self::CredentialsRefused,
            Refusal::NotYet | Refusal::Other => return None,
        })
    }

    /// The stable name, also the `reason` of the JSON form.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::BuildFailed { .. } => "BuildFailed",
            Self::ImageNotFound { .. } => "ImageNotFound",
            Self::ImageNotLoaded { .. } => "ImageNotLoaded",
            Self::ImageNotPushed { .. } => "ImageNotPushed",
            Self::EngineUnavailable => "EngineUnavailable",
            Self::MissingConfig => "MissingConfig",
            Self::CommandNotFound { .. } => "CommandNotFound",
            Self::ExitedEarly => "ExitedEarly",
            Self::CrashLoop { .. } => "CrashLoop",
            Self::JobFailed { .. } => "JobFailed",
            Self::Unschedulable => "Unschedulable",
            Self::QuotaExceeded => "QuotaExceeded",
            Self::Forbidden { .. } => "Forbidden",
            Self::AdmissionRefused { .. } => "AdmissionRefused",
            Self::Rejected { .. } => "Rejected",
            Self::ProgressDeadlineExceeded => "ProgressDeadlineExceeded",
            Self::NeverReady => "NeverReady",
            Self::TimedOut => "TimedOut",
            Self::KeyNotIssued { .. } => "KeyNotIssued",
            Self::NotYet => "NotYet",
            Self::ClusterUnavailable => "ClusterUnavailable",
            Self::CredentialsRefused => "CredentialsRefused",
            Self::NamespaceLost => "NamespaceLost",
            Self::StateUnwritable => "StateUnwritable",
            Self::Interrupted => "Interrupted",
        }
    }

    /// The exit code outside `test`, `run` and `exec`, as in DESIGN section 5.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::ClusterUnavailable | Self::EngineUnavailable | Self::CredentialsRefused | Self::NamespaceLost => 4,
            Self::KeyNotIssued { .. } => 5,
            Self::NotYet => 2,
            Self::StateUnwritable => 125,
            Self::Interrupted => 130,
            _ => 3,
        }
    }
}

/// The end of a container's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LogTail {
    /// The pod.
    pub pod: String,
    /// The container.
    pub container: String,
    /// Whether it is the run before the current one.
    pub previous: bool,
    /// How that run ended, for people: `exited with code 1 after 35 ms`; empty while it runs.
    pub ended: String,
    /// Oldest first.
    pub lines: Vec<String>,
}

/// What a probe answered, repeated answers counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProbeResult {
    /// The pod.
    pub pod: String,
    /// `Readiness`, `Liveness` or `Startup`.
    pub probe: String,
    /// What it said.
    pub message: String,
    /// How often.
    pub count: u32,
}

/// One Kubernetes event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EventLine {
    /// `Kind/name` of what it is about.
    pub object: String,
    /// CamelCase.
    pub reason: String,
    /// For people.
    pub message: String,
    /// How often.
    pub count: u32,
    /// Whether its type is `Warning`.
    pub warning: bool,
}

impl Failure {
    /// A failure with nothing gathered yet.
    pub fn new(node: Option<NodeId>, cause: Cause, message: impl Into<String>) -> Self {
        Self {
            node,
            cause,
            message: message.into(),
            hint: None,
            logs: Vec::new(),
            probes: Vec::new(),
            events: Vec::new(),
            waiting: Vec::new(),
            unfinished: Vec::new(),
            at: 0,
        }
    }

    /// With what the user can do about it.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// One screen of plain text, ending in a newline: what, why, evidence, consequences, cure.
    pub fn render(&self) -> String {
        let mut text = String::new();
        self.write(&mut text).expect("writing to a String cannot fail");
        text
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        match &self.node {
            Some(node) => {
                writeln!(text, "{} {node} failed: {} [{}]", node.kind.word(), self.message, self.cause.reason())?
            }
            None => writeln!(text, "{} [{}]", self.message, self.cause.reason())?,
        }
        if let Cause::BuildFailed { command, directory, output, .. } = &self.cause {
            writeln!(text, "\n  $ {command}    (in {directory})")?;
            for line in output {
                writeln!(text, "  | {line}")?;
            }
        }
        if let Cause::KeyNotIssued { output } = &self.cause
            && !output.is_empty()
        {
            writeln!(text, "\n  it said")?;
            for line in output {
                writeln!(text, "  | {line}")?;
            }
        }
        for log in &self.logs {
            let which = if log.previous { ", previous run" } else { "" };
            let ended = if log.ended.is_empty() { String::new() } else { format!(": {}", log.ended) };
            writeln!(text, "\n  log of {}/{}{which}{ended}", log.pod, log.container)?;
            if log.lines.is_empty() {
                writeln!(text, "  | (nothing was written)")?;
            }
            for line in &log.lines {
                writeln!(text, "  | {line}")?;
            }
        }
        if !self.probes.is_empty() {
            writeln!(text, "\n  probes")?;
            for probe in &self.probes {
                writeln!(text, "  - {} ×{}: {}", probe.probe, probe.count, probe.message)?;
            }
        }
        if !self.events.is_empty() {
            writeln!(text, "\n  events")?;
            for event in &self.events {
                let times = if event.count > 1 { format!(" ×{}", event.count) } else { String::new() };
                writeln!(text, "  - {} {}{times}: {}", event.object, event.reason, event.message)?;
            }
        }
        if !self.waiting.is_empty() {
            let names: Vec<_> = self.waiting.iter().map(|node| format!("{} {node}", node.kind.word())).collect();
            writeln!(text, "\n  waiting for it: {}", names.join(", "))?;
        }
        if !self.unfinished.is_empty() {
            writeln!(text, "\n  also not ready")?;
            for other in &self.unfinished {
                writeln!(text, "  - {} {}: {}", other.node.kind.word(), other.node, other.doing)?;
            }
        }
        if let Some(hint) = &self.hint {
            writeln!(text, "\nhint: {hint}")?;
        }
        Ok(())
    }
}
