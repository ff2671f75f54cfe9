//! A Kubernetes-compatible cluster inside envctl, for one machine and one session.
//!
//! Three rooms, each of which could be swapped for the real component: [`apiserver`] alone owns
//! storage, [`controllers`] and [`kubelet`] take a `kube::Client`. Only this file may name all three
//! (`tests/rooms.rs` checks that).
//!
//! ```text
//! start ─┬─ node process (namespaces, network) ──────────────┬─ kubelet ─ Running
//!        └─ API server ─ listening ─ controllers ────────────┘
//! stop  ── kubelet (pods) ── controllers ── API server ── node process
//! ```
//!
//! Invariants: the API answers as soon as [`EmbeddedCluster::start`] returns, while the node is still coming; one task owns
//! all that runs and takes it down in order, each step under its own deadline; dropping the cluster
//! without [`EmbeddedCluster::stop`] ends the node process, and with it every pod.

pub mod apiserver;
pub mod controllers;
pub mod kubelet;

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::PodSpec;
use serde::Deserialize as _;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use self::apiserver::{ApiServer, ApiServerError, User};
use self::controllers::Controllers;
pub use self::kubelet::docker::SESSION as ENGINE_LABEL;
pub use self::kubelet::docker::sweep::sweep as sweep_engine;
use self::kubelet::image::{Image, ImageTable};
use self::kubelet::process::{self, ProcessRuntime};
use self::kubelet::proxy::{DialError, PortRef, ServiceDialer};
use self::kubelet::runtime::NodeNetwork as _;
use self::kubelet::runtimes::{Choice, Runtimes};
use self::kubelet::{Kubelet, KubeletError};

/// The name of the only node.
pub const NODE_NAME: &str = "envctl";
const CLUSTER_DOMAIN: &str = "cluster.local";
/// Where pods reach the API: the first address of the default service range, the default Service's port.
const IN_CLUSTER_API: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 96, 0, 1), 443);
const CLUSTER_DNS: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
/// What one step of stopping may take beyond the pods' own grace. After it, it is dropped.
const STEP: Duration = Duration::from_secs(2);

/// What a cluster is made from.
#[derive(Debug, Clone)]
pub struct Config {
    /// The `envctl` program itself, which becomes the node process: `/proc/self/exe` in the agent.
    pub program: PathBuf,
    /// Private to this cluster; removed by its owner, not by the cluster.
    pub state_dir: PathBuf,
    /// Host directories that pods see at their own path: the project.
    pub visible: Vec<PathBuf>,
    /// Where a Docker engine would be, for pods whose images aren't mapped to processes; `None`: there is none.
    pub docker: Option<Engine>,
}

/// Where a Docker engine would be.
#[derive(Debug, Clone)]
pub struct Engine {
    /// As in `DOCKER_HOST`.
    pub address: String,
    /// The session's directory, by which its containers are found again.
    pub session: PathBuf,
}

/// A cluster that runs.
pub struct EmbeddedCluster {
    api: ApiServer,
    address: SocketAddr,
    ready_after: Duration,
    images: watch::Sender<Arc<ImageTable>>,
    health: watch::Receiver<Health>,
    stop: CancellationToken,
    owner: Mutex<Option<JoinHandle<Stopped>>>,
    /// The owner task stops everything also when the cluster is merely dropped.
    _stop_on_drop: DropGuard,
}

/// How the node is.
#[derive(Debug, Clone)]
enum Health {
    Starting,
    Running(Dialer),
    Ended(Arc<EmbeddedError>),
}

#[derive(Clone)]
struct Dialer(ServiceDialer);

impl std::fmt::Debug for Dialer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Dialer")
    }
}

/// How stopping went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stopped {
    /// What did not end in time and was dropped or killed, one sentence each. All of it is gone.
    pub forced: Vec<String>,
}

