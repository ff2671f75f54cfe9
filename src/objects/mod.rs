//! A plan's nodes as Kubernetes objects: the same ones on every kind of cluster.
//!
//! Built from `plan`; `provision` applies what [`render`] returns, in its order, when the node's needs are met.
//! Pure, and total for a valid plan. Every object carries the session's labels. What only the cluster knows is left to
//! the applier: whether a manifest's kind is namespaced (if so, and it names none, its namespace is the session's).
//!
//! | node | objects, in order |
//! |---|---|
//! | service | ServiceAccount, Role, RoleBinding (with `rbac`) · ConfigMap a `files` volume · PersistentVolumeClaims · Service (with ports) · EndpointSlice (while it runs [`OnHost`]) · Deployment |
//! | job | the same, with a Job for the last two |
//! | manifest | its documents |
//! | key | none: the applier writes the Secret [`KEYS_SECRET`] |

mod access;
mod manifest;
mod pod;
mod registries;
mod storage;
mod workload;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

pub use pod::unexpanded;
pub use registries::registries;
use serde_json::{Value, json};

use crate::plan::{Node, NodeId, NodeKind, NodeSpec, Plan, ResolveError};

/// Who made an object: Kubernetes' recommended label, always `envctl`.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// The name within the environment: Kubernetes' recommended label.
pub const APP_NAME: &str = "app.kubernetes.io/name";
/// The session's id.
pub const SESSION: &str = "envctl.dev/session";
/// The environment's name.
pub const ENVIRONMENT: &str = "envctl.dev/environment";
/// The node's name ([`NodeId::label`]); absent on what several nodes share.
pub const NODE: &str = "envctl.dev/node";
/// The node's kind: `service`, `job` or `manifest`.
pub const NODE_KIND: &str = "envctl.dev/kind";
/// On pod templates: the digest of the process files of the pod's images, so that a rebuilt program is a difference.
pub const IMAGE_DIGEST: &str = "envctl.dev/image-digest";
/// On pod templates: the digest of the inline files mounted in the pod, so that a changed file is a difference.
pub const FILES_DIGEST: &str = "envctl.dev/files-digest";
/// The Secret in the session's namespace that holds the issued keys, each under its name.
pub const KEYS_SECRET: &str = "envctl-keys";
/// The Secret there with the user's credentials for registries: what nodes pull images with that say `imagePullSecret`.
pub const REGISTRIES_SECRET: &str = "envctl-registries";

/// What rendering needs beyond the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    /// The session's id, a valid label value.
    pub session: String,
    /// The session's namespace.
    pub namespace: String,
    /// What images are on the session's cluster, by name; pods have one that isn't in it by its name only.
    pub images: BTreeMap<String, Content>,
    /// Services that a process on the host stands in for, by name.
    pub on_host: BTreeMap<String, OnHost>,
}

/// What an image is, which its name alone does not tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// It was put there. A digest of it, stamped on pod templates: other content is a difference.
    Stamp(String),
    /// `NAME@sha256:…`, which pods have for its name: they run that, whatever a node has under the name.
    Reference(String),
}

/// Who manages the EndpointSlice of a service that runs on the host: the value of Kubernetes' own label for that. Its endpoint
/// controller leaves such slices alone, and whoever reads a service's endpoints (kube-proxy, DNS) reads them with its own.
pub const SLICE_MANAGER: &str = "envctl.dev";

/// Where a process on the host stands in for a service's pods. The Service itself stays as it is: its name, address and selector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnHost {
    /// What pods connect to.
    pub address: Ipv4Addr,
    /// The port there, by the name of the service's.
    pub ports: BTreeMap<String, u16>,
    /// What becomes of the pods.
    pub pods: Pods,
}

/// The pods of a service that runs on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pods {
    /// None: they have stepped aside.
    Aside,
    /// As many as ever: they are coming back, and the host is still there until they are ready.
    ComingBack,
}

/// Why a node could not be rendered: neither happens with a plan that `plan::load` made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// No such node.
    #[error("the plan has no node {0}")]
    NoSuchNode(NodeId),
    /// A text could not be resolved for the pod.
    #[error("{node}: {source}")]
    Reference {
        /// Whose text it is.
        node: NodeId,
        /// What cannot be resolved.
        source: ResolveError,
    },
}

/// The node's objects, in the order in which they should be applied.
///
/// # Errors
/// See [`RenderError`].
pub fn render(plan: &Plan, node: &NodeId, context: &Context) -> Result<Vec<Value>, RenderError> {
    let node = plan.node(node).ok_or_else(|| RenderError::NoSuchNode(node.clone()))?;
    let scope = Scope { plan, node, context };
    match &node.spec {
        NodeSpec::Service(service) => workload::service(&scope, service),
        NodeSpec::Job(job) => workload::job(&scope, job),
        NodeSpec::Manifest(manifest) => Ok(manifest::objects(&scope, manifest)),
        NodeSpec::Key(_) => Ok(Vec::new()),
    }
}

/// The session's namespace.
pub fn namespace(plan: &Plan, context: &Context) -> Value {
    let mut labels = session_labels(plan, context);
    labels.insert(APP_NAME.to_owned(), plan.environment.clone());
    json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": { "name": context.namespace, "labels": labels },
    })
}

/// The labels that every object of the session carries.
pub fn session_labels(plan: &Plan, context: &Context) -> BTreeMap<String, String> {
    BTreeMap::from([
        (MANAGED_BY.to_owned(), "envctl".to_owned()),
        (SESSION.to_owned(), context.session.clone()),
        (ENVIRONMENT.to_owned(), plan.environment.clone()),
    ])
}

/// The labels by which a service's or job's pods are found.
pub fn pod_selector(node: &NodeId, context: &Context) -> BTreeMap<String, String> {
    BTreeMap::from([(SESSION.to_owned(), context.session.clone()), (NODE.to_owned(), node.label())])
}

/// What every part of one node's rendering needs.
struct Scope<'a> {
    plan: &'a Plan,
    node: &'a Node,
    context: &'a Context,
}

impl Scope<'_> {
    fn name(&self) -> &str {
        &self.node.id.name
    }

    fn labels(&self) -> BTreeMap<String, String> {
        let mut labels = session_labels(self.plan, self.context);
        let name = self.node.id.label();
        if self.node.id.kind != NodeKind::Manifest {
            labels.insert(APP_NAME.to_owned(), name.clone());
        }
        labels.insert(NODE.to_owned(), name);
        labels.insert(NODE_KIND.to_owned(), self.node.id.kind.word().to_owned());
        labels
    }

    /// The metadata of an own object of this node.
    fn metadata(&self, name: &str) -> Value {
        json!({ "name": name, "namespace": self.context.namespace, "labels": self.labels() })
    }

    fn reference_error(&self, source: ResolveError) -> RenderError {
        RenderError::Reference { node: self.node.id.clone(), source }
    }
}
