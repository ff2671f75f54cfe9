//! The protocol of `kubectl port-forward`: any number of connections over one SPDY connection, which comes tunnelled in a WebSocket
//! (`SPDY/3.1+portforward.k8s.io`) or as it is.
//!
//! Follows `cri-streaming/pkg/streaming/portforward/httpstream.go`: each connection is a pair of streams of one `requestID`, one
//! for data and one for the error that it ends with. Left out: the end of a connection that is idle for four hours.

use std::collections::HashMap;
use std::net::SocketAddrV4;
use std::time::Duration;

use bytes::Bytes;
use futures::{Sink, SinkExt as _, Stream, StreamExt as _};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::super::spdy::write::{self, Replies, Why};
use super::super::spdy::{Decoder, Frame, Headers, SpdyError};
use super::{QUEUE, Target, copy};

/// How long one stream of a pair waits for the other (`DefaultStreamCreationTimeout`).
const PAIRING: Duration = Duration::from_secs(30);
/// Streams of one connection at a time.
const MOST: usize = 1024;

/// One stream of each kind, as they come.
struct Pair {
    error: Option<u32>,
    data: Option<(u32, u16, mpsc::Receiver<Bytes>)>,
    since: Instant,
}

/// A data stream's way to the pod.
struct Open {
    input: Option<mpsc::Sender<Bytes>>,
    /// Ends its connection, once there is one.
    reset: Option<CancellationToken>,
}

struct Session<'a> {
    target: &'a Target,
    out: mpsc::Sender<Bytes>,
    replies: Replies,
    last: u32,
    pairs: HashMap<String, Pair>,
    open: HashMap<u32, Open>,
    connections: JoinSet<u32>,
}

/// Serves one client until it goes.
pub(super) async fn serve<I, O>(mut input: I, mut output: O, target: &Target)
where
    I: Stream<Item = Bytes> + Unpin,
    O: Sink<Bytes> + Unpin,
{
    let (out, mut frames) = mpsc::channel(QUEUE);
    let mut session = Session {
        target,
        out,
        replies: Replies::default(),
        last: 0,
        pairs: HashMap::new(),
        open: HashMap::new(),
        connections: JoinSet::new(),
    };
    let writing = async {
        while let Some(frame) = frames.recv().await {
            if output.send(frame).await.is_err() {
                return;
            }
        }
    };
    let result = tokio::select! {
        result = session.read(&mut input) => result,
        () = writing => Ok(()),
    };
    if let Err(error) = result {
        tracing::debug!(%error, "port-forward: a client is not understood");
        let _ = output.send(write::protocol_error(session.last).into()).await;
    }
    session.connections.shutdown().await;
    let _ = output.close().await;
}

