//! Connects to a service by name, with the proxy's own balancing: for the proxy's listeners and for the agent's side.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::Instant;

use super::super::runtime::NodeNetwork;
use super::super::services::{Entry, Key, Table, slices_now};

/// How long endpoints that are ready yet refuse may take to change (a pod on its way down, before its slice says so):
/// what a client's kernel waits before it asks a silent address again (RFC 6298, section 2).
const SETTLE: Duration = Duration::from_secs(1);

type Endpoint = (Ipv4Addr, u16);

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
    client: kube::Client,
    network: Arc<dyn NodeNetwork>,
    turn: Arc<AtomicUsize>,
}

impl ServiceDialer {
    pub(in super::super) fn new(
        table: watch::Receiver<Arc<Table>>,
        client: kube::Client,
        network: Arc<dyn NodeNetwork>,
    ) -> Self {
        Self { table, client, network, turn: Arc::default() }
    }

    /// Connects to a ready endpoint of `service`; waits (on watches) for one to appear, for as long as the caller lets
    /// it, and tries another when one refuses.
    ///
    /// # Errors
    /// [`DialError::Refused`] when all ready endpoints refuse and don't change soon; [`DialError::Stopped`] when the
    /// kubelet stops.
    pub async fn connect(&self, namespace: &str, service: &str, port: PortRef) -> Result<TcpStream, DialError> {
        let key = (namespace.to_owned(), service.to_owned());
        let mut table = self.table.clone();
        self.catch_up(&mut table, &key).await;
        let mut refused: Option<(Vec<Endpoint>, io::Error, Instant)> = None;
        loop {
            let version = Arc::clone(&table.borrow_and_update());
            let endpoints = version.entries.get(&key).map(|entry| ready(entry, &port)).unwrap_or_default();
            // Asking the same endpoints again would be polling them.
            if !endpoints.is_empty() && refused.as_ref().is_none_or(|(known, ..)| *known != endpoints) {
                match self.connect_any(&key, &endpoints, self.next()).await {
                    Ok(stream) => return Ok(stream),
                    Err(error) => refused = Some((endpoints, error, Instant::now() + SETTLE)),
                }
            } else if endpoints.is_empty() {
                refused = None;
            }
            let changed = match &refused {
                Some((_, _, until)) => tokio::time::timeout_at(*until, table.changed()).await,
                None => Ok(table.changed().await),
            };
            match (changed, refused.take()) {
                (Ok(Ok(())), known) => refused = known,
                (Ok(Err(_)), _) => return Err(DialError::Stopped),
                (Err(_), Some((_, error, _))) => return Err(DialError::Refused(error)),
                (Err(_), None) => {}
            }
        }
    }

    /// Waits until the table has of a service what the API has: the table follows a watch, and who has just seen by another where the service
    /// leads, as an `up` that replaced its pods, would be led to where it led before.
    async fn catch_up(&self, table: &mut watch::Receiver<Arc<Table>>, key: &Key) {
        let same = async {
            loop {
                let version = Arc::clone(&table.borrow_and_update());
                let known = version.entries.get(key).map(|entry| entry.slices.clone()).unwrap_or_default();
                // Asked after the table was: what differs is on its way to it.
                match slices_now(&self.client, key).await {
                    Ok(now) if now != known && table.changed().await.is_ok() => {}
                    _ => return,
                }
            }
        };
        // A service that changes all the time is dialled all the same.
        let _still_changing = tokio::time::timeout(SETTLE, same).await;
    }

    /// Listens at the node's address, on a port of the kernel's choice.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn listen(&self) -> io::Result<TcpListener> {
        self.network.listen(SocketAddrV4::new(self.network.node_ip(), 0)).await
    }

    /// Whose turn it is: connections go round.
    pub(super) fn next(&self) -> usize {
        self.turn.fetch_add(1, Ordering::Relaxed)
    }

    /// Tries each endpoint once, beginning with the `first`th.
    pub(super) async fn connect_any(&self, key: &Key, endpoints: &[Endpoint], first: usize) -> io::Result<TcpStream> {
        let mut last = io::Error::from(io::ErrorKind::ConnectionRefused);
        for step in 0..endpoints.len() {
            let (ip, port) = endpoints[(first + step) % endpoints.len()];
            let dialled = tokio::select! {
                dialled = self.dial(key, SocketAddrV4::new(ip, port)) => dialled,
                // A pod that ends meanwhile may take what it was asked, or what it said, along: nobody would ever answer.
                () = self.gone(key, ip) => Err(io::ErrorKind::HostUnreachable.into()),
            };
            match dialled {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Returns when no slice of the service has this address any more.
    async fn gone(&self, key: &Key, ip: Ipv4Addr) {
        let is_gone = |table: &Arc<Table>| !table.entries.get(key).is_some_and(|entry| entry.has(ip));
        // No table any more is no address either.
        let _gone_or_stopped = self.table.clone().wait_for(is_gone).await.map(drop);
    }

    /// `default/kubernetes` may be the agent itself, on the host's loopback. Nobody else's endpoint may be there: a pod
    /// must not reach the host through a service of its own making.
    async fn dial(&self, key: &Key, address: SocketAddrV4) -> io::Result<TcpStream> {
        if address.ip().is_loopback() {
            if super::is_api(key) {
                return TcpStream::connect(address).await;
            }
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        self.network.connect(address).await
    }
}

/// Ready endpoints behind a port of the service; slices name ports as the service does.
fn ready(entry: &Entry, port: &PortRef) -> Vec<Endpoint> {
    let ports = entry.service.as_ref().and_then(|service| service.spec.as_ref()?.ports.as_ref());
    let found = ports.into_iter().flatten().find(|candidate| match port {
        PortRef::Number(number) => candidate.port == i32::from(*number),
        PortRef::Name(name) => candidate.name.as_ref() == Some(name),
    });
    found.map(|port| entry.ready(port.name.as_deref().unwrap_or_default(), "TCP")).unwrap_or_default()
}

/// Why no connection came about.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The kubelet has stopped.
    #[error("the kubelet has stopped")]
    Stopped,
    /// Every ready endpoint refused, as a client of upstream's proxy would find.
    #[error("every ready endpoint refused: {0}")]
    Refused(#[source] io::Error),
}
