//! Connecting to a session's agent: what the command line and the client for tests share.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use super::SessionError;
use super::state::SessionDirectory;

/// Connects to a live session's agent.
///
/// # Errors
/// When nobody listens.
pub fn connect(directory: &SessionDirectory) -> Result<UnixStream, SessionError> {
    let short = ShortPath::of(directory)?;
    UnixStream::connect(&short.socket).map_err(SessionError::io("connect to", directory.socket()))
}

/// A socket's path by way of its directory's descriptor: `sun_path` holds 107 bytes, a state directory may be longer.
pub(super) struct ShortPath {
    pub(super) socket: PathBuf,
    _directory: File,
}

impl ShortPath {
    pub(super) fn of(directory: &SessionDirectory) -> Result<Self, SessionError> {
        let opened = File::open(directory.path()).map_err(SessionError::io("open", directory.path()))?;
        let socket = match directory.socket() {
            long if long.as_os_str().len() > 100 => {
                PathBuf::from(format!("/proc/self/fd/{}/agent.sock", opened.as_raw_fd()))
            }
            short => short,
        };
        Ok(Self { socket, _directory: opened })
    }
}
