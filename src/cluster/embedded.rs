//! The cluster inside envctl, as a [`Provider`]: it lives and dies with the agent.
//!
//! Service ports are forwarded from loopback, each connection to a ready endpoint of its own.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kube::config::Kubeconfig;
use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;
use tokio::sync::SetOnce;

use super::forward::{Carrier, Forwards};
use super::lend::{self, HostPort, Lent};
use super::{Access, ClusterError, Provider, Removal, ServicePort, Tenancy};
use crate::embedded::{Config, EmbeddedCluster, EmbeddedError};
use crate::images::docker::Images;
use crate::images::{Builds, ImageError, process};
use crate::objects::Content;
use crate::plan;

/// The cluster inside envctl.
pub struct Embedded {
    config: Config,
    namespace: String,
    project_root: PathBuf,
    cluster: SetOnce<Arc<EmbeddedCluster>>,
    forwards: Forwards,
    /// For images that only the Docker engine can run.
    images: Images,
}

impl Embedded {
    /// Nothing runs yet. `namespace` is the default of its kubeconfig.
    pub fn new(config: Config, namespace: &str, project_root: PathBuf, images: Images) -> Self {
        Self {
            config,
            namespace: namespace.to_owned(),
            project_root,
            cluster: SetOnce::new(),
            forwards: Forwards::default(),
            images,
        }
    }

    fn cluster(&self) -> Result<&Arc<EmbeddedCluster>, ClusterError> {
        self.cluster.get().ok_or(ClusterError::Stopped)
    }
}

#[async_trait]
impl Provider for Embedded {
    async fn start(&self) -> Result<Access, ClusterError> {
        let cluster = EmbeddedCluster::start(self.config.clone())
            .await
            .map(Arc::new)
            .map_err(|source| ClusterError::unavailable("starting the embedded cluster", source))?;
        let kubeconfig = Kubeconfig::from_yaml(&cluster.kubeconfig(&self.namespace))
            .map_err(|source| ClusterError::unavailable("reading the embedded cluster's kubeconfig", source))?;
        let ready_after = cluster.ready_after();
        self.cluster
            .set(cluster)
            .map_err(|_again| ClusterError::unavailable("starting the embedded cluster", "it was started before"))?;
        Ok(Access { kubeconfig, ready_after, tenancy: Tenancy::Owner, client: None })
    }

    async fn make_runnable(&self, name: &str, image: Option<&plan::Image>, builds: &Builds) -> Result<(), ImageError> {
        let Some(image) = image.filter(|image| !in_engine(image)) else {
            if self.images.engine_listens() {
                return self.images.make_runnable(name, image, builds).await;
            }
            // The kubelet refuses it, in Kubernetes' own words.
            return Ok(());
        };
        let command = image.process.as_ref().map(|process| process.build.as_slice()).unwrap_or_default();
        if !command.is_empty() {
            builds.run(command, name).await?;
        }
        self.cluster.wait().await.add_image(name, process::node_image(image, &self.project_root));
        Ok(())
    }

    fn content(&self, name: &str, image: Option<&plan::Image>, command: &[String], args: &[String]) -> Option<Content> {
        let digest = match image.filter(|image| !in_engine(image)) {
            Some(image) => Some(process::digest(image, &self.project_root, command, args)),
            None => self.images.digest(name),
        };
        digest.map(Content::Stamp)
    }

    async fn expose(&self, target: &ServicePort) -> Result<SocketAddr, ClusterError> {
        self.forwards.expose(Arc::new(Dialer(self.cluster()?.clone())), target).await
    }

    async fn lend(&self, ports: &[HostPort]) -> Result<Lent, ClusterError> {
        let cluster = self.cluster()?;
        let mut listeners = Vec::with_capacity(ports.len());
        for port in ports {
            let listener = cluster.listen().await.map_err(|source| {
                ClusterError::unavailable(format!("listening in the node's network for {}", port.target), source)
            })?;
            listeners.push((listener, port.clone()));
        }
        lend::serve(listeners, Arc::new(Dialer(cluster.clone())), &self.forwards, |_only_pods_can_connect| true)
    }

    async fn remove(&self, grace: Duration) -> Result<Removal, ClusterError> {
        self.forwards.cancel();
        let Some(cluster) = self.cluster.get() else { return Ok(Removal::default()) };
        let stopped = cluster.stop(grace).await;
        self.forwards.stop().await;
        Ok(Removal { killed: stopped.forced, left: Vec::new() })
    }

    fn creators(&self, uids: &[String]) -> BTreeMap<String, String> {
        let Some(cluster) = self.cluster.get() else { return BTreeMap::new() };
        uids.iter().filter_map(|uid| Some((uid.clone(), cluster.creator(uid)?))).collect()
    }

    async fn lost(&self) -> ClusterError {
        match self.cluster.get() {
            Some(cluster) => {
                let error = cluster.lost().await;
                match &*error {
                    EmbeddedError::Stopped => ClusterError::Stopped,
                    _ => ClusterError::unavailable("running the embedded cluster", error),
                }
            }
            None => std::future::pending().await,
        }
    }
}

/// Whether an image is one that only an engine can run.
fn in_engine(image: &plan::Image) -> bool {
    image.process.is_none() && (image.docker.is_some() || image.entrypoint.is_empty())
}

/// Connections into the node's network.
struct Dialer(Arc<EmbeddedCluster>);

#[async_trait]
impl Carrier for Dialer {
    /// While no endpoint is ready the client waits, as it would for a server that is slow to accept.
    async fn carry(&self, mut from: TcpStream, target: &ServicePort) {
        match self.0.connect(&target.namespace, &target.service, &target.name).await {
            Ok(mut to) => {
                let _ = to.set_nodelay(true);
                if let Err(error) = copy_bidirectional(&mut from, &mut to).await {
                    tracing::debug!(%target, %error, "a forwarded connection broke");
                }
            }
            Err(error) => tracing::debug!(%target, %error, "no connection to forward to"),
        }
    }
}
