//! What a pod's actor hears.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use tokio::sync::{mpsc, oneshot, watch};

use super::super::io::Stream;
use super::super::logs::reader::Target;
use super::super::logs::writer::Progress;
use super::super::probe::{ProbeKind, Report};
use super::super::runtime::{ExitStatus, RuntimeError, Sandbox, Signals};
use super::super::volumes::keeper::Prepared;
use super::container::{Attached, End};
use super::state::Waiting;
use super::supervision::Supervision;

/// What the node wants of a pod: always the latest.
#[derive(Debug, Clone)]
pub struct Wish {
    /// The latest object.
    pub pod: Arc<Pod>,
    /// The object is gone from the API.
    pub gone: bool,
    /// The kubelet stops: end at once, and leave the object alone.
    pub stop: bool,
}

/// A container's program, just started.
#[derive(Debug)]
pub struct Live {
    /// The run's id.
    pub id: String,
    /// To end it.
    pub signals: Signals,
    /// When it has ended.
    pub exit: watch::Receiver<Option<ExitStatus>>,
    /// To see its output.
    pub attach: mpsc::Sender<Attached>,
    /// Its standard input, if it has one.
    pub stdin: Option<Arc<Stream>>,
    /// Its terminal, if it has one.
    pub terminal: Option<Arc<Stream>>,
    /// Its log's progress.
    pub log: Option<watch::Receiver<Progress>>,
}

/// How a container's start went.
#[derive(Debug)]
pub enum StartOutcome {
    /// It runs.
    Started(Box<(Live, Supervision)>),
    /// Its program could not be run: that counts as a run (`RunContainerError`).
    NotRun {
        /// The run's id.
        id: String,
        /// Why.
        why: String,
    },
    /// It could not be made; tried again later.
    NotMade(Waiting),
    /// The node has ended, and every pod with it.
    NodeGone,
    /// The pod is going; nothing was started.
    Dropped,
}

/// One message.
#[derive(Debug)]
pub enum Message {
    /// The sandbox stands, or doesn't.
    Sandbox(Result<Sandbox, RuntimeError>),
    /// Every volume is there.
    Volumes(Prepared),
    /// A start waits for something (an image, a ConfigMap); it goes on by itself.
    Stuck(usize, Waiting),
    /// A start is over.
    Start(usize, StartOutcome),
    /// A postStart hook is over.
    Hooked(usize, Result<(), String>),
    /// A run is over, with its termination message.
    Ended(usize, End, Option<String>),
    /// A probe has something to say; of which run.
    Probe(usize, String, ProbeKind, Report),
    /// The status was written, or not.
    StatusWritten(Result<(), Box<kube::Error>>),
    /// The sandbox is gone, or not.
    SandboxRemoved(Result<(), RuntimeError>),
    /// The object was deleted, or not.
    Deleted(Result<(), Box<kube::Error>>),
    /// Whoever was attached to this run's input is done, and its input ends with them (`stdinOnce`).
    InputEnded(String),
    /// An endpoint asks for a container.
    Find(String, oneshot::Sender<Found>),
    /// An endpoint asks for a log: the container's, and whether the previous run's.
    Log(String, bool, oneshot::Sender<Result<Target, LogRefusal>>),
}

/// A container that was asked for.
#[derive(Debug)]
pub enum Found {
    /// The pod has none of that name.
    NoSuchContainer,
    /// It isn't running.
    NotRunning,
    /// It runs.
    Running(Handle),
}

/// What an endpoint needs of a running container.
#[derive(Debug, Clone)]
pub struct Handle {
    /// The run's id.
    pub id: String,
    /// To see its output.
    pub attach: mpsc::Sender<Attached>,
    /// Its standard input, if it has one.
    pub stdin: Option<Arc<Stream>>,
    /// Its terminal, if it has one.
    pub terminal: Option<Arc<Stream>>,
    /// When it has ended.
    pub exit: watch::Receiver<Option<ExitStatus>>,
    /// Who hears of the end of its input, if it ends with the first that was attached.
    pub stdin_once: Option<mpsc::Sender<Message>>,
}

/// Why there is no such log, in upstream's words (`kubelet_pods.go`, `validateContainerLogStatus`).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogRefusal {
    /// The pod has no such container.
    #[error("container {container:?} in pod {pod:?} is not available")]
    NoSuchContainer {
        /// As asked.
        container: String,
        /// Its name.
        pod: String,
    },
    /// It has not run yet.
    #[error("container {container:?} in pod {pod:?} is waiting to start: {reason}")]
    Waiting {
        /// As asked.
        container: String,
        /// Its name.
        pod: String,
        /// `ContainerCreating`, …
        reason: String,
    },
    /// It has run at most once.
    #[error("previous terminated container {container:?} in pod {pod:?} not found")]
    NoPrevious {
        /// As asked.
        container: String,
        /// Its name.
        pod: String,
    },
}