impl Session<'_> {
    async fn read(&mut self, input: &mut (impl Stream<Item = Bytes> + Unpin)) -> Result<(), SpdyError> {
        let mut decoder = Decoder::default();
        loop {
            let due = self.pairs.values().map(|pair| pair.since + PAIRING).min();
            let due = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                bytes = input.next() => match bytes {
                    Some(bytes) => decoder.feed(&bytes),
                    None => return Ok(()),
                },
                Some(ended) = self.connections.join_next(), if !self.connections.is_empty() => {
                    if let Ok(id) = ended {
                        self.open.remove(&id);
                    }
                    continue;
                }
                () = due => {
                    self.give_up().await;
                    continue;
                }
            }
            while let Some(frame) = decoder.next_frame()? {
                self.hear(frame).await;
            }
        }
    }

    async fn send(&self, frame: Vec<u8>) {
        // A client that has gone is seen by its reading end.
        let _ = self.out.send(frame.into()).await;
    }

    async fn hear(&mut self, frame: Frame) {
        match frame {
            Frame::Open { id, headers, ended } => self.opened(id, &headers, ended).await,
            Frame::Data { id, bytes, ended } => self.data(id, bytes, ended).await,
            Frame::Reset { id } => {
                if let Some(Open { reset: Some(reset), .. }) = self.open.remove(&id) {
                    reset.cancel();
                }
            }
            // Only those of a client are answered: they have odd numbers.
            Frame::Ping { id } if !id.is_multiple_of(2) => self.send(write::pong(id)).await,
            Frame::Ping { .. } | Frame::GoAway => {}
        }
    }

    async fn opened(&mut self, id: u32, headers: &Headers, ended: bool) {
        if id.is_multiple_of(2) || id <= self.last {
            return self.send(write::reset(id, Why::Protocol)).await;
        }
        self.last = id;
        if self.open.len() + self.pairs.len() >= MOST {
            return self.send(write::reset(id, Why::Refused)).await;
        }
        let port = headers.get("port").and_then(|port| port.parse::<u16>().ok()).filter(|port| *port > 0);
        let kind = headers.get("streamtype").map(String::as_str);
        let (Some(port), Some(kind @ ("error" | "data"))) = (port, kind) else {
            return self.send(write::reset(id, Why::Cancel)).await;
        };
        let reply = self.replies.accept(id);
        self.send(reply).await;
        // Clients that name no request open an error stream and then its data stream.
        let request = headers.get("requestid").filter(|request| !request.is_empty()).cloned();
        let request = request.unwrap_or_else(|| (if kind == "error" { id } else { id.saturating_sub(2) }).to_string());
        let new = || Pair { error: None, data: None, since: Instant::now() };
        let pair = self.pairs.entry(request.clone()).or_insert_with(new);
        let taken = if kind == "error" { pair.error.is_some() } else { pair.data.is_some() };
        if taken {
            if let Some(error) = pair.error {
                let words = format!("error processing stream for request {request}: {kind} stream already assigned");
                self.send(write::data(error, words.as_bytes(), false)).await;
            }
            return;
        }
        if kind == "error" {
            pair.error = Some(id);
        } else {
            let (input, receive) = mpsc::channel(QUEUE);
            pair.data = Some((id, port, receive));
            self.open.insert(id, Open { input: (!ended).then_some(input), reset: None });
        }
        if pair.error.is_some() && pair.data.is_some() {
            self.connect(&request);
        }
    }

    fn connect(&mut self, request: &str) {
        let Some(Pair { error: Some(error), data: Some((data, port, receive)), .. }) = self.pairs.remove(request)
        else {
            return;
        };
        let (target, out, reset) = (self.target.clone(), self.out.clone(), CancellationToken::new());
        if let Some(open) = self.open.get_mut(&data) {
            open.reset = Some(reset.clone());
        }
        self.connections.spawn(async move {
            let address = SocketAddrV4::new(target.ip, port);
            let forwarded = reset.run_until_cancelled(forward(&target, address, data, receive, &out)).await;
            let ends = match forwarded {
                Some(Ok(())) => vec![write::data(data, &[], true), write::data(error, &[], true)],
                Some(Err(cause)) => {
                    let words =
                        format!("error forwarding port {port} to pod {}, uid {}: {cause}", target.pod, target.uid);
                    vec![write::data(error, words.as_bytes(), true), write::reset(data, Why::Cancel)]
                }
                // A client that has read all resets the data stream and then waits for the error stream's end (client-go's
                // `portforward.go`, `handleConnection`).
                None => vec![write::data(error, &[], true)],
            };
            for frame in ends {
                let _gone = out.send(frame.into()).await;
            }
            data
        });
    }

    async fn data(&mut self, id: u32, bytes: Bytes, ended: bool) {
        // What has ended, and error streams, take nothing.
        let Some(open) = self.open.get_mut(&id) else { return };
        if let Some(input) = open.input.as_ref().filter(|_| !bytes.is_empty()) {
            if open.reset.is_some() {
                // Its connection may just have ended.
                let _ended = input.send(bytes).await;
            } else if input.try_send(bytes).is_err() {
                // Nobody reads before the pair is complete, and waiting would keep the other stream from coming.
                self.open.remove(&id);
                return self.send(write::reset(id, Why::FlowControl)).await;
            }
        }
        if ended {
            open.input = None;
        }
    }

    /// Pairs that have not come together in time.
    async fn give_up(&mut self) {
        let late: Vec<String> = self
            .pairs
            .iter()
            .filter(|(_, pair)| pair.since.elapsed() >= PAIRING)
            .map(|(name, _)| name.clone())
            .collect();
        for request in late {
            let Some(pair) = self.pairs.remove(&request) else { continue };
            if let Some(error) = pair.error {
                let words = format!("(request={request}) timed out waiting for streams");
                self.send(write::data(error, words.as_bytes(), true)).await;
            }
            if let Some((data, ..)) = pair.data {
                self.open.remove(&data);
                self.send(write::reset(data, Why::Cancel)).await;
            }
        }
    }
}

/// One connection, until the pod has said all it had to say.
async fn forward(
    target: &Target,
    address: SocketAddrV4,
    data: u32,
    receive: mpsc::Receiver<Bytes>,
    out: &mpsc::Sender<Bytes>,
) -> std::io::Result<()> {
    let connection = target.network.connect(address).await?;
    let (send, mut pieces) = mpsc::channel::<(u32, Bytes)>(1);
    let copying = async move { copy(connection, data, receive, &send).await };
    let framing = async {
        while let Some((id, bytes)) = pieces.recv().await {
            if out.send(write::data(id, &bytes, false).into()).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(copying, framing).0
}
