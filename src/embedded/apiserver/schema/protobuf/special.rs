//! Types with their own JSON form: quantities, times, int-or-string, raw JSON, schemas that may be a boolean.

use base64::Engine as _;
use serde_json::{Map, Value};

use super::super::tables::{Def, Kind};
use super::wire::Reader;
use super::{ProtobufError, decode, is_protobuf, json, object};

pub(super) fn base64(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// A value of a special kind; `None` for a zero time.
pub(super) fn value(owner: Def, kind: Kind, bytes: &[u8]) -> Result<Option<Value>, ProtobufError> {
    let (mut numbers, mut texts) = ([0_i64; 4], [None, None, None, None]);
    let mut many = Vec::new();
    let mut reader = Reader::new(bytes);
    while let Some((tag, content)) = reader.next()? {
        let Some(slot) = usize::try_from(tag).ok().filter(|tag| *tag < 4) else { continue };
        match content.number() {
            Ok(number) => numbers[slot] = number,
            Err(_) => {
                let bytes = content.bytes()?;
                texts[slot] = Some(bytes);
                many.push((slot, bytes));
            }
        }
    }
    let text = |slot: usize| -> Result<String, ProtobufError> {
        String::from_utf8(texts[slot].unwrap_or_default().to_vec()).map_err(|_| ProtobufError::Utf8)
    };
    let schema = |bytes: &[u8]| match owner.message() {
        Some(message) => object(owner, message, bytes).map(Value::Object),
        None => Ok(Value::Object(Map::new())),
    };
    Ok(Some(match kind {
        Kind::Quantity => match text(1)? {
            empty if empty.is_empty() => "0".into(),
            text => text.into(),
        },
        Kind::IntOrString if numbers[1] == 0 => numbers[2].into(),
        Kind::IntOrString => text(3)?.into(),
        Kind::Time | Kind::MicroTime if bytes.is_empty() => return Ok(None),
        Kind::Time | Kind::MicroTime => time(kind, numbers[1], numbers[2])?.into(),
        Kind::Json | Kind::FieldsV1 => json(texts[1].unwrap_or(b"null"))?,
        Kind::RawExtension => match texts[1] {
            None => return Ok(None),
            Some(raw) if is_protobuf(raw) => decode(raw)?,
            Some(raw) => json(raw)?,
        },
        Kind::SchemaOrArray => match texts[1] {
            Some(one) => schema(one)?,
            None => {
                let all = many.iter().filter(|(slot, _)| *slot == 2).map(|(_, bytes)| schema(bytes));
                Value::Array(all.collect::<Result<_, _>>()?)
            }
        },
        Kind::SchemaOrBool => match texts[2] {
            Some(one) => schema(one)?,
            None => (numbers[1] != 0).into(),
        },
        Kind::SchemaOrStrings => match texts[1] {
            Some(one) => schema(one)?,
            None => {
                let all = many.iter().filter(|(slot, _)| *slot == 2).map(|(_, bytes)| {
                    String::from_utf8(bytes.to_vec()).map(Value::String).map_err(|_| ProtobufError::Utf8)
                });
                Value::Array(all.collect::<Result<_, _>>()?)
            }
        },
        _ => Value::Object(Map::new()),
    }))
}

fn time(kind: Kind, seconds: i64, nanos: i64) -> Result<String, ProtobufError> {
    let nanos = i32::try_from(nanos).map_err(|_| ProtobufError::Malformed)?;
    let stamp = jiff::Timestamp::new(seconds, nanos).map_err(|_| ProtobufError::Malformed)?;
    let format = if kind == Kind::MicroTime { "%Y-%m-%dT%H:%M:%S.%6fZ" } else { "%Y-%m-%dT%H:%M:%SZ" };
    Ok(stamp.strftime(format).to_string())
}
