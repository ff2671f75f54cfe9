//! Where a session runs: what makes a kind of cluster reachable.
//!
//! Neighbours: `provision` walks the plan against whatever a [`Provider`] gives access to; `session`
//! owns the provider for the session's life. There is one code path for all kinds of cluster: a
//! provider only makes the cluster reachable, images runnable, services reachable from the host, and
//! removes what was created. It writes to no terminal and takes no command-line concerns.
//!
//! Invariant: everything is provisioned through [`Access::client`], TLS and kubeconfig included, so
//! that nothing works on the embedded cluster only because it is in the same process.

pub mod allowed;
pub mod apply;
pub mod by_tool;
mod claims;
pub mod contact;
pub mod context;
pub mod credentials;
pub mod embedded;
pub mod forward;
pub mod kubeconfig;
pub mod ledger;
pub mod lend;
pub mod locality;
mod multiplexed;
mod pod_forward;
mod reached;
pub mod refusal;
pub mod renewing;
pub mod tenancy;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::images::{Builds, ImageError};
use crate::objects::Content;
use crate::plan;
use crate::provision::EventSink;
use async_trait::async_trait;
use kube::config::Kubeconfig;

/// Makes one kind of cluster usable by a session. All calls may run concurrently.
#[async_trait]
pub trait Provider: Send + Sync + 'static {
    /// Makes the cluster reachable; returns as soon as its API answers (nodes may still be coming). Called once.
    async fn start(&self) -> Result<Access, ClusterError>;

    /// Makes an image runnable by its name: built with `builds` where the file says how, and known to the nodes.
    /// Called once per image and `up`, before anything that uses it is applied; `image` is `None` when the file doesn't map the name.
    /// It may be called before the cluster is there: it does what needs none, and waits for [`Provider::start`] with the rest.
    async fn make_runnable(&self, name: &str, image: Option<&plan::Image>, builds: &Builds) -> Result<(), ImageError>;

    /// What an image is here when it is run with this command, so that a rebuilt program is a difference; `None` where its name already
    /// says it. `image` as in [`Provider::make_runnable`], which comes first.
    fn content(&self, name: &str, image: Option<&plan::Image>, command: &[String], args: &[String]) -> Option<Content>;

    /// Makes a Service's port reachable from the host, for as long as the provider lives; the same answer when asked again.
    async fn expose(&self, target: &ServicePort) -> Result<SocketAddr, ClusterError>;

    /// The other way round: makes ports of the host's loopback reachable from pods, until the answer is dropped. Where nodes don't
    /// run on this machine, that is refused.
    async fn lend(&self, ports: &[lend::HostPort]) -> Result<lend::Lent, ClusterError>;

    /// Removes what the provider made for the session: its forwards, and the cluster where that is the session's own
    /// ([`Tenancy::Owner`]). Idempotent. What is not gone after `grace` is ended by force where the provider can, and reported.
    async fn remove(&self, grace: Duration) -> Result<Removal, ClusterError>;

    /// The accounts that created these objects, by UID, where the provider knows what the API doesn't tell.
    fn creators(&self, uids: &[String]) -> BTreeMap<String, String> {
        let _the_api_only_tells_field_managers = uids;
        BTreeMap::new()
    }

    /// Resolves when the cluster has become unusable, with the reason; pending for ever while it works.
    async fn lost(&self) -> ClusterError;
}

/// What a provider needs to know about the session it is for.
#[derive(Debug, Clone, Copy)]
pub struct Setting<'a> {
    /// The session's namespace.
    pub namespace: &'a str,
    /// The session's private directory; the session removes it, after [`Provider::remove`].
    pub directory: &'a Path,
    /// The caller's variables: where kubeconfig and tools are.
    pub variables: &'a BTreeMap<String, String>,
    /// The state directory: what is known of clusters that sessions share.
    pub state: &'a Path,
    /// Where to tell of what takes long.
    pub events: &'a EventSink,
}

/// The provider of a plan's kind of cluster. Nothing is started yet.
///
/// # Errors
/// When this version does not have that kind.
pub fn provider(plan: &plan::Plan, setting: Setting<'_>) -> Result<Arc<dyn Provider>, ClusterError> {
    match &plan.cluster {
        plan::Cluster::Embedded => {
            let config = crate::embedded::Config {
                program: PathBuf::from("/proc/self/exe"),
                state_dir: setting.directory.join("node"),
                visible: vec![plan.project_root.clone()],
                // A configuration of Docker's that cannot be read is as good as none here: process pods need neither.
                docker: crate::images::docker::engine_address(setting.variables)
                    .ok()
                    .map(|address| crate::embedded::Engine { address, session: setting.directory.to_owned() }),
            };
            let images = crate::images::docker::Images::of_engine(setting.variables.clone(), setting.state);
            Ok(Arc::new(embedded::Embedded::new(config, setting.namespace, plan.project_root.clone(), images)))
        }
        plan::Cluster::Context(name) => Ok(Arc::new(context::Context::new(name, setting))),
        plan::Cluster::Kind { fresh } => Ok(Arc::new(by_tool::ByTool::new(by_tool::KIND, *fresh, setting))),
        plan::Cluster::Minikube { fresh } => Ok(Arc::new(by_tool::ByTool::new(by_tool::MINIKUBE, *fresh, setting))),
    }
}

