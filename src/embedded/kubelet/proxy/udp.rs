//! One service port over UDP: a flow per client, ended by silence.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::super::runtime::NodeNetwork;
use super::super::services::Table;
use super::{Front, insist};

/// A flow ends after so long without a packet, as conntrack's `nf_conntrack_udp_timeout_stream`.
const SILENCE: Duration = Duration::from_secs(120);
/// Packets waiting for an endpoint's socket; more are dropped, as UDP may.
const QUEUE: usize = 16;

/// Serves until `stop`.
pub(super) async fn serve(
    front: &Front,
    table: watch::Receiver<Arc<Table>>,
    network: &dyn NodeNetwork,
    stop: CancellationToken,
) -> io::Result<()> {
    let socket = Arc::new(insist(|| network.bind_udp(front.address)).await?);
    let mut flows: HashMap<SocketAddr, mpsc::Sender<Bytes>> = HashMap::new();
    let mut tasks: JoinSet<SocketAddr> = JoinSet::new();
    let mut buffer = vec![0; 64 * 1024];
    let mut turn = 0;
    loop {
        let (count, client) = tokio::select! {
            () = stop.cancelled() => break,
            received = socket.recv_from(&mut buffer) => match received {
                Ok(received) => received,
                // A client's port that has closed answers by ICMP: not ours to end on.
                Err(_) => continue,
            },
            Some(ended) = tasks.join_next(), if !tasks.is_empty() => {
                if let Ok(client) = ended {
                    flows.remove(&client);
                }
                continue;
            }
        };
        let packet = Bytes::copy_from_slice(&buffer[..count]);
        if let Some(flow) = flows.get(&client) {
            let _ = flow.try_send(packet);
            continue;
        }
        let endpoints = table
            .borrow()
            .entries
            .get(&front.key)
            .map(|entry| entry.ready(&front.port_name, "UDP"))
            .unwrap_or_default();
        let Some(count) = std::num::NonZeroUsize::new(endpoints.len()) else { continue };
        let (ip, port) = endpoints[turn % count];
        turn += 1;
        let upstream = network.bind_udp(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0)).await?;
        upstream.connect(SocketAddrV4::new(ip, port)).await?;
        let (send, receive) = mpsc::channel(QUEUE);
        let _ = send.try_send(packet);
        flows.insert(client, send);
        tasks.spawn(flow(Arc::clone(&socket), client, upstream, receive));
    }
    tasks.shutdown().await;
    Ok(())
}

async fn flow(
    socket: Arc<UdpSocket>,
    client: SocketAddr,
    upstream: UdpSocket,
    mut packets: mpsc::Receiver<Bytes>,
) -> SocketAddr {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let step = async {
            tokio::select! {
                packet = packets.recv() => match packet {
                    Some(packet) => upstream.send(&packet).await.map(drop),
                    None => Err(io::ErrorKind::BrokenPipe.into()),
                },
                received = upstream.recv(&mut buffer) => match received {
                    Ok(count) => socket.send_to(&buffer[..count], client).await.map(drop),
                    Err(error) => Err(error),
                },
            }
        };
        match tokio::time::timeout(SILENCE, step).await {
            Ok(Ok(())) => {}
            _ => return client,
        }
    }
}
