//! What a session does with a cluster of others once there is a kubeconfig for it: the same for contexts, kind and minikube.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use kube::config::Kubeconfig;
use tokio::net::TcpListener;
use tokio::sync::OnceCell;

use super::forward::Forwards;
use super::lend::{self, HostPort, Lent};
use super::pod_forward::PodForward;
use super::renewing::{self, Renewal};
use super::{ClusterError, ServicePort, allowed, kubeconfig, locality};

/// How long the first answer may take: long enough for a VPN, short enough for a person.
const FIRST_ANSWER: Duration = Duration::from_secs(15);

/// The way from the host to the services of one namespace.
#[derive(Default)]
pub struct Reached {
    carrier: OnceCell<Arc<PodForward>>,
    forwards: Arc<Forwards>,
}

impl Reached {
    /// By this client, from now on.
    pub async fn by(&self, client: kube::Client, namespace: &str) {
        let carrier = || async { Arc::new(PodForward::new(client, namespace, self.forwards.clone())) };
        self.carrier.get_or_init(carrier).await;
    }

    /// As [`super::Provider::expose`].
    ///
    /// # Errors
    /// When the cluster isn't reached yet, or no address can be listened on.
    pub async fn expose(&self, target: &ServicePort) -> Result<SocketAddr, ClusterError> {
        let carrier = self.carrier.get().ok_or(ClusterError::Stopped)?;
        self.forwards.expose(carrier.clone(), target).await
    }

    /// As [`super::Provider::lend`]: on this machine's address on the way to the nodes, for the cluster's own only.
    ///
    /// # Errors
    /// When the cluster isn't proven to run on this machine, or no address can be listened on.
    pub async fn lend(&self, ports: &[HostPort]) -> Result<Lent, ClusterError> {
        let carrier = self.carrier.get().ok_or(ClusterError::Stopped)?;
        let place = locality::prove(&carrier.client()).await?;
        let mut listeners = Vec::with_capacity(ports.len());
        for port in ports {
            let listening = TcpListener::bind((place.address, 0)).await.map_err(|source| {
                ClusterError::unavailable(format!("listening on {} for {}", place.address, port.target), source)
            })?;
            listeners.push((listening, port.clone()));
        }
        lend::serve(listeners, carrier.clone(), &self.forwards, move |peer| place.is_of_the_cluster(peer))
    }

    /// Ends all forwards.
    pub async fn stop(&self) {
        self.forwards.stop().await;
    }
}

/// A client, and which cluster it is that answers: the UID of its `kube-system` namespace. One request. With `renewal` where credentials
/// are the user's own, and may be over before the session is.
///
/// # Errors
/// When it doesn't answer in time, or doesn't let itself be identified.
pub async fn identified(
    kubeconfig: &Kubeconfig,
    namespace: &str,
    renewal: Option<Renewal>,
) -> Result<(kube::Client, String), ClusterError> {
    let client = match renewal {
        Some(renewal) => renewing::client(kubeconfig.clone(), renewal, namespace).await?,
        None => kubeconfig::client(kubeconfig.clone(), namespace).await?,
    };
    let server = kubeconfig::server(kubeconfig);
    let late = |_elapsed| {
        let silence = format!("no answer within {} s", FIRST_ANSWER.as_secs());
        ClusterError::unavailable(format!("asking {server} for its identity"), silence)
    };
    let identity = tokio::time::timeout(FIRST_ANSWER, allowed::identity(&client, kubeconfig)).await.map_err(late)??;
    Ok((client, identity))
}
