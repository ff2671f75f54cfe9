//! The language between the command line and an agent: lines of JSON over the session's socket.
//!
//! One connection carries one request and its replies, the last of which [`Reply::is_last`]. A connection that
//! closes is a caller that went away. During `up`, the caller may send [`Request::Cancel`] and [`Request::Kill`].
//!
//! Invariant: the first line has `protocol`; whoever gets another number than its own says so and reads no further.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::cluster::Removal;
use crate::plan::NodeId;
use crate::plan::Plan;
use crate::provision::{Event, Failure, NodeState};

use super::record::Record;

pub use super::attach::PROTOCOL;

/// A line from the command line.
#[derive(Debug, Serialize, Deserialize)]
pub struct Call {
    /// [`PROTOCOL`].
    pub protocol: u32,
    /// What is asked.
    #[serde(flatten)]
    pub request: Request,
}

impl Call {
    /// In this version's words.
    pub fn new(request: Request) -> Self {
        Self { protocol: PROTOCOL, request }
    }
}

/// What is asked of an agent.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "camelCase")]
pub enum Request {
    /// Bring the plan up, or apply its difference from what runs. Answered by [`Reply::Queued`], events, and
    /// [`Reply::Up`] or [`Reply::Failed`] (followed by [`Reply::Ended`] when the session goes with it).
    Up(Box<UpRequest>),
    /// Use the session for as long as this connection is open. Whoever comes first to a session that has nothing yet brings
    /// `up` up; later ones wait for that, and change nothing. Answered like `Up`, and by [`Reply::Ended`] if it ends meanwhile.
    Attach {
        /// What to bring up; who brings nothing waits for one who does.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        up: Option<Box<UpRequest>>,
    },
    /// A session that would end with its last user stays. Answered by [`Reply::Accepted`].
    Keep,
    /// Who created these objects, as far as the cluster tells. Answered by [`Reply::Creators`].
    Creators {
        /// The objects.
        uids: Vec<String>,
    },
    /// On the connection of an `Up`: stop, and take down what this `Up` created. Answered by [`Reply::Ended`] or end of file.
    Cancel,
    /// The same at once: processes are killed.
    Kill,
    /// Take the session away. Answered by [`Reply::Ended`].
    Down {
        /// Milliseconds that what is on a cluster of others may take to be gone before what holds it is reported.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        timeout: Option<u64>,
    },
    /// Answered by [`Reply::Status`].
    Status,
    /// Issue keys anew, with the plan of the last `Up`. Answered like it.
    Rotate(RotateRequest),
    /// Let a process on the host stand in for a service for as long as this connection is open, or until [`Request::Cancel`] on it.
    /// Answered like `Up`, once when it does and, after a `Cancel`, once more when the pods are back.
    Swap(SwapRequest),
    /// Wait until the `up` in progress has come to an end. Answered by [`Reply::Up`] or [`Reply::Failed`].
    Wait,
}

/// `envctl up`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UpRequest {
    /// What to bring up.
    pub plan: Plan,
    /// The caller's variables: what build commands and `fromEnv` keys see.
    pub environment: BTreeMap<String, String>,
    /// Milliseconds until it must be ready.
    pub timeout: u64,
    /// Leave what is up when something fails.
    pub keep: bool,
    /// After a failure, wait for as long as the caller that created the session stays connected: it has something to do there.
    #[serde(default)]
    pub hold: bool,
    /// The caller does not stay: its going away means nothing.
    pub detach: bool,
    /// Milliseconds without use until the session ends by itself.
    pub ttl: u64,
    /// Only these keys are issued anew, and what uses them restarted; everything where there are none.
    #[serde(default)]
    pub reissue: BTreeSet<String>,
    /// Only these services, which change places with a process on the host; everything where there are none.
    #[serde(default)]
    pub exchange: BTreeSet<String>,
    /// Services that are expected from the host: the port on loopback that stands in for each of theirs, by name.
    #[serde(default)]
    pub swap: BTreeMap<String, BTreeMap<String, u16>>,
}

