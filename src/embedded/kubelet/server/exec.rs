//! `/exec` and `/attach`: a program's streams as channels of a WebSocket.
//!
//! Follows upstream's `cri-streaming/pkg/streaming/remotecommand` (channels 0 to 4; the end as a Status on channel 3).

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::response::Response;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::SplitStream;
use http::StatusCode;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::super::io::Stream;
use super::super::logs::line::Source;
use super::super::pod::messages;
use super::super::runtime::{ExecConfig, ExitStatus, RuntimeError};
use super::channels::{self, Input, Protocol, Sink, Socket};
use super::{ContainerPath, Endpoints, Refusal, flag, parameters, stopped};

const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const PREFERRED: [Protocol; 2] = [Protocol::V5, Protocol::V4];

pub(super) async fn exec(
    State(endpoints): State<Endpoints>,
    Path((namespace, pod, container)): ContainerPath,
    mut request: Request,
) -> Result<Response, Refusal> {
    let parameters = parameters(request.uri());
    let argv: Vec<String> =
        parameters.iter().filter(|(name, _)| name == "command").map(|(_, value)| value.clone()).collect();
    if argv.is_empty() {
        return Err(Refusal(StatusCode::BAD_REQUEST, "you must specify a command for the container".to_owned()));
    }
    let config = ExecConfig { argv, stdin: flag(&parameters, &["input", "stdin"]), tty: flag(&parameters, &["tty"]) };
    let handle = endpoints.container(&namespace, &pod, &container).await?;
    let (response, _, socket) = channels::accept(&mut request, &PREFERRED)?;
    let (stop, runtime) = (endpoints.stop.clone(), Arc::clone(&endpoints.runtime));
    endpoints.tasks.spawn(async move {
        let session = async {
            let Ok(socket) = socket.await else { return };
            let (mut sink, stream) = socket.split();
            let tty = config.tty;
            let status = match runtime.exec(&handle.id, config).await {
                Ok(process) => {
                    let signals = process.signals.clone();
                    let streams = (|| {
                        let stdout = Arc::new(Stream::new(process.stdout)?.with_terminal(process.resize));
                        let stderr = process.stderr.map(Stream::new).transpose()?.map(Arc::new);
                        let stdin = process.stdin.map(Stream::new).transpose()?.map(Arc::new);
                        Ok::<_, std::io::Error>((stdout, stderr, stdin))
                    })();
                    match streams {
                        Ok((stdout, stderr, stdin)) => {
                            let terminal = tty.then(|| Arc::clone(&stdout));
                            let output = copy_out(&mut sink, stdout, stderr, process.exit);
                            // A client that goes takes its command with it.
                            let ended = tokio::select! {
                                output = output => output.ok(),
                                () = copy_in(stream, stdin, terminal, None) => None,
                            };
                            match ended {
                                Some(status) => end_of(status),
                                None => return signals.send(libc::SIGKILL),
                            }
                        }
                        Err(error) => failure(&format!("error executing command in container: {error}")),
                    }
                }
                // As a runtime answers: the command was looked for and isn't there, or cannot run.
                Err(error @ (RuntimeError::CommandNotFound { .. } | RuntimeError::NotExecutable { .. })) => {
                    failure(&format!("Internal error occurred: error executing command in container: failed to exec in container: unable to start container process: {error}"))
                }
                Err(error) => failure(&format!("Internal error occurred: error executing command in container: {error}")),
            };
            finish(&mut sink, &status).await;
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = session => {}
        }
    });
    Ok(response)
}

