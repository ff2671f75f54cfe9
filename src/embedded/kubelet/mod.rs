//! The kubelet: one node, one actor per pod, containers run through a [`runtime::Runtime`].
//!
//! Takes a `kube::Client` and knows nothing of who serves it.

pub mod command;
pub mod dns;
pub mod docker;
pub mod downward;
pub mod env;
pub mod error;
pub mod events;
pub mod expansion;
pub mod image;
pub mod io;
pub mod logs;
pub mod manager;
pub mod node;
pub mod objects;
pub mod pod;
pub mod probe;
pub mod process;
pub mod proxy;
pub mod quantity;
pub mod resolv;
pub mod restart;
pub mod runtime;
pub mod runtimes;
pub mod server;
pub mod services;
pub mod status;
pub mod unenforced;
pub mod volumes;

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::events::Recorder;
use self::image::ImageTable;
use self::manager::Query;
use self::objects::Objects;
use self::pod::Context;
use self::proxy::ServiceDialer;
use self::runtime::{NodeNetwork, Runtime};

pub use self::error::KubeletError;

/// What a kubelet is made from.
pub struct Config {
    /// The Node object's name.
    pub node_name: String,
    /// `pods/` (volumes) and `logs/` are made under it.
    pub state_dir: PathBuf,
    /// Speaks to the API server as `system:node:NAME`.
    pub client: kube::Client,
    /// Speaks to it as `system:kube-proxy`, for cluster DNS and service addresses.
    pub proxy_client: kube::Client,
    /// Runs containers.
    pub runtime: Arc<dyn Runtime>,
    /// Where pods and service addresses are.
    pub network: Arc<dyn NodeNetwork>,
    /// What image names mean; looked up whenever a container starts.
    pub images: watch::Receiver<Arc<ImageTable>>,
    /// Usually `cluster.local`.
    pub cluster_domain: String,
    /// Usually 10.96.0.10.
    pub dns_ip: Ipv4Addr,
}

/// A kubelet that runs.
pub struct Kubelet {
    dialer: ServiceDialer,
    queries: mpsc::Sender<Query>,
    network: Arc<dyn NodeNetwork>,
    runtime: Arc<dyn Runtime>,
    pods: JoinHandle<()>,
    tasks: TaskTracker,
    stop_pods: CancellationToken,
    stop_rest: CancellationToken,
}

impl Kubelet {
    /// Registers the node (Ready) with its lease, and begins to run the pods bound to it. `stop` ends the pods as
    /// [`Kubelet::stop`] does, which must still be called to wait for them.
    ///
    /// # Errors
    /// [`KubeletError`]; nothing is left running then.
    pub async fn start(config: Config, stop: CancellationToken) -> Result<Self, KubeletError> {
        let Config { node_name, state_dir, client, proxy_client, runtime, network, images, cluster_domain, dns_ip } =
            config;
        for name in ["pods", "logs"] {
            let path = state_dir.join(name);
            std::fs::create_dir_all(&path).map_err(|source| KubeletError::StateDir { path, source })?;
        }
        let allocatable = node::allocatable();
        let tasks = TaskTracker::new();
        // Not `stop`'s child: while pods end, their services and names still work.
        let stop_rest = CancellationToken::new();
        let registered = node::register(&client, &node_name, network.node_ip(), allocatable).await;
        let registered = registered
            .map_err(|source| KubeletError::Register { node: node_name.clone(), source: Box::new(source) })?;
        let (recorder, writing) = Recorder::new(client.clone(), node_name.clone(), stop_rest.clone());
        tasks.spawn(writing);
        recorder.node(&registered, events::Kind::Normal, "Starting", "Starting kubelet.");
        tasks.spawn(node::renew(client.clone(), node_name.clone(), stop_rest.clone()));
        let (table, feeding) = services::follow(proxy_client.clone(), stop_rest.clone());
        tasks.spawn(feeding);
        let dns = match dns::Dns::bind(&*network, dns_ip, cluster_domain.clone(), table.clone()).await {
            Ok(dns) => dns,
            Err(error) => {
                stop_rest.cancel();
                tasks.close();
                tasks.wait().await;
                return Err(error);
            }
        };
        tasks.spawn(dns.run(stop_rest.clone()));
        let dialer = ServiceDialer::new(table.clone(), proxy_client, Arc::clone(&network));
        tasks.spawn(proxy::run(table.clone(), dialer.clone(), Arc::clone(&network), dns_ip, stop_rest.clone()));
        let context = Arc::new(Context {
            objects: Arc::new(Objects::new(client.clone(), tasks.clone(), stop_rest.clone())),
            client,
            runtime: Arc::clone(&runtime),
            network: Arc::clone(&network),
            images,
            recorder,
            services: table,
            state_dir,
            cluster_domain,
            dns_ip,
            allocatable,
        });
        let (queries, asked) = mpsc::channel(16);
        let stop_pods = stop.child_token();
        let pods = tokio::spawn(manager::run(context, node_name, asked, stop_pods.clone()));
        Ok(Self { dialer, queries, network, runtime, pods, tasks, stop_pods, stop_rest })
    }

    /// The kubelet's own HTTP API, as in upstream's `pkg/kubelet/server/server.go`. Streaming paths
    /// need the request's `hyper::upgrade::OnUpgrade` extension: pass requests on, don't rebuild them.
    pub fn router(&self) -> axum::Router {
        let endpoints = server::Endpoints {
            queries: self.queries.clone(),
            runtime: Arc::clone(&self.runtime),
            network: Arc::clone(&self.network),
            tasks: self.tasks.clone(),
            stop: self.stop_rest.clone(),
        };
        endpoints.router()
    }

    /// Connects to services by name, for ports on the host's side.
    pub fn dialer(&self) -> ServiceDialer {
        self.dialer.clone()
    }

    /// Ends all pods (SIGTERM, 30 ms, SIGKILL) and then everything else. Pod objects are left as they are: the
    /// session, and with it the API server, is going.
    pub async fn stop(self) {
        self.stop_pods.cancel();
        if let Err(error) = self.pods.await {
            tracing::error!(%error, "the pods' owner panicked");
        }
        self.stop_rest.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}
