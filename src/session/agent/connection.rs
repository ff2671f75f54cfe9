//! One caller of the agent: its lines in, the owner's replies out.

use std::sync::atomic::{AtomicU64, Ordering};

use futures::{SinkExt, StreamExt};
use serde::Deserialize;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio_util::codec::{Framed, LinesCodec};
use tracing::{debug, warn};

use crate::session::protocol::{Call, PROTOCOL, Reply, Request};

/// Tells callers apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallerId(u64);

/// Whoever waits for replies. Dropping every clone closes the connection once all replies are written.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Which.
    pub id: CallerId,
    replies: mpsc::UnboundedSender<Reply>,
}

impl Caller {
    /// Sends a reply; a caller that went away is reported by [`Message::Gone`], not here.
    pub fn reply(&self, reply: Reply) {
        let _gone = self.replies.send(reply);
    }
}

/// What a connection tells the owner.
#[derive(Debug)]
pub enum Message {
    /// A request, with whom to answer.
    Request(Caller, Request),
    /// Stop the `up` of this caller; `true`: at once.
    Cancel(CallerId, bool),
    /// The caller closed the connection, or got its last reply.
    Gone(CallerId),
}

/// A connection of its own, before its task runs.
#[derive(Debug)]
pub struct Connection {
    /// Which.
    pub id: CallerId,
    stream: UnixStream,
    owner: mpsc::UnboundedSender<Message>,
}

impl Connection {
    /// For an accepted stream.
    pub fn new(stream: UnixStream, owner: mpsc::UnboundedSender<Message>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self { id: CallerId(NEXT.fetch_add(1, Ordering::Relaxed)), stream, owner }
    }

    /// Serves it until either side closes.
    pub async fn serve(self) {
        let Self { id, stream, owner } = self;
        let (replies, mut outgoing) = mpsc::unbounded_channel();
        let mut caller = Some(Caller { id, replies });
        let mut lines = Framed::new(stream, LinesCodec::new());
        loop {
            let message = tokio::select! {
                line = lines.next() => match line {
                    Some(Ok(line)) => match understood(&line) {
                        Ok(Request::Cancel) => Message::Cancel(id, false),
                        Ok(Request::Kill) => Message::Cancel(id, true),
                        Ok(request) => match caller.take() {
                            Some(caller) => Message::Request(caller, request),
                            None => continue,
                        },
                        Err(reply) => {
                            warn!(?reply, "a line was not understood");
                            let _gone = send(&mut lines, &reply).await;
                            break;
                        }
                    },
                    Some(Err(cause)) => {
                        debug!(%cause, "a connection broke");
                        break;
                    }
                    None => break,
                },
                reply = outgoing.recv() => match reply {
                    Some(reply) if send(&mut lines, &reply).await => continue,
                    _ => break,
                },
            };
            // The owner outlives every connection; while it ends, nobody listens and the caller is told by the end of file.
            let _ending = owner.send(message);
        }
        let _ending = owner.send(Message::Gone(id));
    }
}

fn understood(line: &str) -> Result<Request, Reply> {
    #[derive(Deserialize)]
    struct Peek {
        protocol: u32,
    }
    let refused =
        |cause: serde_json::Error| Reply::Refused { message: format!("not a request of this protocol: {cause}") };
    let Peek { protocol } = serde_json::from_str(line).map_err(refused)?;
    if protocol != PROTOCOL {
        return Err(Reply::Mismatch { protocol: PROTOCOL, version: env!("CARGO_PKG_VERSION").to_owned() });
    }
    serde_json::from_str::<Call>(line).map(|call| call.request).map_err(refused)
}

async fn send(lines: &mut Framed<UnixStream, LinesCodec>, reply: &Reply) -> bool {
    match serde_json::to_string(reply) {
        Ok(line) => lines.send(line).await.is_ok(),
        Err(cause) => {
            warn!(%cause, "a reply could not be written");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_version_is_told_ours_and_nothing_else_is_read() {
        let reply = understood(r#"{"protocol":99,"request":"somethingNew"}"#).unwrap_err();
        assert!(matches!(reply, Reply::Mismatch { protocol: PROTOCOL, .. }), "{reply:?}");
        let reply = understood("hello").unwrap_err();
        assert!(matches!(reply, Reply::Refused { .. }), "{reply:?}");
    }
}
