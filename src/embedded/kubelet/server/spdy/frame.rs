//! Frames as they come: a client's bytes in, frames out. Data is handed on in the pieces it comes in, whatever its frame's length.

use bytes::{Buf as _, Bytes, BytesMut};

use super::headers::Reader;
use super::{Headers, SpdyError};

const VERSION: u16 = 3;
const SYN_STREAM: u16 = 1;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const HEADERS: u16 = 8;
/// `FLAG_FIN`: the sender says no more on this stream.
const FIN: u8 = 1;
/// Frame headers have 8 bytes.
const HEAD: usize = 8;
/// No control frame is longer than this; its length field goes to 16 MiB.
const LONGEST_CONTROL: usize = 64 * 1024;
/// The largest piece of data.
const PIECE: usize = 32 * 1024;

/// What a client says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// A new stream.
    Open {
        /// Its number.
        id: u32,
        /// What it is for.
        headers: Headers,
        /// The client says nothing on it.
        ended: bool,
    },
    /// Bytes of a stream.
    Data {
        /// Its number.
        id: u32,
        /// A piece; may be empty.
        bytes: Bytes,
        /// The client says no more.
        ended: bool,
    },
    /// A stream is given up.
    Reset {
        /// Its number.
        id: u32,
    },
    /// To be answered with the same number.
    Ping {
        /// The number.
        id: u32,
    },
    /// The client opens no more streams.
    GoAway,
}

/// A data frame of which some is still to come.
struct Rest {
    id: u32,
    left: usize,
    ended: bool,
}

/// Reads one connection.
pub struct Decoder {
    buffer: BytesMut,
    rest: Option<Rest>,
    headers: Reader,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { buffer: BytesMut::new(), rest: None, headers: Reader::new() }
    }
}

