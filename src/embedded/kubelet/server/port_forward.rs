//! `/portForward`: connections to a pod's ports as channels of a WebSocket.
//!
//! The legacy protocol of upstream's `cri-streaming/pkg/streaming/portforward/websocket.go`, which kube-rs speaks: port number
//! `i` of the request has channel `2i` for data and `2i + 1` for errors; both begin with the port, little endian.

use std::net::{Ipv4Addr, SocketAddrV4};

use axum::extract::{Path, Request, State};
use axum::response::Response;
use bytes::Bytes;
use futures::StreamExt;
use http::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;

use super::channels::{self, Protocol};
use super::{Endpoints, Refusal, parameters};

/// Frames that wait for one side.
const QUEUE: usize = 8;

pub(super) async fn serve(
    State(endpoints): State<Endpoints>,
    Path((namespace, pod)): Path<(String, String)>,
    mut request: Request,
) -> Result<Response, Refusal> {
    let parameters = parameters(request.uri());
    let ports: Result<Vec<u16>, _> = parameters
        .iter()
        .filter(|(name, _)| name == "port" || name == "ports")
        .flat_map(|(_, value)| value.split(','))
        .map(str::parse)
        .collect();
    let asked = endpoints.pod(&namespace, &pod).await?;
    let ip = asked.pod.status.as_ref().and_then(|status| status.pod_ip.as_ref()).and_then(|ip| ip.parse().ok());
    let Some(ip) = ip else {
        return Err(Refusal(
            StatusCode::BAD_REQUEST,
            format!(
                "unable to forward port because pod is not running. Current status={}",
                asked.pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Unknown")
            ),
        ));
    };
    let ip: Ipv4Addr = ip;
    let (response, _, socket) = channels::accept(&mut request, &[Protocol::V4])?;
    let ports = ports.ok().filter(|ports| !ports.is_empty() && ports.len() <= 127);
    let ports = ports.ok_or_else(|| {
        Refusal(StatusCode::BAD_REQUEST, "query parameter \"port\" is required, as numbers from 1 to 65535".to_owned())
    })?;
    let (stop, network) = (endpoints.stop.clone(), endpoints.network.clone());
    endpoints.tasks.spawn(async move {
        let session = async {
            let Ok(socket) = socket.await else { return };
            let (mut sink, mut stream) = socket.split();
            let (out, mut frames) = mpsc::channel::<(u8, Bytes)>(QUEUE);
            let mut connections = JoinSet::new();
            let mut inputs = Vec::new();
            for (index, port) in (0_u8..).zip(&ports) {
                let begin = Bytes::copy_from_slice(&port.to_le_bytes());
                for channel in [2 * index, 2 * index + 1] {
                    if channels::send(&mut sink, channel, &begin).await.is_err() {
                        return;
                    }
                }
                let (input, receive) = mpsc::channel(QUEUE);
                inputs.push(input);
                let (network, out, address) = (network.clone(), out.clone(), SocketAddrV4::new(ip, *port));
                connections.spawn(async move {
                    let failed = match network.connect(address).await {
                        Ok(connection) => copy(connection, 2 * index, receive, &out).await.err(),
                        Err(error) => Some(error),
                    };
                    if let Some(error) = failed {
                        let words =
                            format!("an error occurred forwarding {port} -> {port}: {error}", port = address.port());
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
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = session => {}
        }
    });
    Ok(response)
}

async fn copy(
    connection: TcpStream,
    channel: u8,
    mut input: mpsc::Receiver<Bytes>,
    out: &mpsc::Sender<(u8, Bytes)>,
) -> std::io::Result<()> {
    let (mut read, mut write) = connection.into_split();
    let outward = async {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let count = read.read(&mut buffer).await?;
            if count == 0 || out.send((channel, Bytes::copy_from_slice(&buffer[..count]))).await.is_err() {
                return Ok(());
            }
        }
    };
    let inward = async {
        while let Some(bytes) = input.recv().await {
            write.write_all(&bytes).await?;
        }
        write.shutdown().await?;
        std::future::pending().await
    };
    tokio::select! {
        result = outward => result,
        result = inward => result,
    }
}
