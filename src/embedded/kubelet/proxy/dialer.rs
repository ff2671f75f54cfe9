//! Connects to a service by name, with the proxy's own balancing: for the proxy's listeners and for the agent's side.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::TcpStream;
use tokio::sync::watch;

use super::super::runtime::NodeNetwork;
use super::super::services::{Entry, Key, Table};

/// A service's port, as references have it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PortRef {
    /// `ports[].port`.
    Number(u16),
    /// `ports[].name`.
    Name(String),
}

/// Connects to services. Cheap to clone.
#[derive(Clone)]
pub struct ServiceDialer {
    table: watch::Receiver<Arc<Table>>,
    network: Arc<dyn NodeNetwork>,
    turn: Arc<AtomicUsize>,
}

impl ServiceDialer {
    pub(in super::super) fn new(table: watch::Receiver<Arc<Table>>, network: Arc<dyn NodeNetwork>) -> Self {
        Self { table, network, turn: Arc::default() }
    }

    /// Connects to a ready endpoint of `service`; waits (on watches) for one to appear, and tries another when one
    /// refuses. Never gives up by itself: the caller owns the deadline.
    ///
    /// # Errors
    /// [`DialError`] when the kubelet stops.
    pub async fn connect(&self, namespace: &str, service: &str, port: PortRef) -> Result<TcpStream, DialError> {
        let key = (namespace.to_owned(), service.to_owned());
        let mut table = self.table.clone();
        loop {
            let version = Arc::clone(&table.borrow_and_update());
            if let Some(entry) = version.entries.get(&key)
                && let Some(name) = port_name(entry, &port)
            {
                let endpoints = entry.ready(&name, "TCP");
                if let Ok(stream) = self.connect_any(&key, &endpoints, self.next()).await {
                    return Ok(stream);
                }
                if !endpoints.is_empty() {
                    // Ready, yet refusing: it is on its way down, or its program restarts. Its readiness will
                    // say so; a short wait bounds how long that may take.
                    let retry = std::time::Duration::from_millis(20);
                    if let Ok(Err(_)) = tokio::time::timeout(retry, table.changed()).await {
                        return Err(DialError::Stopped);
                    }
                    continue;
                }
            }
            table.changed().await.map_err(|_| DialError::Stopped)?;
        }
    }

    /// Whose turn it is: connections go round.
    pub(super) fn next(&self) -> usize {
        self.turn.fetch_add(1, Ordering::Relaxed)
    }

    /// Tries each endpoint once, beginning with the `first`th.
    pub(super) async fn connect_any(
        &self,
        key: &Key,
        endpoints: &[(Ipv4Addr, u16)],
        first: usize,
    ) -> io::Result<TcpStream> {
        let mut last = io::Error::from(io::ErrorKind::ConnectionRefused);
        for step in 0..endpoints.len() {
            let (ip, port) = endpoints[(first + step) % endpoints.len()];
            match self.dial(key, SocketAddrV4::new(ip, port)).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// `default/kubernetes` may be the agent itself, on the host's loopback. Nobody else's endpoint may be there: a pod
    /// must not reach the host through a service of its own making.
    async fn dial(&self, key: &Key, address: SocketAddrV4) -> io::Result<TcpStream> {
        if address.ip().is_loopback() {
            if key.0 == "default" && key.1 == "kubernetes" {
                return TcpStream::connect(address).await;
            }
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        self.network.connect(address).await
    }
}

/// The name of the service's port, which its slices use too.
fn port_name(entry: &Entry, port: &PortRef) -> Option<String> {
    let ports = entry.service.as_ref()?.spec.as_ref()?.ports.as_ref()?;
    let found = ports.iter().find(|candidate| match port {
        PortRef::Number(number) => candidate.port == i32::from(*number),
        PortRef::Name(name) => candidate.name.as_ref() == Some(name),
    })?;
    Some(found.name.clone().unwrap_or_default())
}

/// Why no connection came about.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The kubelet has stopped.
    #[error("the kubelet has stopped")]
    Stopped,
}
