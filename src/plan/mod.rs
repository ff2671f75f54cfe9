//! The plan: an environment file resolved into a graph of what is started, in which order, and what is handed out.
//!
//! Built from `envfile`; `objects` turns its nodes into Kubernetes objects, the session walks its graph. Pure data:
//! it serializes, so that the command line can hand it to the agent and print it. No secret is ever in it: keys
//! are named, not held.
//!
//! Invariants: node names are unique across kinds; `nodes` is in a stable topological order (dependencies first, else the
//! file's order); every reference in a [`Template`] names a service, port or key of the plan; every path is absolute.

mod exports;
mod keys;
mod load;
mod manifests;
mod node;
mod notify;
mod order;
mod parts;
mod ports;
mod ready;
mod references;
mod viewpoint;
mod workload;
mod workloads;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use crate::envfile::{Part, PortField, Reference, Template, TimeSpan};
pub use load::{load, validate};
pub use node::{Condition, Need, NeedReason, Node, NodeId, NodeKind, NodeSpec};
pub use notify::{Email, Login, Notify, Secret, Tls, Webhook, When};
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
    /// The files that it includes, absolute.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub includes: Vec<PathBuf>,
    /// What relative paths were resolved against, absolute.
    pub project_root: PathBuf,
    /// The profiles that were laid over it, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub profiles: Vec<String>,
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
    /// Who is told of a failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notify: Option<Notify>,
}

impl Plan {
    fn with_dependents(mut self) -> Self {
        let edges: Vec<(NodeId, NodeId)> = self
            .nodes
            .iter()
            .flat_map(|node| node.needs.iter().map(|need| (need.node.clone(), node.id.clone())))
            .collect();
        let index: BTreeMap<NodeId, usize> =
            self.nodes.iter().enumerate().map(|(at, node)| (node.id.clone(), at)).collect();
        for (need, dependent) in edges {
            if let Some(at) = index.get(&need) {
                self.nodes[*at].dependents.push(dependent);
            }
        }
        self
    }

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

    /// The images that nodes pull with the user's Docker credentials: only of a context; what else there is gets its images from envctl.
    pub fn needs_pull_secret(&self) -> impl Iterator<Item = &str> {
        let pulls = matches!(self.cluster, Cluster::Context(_));
        let images = self.images.iter().filter(move |(_, image)| pulls && image.image_pull_secret);
        images.map(|(name, _)| name.as_str())
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
