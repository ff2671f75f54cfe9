//! Structs and enums of the environment file. The `record!` macro makes a struct, its decoder and its JSON Schema from one list of
//! fields, so the three cannot disagree; `words!` does so for an enum of words.

use schemars::{Schema, json_schema};
use serde_json::{Value as Json, json};

use super::decode::{Decode, Decoder};
use super::problem::Problem;
use super::suggest;
use super::tree::{Entry, Node};

/// Reports the entries of a record that have no field, but for `x-…`.
pub fn unknown_fields(entries: &[Entry], fields: &[&str], what: &str, decoder: &mut Decoder<'_>) {
    for entry in entries {
        if !fields.contains(&entry.key.as_str()) && !entry.key.starts_with("x-") {
            let hint = suggest::hint(&entry.key, fields.iter().copied(), &format!("the fields of {what} are"));
            decoder.problem(Problem::at(entry.key_span, format!("unknown field `{}` in {what}", entry.key)).hint(hint));
        }
    }
}

/// One field of a record: its value, what its absence means, or a report that it is missing.
pub fn field<T: Decode>(
    node: &Node,
    entries: &[Entry],
    name: &str,
    what: &str,
    decoder: &mut Decoder<'_>,
) -> Option<T> {
    match entries.iter().find(|entry| entry.key == name) {
        Some(entry) if entry.value.is_null() && T::absent().is_some() => T::absent(),
        // What is wrong has been reported; going on without it finds the rest.
        Some(entry) => T::decode(&entry.value, decoder).or_else(T::absent),
        None => T::absent().or_else(|| {
            decoder.problem(Problem::at(node.span, format!("`{name}` is missing in {what}")));
            None
        }),
    }
}

/// A record's schema from its fields: name, description, schema, whether it must be there.
pub fn record_schema(description: &str, fields: Vec<(&str, String, Schema, bool)>) -> Schema {
    let required: Vec<&str> = fields.iter().filter(|field| field.3).map(|field| field.0).collect();
    let properties: serde_json::Map<String, Json> = fields
        .into_iter()
        .map(|(name, description, schema, _)| {
            let mut schema = schema.to_value();
            if let Some(object) = schema.as_object_mut() {
                object.insert("description".to_owned(), json!(description));
            }
            (name.to_owned(), schema)
        })
        .collect();
    let mut schema = json_schema!({
        "type": "object",
        "description": description,
        "properties": properties,
        "patternProperties": { "^x-": true },
        "additionalProperties": false,
    });
    if !required.is_empty() {
        schema.insert("required".to_owned(), json!(required));
    }
    schema
}

/// A doc comment's lines as one text.
pub fn doc(lines: &[&str]) -> String {
    let lines: Vec<&str> = lines.iter().map(|line| line.trim()).collect();
    lines.join(" ").trim().to_owned()
}

/// A struct with its decoder and its JSON Schema. Each field is its Rust name, its name in the file and its type; a field
/// whose type knows no [`Decode::absent`] is required. With `, span` after what it is called, it remembers its place.
macro_rules! record {
    ($(#[doc = $doc:expr])* $vis:vis struct $name:ident, $what:literal $(, $span:ident)? {
        $($(#[doc = $field_doc:expr])* $field:ident($key:literal): $type:ty,)*
    }) => {
        $(#[doc = $doc])*
        #[derive(Debug, Clone)]
        $vis struct $name {
            $(
                /// Where it stands.
                pub $span: $crate::envfile::source::Span,
            )?
            $($(#[doc = $field_doc])* pub $field: $type,)*
        }

        impl $name {
            const FIELDS: &'static [&'static str] = &[$($key),*];
        }

        impl $crate::envfile::decode::Decode for $name {
            fn decode(
                node: &$crate::envfile::tree::Node,
                decoder: &mut $crate::envfile::decode::Decoder<'_>,
            ) -> Option<Self> {
                let entries: &[$crate::envfile::tree::Entry] = match &node.value {
                    $crate::envfile::tree::Value::Map(entries) => entries,
                    _ if node.is_null() => &[],
                    _ => return decoder.expected("a mapping", node),
                };
                $crate::envfile::record::unknown_fields(entries, Self::FIELDS, $what, decoder);
                $(let $field = $crate::envfile::record::field::<$type>(node, entries, $key, $what, decoder);)*
                Some(Self { $($span: node.span,)? $($field: $field?,)* })
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                let fields = vec![$((
                    $key,
                    $crate::envfile::record::doc(&[$($field_doc),*]),
                    generator.subschema_for::<$type>(),
                    <$type as $crate::envfile::decode::Decode>::absent().is_none(),
                )),*];
                $crate::envfile::record::record_schema(&$crate::envfile::record::doc(&[$($doc),*]), fields)
            }
        }
    };
}

/// An enum of words with its decoder and its JSON Schema.
macro_rules! words {
    ($(#[doc = $doc:expr])* $vis:vis enum $name:ident { $($(#[doc = $word_doc:expr])* $variant:ident = $word:literal,)* }) => {
        $(#[doc = $doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        $vis enum $name { $($(#[doc = $word_doc])* $variant,)* }

        impl $crate::envfile::decode::Decode for $name {
            fn decode(
                node: &$crate::envfile::tree::Node,
                decoder: &mut $crate::envfile::decode::Decoder<'_>,
            ) -> Option<Self> {
                let text = <String as $crate::envfile::decode::Decode>::decode(node, decoder)?;
                match text.as_str() {
                    $($word => Some(Self::$variant),)*
                    _ => {
                        $crate::envfile::record::not_a_word(&text, &[$($word),*], node, decoder);
                        None
                    }
                }
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({
                    "description": $crate::envfile::record::doc(&[$($doc),*]),
                    "enum": [$($word),*],
                })
            }
        }
    };
}

/// Reports a word that isn't one of those allowed.
pub fn not_a_word(text: &str, words: &[&str], node: &Node, decoder: &mut Decoder<'_>) {
    let hint = suggest::nearest(text, words.iter().copied()).map(|near| format!("did you mean `{near}`?"));
    let message = format!("expected one of {}, found `{text}`", suggest::list(words.iter().copied()));
    decoder.problem(Problem::at(node.span, message).hint(hint));
}

pub(crate) use {record, words};
