//! Kubernetes' channels over a WebSocket: the handshake and the frames.
//!
//! Follows `apimachinery/pkg/util/httpstream/wsstream/conn.go` and `remotecommand/websocket.go`: a binary frame's first byte
//! is its channel; v5 adds 255, which closes the channel named by its second byte.

use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use futures::SinkExt;
use futures::stream::SplitSink;
use http::{HeaderMap, StatusCode, header};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};

use super::Refusal;

/// A server's side of a WebSocket.
pub(super) type Socket = WebSocketStream<TokioIo<Upgraded>>;
/// Its sending half.
pub(super) type Sink = SplitSink<Socket, Message>;

/// What a client and this server both speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    V4,
    V5,
    /// Port-forward's: SPDY within the WebSocket.
    Tunnel,
}

impl Protocol {
    fn name(self) -> &'static str {
        match self {
            Self::V4 => "v4.channel.k8s.io",
            Self::V5 => "v5.channel.k8s.io",
            Self::Tunnel => "SPDY/3.1+portforward.k8s.io",
        }
    }
}

fn offered(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

/// An answer that switches protocols, and the socket that comes of it.
pub(super) fn accept(
    request: &mut Request,
    known: &[Protocol],
) -> Result<(Response, Protocol, impl Future<Output = Result<Socket, hyper::Error>> + Send + use<>), Refusal> {
    let headers = request.headers();
    let bad = |words: &str| Refusal(StatusCode::BAD_REQUEST, words.to_owned());
    let upgrade = headers.get(header::UPGRADE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if upgrade.to_ascii_uppercase().starts_with("SPDY") {
        return Err(bad("SPDY is not spoken here: use a client that speaks WebSocket (kubectl 1.31 or newer)"));
    }
    if !upgrade.eq_ignore_ascii_case("websocket") {
        return Err(bad("Upgrade request required"));
    }
    let Some(key) = headers.get(header::SEC_WEBSOCKET_KEY) else { return Err(bad("Sec-WebSocket-Key is missing")) };
    let accept = derive_accept_key(key.as_bytes());
    let chosen = known.iter().copied().find(|protocol| offered(headers).any(|name| name == protocol.name()));
    let Some(protocol) = chosen else {
        let names: Vec<&str> = known.iter().map(|protocol| protocol.name()).collect();
        return Err(bad(&format!("no common subprotocol: this server speaks {}", names.join(" and "))));
    };
    let upgraded = hyper::upgrade::on(request);
    let response = Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_ACCEPT, accept)
        .header(header::SEC_WEBSOCKET_PROTOCOL, protocol.name())
        .body(axum::body::Body::empty())
        .map_err(|error| Refusal(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    let socket =
        async move { Ok(WebSocketStream::from_raw_socket(TokioIo::new(upgraded.await?), Role::Server, None).await) };
    Ok((response, protocol, socket))
}

/// Sends a channel's bytes.
pub(super) async fn send(sink: &mut Sink, channel: u8, bytes: &[u8]) -> Result<(), Error> {
    let mut frame = Vec::with_capacity(bytes.len() + 1);
    frame.push(channel);
    frame.extend_from_slice(bytes);
    sink.send(Message::Binary(Bytes::from(frame))).await
}

/// Ends the conversation. Anything but a normal closure is an error to client-go's reader.
pub(super) async fn close(sink: &mut Sink) -> Result<(), Error> {
    let normal = CloseFrame { code: CloseCode::Normal, reason: Utf8Bytes::default() };
    sink.send(Message::Close(Some(normal))).await?;
    sink.close().await
}

/// What a client's frame asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Input<'a> {
    /// Bytes for the program's standard input.
    Stdin(&'a [u8]),
    /// The terminal's new size.
    Resize {
        /// In columns.
        width: u16,
        /// In rows.
        height: u16,
    },
    /// The end of the standard input (v5).
    StdinEnded,
    /// Nothing that is known: ignored, as upstream does.
    Unknown,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Size {
    width: u16,
    height: u16,
}

/// Reads a client's frame.
pub fn input(frame: &[u8]) -> Input<'_> {
    match frame.split_first() {
        Some((0, data)) if !data.is_empty() => Input::Stdin(data),
        Some((4, data)) => match serde_json::from_slice(data) {
            Ok(Size { width, height }) => Input::Resize { width, height },
            Err(_) => Input::Unknown,
        },
        Some((255, [0])) => Input::StdinEnded,
        _ => Input::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_channels() {
        assert_eq!(input(b"\0ab"), Input::Stdin(b"ab"));
        assert_eq!(input(br#"\x04{"Width":80,"Height":24}"#), Input::Unknown);
        assert_eq!(input(b"\x04{\"Width\":80,\"Height\":24}"), Input::Resize { width: 80, height: 24 });
        assert_eq!(input(&[255, 0]), Input::StdinEnded);
        for unknown in [&b""[..], b"\0", b"\x01a", b"\x04{}", &[255, 1], &[255]] {
            assert_eq!(input(unknown), Input::Unknown, "{unknown:?}");
        }
    }
}