/// How to reach a cluster.
#[derive(Clone)]
pub struct Access {
    /// A complete private kubeconfig: the caller writes it with mode 0600.
    pub kubeconfig: Kubeconfig,
    /// From the call of [`Provider::start`] until the API answered.
    pub ready_after: Duration,
    /// Whose the cluster is.
    pub tenancy: Tenancy,
    /// A client that is there already, in the session's namespace.
    pub client: Option<kube::Client>,
}

/// Whose a cluster is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tenancy {
    /// The session's own: all that is in it goes with it.
    Owner,
    /// Someone else's: what the session makes there, it takes away piece by piece ([`tenancy`]).
    Guest {
        /// Which cluster: the UID of its `kube-system` namespace.
        cluster: String,
    },
}

impl Access {
    /// The kubeconfig as YAML (JSON is YAML, and every client reads it).
    ///
    /// # Errors
    /// When the kubeconfig cannot be serialized, which a provider's never is.
    pub fn kubeconfig_text(&self) -> Result<String, ClusterError> {
        serde_json::to_string_pretty(&self.kubeconfig)
            .map_err(|source| ClusterError::unavailable("writing the session's kubeconfig", source))
    }

    /// A client by TLS and kubeconfig, as any user of the session would make it.
    ///
    /// # Errors
    /// When the kubeconfig doesn't describe a usable cluster.
    pub async fn client(&self, namespace: &str) -> Result<kube::Client, ClusterError> {
        match &self.client {
            Some(client) => Ok(client.clone()),
            None => kubeconfig::client(self.kubeconfig.clone(), namespace).await,
        }
    }
}

/// A Service's port, as the cluster knows it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServicePort {
    /// The Service's namespace.
    pub namespace: String,
    /// The Service's name.
    pub service: String,
    /// The Service's port number (not the pod's).
    pub port: u16,
    /// The port's name in the Service.
    pub name: String,
}

impl std::fmt::Display for ServicePort {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}.{}:{}", self.service, self.namespace, self.port)
    }
}

/// What removing a session came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Removal {
    /// Processes that did not end within their grace and were killed, one sentence each. They are gone.
    pub killed: Vec<String>,
    /// What is still there, one sentence each: exit code 6.
    pub left: Vec<String>,
}

/// Why a cluster could not be used.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// It never became reachable, or is no longer: exit code 4.
    #[error("{attempt}: {source}")]
    Unavailable {
        /// What was being attempted.
        attempt: String,
        /// Why it failed.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It doesn't accept the user's credentials, or they cannot be had.
    #[error("{what}")]
    Credentials {
        /// Whose, of which context, and what was said.
        what: String,
        /// How to come by others.
        cure: String,
    },
    /// This machine or cluster can't do it, and what would cure that.
    #[error("{what}")]
    Unsupported {
        /// What cannot work.
        what: String,
        /// What the user can do about it.
        cure: String,
    },
    /// The session's namespace is no longer its own.
    #[error("{0}")]
    Evicted(String),
    /// The cluster was stopped by its owner.
    #[error("the cluster has been stopped")]
    Stopped,
}

impl ClusterError {
    /// What the user can do about it, where that isn't part of the message.
    pub fn hint(&self) -> Option<String> {
        let source = match self {
            Self::Unavailable { source, .. } => source,
            Self::Unsupported { cure, .. } | Self::Credentials { cure, .. } => return Some(cure.clone()),
            Self::Evicted(_) | Self::Stopped => return None,
        };
        let embedded = source
            .downcast_ref::<crate::embedded::EmbeddedError>()
            .or_else(|| source.downcast_ref::<Arc<crate::embedded::EmbeddedError>>().map(Arc::as_ref));
        match embedded {
            Some(crate::embedded::EmbeddedError::Node(error)) => error.cure(),
            _ => None,
        }
    }

    /// An [`ClusterError::Unavailable`].
    pub fn unavailable(
        attempt: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Unavailable { attempt: attempt.into(), source: source.into() }
    }
}
