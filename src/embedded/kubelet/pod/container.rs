//! One run of a container: its output into its log and to whoever is attached, until it has ended.

use std::sync::Arc;

use bytes::Bytes;
use k8s_openapi::jiff::Timestamp;
use tokio::sync::{mpsc, watch};

use super::super::io::Stream;
use super::super::logs::line::Source;
use super::super::logs::writer::Writer;
use super::super::runtime::ExitStatus;

/// Bytes read from a stream at once.
const CHUNK: usize = 16 * 1024;

/// Someone who wants to see what the container says from now on. Dropped if it cannot keep up.
pub type Attached = mpsc::Sender<(Source, Bytes)>;

/// A run's streams.
#[derive(Debug)]
pub struct Streams {
    /// Also the terminal's output.
    pub stdout: Arc<Stream>,
    /// None with a terminal.
    pub stderr: Option<Arc<Stream>>,
    /// Set once, when it has ended.
    pub exit: watch::Receiver<Option<ExitStatus>>,
}

/// How a run ended.
#[derive(Debug, Clone)]
pub struct End {
    /// Its exit.
    pub status: ExitStatus,
    /// When.
    pub at: Timestamp,
    /// Why its log is incomplete, if it is.
    pub log_error: Option<String>,
}

/// Pumps until the run has ended and its streams are read out. A log that cannot be written (a full
/// disk) is given up, but the streams are still read: the program must not stall.
pub async fn supervise(streams: Streams, log: Option<Writer>, mut attach: mpsc::Receiver<Attached>) -> End {
    let Streams { stdout, stderr, mut exit } = streams;
    let mut pump = Pump { log, error: None, attached: Vec::new() };
    let mut stdout = Some(stdout);
    let mut stderr = stderr;
    let mut attach_open = true;
    let status = loop {
        tokio::select! {
            more = attach.recv(), if attach_open => match more {
                Some(more) => pump.attached.push(more),
                None => attach_open = false,
            },
            () = readable(stdout.as_ref()), if stdout.is_some() => {
                pump.read(Source::Stdout, &mut stdout);
            }
            () = readable(stderr.as_ref()), if stderr.is_some() => {
                pump.read(Source::Stderr, &mut stderr);
            }
            status = exit.wait_for(Option::is_some) => {
                // A runtime that is gone took its processes with it.
                break status.ok().and_then(|status| *status).unwrap_or(ExitStatus::Signal(libc::SIGKILL));
            }
        }
    };
    let at = Timestamp::now();
    // Everything in the container is gone: what it said is in the pipes.
    while pump.read(Source::Stdout, &mut stdout) {}
    while pump.read(Source::Stderr, &mut stderr) {}
    pump.finish(Source::Stdout);
    pump.finish(Source::Stderr);
    End { status, at, log_error: pump.error }
}

async fn readable(stream: Option<&Arc<Stream>>) {
    if let Some(stream) = stream {
        // An error shows again when reading.
        let _ = stream.readable().await;
    }
}

struct Pump {
    log: Option<Writer>,
    error: Option<String>,
    attached: Vec<Attached>,
}

impl Pump {
    /// Reads once. False when there is nothing more for now.
    fn read(&mut self, source: Source, stream: &mut Option<Arc<Stream>>) -> bool {
        let Some(from) = stream else { return false };
        let mut buffer = [0; CHUNK];
        match from.try_read(&mut buffer) {
            Ok(0) => {
                *stream = None;
                false
            }
            Ok(count) => {
                self.take(source, &buffer[..count]);
                true
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => false,
            Err(_) => {
                *stream = None;
                false
            }
        }
    }

    fn take(&mut self, source: Source, chunk: &[u8]) {
        if let Some(log) = &mut self.log
            && let Err(error) = log.write(source, chunk)
        {
            self.error = Some(error.to_string());
            self.log = None;
        }
        if !self.attached.is_empty() {
            let bytes = Bytes::copy_from_slice(chunk);
            self.attached.retain(|attached| attached.try_send((source, bytes.clone())).is_ok());
        }
    }

    fn finish(&mut self, source: Source) {
        if let Some(log) = &mut self.log
            && let Err(error) = log.finish(source)
        {
            self.error = Some(error.to_string());
            self.log = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    /// The exit may be known before the reactor has looked at the pipes.
    #[tokio::test]
    async fn last_words_are_logged_when_the_exit_is_known_first() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("c/0.log");
        let pipe = |words: &str| {
            let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
            let stream = Arc::new(Stream::new(read).unwrap());
            std::fs::File::from(write).write_all(words.as_bytes()).unwrap();
            stream
        };
        let (_exit, exited) = watch::channel(Some(ExitStatus::Code(4)));
        let streams = Streams { stdout: pipe("out"), stderr: Some(pipe("no such table\n")), exit: exited };
        let (_attach, attached) = mpsc::channel(1);
        let end = supervise(streams, Some(Writer::create(path.clone(), 0).unwrap()), attached).await;
        assert_eq!((end.status, end.log_error), (ExitStatus::Code(4), None));
        let log = std::fs::read_to_string(path).unwrap();
        assert!(log.contains("stderr F no such table\n") && log.contains("stdout P out"), "{log}");
    }
}