impl Decoder {
    /// Takes in what came.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next frame; `None` when more bytes are needed. Frames that say nothing to a server are passed over.
    ///
    /// # Errors
    /// When the bytes are not SPDY/3.1.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, SpdyError> {
        loop {
            if self.rest.is_some() {
                return Ok(self.piece());
            }
            let Some(head) = self.buffer.first_chunk::<HEAD>() else { return Ok(None) };
            let [a, b, c, d, flags, length @ ..] = *head;
            let length = usize::from(length[0]) << 16 | usize::from(length[1]) << 8 | usize::from(length[2]);
            let first = u32::from_be_bytes([a, b, c, d]);
            if first >> 31 == 0 {
                if first == 0 {
                    return Err(SpdyError::StreamZero);
                }
                self.buffer.advance(HEAD);
                let ended = flags & FIN != 0;
                if length == 0 {
                    return Ok(Some(Frame::Data { id: first, bytes: Bytes::new(), ended }));
                }
                self.rest = Some(Rest { id: first, left: length, ended });
                continue;
            }
            let (version, kind) = (u16::from_be_bytes([a & 0x7f, b]), u16::from_be_bytes([c, d]));
            if version != VERSION {
                return Err(SpdyError::Version(version));
            }
            if length > LONGEST_CONTROL {
                return Err(SpdyError::Long(kind));
            }
            if self.buffer.len() < HEAD + length {
                return Ok(None);
            }
            self.buffer.advance(HEAD);
            let payload = self.buffer.split_to(length).freeze();
            if let Some(frame) = self.control(kind, flags, &payload)? {
                return Ok(Some(frame));
            }
        }
    }

    fn piece(&mut self) -> Option<Frame> {
        let rest = self.rest.as_mut().filter(|_| !self.buffer.is_empty())?;
        let bytes = self.buffer.split_to(rest.left.min(self.buffer.len()).min(PIECE)).freeze();
        rest.left -= bytes.len();
        let (id, is_last) = (rest.id, rest.left == 0);
        let ended = rest.ended && is_last;
        if is_last {
            self.rest = None;
        }
        Some(Frame::Data { id, bytes, ended })
    }

    fn control(&mut self, kind: u16, flags: u8, payload: &Bytes) -> Result<Option<Frame>, SpdyError> {
        let id = || match payload.first_chunk::<4>().map(|id| u32::from_be_bytes(*id) & 0x7fff_ffff) {
            Some(0) => Err(SpdyError::StreamZero),
            Some(id) => Ok(id),
            None => Err(SpdyError::Short(kind)),
        };
        Ok(match kind {
            SYN_STREAM => {
                // The associated stream (4), priority and slot (2).
                let block = payload.get(10..).ok_or(SpdyError::Short(kind))?;
                let id = id()?;
                Some(Frame::Open { id, headers: self.headers.read(block)?, ended: flags & FIN != 0 })
            }
            HEADERS => {
                // They say nothing new, but the compressor's state goes through them.
                self.headers.read(payload.get(4..).ok_or(SpdyError::Short(kind))?)?;
                None
            }
            RST_STREAM => Some(Frame::Reset { id: id()? }),
            PING => {
                let number = payload.first_chunk::<4>().ok_or(SpdyError::Short(kind))?;
                Some(Frame::Ping { id: u32::from_be_bytes(*number) })
            }
            GOAWAY => Some(Frame::GoAway),
            // SETTINGS and WINDOW_UPDATE: nobody here limits anybody. SYN_REPLY answers what no server asks.
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::headers::tests::{client, compressed};
    use super::*;

    fn control(kind: u16, flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0x80, 3];
        frame.extend(kind.to_be_bytes());
        frame.extend((u32::from(flags) << 24 | u32::try_from(payload.len()).unwrap()).to_be_bytes());
        frame.extend(payload);
        frame
    }

    fn all(decoder: &mut Decoder) -> Vec<Frame> {
        std::iter::from_fn(|| decoder.next_frame().unwrap()).collect()
    }

    /// A client's conversation, and what it says.
    fn conversation() -> (Vec<u8>, Vec<Frame>) {
        let mut compress = client();
        let (mut bytes, mut frames) = (Vec::new(), Vec::new());
        for id in [1_u32, 3, 5] {
            let id_text = id.to_string();
            let given = [("streamtype", "data"), ("port", "80"), ("requestid", id_text.as_str())];
            let block = compressed(&mut compress, &given);
            bytes.extend(control(1, 0, &[&id.to_be_bytes()[..], &[0; 6], &block].concat()));
            let headers = given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            frames.push(Frame::Open { id, headers, ended: false });
        }
        bytes.extend(control(4, 0, &[0; 4]));
        bytes.extend(control(9, 0, &[0, 0, 0, 1, 0, 0, 1, 0]));
        bytes.extend(control(6, 0, &7_u32.to_be_bytes()));
        frames.push(Frame::Ping { id: 7 });
        bytes.extend([0, 0, 0, 3, 1, 0, 0, 5]);
        bytes.extend(b"hello");
        frames.push(Frame::Data { id: 3, bytes: Bytes::from_static(b"hello"), ended: true });
        bytes.extend(control(3, 0, &[0, 0, 0, 5, 0, 0, 0, 5]));
        frames.push(Frame::Reset { id: 5 });
        bytes.extend(control(7, 0, &[0; 8]));
        frames.push(Frame::GoAway);
        (bytes, frames)
    }

    #[test]
    fn a_conversation_is_read() {
        let (bytes, frames) = conversation();
        let mut decoder = Decoder::default();
        decoder.feed(&bytes);
        assert_eq!(all(&mut decoder), frames);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let refused = |bytes: &[u8]| {
            let mut decoder = Decoder::default();
            decoder.feed(bytes);
            decoder.next_frame().unwrap_err()
        };
        assert_eq!(refused(&[0x80, 2, 0, 1, 0, 0, 0, 0]), SpdyError::Version(2));
        assert_eq!(refused(b"GET / HTTP/1.1\r\n\r\n".map(|byte| byte | 0x80).as_slice()), SpdyError::Version(0x47c5));
        assert_eq!(refused(&[0, 0, 0, 0, 0, 0, 0, 1, 9]), SpdyError::StreamZero);
        assert_eq!(refused(&[0x80, 3, 0, 1, 0, 1, 0, 1]), SpdyError::Long(1));
        assert_eq!(refused(&control(1, 0, &[0; 9])), SpdyError::Short(1));
        assert_eq!(refused(&control(3, 0, &[0; 8])), SpdyError::StreamZero);
    }

    proptest! {
        /// However a conversation is cut, it says the same; data only in other pieces.
        #[test]
        fn where_it_is_cut_does_not_matter(cuts in proptest::collection::vec(1_usize..40, 1..200)) {
            let (bytes, frames) = conversation();
            let (mut decoder, mut got) = (Decoder::default(), Vec::<Frame>::new());
            let mut rest = bytes.as_slice();
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (now, later) = rest.split_at((*cut).min(rest.len()));
                decoder.feed(now);
                rest = later;
                for frame in all(&mut decoder) {
                    match (got.last_mut(), frame) {
                        (Some(Frame::Data { id, bytes, ended: before @ false }), Frame::Data { id: same, bytes: more, ended }) if *id == same => {
                            *bytes = [bytes.as_ref(), &more].concat().into();
                            *before = ended;
                        }
                        (_, frame) => got.push(frame),
                    }
                }
            }
            prop_assert_eq!(got, frames);
        }

        /// Whatever comes, it is read or refused, without a panic and without holding more than came.
        #[test]
        fn anything_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400), begin in 0_usize..300) {
            let (conversation, _) = conversation();
            let mut decoder = Decoder::default();
            decoder.feed(&conversation[..begin.min(conversation.len())]);
            decoder.feed(&bytes);
            while let Ok(Some(_)) = decoder.next_frame() {}
        }
    }
}
