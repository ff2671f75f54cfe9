//! Pods: one actor each.
//!
//! [`messages`] is what an actor hears, [`state`] what it knows, [`decide`] what follows from that, [`task`] the
//! loop that acts. Everything slow is a job of the actor's that answers with a message.

pub mod container;
pub mod decide;
pub mod messages;
pub mod start;
pub mod state;
pub mod stop;
pub mod supervision;
pub mod task;
mod words;

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use tokio::sync::watch;

use super::downward::Allocatable;
use super::events::Recorder;
use super::image::ImageTable;
use super::objects::Objects;
use super::runtime::{NodeNetwork, Runtime};
use super::services::Table;

/// What all actors of a node share.
pub struct Context {
    /// Speaks to the API server.
    pub client: kube::Client,
    /// Runs containers.
    pub runtime: Arc<dyn Runtime>,
    /// Reaches pods.
    pub network: Arc<dyn NodeNetwork>,
    /// What images mean.
    pub images: watch::Receiver<Arc<ImageTable>>,
    /// Writes events.
    pub recorder: Recorder,
    /// Objects by name.
    pub objects: Arc<Objects>,
    /// Services, for variables.
    pub services: watch::Receiver<Arc<Table>>,
    /// `pods/` and `logs/` are under it.
    pub state_dir: PathBuf,
    /// Usually `cluster.local`.
    pub cluster_domain: String,
    /// The cluster DNS address.
    pub dns_ip: Ipv4Addr,
    /// The node's capacity.
    pub allocatable: Allocatable,
}

/// How events name a container (`pkg/kubelet/container/ref.go`).
pub fn field_path(pod: &Pod, container: &str) -> String {
    let init = pod.spec.as_ref().and_then(|spec| spec.init_containers.as_ref());
    let list =
        if init.into_iter().flatten().any(|spec| spec.name == container) { "initContainers" } else { "containers" };
    format!("spec.{list}{{{container}}}")
}
