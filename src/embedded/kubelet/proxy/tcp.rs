//! One service port over TCP.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::super::runtime::NodeNetwork;
use super::super::services::Table;
use super::{Front, ServiceDialer, affinity, insist};

/// Which endpoint a client had, and when last.
type Clients = Arc<Mutex<HashMap<IpAddr, ((Ipv4Addr, u16), Instant)>>>;

/// Accepts until `stop`; connections that are open then go on until the proxy itself ends them, as upstream's do.
pub(super) async fn serve(
    front: &Front,
    table: watch::Receiver<Arc<Table>>,
    dialer: ServiceDialer,
    network: &dyn NodeNetwork,
    stop: CancellationToken,
) -> io::Result<()> {
    let listener = insist(|| network.listen(front.address)).await?;
    let clients: Clients = Arc::default();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok((client, peer)) => {
                    let version = Arc::clone(&table.borrow());
                    let (front, dialer, clients) = (front.clone(), dialer.clone(), Arc::clone(&clients));
                    connections.spawn(connection(client, peer.ip(), front, version, dialer, clients));
                }
                Err(error) => {
                    // Out of descriptors: give connections time to end instead of spinning.
                    tracing::warn!(%error, address = %front.address, "accepting for a service");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
    Ok(())
}

async fn connection(
    mut client: TcpStream,
    peer: IpAddr,
    front: Front,
    table: Arc<Table>,
    dialer: ServiceDialer,
    clients: Clients,
) {
    let mut endpoints =
        table.entries.get(&front.key).map(|entry| entry.ready(&front.port_name, "TCP")).unwrap_or_default();
    let sticky = affinity(&table, &front.key);
    let mut first = dialer.next();
    if let Some(timeout) = sticky {
        let held = clients.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get(&peer).copied();
        if let Some((endpoint, last)) = held
            && last.elapsed() < timeout
            && let Some(at) = endpoints.iter().position(|candidate| *candidate == endpoint)
        {
            first = at;
        }
    }
    if !endpoints.is_empty() {
        let length = endpoints.len();
        endpoints.rotate_left(first % length);
    }
    match dialer.connect_any(&front.key, &endpoints, 0).await {
        Ok(mut server) => {
            if sticky.is_some()
                && let Ok(std::net::SocketAddr::V4(address)) = server.peer_addr()
            {
                let mut clients = clients.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                clients.insert(peer, ((*address.ip(), address.port()), Instant::now()));
            }
            let _ = client.set_nodelay(true);
            let _ = server.set_nodelay(true);
            // Either side's end is passed on by itself; a reset ends both.
            let _ = tokio::io::copy_bidirectional_with_sizes(&mut client, &mut server, 8 * 1024, 8 * 1024).await;
        }
        Err(_) => {
            // A reset says it more promptly than an orderly end.
            let _ = client.set_zero_linger();
        }
    }
}
