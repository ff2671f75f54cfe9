//! SPDY/3.1 as Kubernetes' clients speak it for port-forward: frames and header blocks. Pure.
//!
//! Follows `github.com/moby/spdystream/spdy` (`types.go`, `read.go`, `write.go`), which is what apimachinery's `httpstream/spdy`
//! uses: no flow control, no server push, no settings. Only a server's side: header blocks are read, and what is
//! answered has none.

mod dictionary;
pub mod frame;
mod headers;
pub mod write;

pub use frame::{Decoder, Frame};
pub use headers::Headers;

/// Why bytes are not SPDY/3.1. After one the connection is of no more use: both sides share a compressor's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SpdyError {
    /// A control frame of another version.
    #[error("version {0} of SPDY is not spoken here")]
    Version(u16),
    /// A control frame that is too short for what it is.
    #[error("a frame of type {0} is cut short")]
    Short(u16),
    /// A control frame, or its headers, longer than anything that makes sense.
    #[error("a frame of type {0} is too long")]
    Long(u16),
    /// A header block that cannot be decompressed or read.
    #[error("a header block is broken")]
    Headers,
    /// A frame for no stream.
    #[error("stream 0 does not exist")]
    StreamZero,
}