impl UpRequest {
    /// Whether it is about a part of the plan only.
    pub fn is_partial(&self) -> bool {
        !self.reissue.is_empty() || !self.exchange.is_empty()
    }
}

/// `envctl swap`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SwapRequest {
    /// Which service.
    pub service: String,
    /// The port on loopback that stands in for each of its TCP ports, by name.
    pub ports: BTreeMap<String, u16>,
    /// Milliseconds until its pods must have stepped aside, and until they must be back.
    pub timeout: u64,
}

/// `envctl keys rotate`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RotateRequest {
    /// Which.
    pub keys: BTreeSet<String>,
    /// The caller's variables, for keys that come from them.
    pub environment: BTreeMap<String, String>,
    /// Milliseconds until what uses them must be ready again.
    pub timeout: u64,
}

/// A line from an agent.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Reply {
    /// The caller speaks another version.
    Mismatch {
        /// The agent's [`PROTOCOL`].
        protocol: u32,
        /// The agent's envctl.
        version: String,
    },
    /// The session is being taken down: ask again when its lock is free.
    Ending,
    /// Another `up` is at work on this session; this one follows it.
    Queued,
    /// This `up` is at work (the last word for a detached caller).
    Accepted,
    /// Something happened.
    Event(Event),
    /// Everything is ready.
    Up {
        /// What is now on disk.
        record: Box<Record>,
        /// Milliseconds it took; none when nothing was to be waited for.
        took: u64,
    },
    /// It did not come up.
    Failed {
        /// Why.
        failure: Box<Failure>,
        /// Whether the session stays up.
        kept: bool,
    },
    /// The session is gone, but for the agent's own exit.
    Ended {
        /// What removing it came to.
        removal: Removal,
        /// Why it ended, where it wasn't the caller who asked.
        why: Option<String>,
    },
    /// The account that created each object that it is known of, by UID.
    Creators {
        /// `system:serviceaccount:NAMESPACE:NAME` or a user's name.
        accounts: BTreeMap<String, String>,
    },
    /// What runs.
    Status(Box<Status>),
    /// The request cannot be understood or done.
    Refused {
        /// Why.
        message: String,
    },
}

impl Reply {
    /// Whether no other line follows it.
    pub fn is_last(&self) -> bool {
        match self {
            Self::Queued | Self::Event(_) | Self::Accepted => false,
            Self::Failed { kept, .. } => *kept,
            _ => true,
        }
    }
}

/// What runs, as the agent knows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// What is on disk.
    pub record: Record,
    /// The graph, in its order.
    pub nodes: Vec<NodeStatus>,
    /// The services in whose place a process on this machine is.
    #[serde(default)]
    pub swapped: BTreeSet<String>,
    /// Milliseconds until the session ends by itself, if nothing uses it.
    pub idle_end: u64,
}

/// One node of the graph.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeStatus {
    /// Which.
    pub node: NodeId,
    /// How far it is.
    pub state: NodeState,
    /// What it waits for or what is happening.
    pub detail: String,
    /// Milliseconds since the `up` began when it came into this state.
    pub at: u64,
}

/// A line that could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ProtocolError {
    /// The connection broke.
    #[error("the connection to the session's agent broke: {0}")]
    Io(#[from] std::io::Error),
    /// Not a line of this protocol.
    #[error("the session's agent sent something else than its protocol: {0}")]
    Line(#[from] serde_json::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_says_its_version_and_its_request_in_one_flat_line() {
        let line = serde_json::to_string(&Call::new(Request::Status)).unwrap();
        assert_eq!(line, r#"{"protocol":1,"request":"status"}"#);
        assert!(matches!(serde_json::from_str(&line).unwrap(), Call { protocol: 1, request: Request::Status }));
    }

    #[test]
    fn a_failure_that_takes_the_session_with_it_is_followed_by_its_end() {
        let failure = Box::new(Failure::new(None, crate::provision::Cause::NeverReady, "slow"));
        assert!(!Reply::Failed { failure: failure.clone(), kept: false }.is_last());
        assert!(Reply::Failed { failure, kept: true }.is_last());
    }
}
