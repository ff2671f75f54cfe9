//! A suite's output: to where it belongs as it comes, and the end of it kept.
//!
//! One thread writes, so that a terminal or pipe that nobody reads never keeps envctl from its signals; what the thread
//! cannot take yet stays in the suite's pipes. Memory is bounded by a few chunks and the kept tail.

use std::collections::VecDeque;
use std::io::{self, Write as _};
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot};

/// How much of a suite's end is kept for its report, in bytes.
pub const KEPT: usize = 64 * 1024;
/// Chunks under way to the writer.
const UNDER_WAY: usize = 16;

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// The end of an output.
#[derive(Debug, Default)]
pub struct Tail {
    bytes: VecDeque<u8>,
    dropped: u64,
}

impl Tail {
    /// Takes in what follows.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
        let surplus = self.bytes.len().saturating_sub(KEPT);
        self.bytes.drain(..surplus);
        self.dropped += surplus as u64;
    }

    /// As text, from the start of a line; what isn't UTF-8 is replaced.
    pub fn text(&self) -> String {
        let bytes: Vec<u8> = self.bytes.iter().copied().collect();
        let start = match self.dropped {
            0 => 0,
            _ => bytes.iter().position(|byte| *byte == b'\n').map_or(0, |end| end + 1),
        };
        String::from_utf8_lossy(&bytes[start..]).into_owned()
    }
}

/// Writes to this process's own streams, in a thread of its own.
#[derive(Debug)]
pub struct Writer {
    chunks: mpsc::Sender<(Stream, Vec<u8>)>,
    ended: oneshot::Receiver<()>,
    thread: JoinHandle<()>,
}

impl Writer {
    /// Starts it. With `only_err`, standard output is left to data and everything goes to standard error.
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn start(only_err: bool) -> io::Result<Self> {
        let (chunks, mut received) = mpsc::channel::<(Stream, Vec<u8>)>(UNDER_WAY);
        let (end, ended) = oneshot::channel();
        let thread = std::thread::Builder::new().name("suite output".to_owned()).spawn(move || {
            // An output that is closed takes no more; the suite goes on.
            let (mut out, mut err) = (!only_err, true);
            while let Some((stream, bytes)) = received.blocking_recv() {
                match stream {
                    Stream::Out if !only_err => {
                        out = out && io::stdout().lock().write_all(&bytes).and_then(|()| io::stdout().flush()).is_ok();
                    }
                    Stream::Out | Stream::Err => err = err && io::stderr().lock().write_all(&bytes).is_ok(),
                }
            }
            let _nobody_waits = end.send(());
        })?;
        Ok(Self { chunks, ended, thread })
    }

    /// Where chunks go; waits while the thread is behind.
    pub fn sender(&self) -> mpsc::Sender<(Stream, Vec<u8>)> {
        self.chunks.clone()
    }

    /// Everything that was sent is written when this returns. Cancelled, the rest is not.
    pub async fn finish(self) {
        let Self { chunks, ended, thread } = self;
        drop(chunks);
        let _panicked = ended.await;
        // It has sent its last word.
        let _panicked = thread.join();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_kept_from_the_start_of_a_line() {
        let mut tail = Tail::default();
        tail.push(b"first\n");
        assert_eq!(tail.text(), "first\n");
        for _ in 0..KEPT {
            tail.push(b"a line\n");
        }
        tail.push(b"last");
        let text = tail.text();
        assert!(text.len() <= KEPT && text.starts_with("a line\n") && text.ends_with("a line\nlast"));
    }
}
