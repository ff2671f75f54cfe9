//! Processes and an engine's containers as one [`Runtime`]: which of the two runs a pod is decided when its sandbox is made.
//!
//! A pod whose images are all mapped to processes runs as processes. Any other runs in the Docker engine, if one answers; where none does,
//! it waits as a process pod for its images to be mapped. The engine is asked for when the first such pod comes, not before.

use std::sync::Arc;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::PodSpec;
use tokio::sync::{Mutex, watch};

use super::docker::{DockerRuntime, Place};
use super::image::ImageTable;
use super::process::ProcessRuntime;
use super::runtime::{
    ContainerConfig, ExecConfig, Process, Pull, PullError, Pulled, Runtime, RuntimeError, Sandbox, SandboxConfig,
};
use super::unenforced::not_enforced;

/// As [`not_enforced`] names it.
const LIMITS: &str = "resources.limits";

/// Which of the two a pod is for.
#[derive(Debug, Clone)]
pub struct Choice {
    images: watch::Receiver<Arc<ImageTable>>,
    engine: Option<String>,
}

impl Choice {
    /// By what is mapped, and by where an engine would be.
    pub fn new(images: watch::Receiver<Arc<ImageTable>>, engine: Option<String>) -> Self {
        Self { images, engine }
    }

    fn all_mapped<'a>(&self, mut names: impl Iterator<Item = &'a str>) -> bool {
        let table = self.images.borrow();
        names.all(|name| table.contains_key(name))
    }

    /// Whether containers of the engine's would be made of these images, as far as can be said without asking the engine for anything.
    fn is_the_engines<'a>(&self, names: impl Iterator<Item = &'a str>) -> bool {
        let socket = self.engine.as_ref().and_then(|address| address.strip_prefix("unix://"));
        !self.all_mapped(names) && socket.is_some_and(|socket| std::os::unix::net::UnixStream::connect(socket).is_ok())
    }

    /// What of a pod's spec is accepted without being enforced by whichever runs it.
    pub fn not_enforced(&self, spec: &PodSpec) -> Vec<&'static str> {
        let mut fields = not_enforced(spec);
        let names = || images(spec).map(|name| name.as_str());
        if fields.contains(&LIMITS) && self.is_the_engines(names()) {
            fields.retain(|field| *field != LIMITS);
        }
        fields
    }
}

/// The images of all containers of a pod.
pub fn images(spec: &PodSpec) -> impl Iterator<Item = &String> {
    spec.init_containers.iter().flatten().chain(&spec.containers).filter_map(|container| container.image.as_ref())
}

/// Both.
pub struct Runtimes {
    process: Arc<ProcessRuntime>,
    place: Option<Place>,
    choice: Choice,
    /// Once it has answered.
    docker: std::sync::OnceLock<Arc<DockerRuntime>>,
    /// Held by whoever asks for it.
    asking: Mutex<()>,
}

impl Runtimes {
    /// Asks for nothing yet. `place` is where the engine would be.
    pub fn new(process: Arc<ProcessRuntime>, place: Option<Place>, images: watch::Receiver<Arc<ImageTable>>) -> Self {
        let choice = Choice::new(images, place.as_ref().map(|place| place.address.clone()));
        Self { process, place, choice, docker: std::sync::OnceLock::new(), asking: Mutex::default() }
    }

    /// Removes what is left in the engine.
    pub async fn stop(&self) {
        if let Some(docker) = self.docker.get() {
            docker.stop().await;
        }
    }

    async fn engine(&self) -> Option<&Arc<DockerRuntime>> {
        if let Some(docker) = self.docker.get() {
            return Some(docker);
        }
        let place = self.place.clone()?;
        let _one_at_a_time = self.asking.lock().await;
        if let Some(docker) = self.docker.get() {
            return Some(docker);
        }
        match DockerRuntime::connect(place, Arc::clone(&self.process)).await {
            Ok(docker) => Some(self.docker.get_or_init(|| docker)),
            Err(error) => {
                tracing::info!(%error, "pods whose images aren't mapped to processes cannot run");
                None
            }
        }
    }

    fn of_pod(&self, uid: &str) -> &dyn Runtime {
        match self.docker.get() {
            Some(docker) if docker.has_pod(uid) => docker.as_ref(),
            _ => self.process.as_ref(),
        }
    }
}

#[async_trait]
impl Runtime for Runtimes {
    async fn run_pod_sandbox(&self, config: SandboxConfig) -> Result<Sandbox, RuntimeError> {
        let mapped = self.choice.all_mapped(config.images.iter().map(String::as_str));
        if !mapped && let Some(docker) = self.engine().await {
            return docker.run_pod_sandbox(config).await;
        }
        self.process.run_pod_sandbox(config).await
    }

    async fn remove_pod_sandbox(&self, pod_uid: &str) -> Result<(), RuntimeError> {
        self.of_pod(pod_uid).remove_pod_sandbox(pod_uid).await
    }

    async fn start_container(&self, config: ContainerConfig) -> Result<Process, RuntimeError> {
        self.of_pod(&config.pod_uid).start_container(config).await
    }

    async fn exec(&self, container_id: &str, config: ExecConfig) -> Result<Process, RuntimeError> {
        match self.docker.get() {
            Some(docker) if docker.has_container(container_id) => docker.exec(container_id, config).await,
            _ => self.process.exec(container_id, config).await,
        }
    }

    fn not_enforced(&self, spec: &PodSpec) -> Vec<&'static str> {
        self.choice.not_enforced(spec)
    }

    async fn image(&self, pod_uid: &str, name: &str, pull: Pull) -> Option<Result<Pulled, PullError>> {
        self.of_pod(pod_uid).image(pod_uid, name, pull).await
    }
}
