//! Runs a program in a running container to its end and keeps the beginning of what it says: exec probes and hooks.

use std::time::Duration;

use super::io::Stream;
use super::runtime::{ExecConfig, ExitStatus, Process, Runtime, RuntimeError, Signals};

/// Bytes kept of a command's output, as upstream's `maxProbeMessageLength` and its exec probe's limit.
const KEPT: usize = 10 * 1024;

/// Why a command gave no exit status.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It could not be started.
    #[error(transparent)]
    Start(#[from] RuntimeError),
    /// It was killed at its deadline.
    #[error("command timed out: {command:?} timed out after {}", super::restart::go_seconds(*timeout))]
    TimedOut {
        /// Program and arguments.
        command: String,
        /// How long it had.
        timeout: Duration,
    },
    /// Its output could not be read.
    #[error("reading its output: {0}")]
    Io(#[from] std::io::Error),
}

/// Kills the program when whoever waited for it is gone.
struct Guard(Option<Signals>);

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(signals) = self.0.take() {
            signals.send(libc::SIGKILL);
        }
    }
}

/// Runs `argv` in the container. Dropping the future kills the program.
pub async fn run(
    runtime: &dyn Runtime,
    container_id: &str,
    argv: &[String],
    timeout: Duration,
) -> Result<(ExitStatus, String), CommandError> {
    let process = runtime.exec(container_id, ExecConfig { argv: argv.to_vec(), stdin: false, tty: false }).await?;
    let mut guard = Guard(Some(process.signals.clone()));
    match tokio::time::timeout(timeout, finish(process)).await {
        Ok(result) => {
            let (status, output) = result?;
            guard.0 = None;
            Ok((status, String::from_utf8_lossy(&output).into_owned()))
        }
        Err(_) => Err(CommandError::TimedOut { command: argv.join(" "), timeout }),
    }
}

async fn finish(process: Process) -> Result<(ExitStatus, Vec<u8>), std::io::Error> {
    let Process { stdout, stderr, mut exit, .. } = process;
    let mut streams = vec![Stream::new(stdout)?];
    streams.extend(stderr.map(Stream::new).transpose()?);
    let mut kept = Vec::new();
    let mut status = *exit.borrow_and_update();
    let mut buffer = [0; 4096];
    // What a finished program left in the pipes is still read; what its children go on to say is not waited for.
    loop {
        for stream in &streams {
            while let Ok(count @ 1..) = stream.try_read(&mut buffer) {
                let room = KEPT.saturating_sub(kept.len()).min(count);
                kept.extend_from_slice(&buffer[..room]);
            }
        }
        if let Some(status) = status {
            return Ok((status, kept));
        }
        let mut ended = Vec::new();
        let readable = futures::future::select_all(streams.iter().map(|stream| Box::pin(stream.readable())));
        tokio::select! {
            changed = exit.changed() => {
                status = *exit.borrow_and_update();
                if changed.is_err() && status.is_none() {
                    return Err(std::io::Error::other("the runtime lost the process"));
                }
            }
            (result, index, _) = readable => {
                match result.and_then(|()| streams[index].try_read(&mut buffer)) {
                    Ok(0) => ended.push(index),
                    Ok(count) => {
                        let room = KEPT.saturating_sub(kept.len()).min(count);
                        kept.extend_from_slice(&buffer[..room]);
                    }
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                    Err(_) => ended.push(index),
                }
            }
        }
        for index in ended {
            streams.remove(index);
        }
        if streams.is_empty() {
            // Both ends closed: only the exit is left.
            let status = exit.wait_for(Option::is_some).await.ok().and_then(|status| *status);
            return status
                .map(|status| (status, kept))
                .ok_or_else(|| std::io::Error::other("the runtime lost the process"));
        }
    }
}
