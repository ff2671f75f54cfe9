//! Frames as a server writes them.

use super::headers::Writer;

/// `RST_STREAM` statuses of `spdy/types.go`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The stream's number is not one that a client may use now.
    Protocol = 1,
    /// There are too many.
    Refused = 3,
    /// It is of no more use.
    Cancel = 5,
    /// The other side says more than is taken.
    FlowControl = 7,
}

/// A stream is accepted. In the order of the connection: header blocks share one compressed stream.
#[derive(Debug, Default)]
pub struct Replies(Writer);

impl Replies {
    /// `SYN_REPLY`, without headers.
    pub fn accept(&mut self, id: u32) -> Vec<u8> {
        let mut payload = id.to_be_bytes().to_vec();
        payload.extend(self.0.empty());
        control(2, &payload)
    }
}

/// Bytes of a stream, fewer than 16 MiB; the last ones where `ended`.
pub fn data(id: u32, bytes: &[u8], ended: bool) -> Vec<u8> {
    let mut frame = Vec::with_capacity(bytes.len() + 8);
    frame.extend_from_slice(&(id & 0x7fff_ffff).to_be_bytes());
    frame.extend_from_slice(&flags_and_length(u8::from(ended), bytes.len()));
    frame.extend_from_slice(bytes);
    frame
}

/// `RST_STREAM`.
pub fn reset(id: u32, why: Why) -> Vec<u8> {
    control(3, &[id.to_be_bytes(), (why as u32).to_be_bytes()].concat())
}

/// `PING`, the answer to one.
pub fn pong(id: u32) -> Vec<u8> {
    control(6, &id.to_be_bytes())
}

/// `GOAWAY`: the connection ends, since the client's bytes were not understood.
pub fn protocol_error(last: u32) -> Vec<u8> {
    control(7, &[last.to_be_bytes(), 1_u32.to_be_bytes()].concat())
}

fn control(kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80, 3];
    frame.extend_from_slice(&kind.to_be_bytes());
    frame.extend_from_slice(&flags_and_length(0, payload.len()));
    frame.extend_from_slice(payload);
    frame
}

fn flags_and_length(flags: u8, length: usize) -> [u8; 4] {
    let length = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    [flags, length[1], length[2], length[3]]
}
