//! The API server: Kubernetes' REST API over an in-memory store.
//!
//! Alone owns storage. [`ApiServer`] is served over TLS for kubectl, pods and provisioning, and used
//! in-process, with an identity and no socket, by controllers and kubelet. A request passes
//! [`authn`] → [`rbac`] → [`handler`], and a write then the one pipeline in [`write`](mod@write). What is served
//! is data: one [`registry`] row per resource; what objects look like is [`schema`]'s tables.

mod admission;
mod apply;
mod authn;
mod bootstrap;
mod context;
mod convert;
mod delete;
mod discovery;
mod handler;
mod managed;
mod meta;
mod negotiate;
mod patch;
mod pki;
mod rbac;
mod read;
mod registry;
mod request;
pub mod schema;
mod schemas;
mod selector;
mod serve;
mod status;
mod store;
mod strategy;
mod subresource;
mod tables;
mod unenforced;
mod user;
mod watch;
mod write;

use std::net::Ipv4Addr;
use std::sync::{Arc, PoisonError, RwLock};

use tokio_util::sync::CancellationToken;

pub use user::User;

/// What of a pod's spec nodes accept without enforcing, by their own word.
#[derive(Clone)]
pub struct Unenforced(Arc<TellFields>);

type TellFields = dyn Fn(&serde_json::Value) -> Vec<&'static str> + Send + Sync;

impl Unenforced {
    /// `fields` is given a spec and tells names of fields.
    pub fn new(fields: impl Fn(&serde_json::Value) -> Vec<&'static str> + Send + Sync + 'static) -> Self {
        Self(Arc::new(fields))
    }

    /// The fields of this spec.
    pub fn of(&self, spec: &serde_json::Value) -> Vec<&'static str> {
        (self.0)(spec)
    }
}

impl std::fmt::Debug for Unenforced {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Unenforced")
    }
}

/// How the API server is set up.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where ClusterIPs come from: the first is the API server's own, the tenth the cluster's DNS.
    pub service_cidr: (Ipv4Addr, u8),
    /// Names and addresses the serving certificate is also for.
    pub extra_sans: Vec<String>,
    /// The domain of service names.
    pub cluster_domain: String,
    /// Who makes volumes for claims of the default storage class `standard`; `None`: there is no default class.
    pub storage_provisioner: Option<String>,
    /// The fields of a pod's spec that its nodes accept without enforcing, for warnings.
    pub unenforced_by_nodes: Unenforced,
    /// Who decides where pods run.
    pub scheduling: Scheduling,
}

/// Who decides where pods run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scheduling {
    /// Admission, while a pod is created: no scheduler is needed.
    #[default]
    Admission,
    /// A scheduler that watches and binds, as upstream's does.
    Scheduler,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            service_cidr: (Ipv4Addr::new(10, 96, 0, 0), 16),
            extra_sans: Vec::new(),
            cluster_domain: "cluster.local".to_owned(),
            storage_provisioner: None,
            unenforced_by_nodes: Unenforced::new(|_| Vec::new()),
            scheduling: Scheduling::Admission,
        }
    }
}

/// Why the API server can't start or serve.
#[derive(Debug, thiserror::Error)]
pub enum ApiServerError {
    /// The service range has no room for the cluster's own services.
    #[error("the service range {0}/{1} is too small: it needs at least 32 addresses")]
    ServiceRange(Ipv4Addr, u8),
    /// Keys or certificates could not be made.
    #[error("making the cluster's certificates: {0}")]
    Certificate(#[from] rcgen::Error),
    /// The TLS library refused what was made.
    #[error("setting up TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// Signing keys for tokens could not be made.
    #[error("making the key that signs tokens")]
    TokenKey,
    /// An object that every cluster has could not be stored.
    #[error("creating {what}: {why}")]
    Bootstrap {
        /// Which.
        what: String,
        /// The API's answer.
        why: String,
    },
    /// The listener failed.
    #[error("accepting connections: {0}")]
    Accept(#[from] std::io::Error),
}

/// A Kubernetes API server. Cheap to clone: all clones are the same server.
#[derive(Clone)]
pub struct ApiServer(Shared);

type Shared = Arc<Server>;

/// What all requests share.
struct Server {
    config: Config,
    store: store::Store,
    authenticator: authn::Authenticator,
    authorizer: rbac::Authorizer,
    services: admission::ServiceNumbers,
    pki: pki::Pki,
    kubelet: RwLock<Option<axum::Router>>,
}

impl ApiServer {
    /// A server with the objects that every cluster has. Nothing listens yet.
    ///
    /// # Errors
    /// [`ApiServerError`] for a configuration that can't work.
    pub fn new(config: Config) -> Result<Self, ApiServerError> {
        let server = Server {
            store: store::Store::default(),
            authenticator: authn::Authenticator::new()?,
            authorizer: rbac::Authorizer::default(),
            services: admission::ServiceNumbers::new(config.service_cidr)?,
            pki: pki::Pki::new(&config)?,
            kubelet: RwLock::new(None),
            config,
        };
        bootstrap::create(&server)?;
        Ok(Self(Arc::new(server)))
    }

    /// A client without a socket, with an identity that is taken as proved. What it may do is still
    /// decided by roles. Exec, attach and port-forward need an upgrade and are answered 426 here:
    /// they go by TLS.
    pub fn client(&self, user: User) -> kube::Client {
        let server = Arc::clone(&self.0);
        let user = user.known();
        let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
            let (server, user) = (Arc::clone(&server), user.clone());
            async move {
                let request = request.map(axum::body::Body::new);
                let response = handler::handle(server, Some(user), request, CancellationToken::new()).await;
                Ok::<_, std::convert::Infallible>(response)
            }
        });
        kube::Client::new(service, "default")
    }

    /// A bearer token that stands for `user` as long as this server lives.
    pub fn mint_token(&self, user: User) -> String {
        self.0.authenticator.mint(user.known())
    }

    /// The user who created an object that is there, unless that was a part of the cluster. Beside Kubernetes' API, in
    /// which only an audit log tells this.
    pub fn creator(&self, uid: &str) -> Option<String> {
        self.0.store.creator(uid)
    }

    /// The authority that signed the serving certificate, PEM.
    pub fn certificate_authority_pem(&self) -> &str {
        &self.0.pki.authority_pem
    }

    /// Where requests for logs, exec, attach and port-forward go: the kubelet's own API.
    pub fn connect_node(&self, kubelet: axum::Router) {
        *self.0.kubelet.write().unwrap_or_else(PoisonError::into_inner) = Some(kubelet);
    }

    /// Serves TLS on a bound listener until `shutdown`; then open watches end, and what is
    /// still open after a second is dropped. May run for several listeners at once.
    ///
    /// # Errors
    /// [`ApiServerError::Accept`] when the listener is broken.
    pub async fn serve(
        &self,
        listener: tokio::net::TcpListener,
        shutdown: CancellationToken,
    ) -> Result<(), ApiServerError> {
        serve::serve(Arc::clone(&self.0), listener, shutdown).await
    }

    /// A kubeconfig for kubectl and clients, YAML.
    ///
    /// `server` is a URL such as `https://127.0.0.1:6443`.
    pub fn kubeconfig(&self, server: &str, token: &str, namespace: &str) -> String {
        pki::kubeconfig(&self.0.pki.authority_pem, server, token, namespace)
    }
}

impl std::fmt::Debug for ApiServer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("ApiServer").field("config", &self.0.config).finish_non_exhaustive()
    }
}
