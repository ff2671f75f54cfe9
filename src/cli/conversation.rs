//! One request to a session's agent and its replies.

use std::io;
use std::os::unix::net::UnixStream;

use futures::{SinkExt, StreamExt};
use tokio_util::codec::{Framed, LinesCodec};

use super::exit::Exit;
use crate::error::Error;
use crate::session::protocol::{Call, PROTOCOL, Reply, Request};
use crate::session::state::SessionDirectory;

/// How much of the agent's log a message shows.
const LOG_LINES: usize = 10;

/// A connection to an agent.
#[derive(Debug)]
pub struct Conversation {
    lines: Framed<tokio::net::UnixStream, LinesCodec>,
    directory: SessionDirectory,
}

/// A runtime for a verb: one thread, since it only asks and displays.
///
/// # Errors
/// When the kernel refuses what it needs.
pub fn runtime() -> Result<tokio::runtime::Runtime, Error> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::io("start"))
}

impl Conversation {
    /// Over a connected stream; inside a runtime.
    ///
    /// # Errors
    /// When the stream cannot be used.
    pub fn new(stream: UnixStream, directory: SessionDirectory) -> Result<Self, Error> {
        let broken = || Error::io("speak with the session's agent");
        stream.set_nonblocking(true).map_err(broken())?;
        let stream = tokio::net::UnixStream::from_std(stream).map_err(broken())?;
        Ok(Self { lines: Framed::new(stream, LinesCodec::new()), directory })
    }

    /// Asks.
    ///
    /// # Errors
    /// When the agent is gone.
    pub async fn ask(&mut self, request: Request) -> Result<(), Error> {
        let line = serde_json::to_string(&Call::new(request))
            .map_err(io::Error::other)
            .map_err(Error::io("write a request for the session's agent"))?;
        // An agent that refuses or has died is told by the next read, with its reason.
        let _told_by_read = self.lines.send(line).await;
        Ok(())
    }

    /// The next reply.
    ///
    /// # Errors
    /// When the agent went away, refuses, or speaks another version.
    pub async fn next(&mut self) -> Result<Reply, Error> {
        match self.next_or_end().await? {
            Some(reply) => Ok(reply),
            None => Err(self.died()),
        }
    }

    /// The next reply, or none when the agent closed the connection.
    ///
    /// # Errors
    /// When the agent refuses or speaks another version.
    pub async fn next_or_end(&mut self) -> Result<Option<Reply>, Error> {
        let Some(Ok(line)) = self.lines.next().await else {
            return Ok(None);
        };
        match serde_json::from_str(&line) {
            Ok(Reply::Mismatch { protocol, version }) => Err(mismatch(protocol, Some(&version))),
            Ok(Reply::Refused { message }) => Err(Error::Failed {
                what: format!("the session's agent refused: {message}"),
                hint: None,
                exit: Exit::Failed,
            }),
            Ok(reply) => Ok(Some(reply)),
            Err(cause) => Err(Error::Failed {
                what: format!("the session's agent said what this envctl does not understand: {cause}"),
                hint: Some("`envctl down` with the envctl that started it, then `envctl up`".to_owned()),
                exit: Exit::Failed,
            }),
        }
    }

    /// Why there is no reply: the end of the agent's log.
    pub fn died(&self) -> Error {
        let mut what = "the session's agent ended unexpectedly, and the session with it".to_owned();
        let log = std::fs::read(self.directory.log()).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        if !lines.is_empty() {
            what.push_str("; the last lines of its log:");
            for line in &lines[lines.len().saturating_sub(LOG_LINES)..] {
                what.push_str("\n  | ");
                what.push_str(line);
            }
        }
        Error::Failed { what, hint: Some("`envctl up` starts a new one".to_owned()), exit: Exit::Failed }
    }
}

fn mismatch(protocol: u32, version: Option<&str>) -> Error {
    let version = version.map_or_else(String::new, |version| format!(" (envctl {version})"));
    Error::Failed {
        what: format!("the session's agent{version} speaks protocol {protocol}, this envctl {PROTOCOL}"),
        hint: Some("end the session with the envctl that started it, or kill its agent".to_owned()),
        exit: Exit::Failed,
    }
}
