//! Bytes in chunks: what may be the beginning of a key waits for the next chunk, all else goes on at once.

use std::io;
use std::sync::Arc;

use super::Known;

/// Takes keys out of bytes that come in chunks, wherever these are cut.
#[derive(Debug)]
pub struct Stream {
    known: Option<Arc<Known>>,
    held: Vec<u8>,
}

impl Stream {
    pub(super) fn new(known: Option<Arc<Known>>) -> Self {
        Self { known, held: Vec::new() }
    }

    /// One more chunk; what can be passed on now.
    pub fn push(&mut self, chunk: &[u8]) -> Vec<u8> {
        let Some(known) = &self.known else { return chunk.to_vec() };
        self.held.extend_from_slice(chunk);
        let mut out = Vec::with_capacity(self.held.len());
        let done = known.take_out(&self.held, &mut out, false);
        self.held.drain(..done);
        out
    }

    /// No chunk comes any more; what was held back. The stream can be used again.
    pub fn finish(&mut self) -> Vec<u8> {
        let held = std::mem::take(&mut self.held);
        let Some(known) = &self.known else { return held };
        let mut out = Vec::with_capacity(held.len());
        known.take_out(&held, &mut out, true);
        out
    }
}

/// An [`io::Write`] that takes keys out of what passes through.
///
/// `flush` does not write what is held back: the rest of a key may still come.
#[derive(Debug)]
pub struct Writer<W: io::Write> {
    stream: Stream,
    inner: Option<W>,
}

impl<W: io::Write> Writer<W> {
    pub(super) fn new(stream: Stream, inner: W) -> Self {
        Self { stream, inner: Some(inner) }
    }

    /// Writes what is held back and hands the inner one back.
    ///
    /// # Errors
    /// The inner one's.
    pub fn finish(mut self) -> io::Result<W> {
        let held = self.stream.finish();
        let mut inner = self.inner.take().ok_or_else(closed)?;
        inner.write_all(&held)?;
        inner.flush()?;
        Ok(inner)
    }
}

impl<W: io::Write> io::Write for Writer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let clean = self.stream.push(bytes);
        self.inner.as_mut().ok_or_else(closed)?.write_all(&clean)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.as_mut().ok_or_else(closed)?.flush()
    }
}

impl<W: io::Write> Drop for Writer<W> {
    fn drop(&mut self) {
        if let Some(inner) = &mut self.inner {
            // Whoever wants to know calls `finish`.
            let _unasked = inner.write_all(&self.stream.finish()).and_then(|()| inner.flush());
        }
    }
}

fn closed() -> io::Error {
    io::Error::from(io::ErrorKind::BrokenPipe)
}
