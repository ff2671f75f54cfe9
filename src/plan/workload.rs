//! What services and jobs run: one container in one pod template, everything resolved but references.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Template;
use crate::envfile::TimeSpan;

/// Runs until the session ends: a Deployment, and a Service if it has ports.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Service {
    /// The pod's one container.
    #[serde(flatten)]
    pub workload: Workload,
    /// What it listens on, in the file's order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Port>,
    /// When a replica works; `None`: as soon as its container runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<Ready>,
    /// How many pods; 0 is allowed.
    pub replicas: u32,
}

/// Runs once, to success: a Job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// The pod's one container.
    #[serde(flatten)]
    pub workload: Workload,
    /// How often a failed run is tried again: `backoffLimit`. `None`: twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retries: Option<u32>,
    /// How long all its runs may take together: `activeDeadlineSeconds`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<TimeSpan>,
    /// Whether a failed container is started again in its pod (`OnFailure`) or in a new one, so that the
    /// failed one keeps its evidence (`Never`, the default).
    pub restart: JobRestart,
}

/// A job's `restartPolicy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum JobRestart {
    /// A failed pod stays as it is; the next try is another pod.
    #[default]
    Never,
    /// The failed container is started again in the same pod.
    OnFailure,
}

/// The part that services and jobs have in common.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Workload {
    /// The image's exact name, as it stands in the pod's spec.
    pub image: String,
    /// Overrides the image's entrypoint if not empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<Template>,
    /// Overrides the image's arguments if not empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<Template>,
    /// Variables, in the file's order (Kubernetes' `$(NAME)` sees earlier ones only).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<EnvVar>,
    /// Where it starts, absolute in the container; `None`: the image's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workdir: Option<PathBuf>,
    /// The uid (and gid) it runs as; `None`: the image's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<User>,
    /// What is mounted, in the file's order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<VolumeMount>,
    /// Requests and limits at once: what is asked for is also the most it gets.
    #[serde(default, skip_serializing_if = "Resources::is_empty")]
    pub resources: Resources,
    /// What its service account may do in the session's namespace. Not empty: it has an own service account.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rbac: Vec<PolicyRule>,
    /// From SIGTERM to SIGKILL; `None`: Kubernetes' own default (30 s).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace: Option<TimeSpan>,
}

/// `runAsUser` and `runAsGroup`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The user's number.
    pub uid: u32,
    /// The group's number; `None`: the image's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
}

/// A port that a service listens on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Port {
    /// Unique in its service; the middle part of `${services.NAME.PORT.address}`.
    pub name: String,
    /// The Service's port.
    pub port: u16,
    /// The container's port; the same unless the file says otherwise.
    pub target_port: u16,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The scheme of its URLs: by the port's name (`http`, `https`, `http-…`, `https-…`) or the file's `appProtocol`; `None`: it has no URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheme: Option<String>,
    /// The Service's `appProtocol`, if the file says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_protocol: Option<String>,
}

impl Port {
    /// Whether it is one to send an HTTP request to.
    pub fn speaks_http(&self) -> bool {
        matches!(self.scheme.as_deref(), Some("http" | "https"))
    }
}

/// A transport protocol, in Kubernetes' spelling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    /// The default.
    #[default]
    Tcp,
    /// Datagrams: cannot be forwarded to the host.
    Udp,
}

/// When a replica works: a readinessProbe, first tried at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// What is tried.
    pub check: Check,
    /// Between two tries, whole seconds: `periodSeconds`.
    pub interval: TimeSpan,
    /// For one try, whole seconds: `timeoutSeconds`.
    pub timeout: TimeSpan,
    /// Failed tries in a row until a ready replica counts as not ready: `failureThreshold`.
    pub failures: u32,
    /// How long it may take to start, after which it is killed and started again (a startupProbe); `None`: as long as it takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub startup: Option<TimeSpan>,
}

/// What a readiness check tries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Check {
    /// A GET that answers 200–399.
    Http {
        /// The request's path, with its leading slash.
        path: String,
        /// The container's port, by name.
        port: String,
        /// `HTTP` or `HTTPS`, in Kubernetes' spelling.
        scheme: String,
        /// Added to the request.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        headers: BTreeMap<String, String>,
    },
    /// A connection that opens.
    Tcp {
        /// The container's port, by name.
        port: String,
    },
    /// A command in the container that exits 0.
    Exec {
        /// Program and arguments.
        command: Vec<String>,
    },
}

/// One variable of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvVar {
    /// Its name.
    pub name: String,
    /// Where its value comes from.
    #[serde(flatten)]
    pub value: EnvValue,
}

/// Where a variable's value comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum EnvValue {
    /// A text, perhaps with references.
    Value(Template),
    /// A key of the session.
    Key(String),
    /// An entry of a Secret in the session's namespace.
    Secret(EntryRef),
    /// An entry of a ConfigMap in the session's namespace.
    ConfigMap(EntryRef),
    /// A field of the pod: `metadata.name`, `status.podIP`…
    FieldRef(String),
}

/// One entry of a ConfigMap or Secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryRef {
    /// The object's name.
    pub name: String,
    /// The entry's key.
    pub key: String,
}

/// Something mounted in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeMount {
    /// Where, absolute in the container.
    pub path: String,
    /// Whether writes fail.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
    /// What.
    pub source: VolumeSource,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum VolumeSource {
    /// Empty, and gone with the pod.
    Empty {
        /// Its limit, a Kubernetes quantity.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        size: Option<String>,
    },
    /// A PersistentVolumeClaim of the session, shared by all that give the same name.
    Claim {
        /// The claim's name.
        name: String,
        /// What is requested, a Kubernetes quantity: the same for all that share it.
        size: String,
    },
    /// A directory or file of this machine, absolute.
    HostPath(PathBuf),
    /// Every entry of a ConfigMap as a file.
    ConfigMap(String),
    /// Every entry of a Secret as a file.
    Secret(String),
    /// Files from the environment file itself: a ConfigMap made for them.
    Files(BTreeMap<String, Template>),
}

/// Kubernetes quantities, for requests and limits at once.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Resources {
    /// Memory, as `256Mi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<String>,
    /// Processors, as `500m` or `2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<String>,
}

impl Resources {
    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        self.memory.is_none() && self.cpu.is_none()
    }
}

/// One rule of a Role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyRule {
    /// `""` is the core group.
    pub api_groups: Vec<String>,
    /// Plural names, subresources as `pods/log`.
    pub resources: Vec<String>,
    /// `get`, `list`, … or `*`.
    pub verbs: Vec<String>,
    /// Only these objects; empty: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resource_names: Vec<String>,
}
