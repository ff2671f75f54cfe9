//! Protobuf's wire format: tags, varints, length-delimited fields.

use super::ProtobufError;

/// Reads the fields of one message.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

/// What a field holds.
#[derive(Clone, Copy)]
pub(super) enum Content<'a> {
    /// Wire type 0.
    Varint(u64),
    /// Wire types 1 and 5.
    Fixed(u64),
    /// Wire type 2.
    Bytes(&'a [u8]),
}

impl<'a> Reader<'a> {
    pub(super) fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    fn varint(&mut self) -> Result<u64, ProtobufError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.rest.split_first().ok_or(ProtobufError::Malformed)?;
            self.rest = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(ProtobufError::Malformed)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], ProtobufError> {
        let (head, rest) = self.rest.split_at_checked(len).ok_or(ProtobufError::Malformed)?;
        self.rest = rest;
        Ok(head)
    }

    /// The next field's tag and content; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<(u64, Content<'a>)>, ProtobufError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let fixed = |bytes: &[u8]| bytes.iter().rev().fold(0, |all, &byte| all << 8 | u64::from(byte));
        let content = match key & 7 {
            0 => Content::Varint(self.varint()?),
            1 => Content::Fixed(fixed(self.take(8)?)),
            5 => Content::Fixed(fixed(self.take(4)?)),
            2 => {
                let len = usize::try_from(self.varint()?).map_err(|_| ProtobufError::Malformed)?;
                Content::Bytes(self.take(len)?)
            }
            _ => return Err(ProtobufError::Malformed),
        };
        Ok(Some((key >> 3, content)))
    }
}

impl<'a> Content<'a> {
    pub(super) fn bytes(self) -> Result<&'a [u8], ProtobufError> {
        if let Self::Bytes(bytes) = self { Ok(bytes) } else { Err(ProtobufError::Malformed) }
    }

    pub(super) fn text(self) -> Result<String, ProtobufError> {
        String::from_utf8(self.bytes()?.to_vec()).map_err(|_| ProtobufError::Utf8)
    }

    /// A number in two's complement.
    pub(super) fn number(self) -> Result<i64, ProtobufError> {
        if let Self::Varint(value) = self { Ok(value.cast_signed()) } else { Err(ProtobufError::Malformed) }
    }

    pub(super) fn double(self) -> Result<f64, ProtobufError> {
        if let Self::Fixed(bits) = self { Ok(f64::from_bits(bits)) } else { Err(ProtobufError::Malformed) }
    }
}
