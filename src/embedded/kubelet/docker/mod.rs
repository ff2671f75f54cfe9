//! Containers of a Docker engine as a [`Runtime`]: for pods whose images aren't mapped to processes.
//!
//! - [`gate`] is each pod's first container: its network and ipc namespaces are the pod's, and it joins them to the node's. So such a
//!   pod is a member of the node's network like any other: same addresses, names, services, probes, whoever talks to whom.
//! - `sandbox` makes and removes gates, `container` runs containers and other programs in them, `streams` carries what they say,
//!   `pull` is about images, [`program`] about how a gate comes to run this program, [`http`] about requests without a runtime.
//! - [`sweep`] removes what sessions left that were killed together with their gates.
//!
//! Invariants: every container has [`SESSION`] and [`POD`] for labels; what a session starts ends with it, since each gate
//! holds a socket of the agent and removes its pod when that closes.

mod container;
pub mod gate;
pub mod http;
pub mod program;
mod pull;
mod sandbox;
mod streams;
pub mod sweep;

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bollard::errors::Error;
use bollard::{API_DEFAULT_VERSION, Docker};
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::process::ProcessRuntime;
use super::runtime::{
    ContainerConfig, ExecConfig, Process, Pull, PullError, Pulled, Runtime, RuntimeError, Sandbox, SandboxConfig,
};
use program::Program;
use sandbox::Pod;

/// Label: the session's directory on this machine.
pub const SESSION: &str = "dev.envctl.session";
/// Label: the pod's UID.
pub const POD: &str = "dev.envctl.pod";
/// How long the engine may take to begin an answer, in seconds.
const PATIENCE: u64 = 600;

/// Where an engine is and what to call its containers.
#[derive(Debug, Clone)]
pub struct Place {
    /// As in `DOCKER_HOST`.
    pub address: String,
    /// The session's directory: the value of [`SESSION`].
    pub session: PathBuf,
    /// For this runtime's own files; made when it is needed.
    pub directory: PathBuf,
    /// What is written to by the pods' containers: given back to the session's owner when they end.
    pub volumes: PathBuf,
}

/// Why the engine can't be used.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// It isn't on this machine, or this program can't know.
    #[error(
        "the engine at {0} cannot run pods of the embedded cluster: only one behind a unix socket is on this machine for sure"
    )]
    Elsewhere(String),
    /// It doesn't answer.
    #[error("no Docker engine answers at {address}: {source}")]
    Silent {
        /// Where.
        address: String,
        /// Why.
        source: Error,
    },
    /// The runtime's own files.
    #[error("{what}: {source}")]
    Files {
        /// What was being made.
        what: String,
        /// The kernel's answer.
        source: std::io::Error,
    },
}

/// Runs pods in a Docker engine.
pub struct DockerRuntime {
    docker: Docker,
    socket: PathBuf,
    place: Place,
    node: Arc<ProcessRuntime>,
    program: Program,
    network: OnceCell<OwnedFd>,
    /// Whether the image of gates has been looked for.
    gate_image: OnceCell<()>,
    pods: Mutex<HashMap<String, Arc<Pod>>>,
    /// Which pod a container is of.
    containers: Arc<Mutex<HashMap<String, Running>>>,
    /// Whether a container could write to a volume that outlives its pod.
    wrote_volumes: AtomicBool,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// What of a container others need.
#[derive(Debug, Clone)]
struct Running {
    pod_uid: String,
    engine_id: String,
}

impl DockerRuntime {
    /// Connects to the engine: one request.
    ///
    /// # Errors
    /// When there is none that can be used; nothing is left then.
    pub async fn connect(place: Place, node: Arc<ProcessRuntime>) -> Result<Arc<Self>, EngineError> {
        let Some(socket) = place.address.strip_prefix("unix://").map(PathBuf::from) else {
            return Err(EngineError::Elsewhere(place.address));
        };
        let silent = |source| EngineError::Silent { address: place.address.clone(), source };
        let docker = Docker::connect_with_unix(&place.address, PATIENCE, API_DEFAULT_VERSION).map_err(silent)?;
        let docker = docker.negotiate_version().await.map_err(silent)?;
        let files = |what: String| move |source| EngineError::Files { what, source };
        std::fs::create_dir_all(&place.directory).map_err(files(format!("making {}", place.directory.display())))?;
        // Before there is anything to find: whoever finds the session dead looks for its containers there.
        let record = place.session.join(sweep::RECORD);
        std::fs::write(&record, &place.address).map_err(files(format!("writing {}", record.display())))?;
        let program = Program::own(&place.directory).map_err(files("finding this program's files".to_owned()))?;
        Ok(Arc::new(Self {
            docker,
            socket,
            place,
            node,
            program,
            network: OnceCell::new(),
            gate_image: OnceCell::new(),
            pods: Mutex::default(),
            containers: Arc::default(),
            wrote_volumes: AtomicBool::new(false),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        }))
    }

