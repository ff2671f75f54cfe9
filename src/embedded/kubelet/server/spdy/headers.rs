//! Header blocks: names and values with their lengths, all blocks of a connection in one compressed stream.
//!
//! `readSynStreamFrame` and `parseHeaderValueBlock` of `spdy/read.go`. What is answered has no headers, so nothing is ever
//! compressed: an empty block is written as it is (RFC 1951, 3.2.4), which any decompressor reads.

use std::collections::BTreeMap;

use flate2::{Decompress, FlushDecompress, Status};

use super::SpdyError;
use super::dictionary::{DICTIONARY_ID, dictionary};

/// Headers by name, lower case.
pub type Headers = BTreeMap<String, String>;

/// No stream's headers are longer than this.
const LONGEST: usize = 64 * 1024;

/// Reads a connection's header blocks, in their order.
pub(super) struct Reader {
    inflate: Decompress,
}

impl Reader {
    pub(super) fn new() -> Self {
        Self { inflate: Decompress::new(true) }
    }

    /// The headers of one block.
    pub(super) fn read(&mut self, block: &[u8]) -> Result<Headers, SpdyError> {
        parse(&self.decompress(block)?).ok_or(SpdyError::Headers)
    }

    fn decompress(&mut self, mut block: &[u8]) -> Result<Vec<u8>, SpdyError> {
        let mut text = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let (read, written) = (self.inflate.total_in(), self.inflate.total_out());
            let result = self.inflate.decompress(block, &mut buffer, FlushDecompress::Sync);
            let count = |now: u64, before: u64| usize::try_from(now - before).unwrap_or(usize::MAX);
            block = block.get(count(self.inflate.total_in(), read)..).ok_or(SpdyError::Headers)?;
            let written = count(self.inflate.total_out(), written);
            text.extend_from_slice(buffer.get(..written).ok_or(SpdyError::Headers)?);
            if text.len() > LONGEST {
                return Err(SpdyError::Headers);
            }
            match result {
                Ok(Status::Ok | Status::BufError) if written == buffer.len() => {}
                Ok(Status::Ok | Status::BufError) if block.is_empty() => return Ok(text),
                Ok(Status::Ok) => {}
                Ok(Status::BufError | Status::StreamEnd) => return Err(SpdyError::Headers),
                Err(error) if error.needs_dictionary() == Some(DICTIONARY_ID) => {
                    self.inflate.set_dictionary(&dictionary()).map_err(|_| SpdyError::Headers)?;
                }
                Err(_) => return Err(SpdyError::Headers),
            }
        }
    }
}

fn parse(mut text: &[u8]) -> Option<Headers> {
    fn number(text: &mut &[u8]) -> Option<usize> {
        let (number, rest) = text.split_first_chunk::<4>()?;
        *text = rest;
        usize::try_from(u32::from_be_bytes(*number)).ok()
    }
    fn word<'t>(text: &mut &'t [u8]) -> Option<&'t [u8]> {
        let length = number(text)?;
        let (word, rest) = text.split_at_checked(length)?;
        *text = rest;
        Some(word)
    }
    let count = number(&mut text)?;
    let mut headers = Headers::new();
    for _ in 0..count {
        let name = String::from_utf8_lossy(word(&mut text)?).to_lowercase();
        // Several values are divided by a zero; nobody here asks for more than the first.
        let value = word(&mut text)?.split(|byte| *byte == 0).next().unwrap_or_default();
        headers.insert(name, String::from_utf8_lossy(value).into_owned());
    }
    Some(headers)
}

/// Writes a connection's header blocks, all of them empty.
#[derive(Debug, Default)]
pub(super) struct Writer {
    begun: bool,
}

impl Writer {
    /// The next block.
    pub(super) fn empty(&mut self) -> Vec<u8> {
        let mut block = Vec::new();
        if !self.begun {
            // RFC 1950: deflate with a window of 32 KiB; that there is a dictionary, and which.
            block.extend_from_slice(&[0x78, 0xbb]);
            block.extend_from_slice(&DICTIONARY_ID.to_be_bytes());
            self.begun = true;
        }
        // A stored block of four bytes that isn't the last: the number of headers. Then an empty one, as a compressor that is flushed
        // writes it: Go's `compress/flate` looks for another block, and fails for good at the end of the frame, unless it meets that.
        block.extend_from_slice(&[0, 4, 0, !4, !0, 0, 0, 0, 0, 0, 0, 0, !0, !0]);
        block
    }
}

#[cfg(test)]
pub(super) mod tests {
    use flate2::{Compress, Compression, FlushCompress};

    use super::*;

    /// What a client's compressor makes of headers.
    pub fn compressed(compress: &mut Compress, headers: &[(&str, &str)]) -> Vec<u8> {
        let word = |text: &str| [&u32::try_from(text.len()).unwrap().to_be_bytes()[..], text.as_bytes()].concat();
        let mut text = u32::try_from(headers.len()).unwrap().to_be_bytes().to_vec();
        for (name, value) in headers {
            text.extend(word(name));
            text.extend(word(value));
        }
        let mut block = Vec::with_capacity(64 * 1024);
        compress.compress_vec(&text, &mut block, FlushCompress::Sync).unwrap();
        block
    }

    pub fn client() -> Compress {
        let mut compress = Compress::new(Compression::best(), true);
        assert_eq!(compress.set_dictionary(&dictionary()).unwrap(), DICTIONARY_ID);
        compress
    }

    #[test]
    fn blocks_share_one_stream() {
        let (mut compress, mut reader) = (client(), Reader::new());
        for request in ["0", "1", "2"] {
            let headers = [("streamtype", "data"), ("port", "8080"), ("requestid", request), ("x", "")];
            let block = compressed(&mut compress, &headers);
            let expected: Headers = headers.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
            assert_eq!(reader.read(&block), Ok(expected));
        }
        let long = "y".repeat(10_000);
        assert_eq!(reader.read(&compressed(&mut compress, &[("x", &long)])).unwrap()["x"], long);
        assert_eq!(reader.read(b"no block"), Err(SpdyError::Headers));
    }

    #[test]
    fn empty_blocks_are_what_any_decompressor_reads() {
        let (mut writer, mut reader) = (Writer::default(), Reader::new());
        for _ in 0..3 {
            assert_eq!(reader.read(&writer.empty()), Ok(Headers::new()));
        }
    }

    #[test]
    fn a_small_block_cannot_become_endless() {
        let mut compress = client();
        let long = "y".repeat(LONGEST + 1);
        assert_eq!(Reader::new().read(&compressed(&mut compress, &[("x", &long)])), Err(SpdyError::Headers));
    }
}
