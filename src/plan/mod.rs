//! The plan: an environment file resolved into a graph of what is started, in which order, and what is handed out.
//!
//! Built from `envfile`; `objects` turns its nodes into Kubernetes objects, the session walks its graph. Pure data:
//! it serializes, so that the command line can hand it to the agent and print it. No secret is ever in it: keys
//! are named, not held.
//!
//! Invariants: node names are unique across kinds; `nodes` is in a stable topological order (dependencies first, else the
//! file's order); every reference in a [`Template`] names a service, port or key of the plan; every path is absolute.

mod node;
mod parts;
mod viewpoint;
mod workload;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use crate::envfile::{Part, PortField, Reference, Template, TimeSpan};
pub use node::{Condition, Need, NeedReason, Node, NodeId, NodeKind, NodeSpec};
pub use parts::{
    Cluster, DockerImage, Encoding, Export, ExportOrigin, HttpCall, Image, Key, KeyAction, KeySource, Manifest,
    ProcessImage, Suite,
};
pub use viewpoint::{PortId, ResolveError, Viewpoint};
pub use workload::{
    Check, EntryRef, EnvValue, EnvVar, Job, JobRestart, PolicyRule, Port, Protocol, Ready, Resources, Service, User,
    VolumeMount, VolumeSource, Workload,
};

/// What one environment file, with one profile and one set of host variables, asks for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// The environment's name: a DNS label.
    pub environment: String,
    /// The file, absolute.
    pub file: PathBuf,
    /// What relative paths were resolved against, absolute.
    pub project_root: PathBuf,
    /// The profile that was laid over it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// Where it runs.
    pub cluster: Cluster,
    /// The images that the file maps, by name. A workload's image need not be among them.
    pub images: BTreeMap<String, Image>,
    /// The graph, dependencies first.
    pub nodes: Vec<Node>,
    /// What tests get, in order: automatic ones, keys, then the file's own; names are unique. The session adds `KUBECONFIG`,
    /// `ENVCTL_SESSION` and `ENVCTL_SESSION_NAMESPACE`.
    pub exports: Vec<Export>,
    /// Test commands, by name.
    pub suites: BTreeMap<String, Suite>,
}

impl Plan {
    /// A node by its id.
    pub fn node(&self, id: &NodeId) -> Option<&Node> {
        self.nodes.iter().find(|node| node.id == *id)
    }

    /// A node by its name, whatever its kind.
    pub fn find(&self, name: &str) -> Option<&Node> {
        self.nodes.iter().find(|node| node.id.name == name)
    }

    /// Every service's ports: what the session forwards to the host.
    pub fn ports(&self) -> impl Iterator<Item = (PortId, &Port)> {
        self.nodes.iter().flat_map(|node| {
            let ports = match &node.spec {
                NodeSpec::Service(service) => service.ports.as_slice(),
                _ => &[],
            };
            ports.iter().map(|port| (PortId { service: node.id.name.clone(), port: port.name.clone() }, port))
        })
    }

    /// The images that its services and jobs use, each once, with how the file maps it (`None`: it doesn't).
    pub fn used_images(&self) -> BTreeMap<&str, Option<&Image>> {
        self.nodes
            .iter()
            .filter_map(|node| node.workload())
            .map(|workload| (workload.image.as_str(), self.images.get(&workload.image)))
            .collect()
    }
}

impl Node {
    /// What a service or job runs.
    pub fn workload(&self) -> Option<&Workload> {
        match &self.spec {
            NodeSpec::Service(service) => Some(&service.workload),
            NodeSpec::Job(job) => Some(&job.workload),
            NodeSpec::Manifest(_) | NodeSpec::Key(_) => None,
        }
    }
}