    /// Whether a container is one of this runtime's.
    pub fn has_container(&self, id: &str) -> bool {
        lock(&self.containers).contains_key(id)
    }

    /// Whether a pod is one of this runtime's.
    pub fn has_pod(&self, uid: &str) -> bool {
        lock(&self.pods).contains_key(uid)
    }

    /// Removes what is left and ends every task.
    pub async fn stop(&self) {
        let pods: Vec<String> = lock(&self.pods).keys().cloned().collect();
        for uid in pods {
            if let Err(error) = self.remove_pod_sandbox(&uid).await {
                tracing::warn!(%error, pod = uid, "a pod's containers could not be removed");
            }
        }
        if self.wrote_volumes.load(Ordering::Relaxed)
            && !nix::unistd::geteuid().is_root()
            && let Err(error) = self.give_back_volumes().await
        {
            tracing::warn!(%error, "files in volumes may be left to root");
        }
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.forget_gate_image().await;
    }

    fn session(&self) -> String {
        self.place.session.to_string_lossy().into_owned()
    }

    fn labels(&self, pod_uid: &str) -> HashMap<String, String> {
        HashMap::from([(SESSION.to_owned(), self.session()), (POD.to_owned(), pod_uid.to_owned())])
    }

    fn pod(&self, uid: &str) -> Result<Arc<Pod>, RuntimeError> {
        lock(&self.pods).get(uid).cloned().ok_or_else(|| RuntimeError::NotFound(format!("pod sandbox {uid}")))
    }

    /// Ends and removes a container with its anonymous volumes.
    async fn remove(&self, id: &str) -> Result<(), RuntimeError> {
        remove(&self.docker, id).await
    }
}

async fn remove(docker: &Docker, id: &str) -> Result<(), RuntimeError> {
    let options = bollard::query_parameters::RemoveContainerOptionsBuilder::new().force(true).v(true).build();
    match docker.remove_container(id, Some(options)).await {
        // Gone, or on its way.
        Ok(()) | Err(Error::DockerResponseServerError { status_code: 404 | 409, .. }) => Ok(()),
        Err(error) => Err(refused("removing a container", error)),
    }
}

/// The engine's answer as the kubelet passes it on.
fn refused(what: impl Into<String>, error: Error) -> RuntimeError {
    RuntimeError::Sandbox { what: what.into(), source: std::io::Error::other(words(error)) }
}

/// What the engine says, without what bollard says about it.
fn words(error: Error) -> String {
    match error {
        Error::DockerResponseServerError { message, .. } => message,
        Error::DockerStreamError { error } => error,
        other => other.to_string(),
    }
}

/// The maps are consistent after every statement, so a panic elsewhere doesn't matter.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn kernel(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> RuntimeError {
    let what = what.into();
    move |source| RuntimeError::Sandbox { what, source }
}

fn shown(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[async_trait]
impl Runtime for DockerRuntime {
    async fn run_pod_sandbox(&self, config: SandboxConfig) -> Result<Sandbox, RuntimeError> {
        self.make_pod(config).await
    }

    async fn remove_pod_sandbox(&self, pod_uid: &str) -> Result<(), RuntimeError> {
        self.remove_pod(pod_uid).await
    }

    async fn start_container(&self, config: ContainerConfig) -> Result<Process, RuntimeError> {
        self.start(config).await
    }

    async fn exec(&self, container_id: &str, config: ExecConfig) -> Result<Process, RuntimeError> {
        self.start_exec(container_id, config).await
    }

    async fn image(&self, _pod_uid: &str, name: &str, pull: Pull) -> Option<Result<Pulled, PullError>> {
        Some(self.find_image(name, pull).await)
    }
}
