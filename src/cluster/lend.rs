//! Ports of the host lent to pods: a process on the host stands in for a service's pods.
//!
//! Each is a listener where pods can connect, which a provider makes, and a connection to the host's loopback a connection.
//! `provision` holds a [`Lent`] while the service is swapped; dropping it ends the listeners, connections go on until they end.
//!
//! Invariant: nothing of the host but the ports asked for can be reached by this, and by nobody but the cluster's own.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::forward::{Carrier, Forwards};
use super::{ClusterError, ServicePort};

/// Between a process' end and its being known here that pods come back: what a client's kernel waits before it asks a silent
/// address again (RFC 6298, section 2).
const SETTLE: Duration = Duration::from_secs(1);
/// How long a connection waits for pods that are on their way.
const HOLD: Duration = Duration::from_secs(60);

/// A port of the host that stands in for a service's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    /// The service's port.
    pub target: ServicePort,
    /// The port on loopback.
    pub host: u16,
}

/// What the ports lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leads {
    /// To the process on the host.
    ToHost,
    /// To it if it is there, else to the pods that are coming back.
    ToPodsSoon,
}

/// Ports that are lent. Dropping it ends that.
#[derive(Debug)]
pub struct Lent {
    /// Where pods connect.
    pub address: Ipv4Addr,
    /// The port there, by the name of the service's.
    pub ports: BTreeMap<String, u16>,
    /// The ports on loopback, likewise.
    pub host: BTreeMap<String, u16>,
    leads: watch::Sender<Leads>,
    _stop_on_drop: DropGuard,
}

impl Lent {
    /// Pods are coming back: connections that find no process wait for them instead of being refused.
    pub fn coming_back(&self) {
        self.leads.send_replace(Leads::ToPodsSoon);
    }

    /// They are aside (again).
    pub fn aside(&self) {
        self.leads.send_replace(Leads::ToHost);
    }
}

/// Serves `listeners`, all of one address, until the answer is dropped or forwarding ends. `carrier` leads to the service's pods;
/// whoever isn't `welcome` is turned away.
///
/// # Errors
/// When a listener has no IPv4 address.
pub fn serve(
    listeners: Vec<(TcpListener, HostPort)>,
    carrier: Arc<dyn Carrier>,
    forwards: &Forwards,
    welcome: impl Fn(IpAddr) -> bool + Send + Sync + 'static,
) -> Result<Lent, ClusterError> {
    let stop = CancellationToken::new();
    let (leads, _) = watch::channel(Leads::ToHost);
    let mut lent = Lent {
        address: Ipv4Addr::UNSPECIFIED,
        ports: BTreeMap::new(),
        host: BTreeMap::new(),
        leads,
        _stop_on_drop: stop.clone().drop_guard(),
    };
    let welcome = Arc::new(welcome);
    for (listener, port) in listeners {
        let address = listener.local_addr();
        let address = address.map_err(|source| ClusterError::unavailable("listening for pods", source))?;
        if let IpAddr::V4(ip) = address.ip() {
            lent.address = ip;
        }
        lent.ports.insert(port.target.name.clone(), address.port());
        lent.host.insert(port.target.name.clone(), port.host);
        let accepting =
            Accepting { port, leads: lent.leads.subscribe(), carrier: carrier.clone(), tasks: forwards.tasks() };
        let (stop, welcome) = (stop.clone(), welcome.clone());
        forwards.spawn(async move { _ = stop.run_until_cancelled(accepting.accept(listener, &*welcome)).await });
    }
    Ok(lent)
}

struct Accepting {
    port: HostPort,
    leads: watch::Receiver<Leads>,
    carrier: Arc<dyn Carrier>,
    tasks: (TaskTracker, CancellationToken),
}

impl Accepting {
    async fn accept(self, listener: TcpListener, welcome: &(dyn Fn(IpAddr) -> bool + Send + Sync)) {
        let (tasks, stop) = &self.tasks;
        loop {
            let (stream, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionAborted => continue,
                Err(error) => {
                    tracing::error!(target = %self.port.target, %error, "a lent port stopped accepting");
                    return;
                }
            };
            if !welcome(peer.ip()) {
                tracing::warn!(target = %self.port.target, %peer, "turned away: not of the cluster");
                continue;
            }
            let _ = stream.set_nodelay(true);
            let (port, leads, carrier) = (self.port.clone(), self.leads.clone(), self.carrier.clone());
            let stop = stop.clone();
            tasks.spawn(async move { _ = stop.run_until_cancelled(carry(stream, port, leads, carrier)).await });
        }
    }
}

async fn carry(mut from: TcpStream, port: HostPort, mut leads: watch::Receiver<Leads>, carrier: Arc<dyn Carrier>) {
    match connect(port.host).await {
        Ok(mut to) => {
            let _ = to.set_nodelay(true);
            if let Err(error) = copy_bidirectional(&mut from, &mut to).await {
                tracing::debug!(target = %port.target, %error, "a connection to the host broke");
            }
        }
        Err(error) => {
            tracing::debug!(target = %port.target, port = port.host, %error, "nothing on the host takes it");
            let coming = async { _ = leads.wait_for(|leads| *leads == Leads::ToPodsSoon).await };
            if tokio::time::timeout(SETTLE, coming).await.is_err() {
                return;
            }
            // The sender goes once they are back.
            let back = async { while leads.changed().await.is_ok() {} };
            if tokio::time::timeout(HOLD, back).await.is_ok() {
                carrier.carry(from, &port.target).await;
            }
        }
    }
}

/// A process may listen on either loopback address: `localhost` is one or the other.
async fn connect(port: u16) -> std::io::Result<TcpStream> {
    match TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await {
        Ok(stream) => Ok(stream),
        Err(error) => TcpStream::connect(SocketAddr::from((Ipv6Addr::LOCALHOST, port))).await.map_err(|_| error),
    }
}
