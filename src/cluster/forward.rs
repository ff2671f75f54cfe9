//! Listeners on loopback that lead to Services: one a port, held as long as the provider lives.
//!
//! What a connection is carried over is the provider's ([`Carrier`]): the embedded cluster dials into its node's network, on any
//! other it is a port-forward through the API server ([`super::pod_forward`]).
//!
//! Invariant: an address once given out stays; only what is behind it changes.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use async_trait::async_trait;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::{ClusterError, ServicePort};

/// Carries connections to a Service's port.
#[async_trait]
pub trait Carrier: Send + Sync + 'static {
    /// Carries one connection until either side has ended; dropped when forwarding stops.
    async fn carry(&self, from: TcpStream, target: &ServicePort);
}

/// The listeners of one session. Dropping it ends them.
pub struct Forwards {
    exposed: Mutex<HashMap<ServicePort, SocketAddr>>,
    tasks: TaskTracker,
    stop: CancellationToken,
    _stop_on_drop: DropGuard,
}

impl Default for Forwards {
    fn default() -> Self {
        let stop = CancellationToken::new();
        Self { exposed: Mutex::default(), tasks: TaskTracker::new(), _stop_on_drop: stop.clone().drop_guard(), stop }
    }
}

impl Forwards {
    /// The loopback address of a Service's port; listens from now on. The same answer when asked again.
    ///
    /// # Errors
    /// When no port of loopback can be listened on.
    pub async fn expose(&self, carrier: Arc<dyn Carrier>, target: &ServicePort) -> Result<SocketAddr, ClusterError> {
        let mut exposed = self.exposed.lock().await;
        if let Some(address) = exposed.get(target) {
            return Ok(*address);
        }
        let attempt = || format!("listening on loopback for {target}");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .map_err(|source| ClusterError::unavailable(attempt(), source))?;
        let address = listener.local_addr().map_err(|source| ClusterError::unavailable(attempt(), source))?;
        let accepting = accept(listener, carrier, target.clone(), self.tasks.clone(), self.stop.clone());
        self.spawn(accepting);
        exposed.insert(target.clone(), address);
        Ok(address)
    }

    /// Runs something that belongs to the forwarding and ends with it.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move { _ = stop.run_until_cancelled(work).await });
    }

    /// For connections that are accepted elsewhere: who owns their tasks, and what ends them.
    pub(super) fn tasks(&self) -> (TaskTracker, CancellationToken) {
        (self.tasks.clone(), self.stop.clone())
    }

    /// Ends accepting and every connection; at once.
    pub fn cancel(&self) {
        self.stop.cancel();
    }

    /// Ends everything, and returns when it has.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.tasks.close();
        // Every task ends on the token: there is nothing to wait for but the tasks' own last step.
        self.tasks.wait().await;
    }
}

/// Accepts until cancelled; each connection is a task of its own.
async fn accept(
    listener: TcpListener,
    carrier: Arc<dyn Carrier>,
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
        // Small requests and answers must not wait for each other's acknowledgement.
        let _ = stream.set_nodelay(true);
        let (carrier, target, stop) = (carrier.clone(), target.clone(), stop.clone());
        tasks.spawn(async move { _ = stop.run_until_cancelled(carrier.carry(stream, &target)).await });
    }
}