/// Why the cluster can't run.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// No port to listen on.
    #[error("listening on {address}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// The API server.
    #[error("starting the API server: {0}")]
    ApiServer(#[from] ApiServerError),
    /// The node process: namespaces refused, most likely.
    #[error("starting the node: {0}")]
    Node(#[from] process::StartError),
    /// The kubelet.
    #[error("starting the kubelet: {0}")]
    Kubelet(#[from] KubeletError),
    /// The node process is gone, and every pod with it.
    #[error("the node process ended unexpectedly; every pod ended with it")]
    NodeLost,
    /// No connection to a service.
    #[error("connecting to a service: {0}")]
    Connect(#[from] DialError),
    /// It was stopped.
    #[error("the cluster has been stopped")]
    Stopped,
}

impl EmbeddedCluster {
    /// Starts everything at once and returns when the API answers; the node becomes Ready a moment later.
    ///
    /// # Errors
    /// [`EmbeddedError`] of the API server. What happens to the node is told by [`Self::lost`].
    pub async fn start(config: Config) -> Result<Self, EmbeddedError> {
        let began = Instant::now();
        let options = process::Options { envctl: config.program.clone(), visible: config.visible.clone() };
        // The node process makes its namespaces while this one makes its certificates.
        let node = tokio::spawn(async move { ProcessRuntime::start(&options).await });
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listening = |source| EmbeddedError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(listening)?;
        let address = listener.local_addr().map_err(listening)?;
        let (images, image_table) = watch::channel(Arc::new(ImageTable::new()));
        let choice = Choice::new(image_table.clone(), config.docker.as_ref().map(|engine| engine.address.clone()));
        let api = ApiServer::new(apiserver::Config {
            cluster_domain: CLUSTER_DOMAIN.to_owned(),
            storage_provisioner: Some(controllers::volume::PROVISIONER.to_owned()),
            unenforced_by_nodes: apiserver::Unenforced::new(move |spec| {
                let Ok(spec) = PodSpec::deserialize(spec) else { return Vec::new() };
                choice.not_enforced(&spec)
            }),
            ..apiserver::Config::default()
        })?;
        let serving = Serving { stop: CancellationToken::new(), tasks: TaskTracker::new(), api: api.clone() };
        serving.serve(listener);
        let ready_after = began.elapsed();

        let (tell, health) = watch::channel(Health::Starting);
        let stop = CancellationToken::new();
        let owner = Owner { config, api: api.clone(), serving, image_table, tell, stop: stop.clone() };
        let owner = tokio::spawn(owner.run(node));
        Ok(Self {
            api,
            address,
            ready_after,
            images,
            health,
            _stop_on_drop: stop.clone().drop_guard(),
            stop,
            owner: Mutex::new(Some(owner)),
        })
    }

    /// A kubeconfig (YAML) for whoever owns the session: may do everything.
    pub fn kubeconfig(&self, namespace: &str) -> String {
        let token = self.api.mint_token(User::admin());
        self.api.kubeconfig(&format!("https://{}", self.address), &token, namespace)
    }

    /// From the call of [`Self::start`] until the API answered.
    pub fn ready_after(&self) -> Duration {
        self.ready_after
    }

    /// Makes an image runnable by its name, from now on.
    pub fn add_image(&self, name: &str, image: Image) {
        self.images.send_if_modified(|table| {
            if table.get(name) == Some(&image) {
                return false;
            }
            Arc::make_mut(table).insert(name.to_owned(), image);
            true
        });
    }

    /// The user who created an object, by its UID.
    pub fn creator(&self, uid: &str) -> Option<String> {
        self.api.creator(uid)
    }

    /// Connects to a ready endpoint behind a service's port of that name; waits for the node, and for an endpoint to appear. The caller owns the deadline.
    ///
    /// # Errors
    /// When every ready endpoint refuses, and when the cluster has been stopped or never came up.
    pub async fn connect(
        &self,
        namespace: &str,
        service: &str,
        port: &str,
    ) -> Result<tokio::net::TcpStream, Arc<EmbeddedError>> {
        let dialer = self.dialer().await?;
        let connected = dialer.connect(namespace, service, PortRef::Name(port.to_owned())).await;
        connected.map_err(|error| Arc::new(EmbeddedError::Connect(error)))
    }

    /// A listener at an address of the node, for pods to connect to.
    ///
    /// # Errors
    /// When the kernel refuses, and when the cluster has been stopped or never came up.
    pub async fn listen(&self) -> Result<TcpListener, Arc<EmbeddedError>> {
        let dialer = self.dialer().await?;
        dialer.listen().await.map_err(|source| {
            let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
            Arc::new(EmbeddedError::Listen { address, source })
        })
    }

    async fn dialer(&self) -> Result<ServiceDialer, Arc<EmbeddedError>> {
        let mut health = self.health.clone();
        match health.wait_for(|health| !matches!(health, Health::Starting)).await.as_deref() {
            Ok(Health::Running(Dialer(dialer))) => Ok(dialer.clone()),
            Ok(Health::Ended(error)) => Err(error.clone()),
            Ok(Health::Starting) | Err(_) => Err(Arc::new(EmbeddedError::Stopped)),
        }
    }

    /// Resolves when the node can't run pods (any more), with the reason.
    pub async fn lost(&self) -> Arc<EmbeddedError> {
        let mut health = self.health.clone();
        let ended = health.wait_for(|health| matches!(health, Health::Ended(_))).await;
        match ended.as_deref() {
            Ok(Health::Ended(error)) => error.clone(),
            _ => Arc::new(EmbeddedError::Stopped),
        }
    }

    /// Ends all pods, then everything else, and waits for it: the kubelet gets `grace` for its pods. Idempotent; the second call returns nothing.
    pub async fn stop(&self, grace: Duration) -> Stopped {
        self.stop.cancel();
        let Some(mut owner) = self.owner.lock().await.take() else { return Stopped::default() };
        match tokio::time::timeout(grace + 4 * STEP, &mut owner).await {
            Ok(Ok(stopped)) => stopped,
            Ok(Err(error)) => Stopped { forced: vec![format!("the cluster's task ended abnormally: {error}")] },
            Err(_) => {
                owner.abort();
                Stopped { forced: vec!["the cluster did not stop in time".to_owned()] }
            }
        }
    }
}

/// Tries for real whether this machine lets pods run, and how. `program` is `envctl` itself.
///
/// # Errors
/// [`process::Refusal`], which knows the cure.
pub async fn try_sandbox(program: PathBuf) -> Result<process::Mode, process::Refusal> {
    process::probe(&process::Options { envctl: program, visible: Vec::new() }).await
}

/// The API server's listeners.
struct Serving {
    api: ApiServer,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Serving {
    fn serve(&self, listener: TcpListener) {
        let (api, stop) = (self.api.clone(), self.stop.clone());
        self.tasks.spawn(async move {
            if let Err(error) = api.serve(listener, stop).await {
                tracing::error!(%error, "the API server stopped serving");
            }
        });
    }
}

/// The one task that owns what runs.
struct Owner {
    config: Config,
    api: ApiServer,
    serving: Serving,
    image_table: watch::Receiver<Arc<ImageTable>>,
    tell: watch::Sender<Health>,
    stop: CancellationToken,
}

type StartingNode = JoinHandle<Result<Arc<ProcessRuntime>, process::StartError>>;

impl Owner {
    async fn run(self, node: StartingNode) -> Stopped {
        let api = self.api.clone();
        let controllers = Controllers::start(
            move |name| match name {
                // Upstream's shared informers use the controller manager's own identity.
                controllers::SHARED_INFORMERS => api.client(User::new("system:kube-controller-manager", &[])),
                _ => api.client(User::controller(name)),
            },
            controllers::Config {
                ca_pem: self.api.certificate_authority_pem().to_owned(),
                volumes_dir: self.config.state_dir.join("volumes"),
            },
            CancellationToken::new(),
        );
        // Cancelling only stops what would be started next: the node process is always waited for, so that it can be ended.
        let runtime = match node.await {
            Ok(Ok(runtime)) => Some(runtime),
            Ok(Err(error)) => self.ended(EmbeddedError::Node(error)),
            Err(_) => self.ended(EmbeddedError::Stopped),
        };
        let runtimes = runtime.as_ref().map(|runtime| Arc::new(self.runtimes(runtime)));
        let kubelet = match runtime.as_ref().zip(runtimes.as_ref()) {
            Some((runtime, runtimes)) => self.start_kubelet(runtime, runtimes).await,
            None => None,
        };
        if let Some(runtime) = &runtime {
            tokio::select! {
                () = self.stop.cancelled() => {}
                () = runtime.ended() => {
                    self.ended::<()>(EmbeddedError::NodeLost);
                }
            }
        }
        self.stop.cancelled().await;
        // Whoever asks later hears of the first reason.
        self.tell.send_if_modified(|health| {
            let running = !matches!(health, Health::Ended(_));
            if running {
                *health = Health::Ended(Arc::new(EmbeddedError::Stopped));
            }
            running
        });

        let mut forced = Vec::new();
        if let Some(kubelet) = kubelet {
            step("the pods", kubelet.stop(), &mut forced).await;
        }
        if let Some(runtimes) = runtimes {
            step("the Docker engine's containers", runtimes.stop(), &mut forced).await;
        }
        step("the controllers", controllers.stop(), &mut forced).await;
        self.serving.stop.cancel();
        self.serving.tasks.close();
        step("the API server", self.serving.tasks.wait(), &mut forced).await;
        if let Some(runtime) = runtime {
            step("the node process", runtime.stop(), &mut forced).await;
        }
        Stopped { forced }
    }

    fn runtimes(&self, process: &Arc<ProcessRuntime>) -> Runtimes {
        let place = self.config.docker.as_ref().map(|engine| kubelet::docker::Place {
            address: engine.address.clone(),
            session: engine.session.clone(),
            directory: self.config.state_dir.join("docker"),
            volumes: self.config.state_dir.clone(),
        });
        Runtimes::new(process.clone(), place, self.image_table.clone())
    }

    async fn start_kubelet(&self, runtime: &Arc<ProcessRuntime>, runtimes: &Arc<Runtimes>) -> Option<Kubelet> {
        match runtime.listen(IN_CLUSTER_API).await {
            Ok(listener) => self.serving.serve(listener),
            Err(source) => return self.ended(EmbeddedError::Listen { address: IN_CLUSTER_API.into(), source }),
        }
        let kubelet = Kubelet::start(
            kubelet::Config {
                node_name: NODE_NAME.to_owned(),
                state_dir: self.config.state_dir.clone(),
                client: self.api.client(User::node(NODE_NAME)),
                proxy_client: self.api.client(User::new("system:kube-proxy", &[])),
                runtime: runtimes.clone(),
                network: runtime.clone(),
                images: self.image_table.clone(),
                cluster_domain: CLUSTER_DOMAIN.to_owned(),
                dns_ip: CLUSTER_DNS,
            },
            CancellationToken::new(),
        );
        let kubelet = tokio::select! {
            kubelet = kubelet => kubelet,
            () = self.stop.cancelled() => return None,
        };
        match kubelet {
            Ok(kubelet) => {
                self.api.connect_node(kubelet.router());
                self.tell.send_replace(Health::Running(Dialer(kubelet.dialer())));
                Some(kubelet)
            }
            Err(error) => self.ended(EmbeddedError::Kubelet(error)),
        }
    }

    fn ended<T>(&self, error: EmbeddedError) -> Option<T> {
        self.tell.send_replace(Health::Ended(Arc::new(error)));
        None
    }
}

/// One step of stopping, dropped when it takes too long.
async fn step(what: &str, stopping: impl Future<Output = ()>, forced: &mut Vec<String>) {
    if tokio::time::timeout(STEP, stopping).await.is_err() {
        forced.push(format!("{what} did not end within {STEP:?}"));
    }
}
