//! What happens during `up`, for whoever displays it. Goes over the agent's socket as JSON.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::plan::NodeId;

/// One thing that happened. Times are milliseconds since `up` began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Event {
    /// The cluster's API answers.
    ClusterReady {
        /// `embedded`, `kind`, `minikube` or `context`.
        cluster: String,
        /// Milliseconds since `up` began.
        at: u64,
    },
    /// A build command was started.
    BuildStarted {
        /// As it would be typed.
        command: String,
        /// The image that asked for it first.
        image: String,
        /// Milliseconds since `up` began.
        at: u64,
    },
    /// The cluster is being made: what its program says of it.
    ClusterProgress {
        /// For people.
        doing: String,
        /// Milliseconds since `up` began.
        at: u64,
    },
    /// A step of an image's build, its pull or its way into the nodes.
    ImageProgress {
        /// Its name.
        image: String,
        /// For people.
        doing: String,
        /// Milliseconds since `up` began.
        at: u64,
    },
    /// A build command ended well; one that failed is a [`super::Failure`].
    BuildFinished {
        /// As it would be typed.
        command: String,
        /// Milliseconds since `up` began.
        at: u64,
        /// Milliseconds it took.
        took: u64,
    },
    /// A node's state, or what it waits for, changed.
    Node {
        /// Which.
        node: NodeId,
        /// Its state now.
        state: NodeState,
        /// What it waits for or what is happening, for people; may be empty.
        detail: String,
        /// Milliseconds since `up` began.
        at: u64,
    },
    /// A service is to run on the host: its process is expected now.
    Expected {
        /// The service.
        node: NodeId,
        /// Where it is to listen, `127.0.0.1:8080`.
        addresses: Vec<String>,
        /// The variables that it needs, as a file to be sourced by a shell.
        environment: PathBuf,
        /// What its pods run, as it would be typed; empty where only the image knows.
        command: String,
        /// Milliseconds since `up` began.
        at: u64,
    },
    /// Something worth a line that doesn't stop anything: a `Warning:` of the API, an ignored field, a restart.
    Warning {
        /// The node it concerns, if one.
        node: Option<NodeId>,
        /// For people.
        message: String,
        /// Milliseconds since `up` began.
        at: u64,
    },
    /// Everything is ready.
    Ready {
        /// Milliseconds since `up` began.
        at: u64,
    },
}

/// How far a node is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum NodeState {
    /// Its needs aren't met yet.
    Waiting {
        /// Those that aren't ready, in the order of the file.
        needs: Vec<NodeId>,
    },
    /// Its images are being made runnable.
    Building,
    /// Its objects are being applied.
    Applying,
    /// Applied; not ready yet.
    Starting,
    /// Done: serving, completed, or issued.
    Ready {
        /// Whether nothing had to be done: it was so before.
        unchanged: bool,
    },
    /// Beyond hope.
    Failed,
    /// Being removed: it is no longer in the file, or changed in a way that needs a new one.
    Removing,
    /// Gone.
    Removed,
}

impl NodeState {
    /// Whether whatever needs it may start.
    pub fn is_ready(&self) -> bool {
        matches!(self, Self::Ready { .. })
    }
}

/// Where events go. Never blocks provisioning; a receiver that has gone is not an error.
#[derive(Debug, Clone)]
pub struct EventSink(mpsc::UnboundedSender<Event>);

impl EventSink {
    /// A sink and the events sent to it, in order.
    pub fn channel() -> (Self, mpsc::UnboundedReceiver<Event>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), receiver)
    }

    /// Sends one event.
    pub fn send(&self, event: Event) {
        // The display may be gone (a CLI that detached); provisioning goes on without it.
        let _ = self.0.send(event);
    }
}
