//! The kubelet: one node, one actor per pod, containers run through a [`runtime::Runtime`].
//!
//! Takes a `kube::Client` and knows nothing of who serves it.

pub mod command;
pub mod downward;
pub mod env;
pub mod error;
pub mod events;
pub mod expansion;
pub mod image;
pub mod io;
pub mod logs;
pub mod objects;
pub mod pod;
pub mod probe;
pub mod process;
pub mod proxy;
pub mod quantity;
pub mod resolv;
pub mod restart;
pub mod runtime;
pub mod services;
pub mod status;
pub mod volumes;

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::image::ImageTable;
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
}

impl Kubelet {
    /// Registers the node (Ready) with its lease, and begins to run the pods bound to it.
    ///
    /// # Errors
    /// [`KubeletError`]; nothing is left running then.
    pub async fn start(_config: Config, _stop: CancellationToken) -> Result<Self, KubeletError> {
        std::future::pending().await
    }

    /// The kubelet's own HTTP API, as in upstream's `pkg/kubelet/server/server.go`. Streaming paths
    /// need the request's `hyper::upgrade::OnUpgrade` extension: pass requests on, don't rebuild them.
    pub fn router(&self) -> axum::Router {
        axum::Router::new()
    }

    /// Connects to services by name, for ports on the host's side.
    pub fn dialer(&self) -> ServiceDialer {
        self.dialer.clone()
    }

    /// Ends all pods: SIGTERM, a short grace, SIGKILL.
    pub async fn stop(self) {}
}
