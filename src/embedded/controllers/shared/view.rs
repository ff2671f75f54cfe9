//! A pod as controllers see it: only the fields they read, so that thousands fit in little memory.
//!
//! Neighbours: [`super::pods`] judges pods by it. Every other kind is cached as k8s-openapi's own type.

use std::borrow::Cow;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{
    ConfigMap, Namespace, PersistentVolume, PersistentVolumeClaim, Service, ServiceAccount,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde::Deserialize;

use super::cache::Cached;

/// A pod.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Pod {
    /// Without `managedFields`, and without annotations that no controller reads.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// The read part of `spec`.
    #[serde(default)]
    pub spec: PodSpec,
    /// The read part of `status`.
    #[serde(default)]
    pub status: PodStatus,
}

/// The read part of a pod's `spec`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodSpec {
    /// Empty until bound.
    pub node_name: Option<String>,
    /// For headless services.
    pub hostname: Option<String>,
    /// For headless services.
    pub subdomain: Option<String>,
    /// `Always`, `OnFailure` or `Never`.
    pub restart_policy: Option<String>,
    /// Names and ports only.
    pub containers: Vec<Container>,
    /// Sidecars may carry named ports too.
    pub init_containers: Vec<Container>,
}

/// The read part of a container.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Container {
    /// Its name.
    pub name: String,
    /// `Always` for sidecars.
    pub restart_policy: Option<String>,
    /// Its ports.
    pub ports: Vec<ContainerPort>,
}

/// The read part of a container's port.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerPort {
    /// May be absent.
    pub name: Option<String>,
    /// The number.
    pub container_port: i32,
    /// TCP if absent.
    pub protocol: Option<String>,
}

/// The read part of a pod's `status`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodStatus {
    /// `Pending` if absent.
    pub phase: Option<String>,
    /// Why the pod as a whole failed.
    pub reason: Option<String>,
    /// The first address.
    #[serde(rename = "podIP")]
    pub pod_ip: Option<String>,
    /// All addresses.
    #[serde(rename = "podIPs")]
    pub pod_ips: Vec<PodIp>,
    /// Conditions.
    pub conditions: Vec<Condition>,
    /// Containers' states.
    pub container_statuses: Vec<ContainerStatus>,
    /// Init containers' states.
    pub init_container_statuses: Vec<ContainerStatus>,
}

/// An address.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct PodIp {
    /// The address.
    pub ip: String,
}

/// The read part of a pod's condition.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Condition {
    /// Which.
    #[serde(rename = "type")]
    pub type_: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// Since when.
    pub last_transition_time: Option<Time>,
}

/// The read part of a container's status.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerStatus {
    /// Its name.
    pub name: String,
    /// How often it was restarted.
    pub restart_count: i32,
    /// Its state.
    pub state: ContainerState,
}

/// The read part of a container's state.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerState {
    /// Set once it has ended.
    pub terminated: Option<Terminated>,
}

/// How a container ended.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Terminated {
    /// Its exit code.
    pub exit_code: i32,
    /// When.
    pub finished_at: Option<Time>,
}

/// What pod controllers read of a pod's annotations.
pub const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
/// The index of a pod of an Indexed job.
pub const COMPLETION_INDEX: &str = "batch.kubernetes.io/job-completion-index";

impl Cached for Pod {
    fn prune(&mut self) {
        if let Some(annotations) = &mut self.metadata.annotations {
            annotations.retain(|key, _| key == DELETION_COST || key == COMPLETION_INDEX);
        }
    }
}

impl Cached for Deployment {}
impl Cached for ReplicaSet {}
impl Cached for Job {}
impl Cached for Service {}
impl Cached for EndpointSlice {}
impl Cached for Namespace {}
impl Cached for ServiceAccount {}
impl Cached for ConfigMap {}
impl Cached for PersistentVolume {}
impl Cached for PersistentVolumeClaim {}
impl Cached for StorageClass {}

impl kube::Resource for Pod {
    type DynamicType = ();
    type Scope = kube::core::NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        "Pod".into()
    }

    fn group((): &()) -> Cow<'_, str> {
        "".into()
    }

    fn version((): &()) -> Cow<'_, str> {
        "v1".into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        "pods".into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}
