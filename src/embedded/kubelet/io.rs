//! A process's pipe or terminal as an asynchronous stream.
//!
//! Needed because the runtime hands out bare descriptors of either kind; tokio's own pipe types refuse terminals.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::runtime::Resize;

/// One end of a pipe, or a terminal's other side.
#[derive(Debug)]
pub struct Stream(AsyncFd<std::fs::File>, Option<Resize>);

impl Stream {
    /// Takes a descriptor and makes it non-blocking. Needs a tokio runtime.
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        let flags = OFlag::from_bits_retain(fcntl(fd.as_fd(), FcntlArg::F_GETFL)?);
        fcntl(fd.as_fd(), FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        // SAFETY: the file owns its descriptor and always answers the same one.
        Ok(Self(unsafe { AsyncFd::register(std::fs::File::from(fd)) }?, None))
    }

    /// The same, of a terminal that is elsewhere.
    pub fn with_terminal(self, resize: Option<Resize>) -> Self {
        Self(self.0, resize)
    }

    /// Waits until something can be read, or the end.
    pub async fn readable(&self) -> io::Result<()> {
        self.0.readable().await?.retain_ready();
        Ok(())
    }

    /// Reads what is there. `WouldBlock` if nothing is; 0 at the end.
    pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let known = self.0.try_io(tokio::io::Interest::READABLE, |mut file| file.read(buffer));
        end_of_terminal(match known {
            // Tokio may not have heard yet of what is there: a program's last words come together with its end.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.0.get_ref().read(buffer),
            known => known,
        })
    }

    /// Writes everything.
    pub async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = self.0.async_io(tokio::io::Interest::WRITABLE, |mut file| file.write(bytes)).await?;
            bytes = &bytes[written..];
        }
        Ok(())
    }

    /// Sets a terminal's size.
    pub fn resize(&self, columns: u16, rows: u16) -> io::Result<()> {
        if let Some(resize) = &self.1 {
            resize.to(columns, rows);
            return Ok(());
        }
        let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: the descriptor is open for as long as `self` is, and TIOCSWINSZ reads one `winsize`.
        let result = unsafe { libc::ioctl(self.0.get_ref().as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
        if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

/// A terminal answers EIO when its last program is gone: that is its end of file.
fn end_of_terminal(result: io::Result<usize>) -> io::Result<usize> {
    match result {
        Err(error) if error.raw_os_error() == Some(libc::EIO) => Ok(0),
        other => other,
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.0.poll_read_ready(context))?;
            match guard.try_io(|fd| end_of_terminal(fd.get_ref().read(buffer.initialize_unfilled()))) {
                Ok(result) => {
                    return Poll::Ready(result.map(|count| buffer.advance(count)));
                }
                Err(_would_block) => {}
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.0.poll_write_ready(context))?;
            if let Ok(result) = guard.try_io(|fd| fd.get_ref().write(bytes)) {
                return Poll::Ready(result);
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