pub(super) async fn attach(
    State(endpoints): State<Endpoints>,
    Path((namespace, pod, container)): ContainerPath,
    mut request: Request,
) -> Result<Response, Refusal> {
    let parameters = parameters(request.uri());
    let handle = endpoints.container(&namespace, &pod, &container).await?;
    let (response, _, socket) = channels::accept(&mut request, &PREFERRED)?;
    let (listen, mut output) = mpsc::channel(1024);
    handle.attach.send(listen).await.map_err(|_| stopped())?;
    let stop = endpoints.stop.clone();
    let stdin = handle.stdin.filter(|_| flag(&parameters, &["input", "stdin"]));
    let once = handle.stdin_once.filter(|_| stdin.is_some()).map(|tell| Once { tell, id: handle.id });
    endpoints.tasks.spawn(async move {
        let session = async {
            let Ok(socket) = socket.await else { return };
            let (mut sink, stream) = socket.split();
            let copy = async {
                channels::send(&mut sink, STDOUT, &[]).await?;
                while let Some((source, chunk)) = output.recv().await {
                    let channel = if source == Source::Stdout { STDOUT } else { STDERR };
                    channels::send(&mut sink, channel, &chunk).await?;
                }
                Ok::<(), Error>(())
            };
            let copied = tokio::select! {
                copied = copy => copied.is_ok(),
                () = copy_in(stream, stdin, handle.terminal, once) => false,
            };
            if copied {
                finish(&mut sink, &success()).await;
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = session => {}
        }
    });
    Ok(response)
}

async fn finish(sink: &mut Sink, status: &Value) {
    // A client that has gone needs no answer.
    if channels::send(sink, ERROR, status.to_string().as_bytes()).await.is_ok() {
        let _ = channels::close(sink).await;
    }
}

/// Copies what the program says until it has ended and all is read; then how it ended.
async fn copy_out(
    sink: &mut Sink,
    stdout: Arc<Stream>,
    stderr: Option<Arc<Stream>>,
    mut exit: watch::Receiver<Option<ExitStatus>>,
) -> Result<ExitStatus, Error> {
    // Tells the client that the connection stands (`websocket.go`, `createWebSocketStreams`).
    channels::send(sink, STDOUT, &[]).await?;
    let mut streams: Vec<(u8, Arc<Stream>)> = vec![(STDOUT, stdout)];
    streams.extend(stderr.map(|stderr| (STDERR, stderr)));
    let mut status = None;
    loop {
        let mut at = 0;
        while at < streams.len() {
            let (channel, stream) = &streams[at];
            let chunk = read_chunk(stream);
            match chunk {
                Some(chunk) if chunk.is_empty() => {
                    streams.remove(at);
                }
                Some(chunk) => channels::send(sink, *channel, &chunk).await?,
                None => at += 1,
            }
        }
        if let Some(status) = status {
            // It has ended and nothing more is there; what children of it hold open is not waited for.
            return Ok(status);
        }
        let readable = async {
            if streams.is_empty() {
                std::future::pending().await
            } else {
                let waits = streams.iter().map(|(_, stream)| Box::pin(stream.readable()));
                let _ = futures::future::select_all(waits).await;
            }
        };
        tokio::select! {
            () = readable => {}
            ended = exit.wait_for(Option::is_some) => {
                status = Some(ended.ok().and_then(|ended| *ended).unwrap_or(ExitStatus::Signal(libc::SIGKILL)));
            }
        }
    }
}

/// What is there; empty at the end, `None` for nothing yet.
fn read_chunk(stream: &Stream) -> Option<Bytes> {
    let mut buffer = [0; 16 * 1024];
    match stream.try_read(&mut buffer) {
        Ok(count) => Some(Bytes::copy_from_slice(&buffer[..count])),
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => None,
        Err(_) => Some(Bytes::new()),
    }
}

/// A run whose input ends with the client's.
struct Once {
    tell: mpsc::Sender<messages::Message>,
    id: String,
}

/// Takes the client's frames until it goes.
async fn copy_in(
    mut stream: SplitStream<Socket>,
    mut stdin: Option<Arc<Stream>>,
    terminal: Option<Arc<Stream>>,
    mut once: Option<Once>,
) {
    while let Some(Ok(message)) = stream.next().await {
        let bytes: Bytes = match message {
            Message::Binary(bytes) => bytes,
            Message::Text(text) => text.into(),
            Message::Close(_) => return,
            _ => continue,
        };
        match channels::input(&bytes) {
            Input::Stdin(data) => {
                if let Some(stdin_stream) = &stdin
                    && stdin_stream.write_all(data).await.is_err()
                {
                    // The program no longer reads: that is its right.
                    stdin = None;
                }
            }
            Input::Resize { width, height } => {
                if let Some(terminal) = &terminal {
                    let _ = terminal.resize(width, height);
                }
            }
            Input::StdinEnded => {
                stdin = None;
                if let Some(Once { tell, id }) = once.take() {
                    let _ = tell.send(messages::Message::InputEnded(id)).await;
                }
            }
            Input::Unknown => {}
        }
    }
}

fn success() -> Value {
    json!({"metadata": {}, "status": "Success"})
}

fn failure(message: &str) -> Value {
    json!({"metadata": {}, "status": "Failure", "message": message, "reason": "InternalError",
        "details": {"causes": [{"message": message}]}, "code": 500})
}

fn end_of(status: ExitStatus) -> Value {
    match status.code() {
        0 => success(),
        code => json!({"metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
            "message": format!("command terminated with non-zero exit code: exit status {code}"),
            "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]}}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_as_upstream_says_it() {
        assert_eq!(end_of(ExitStatus::Code(0)), success());
        let status = end_of(ExitStatus::Signal(9));
        assert_eq!(status["reason"], "NonZeroExitCode");
        assert_eq!(status["details"]["causes"][0], json!({"reason": "ExitCode", "message": "137"}));
    }
}
