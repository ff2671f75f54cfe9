//! `/portForward`: connections to a pod's ports, in the two languages that clients speak.
//!
//! | client | language |
//! |---|---|
//! | kubectl, client-go | [`streams`]: SPDY, tunnelled in a WebSocket (`apiserver/pkg/util/proxy/translatinghandler.go`, `client-go/tools/portforward/tunneling_dialer.go`), or after an upgrade of its own (older ones, and where proxies refuse WebSockets) |
//! | kube-rs, Python | [`numbered`]: two channels of a WebSocket a port |

mod numbered;
mod streams;

use std::net::Ipv4Addr;
use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::response::Response;
use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _};
use http::{HeaderMap, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;
use tokio_util::io::ReaderStream;

use super::super::runtime::NodeNetwork;
use super::channels::{self, Protocol};
use super::{Endpoints, Refusal, parameters};

/// Frames that wait for one side.
const QUEUE: usize = 8;
/// The name of the language within SPDY (`PortForwardProtocolV1Name`).
const WITHIN_SPDY: &str = "portforward.k8s.io";
/// The headers by which it is agreed upon (`apimachinery/pkg/util/httpstream`).
const STREAM_PROTOCOL: &str = "x-stream-protocol-version";
const ACCEPTED_PROTOCOLS: &str = "x-accepted-stream-protocol-versions";

/// The pod that is connected to.
#[derive(Clone)]
struct Target {
    pod: String,
    uid: String,
    ip: Ipv4Addr,
    network: Arc<dyn NodeNetwork>,
}

pub(super) async fn serve(
    State(endpoints): State<Endpoints>,
    Path((namespace, pod)): Path<(String, String)>,
    mut request: Request,
) -> Result<Response, Refusal> {
    let asked = endpoints.pod(&namespace, &pod).await?;
    let ip: Option<Ipv4Addr> =
        asked.pod.status.as_ref().and_then(|status| status.pod_ip.as_ref()).and_then(|ip| ip.parse().ok());
    let Some(ip) = ip else {
        return Err(Refusal(
            StatusCode::BAD_REQUEST,
            format!(
                "unable to forward port because pod is not running. Current status={}",
                asked.pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Unknown")
            ),
        ));
    };
    let metadata = &asked.pod.metadata;
    let target = Target {
        pod: metadata.name.clone().unwrap_or_default(),
        uid: metadata.uid.clone().unwrap_or_default(),
        ip,
        network: endpoints.network.clone(),
    };
    let stop = endpoints.stop.clone();
    let upgrade = request.headers().get(header::UPGRADE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if upgrade.eq_ignore_ascii_case("SPDY/3.1") {
        let response = switched(request.headers())?;
        let upgraded = hyper::upgrade::on(&mut request);
        endpoints.tasks.spawn(async move {
            let session = async {
                let Ok(upgraded) = upgraded.await else { return };
                let (read, write) = tokio::io::split(TokioIo::new(upgraded));
                let input = ReaderStream::new(read).filter_map(async |bytes| bytes.ok());
                let output = tokio_util::codec::FramedWrite::new(write, tokio_util::codec::BytesCodec::new());
                streams::serve(Box::pin(input), output, &target).await;
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = session => {}
            }
        });
        return Ok(response);
    }
    let ports = parameters(request.uri());
    let (response, protocol, socket) = channels::accept(&mut request, &[Protocol::Tunnel, Protocol::V4])?;
    let ports = match protocol {
        Protocol::Tunnel => Vec::new(),
        _ => numbered::ports(&ports)?,
    };
    endpoints.tasks.spawn(async move {
        let session = async {
            let Ok(socket) = socket.await else { return };
            if protocol != Protocol::Tunnel {
                return numbered::serve(socket, &ports, &target).await;
            }
            let (sink, stream) = socket.split();
            // The end of the WebSocket is the end of what it carries.
            let input = stream
                .take_while(|message| {
                    let goes_on = matches!(message, Ok(message) if !message.is_close());
                    async move { goes_on }
                })
                .filter_map(async |message| match message {
                    Ok(Message::Binary(bytes)) => Some(bytes),
                    _ => None,
                });
            let output =
                sink.with(async |bytes: Bytes| Ok::<_, tokio_tungstenite::tungstenite::Error>(Message::Binary(bytes)));
            streams::serve(Box::pin(input), Box::pin(output), &target).await;
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = session => {}
        }
    });
    Ok(response)
}

/// The answer to an upgrade to SPDY (`httpstream.Handshake`, `spdy/upgrade.go`).
fn switched(headers: &HeaderMap) -> Result<Response, Refusal> {
    let offered: Vec<&str> = headers.get_all(STREAM_PROTOCOL).iter().filter_map(|value| value.to_str().ok()).collect();
    if !offered.is_empty() && !offered.contains(&WITHIN_SPDY) {
        return Err(Refusal(
            StatusCode::FORBIDDEN,
            format!(
                "unable to upgrade: unable to negotiate protocol: client supports {offered:?}, server accepts [{WITHIN_SPDY:?}]"
            ),
        ));
    }
    let mut response = Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "SPDY/3.1")
        .header(ACCEPTED_PROTOCOLS, WITHIN_SPDY);
    if !offered.is_empty() {
        response = response.header(STREAM_PROTOCOL, WITHIN_SPDY);
    }
    let response = response.body(axum::body::Body::empty());
    response.map_err(|error| Refusal(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
}

/// Copies both ways until the pod has said all it had to say. The client's end is passed on.
async fn copy<C: Copy>(
    connection: TcpStream,
    channel: C,
    mut input: mpsc::Receiver<Bytes>,
    out: &mpsc::Sender<(C, Bytes)>,
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
