//! The cluster inside envctl, as a [`Provider`]: it lives and dies with the agent.
//!
//! Service ports are forwarded from loopback, each connection to a ready endpoint of its own.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kube::config::Kubeconfig;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, OnceCell};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::{Access, ClusterError, Provider, Removal, ServicePort};
use crate::embedded::{Config, EmbeddedCluster, EmbeddedError};
use crate::images::{Builds, ImageError, process};
use crate::plan;

/// The cluster inside envctl.
pub struct Embedded {
    config: Config,
    namespace: String,
    project_root: PathBuf,
    cluster: OnceCell<Arc<EmbeddedCluster>>,
    exposed: Mutex<HashMap<ServicePort, SocketAddr>>,
    forwards: TaskTracker,
    stop: CancellationToken,
    _stop_on_drop: DropGuard,
}

impl Embedded {
    /// Nothing runs yet. `namespace` is the default of its kubeconfig.
    pub fn new(config: Config, namespace: &str, project_root: PathBuf) -> Self {
        let stop = CancellationToken::new();
        Self {
            config,
            namespace: namespace.to_owned(),
            project_root,
            cluster: OnceCell::new(),
            exposed: Mutex::default(),
            forwards: TaskTracker::new(),
            _stop_on_drop: stop.clone().drop_guard(),
            stop,
        }
    }

    fn cluster(&self) -> Result<&Arc<EmbeddedCluster>, ClusterError> {
        self.cluster.get().ok_or(ClusterError::Stopped)
    }
}

#[async_trait]
impl Provider for Embedded {
    async fn start(&self) -> Result<Access, ClusterError> {
        let starting = || async { EmbeddedCluster::start(self.config.clone()).await.map(Arc::new) };
        let cluster = self
            .cluster
            .get_or_try_init(starting)
            .await
            .map_err(|source| ClusterError::unavailable("starting the embedded cluster", source))?;
        let kubeconfig = Kubeconfig::from_yaml(&cluster.kubeconfig(&self.namespace))
            .map_err(|source| ClusterError::unavailable("reading the embedded cluster's kubeconfig", source))?;
        Ok(Access { kubeconfig, ready_after: cluster.ready_after() })
    }

    async fn make_runnable(&self, name: &str, image: Option<&plan::Image>, builds: &Builds) -> Result<(), ImageError> {
        // A name that the file doesn't map is for the kubelet to refuse, in Kubernetes' own words.
        let Some(image) = image else { return Ok(()) };
        let command = image.process.as_ref().map(|process| process.build.as_slice()).unwrap_or_default();
        if !command.is_empty() {
            builds.run(command, name).await?;
        }
        if image.process.is_some() || !image.entrypoint.is_empty() {
            let cluster =
                self.cluster().map_err(|source| ImageError::Load { image: name.to_owned(), source: source.into() })?;
            cluster.add_image(name, process::node_image(image, &self.project_root));
        }
        Ok(())
    }

    fn digest(&self, image: &str, command: &[String], args: &[String]) -> Option<String> {
        let image = self.cluster.get()?.image(image)?;
        Some(process::digest(&image, command, args))
    }

    async fn expose(&self, target: &ServicePort) -> Result<SocketAddr, ClusterError> {
        let cluster = self.cluster()?.clone();
        let mut exposed = self.exposed.lock().await;
        if let Some(address) = exposed.get(target) {
            return Ok(*address);
        }
        let attempt = || format!("listening on loopback for {target}");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .map_err(|source| ClusterError::unavailable(attempt(), source))?;
        let address = listener.local_addr().map_err(|source| ClusterError::unavailable(attempt(), source))?;
        let stop = self.stop.clone();
        let forwarding = forward(listener, cluster, target.clone(), self.forwards.clone(), stop.clone());
        self.forwards.spawn(async move { _ = stop.run_until_cancelled(forwarding).await });
        exposed.insert(target.clone(), address);
        Ok(address)
    }

    async fn remove(&self, _namespace: &str, grace: Duration) -> Result<Removal, ClusterError> {
        self.stop.cancel();
        let Some(cluster) = self.cluster.get() else { return Ok(Removal::default()) };
        let stopped = cluster.stop(grace).await;
        self.forwards.close();
        // Every forward ends on the token: there is nothing to wait for but the tasks' own last step.
        self.forwards.wait().await;
        Ok(Removal { killed: stopped.forced, left: Vec::new() })
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

/// Accepts until cancelled; each connection is a task of its own.
async fn forward(
    listener: TcpListener,
    cluster: Arc<EmbeddedCluster>,
    target: ServicePort,
    tasks: TaskTracker,
    stop: CancellationToken,
) {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            // A connection that was gone before it was accepted says nothing about the listener.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionAborted => continue,
            Err(error) => {
                tracing::error!(%target, %error, "a forwarded port stopped accepting");
                return;
            }
        };
        let (cluster, target, stop) = (cluster.clone(), target.clone(), stop.clone());
        tasks.spawn(async move { _ = stop.run_until_cancelled(relay(stream, &cluster, &target)).await });
    }
}

/// One connection. While no endpoint is ready the client waits, as it would for a server that is slow to accept.
async fn relay(mut from: TcpStream, cluster: &EmbeddedCluster, target: &ServicePort) {
    match cluster.connect(&target.namespace, &target.service, target.port).await {
        Ok(mut to) => {
            // Small requests and answers must not wait for each other's acknowledgement.
            let _ = from.set_nodelay(true);
            let _ = to.set_nodelay(true);
            if let Err(error) = copy_bidirectional(&mut from, &mut to).await {
                tracing::debug!(%target, %error, "a forwarded connection broke");
            }
        }
        Err(error) => tracing::debug!(%target, %error, "no connection to forward to"),
    }
}
