//! Protobuf bodies, as client-go sends them for built-in kinds: the `k8s\0` envelope and what is in it.
//!
//! Follows `apimachinery/pkg/runtime/serializer/protobuf/protobuf.go` (envelope), the generated `Unmarshal` functions of
//! `k8s.io/api/*/generated.pb.go` (wire), and `encoding/json` on the Go types for which zero values appear in JSON: the
//! tables say which fields are pointers and which are written always.

mod special;
mod wire;

use serde_json::{Map, Value};

use super::gvk::Gvk;
use super::tables::{Def, Field, Kind, Message, Target, Type};
use wire::{Content, Reader};

/// Why a body can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtobufError {
    /// Doesn't begin with `k8s\0`.
    #[error("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")]
    NoPrefix,
    /// The bytes end in the middle of something, or aren't a message.
    #[error("proto: unexpected EOF or malformed field")]
    Malformed,
    /// Text isn't UTF-8.
    #[error("proto: field contains invalid UTF-8")]
    Utf8,
    /// JSON inside isn't JSON.
    #[error("embedded JSON: {0}")]
    Json(String),
    /// A kind that the tables don't know.
    #[error("no kind {kind:?} is registered for version {api_version:?}")]
    UnknownKind {
        /// The `apiVersion` in the envelope.
        api_version: String,
        /// The `kind`.
        kind: String,
    },
}

const PREFIX: &[u8] = b"k8s\0";

/// Whether a body has the envelope's prefix.
pub fn is_protobuf(body: &[u8]) -> bool {
    body.starts_with(PREFIX)
}

/// The object in the envelope, with `apiVersion` and `kind`.
///
/// # Errors
/// [`ProtobufError`].
pub fn decode(body: &[u8]) -> Result<Value, ProtobufError> {
    let mut reader = Reader::new(body.strip_prefix(PREFIX).ok_or(ProtobufError::NoPrefix)?);
    let (mut api_version, mut kind, mut raw, mut content_type) = (String::new(), String::new(), &[][..], String::new());
    while let Some((tag, content)) = reader.next()? {
        match tag {
            1 => {
                let mut meta = Reader::new(content.bytes()?);
                while let Some((tag, content)) = meta.next()? {
                    match tag {
                        1 => api_version = content.text()?,
                        2 => kind = content.text()?,
                        _ => {}
                    }
                }
            }
            2 => raw = content.bytes()?,
            4 => content_type = content.text()?,
            _ => {}
        }
    }
    if content_type.starts_with("application/json") {
        return json(raw);
    }
    let gvk = Gvk::from_api_version(&api_version, &kind);
    let Some((def, message)) = gvk.def().and_then(|def| Some((def, def.message()?))) else {
        return Err(ProtobufError::UnknownKind { api_version, kind });
    };
    let mut map = object(def, message, raw)?;
    map.insert("apiVersion".into(), api_version.into());
    map.insert("kind".into(), kind.into());
    Ok(Value::Object(map))
}

fn json(raw: &[u8]) -> Result<Value, ProtobufError> {
    serde_json::from_slice(raw).map_err(|error| ProtobufError::Json(error.to_string()))
}

fn object(def: Def, message: Message, bytes: &[u8]) -> Result<Map<String, Value>, ProtobufError> {
    let mut map = Map::new();
    fill(def, message, bytes, &mut map)?;
    Ok(map)
}

fn fill(def: Def, message: Message, bytes: &[u8], map: &mut Map<String, Value>) -> Result<(), ProtobufError> {
    let mut reader = Reader::new(bytes);
    while let Some((tag, content)) = reader.next()? {
        match message.target(tag) {
            // An inlined struct: its fields are this object's.
            Some(Target::Inline(inner)) => fill(def, inner, content.bytes()?, map)?,
            Some(Target::Field(field)) => take(def, field, content, map)?,
            None => {}
        }
    }
    Ok(())
}

fn take(def: Def, field: Field, content: Content<'_>, map: &mut Map<String, Value>) -> Result<(), ProtobufError> {
    let ty = field.ty();
    match (ty.kind(), ty.element()) {
        (Kind::List, Some(element)) => {
            let list = map.entry(field.name()).or_insert_with(|| Value::Array(Vec::new()));
            if let (Value::Array(list), Some(item)) = (list, value(def, element, content)?) {
                list.push(item);
            }
        }
        (Kind::Map, Some(element)) => {
            let (key, item) = entry(def, element, content.bytes()?)?;
            if let Value::Object(inner) = map.entry(field.name()).or_insert_with(|| Value::Object(Map::new())) {
                inner.insert(key, item);
            }
        }
        _ => {
            if let Some(value) = value(def, ty, content)?
                && !is_omitted(field, &value)
            {
                map.insert(field.name().to_owned(), value);
            }
        }
    }
    Ok(())
}

/// Whether `encoding/json` would leave the zero value out.
fn is_omitted(field: Field, value: &Value) -> bool {
    if field.is_pointer() {
        return false;
    }
    match value {
        Value::Object(map) => map.is_empty() && field.omits_zero(),
        _ if field.is_always() => false,
        Value::String(text) => text.is_empty(),
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_f64() == Some(0.0) && field.ty().kind() != Kind::IntOrString,
        _ => false,
    }
}

fn entry(def: Def, element: Type, bytes: &[u8]) -> Result<(String, Value), ProtobufError> {
    let (mut key, mut item) = (String::new(), None);
    let mut reader = Reader::new(bytes);
    while let Some((tag, content)) = reader.next()? {
        match tag {
            1 => key = content.text()?,
            2 => item = value(def, element, content)?,
            _ => {}
        }
    }
    let zero = || match element.kind() {
        Kind::Struct | Kind::Map | Kind::Object => Value::Object(Map::new()),
        Kind::List => Value::Array(Vec::new()),
        Kind::Quantity => "0".into(),
        _ => "".into(),
    };
    Ok((key, item.unwrap_or_else(zero)))
}

/// One value; `None` for a zero time. `owner` is the definition that the field is in.
fn value(owner: Def, ty: Type, content: Content<'_>) -> Result<Option<Value>, ProtobufError> {
    Ok(Some(match ty.kind() {
        Kind::String => content.text()?.into(),
        Kind::Bool => (content.number()? != 0).into(),
        Kind::Int32 | Kind::Int64 => content.number()?.into(),
        Kind::Double => content.double()?.into(),
        Kind::Bytes => special::base64(content.bytes()?).into(),
        Kind::Struct => match ty.def().and_then(|def| Some((def, def.message()?))) {
            Some((def, message)) => Value::Object(object(def, message, content.bytes()?)?),
            None => Value::Object(Map::new()),
        },
        // A named slice of strings (`ExtraValue`) is a message with its items.
        Kind::List => {
            let (mut list, mut reader) = (Vec::new(), Reader::new(content.bytes()?));
            while let Some((tag, content)) = reader.next()? {
                if let (1, Some(element)) = (tag, ty.element()) {
                    list.extend(value(owner, element, content)?);
                }
            }
            Value::Array(list)
        }
        kind => return special::value(owner, kind, content.bytes()?),
    }))
}

#[cfg(test)]
mod tests;
