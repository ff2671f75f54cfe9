//! The legacy protocol of upstream's `cri-streaming/pkg/streaming/portforward/websocket.go`, which kube-rs and Python's client speak:
//! port number `i` of the request has channel `2i` for data and `2i + 1` for errors; both begin with the port, little endian.

use std::net::SocketAddrV4;

use bytes::Bytes;
use futures::StreamExt as _;
use http::StatusCode;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;

use super::super::Refusal;
use super::super::channels::{self, Socket};
use super::{QUEUE, Target, copy};

/// The ports that a request names.
pub(super) fn ports(parameters: &[(String, String)]) -> Result<Vec<u16>, Refusal> {
    let named = parameters.iter().filter(|(name, _)| name == "port" || name == "ports");
    let ports: Result<Vec<u16>, _> = named.flat_map(|(_, value)| value.split(',')).map(str::parse).collect();
    ports.ok().filter(|ports| !ports.is_empty() && ports.len() <= 127).ok_or_else(|| {
        Refusal(StatusCode::BAD_REQUEST, "query parameter \"port\" is required, as numbers from 1 to 65535".to_owned())
    })
}

/// Serves one client until it goes or every connection has ended.
pub(super) async fn serve(socket: Socket, ports: &[u16], target: &Target) {
    let (mut sink, mut stream) = socket.split();
    let (out, mut frames) = mpsc::channel::<(u8, Bytes)>(QUEUE);
    let mut connections = JoinSet::new();
    let mut inputs = Vec::new();
    for (index, port) in (0_u8..).zip(ports) {
        let begin = Bytes::copy_from_slice(&port.to_le_bytes());
        for channel in [2 * index, 2 * index + 1] {
            if channels::send(&mut sink, channel, &begin).await.is_err() {
                return;
            }
        }
        let (input, receive) = mpsc::channel(QUEUE);
        inputs.push(input);
        let (network, out, address) = (target.network.clone(), out.clone(), SocketAddrV4::new(target.ip, *port));
        connections.spawn(async move {
            let failed = match network.connect(address).await {
                Ok(connection) => copy(connection, 2 * index, receive, &out).await.err(),
                Err(error) => Some(error),
            };
            if let Some(error) = failed {
                let words = format!("an error occurred forwarding {port} -> {port}: {error}", port = address.port());
                let _ = out.send((2 * index + 1, Bytes::from(words))).await;
            }
        });
    }
    drop(out);
    let receive = async {
        while let Some(Ok(message)) = stream.next().await {
            match message {
                Message::Binary(bytes) => {
                    let Some((channel, data)) = bytes.split_first() else { continue };
                    let Some(input) = inputs.get(usize::from(channel / 2)) else { return };
                    if channel % 2 == 0 && !data.is_empty() {
                        // A connection that has ended takes no more; others go on.
                        let _ = input.send(bytes.slice(1..)).await;
                    }
                }
                Message::Close(_) => return,
                _ => {}
            }
        }
    };
    let forward = async {
        while let Some((channel, bytes)) = frames.recv().await {
            if channels::send(&mut sink, channel, &bytes).await.is_err() {
                break;
            }
        }
    };
    tokio::select! {
        () = receive => {}
        () = forward => {}
    }
    let _ = futures::SinkExt::close(&mut sink).await;
}
