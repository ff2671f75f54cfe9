//! JSON into values, noticing keys that come twice, as strict decoding does
//! (`sigs.k8s.io/json`, `UnmarshalStrict`: `duplicate field "spec.replicas"`).

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Why a body could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not JSON.
    #[error("{0}")]
    Syntax(String),
    /// A JSON type that the field doesn't take, in the words of Go's decoder.
    #[error("json: cannot unmarshal {found} into Go {place} of type {wanted}")]
    Type {
        /// What was found (`string`, `number 1.5`, `object`…).
        found: String,
        /// `struct field DeploymentSpec.spec.replicas`, or `value`.
        place: String,
        /// The Go type.
        wanted: String,
    },
    /// A value of the right JSON type that can't be parsed: a quantity, a time, base64.
    #[error("{0}")]
    Format(String),
}

/// Reads JSON; the second part lists keys that came twice (`duplicate field "a.b"`), the last one wins.
///
/// # Errors
/// [`DecodeError::Syntax`].
pub fn decode_json(bytes: &[u8]) -> Result<(Value, Vec<String>), DecodeError> {
    let mut context = Context { path: String::new(), duplicates: Vec::new() };
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = Seed(&mut context).deserialize(&mut deserializer).map_err(|e| DecodeError::Syntax(e.to_string()))?;
    deserializer.end().map_err(|e| DecodeError::Syntax(e.to_string()))?;
    Ok((value, context.duplicates))
}

struct Context {
    path: String,
    duplicates: Vec<String>,
}

struct Seed<'a>(&'a mut Context);

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
        Ok(Value::Bool(v))
    }

    fn visit_i64<E>(self, v: i64) -> Result<Value, E> {
        Ok(Value::from(v))
    }

    fn visit_u64<E>(self, v: u64) -> Result<Value, E> {
        Ok(Value::from(v))
    }

    fn visit_f64<E: serde::de::Error>(self, v: f64) -> Result<Value, E> {
        Number::from_f64(v).map(Value::Number).ok_or_else(|| E::custom("not a finite number"))
    }

    fn visit_str<E>(self, v: &str) -> Result<Value, E> {
        Ok(Value::String(v.to_owned()))
    }

    fn visit_string<E>(self, v: String) -> Result<Value, E> {
        Ok(Value::String(v))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        let len = self.0.path.len();
        loop {
            // The index only matters for a message; it is short, and the buffer is reused.
            fmt::Write::write_fmt(&mut self.0.path, format_args!("[{}]", list.len())).map_err(A::Error::custom)?;
            let next = access.next_element_seed(Seed(self.0))?;
            self.0.path.truncate(len);
            match next {
                Some(value) => list.push(value),
                None => return Ok(Value::Array(list)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        let len = self.0.path.len();
        while let Some(key) = access.next_key::<String>()? {
            if len > 0 {
                self.0.path.push('.');
            }
            self.0.path.push_str(&key);
            let value = access.next_value_seed(Seed(self.0))?;
            if map.insert(key, value).is_some() {
                self.0.duplicates.push(format!("duplicate field \"{}\"", self.0.path));
            }
            self.0.path.truncate(len);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn duplicates_are_named_by_path_and_the_last_wins() {
        let body = br#"{"a":1,"b":{"c":1,"c":[{"d":1,"d":2}]},"a":2}"#;
        let (value, duplicates) = decode_json(body).expect("JSON");
        assert_eq!(value, json!({"a": 2, "b": {"c": [{"d": 2}]}}));
        let expected = [r#"duplicate field "b.c[0].d""#, r#"duplicate field "b.c""#, r#"duplicate field "a""#];
        assert_eq!(duplicates, expected);
        assert!(matches!(decode_json(b"{\"a\":1} x"), Err(DecodeError::Syntax(_))));
        assert!(matches!(decode_json(b"{"), Err(DecodeError::Syntax(_))));
    }
}
