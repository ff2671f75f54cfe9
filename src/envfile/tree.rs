//! YAML as a tree with places: anchors expanded, merge keys merged, duplicate keys reported.
//!
//! Scalars keep the text that stands in the file (`1.10` stays `1.10`); what type they are is the reader's question
//! ([`Scalar::kind`]). The limits bound what a hostile file can make of a few bytes.

mod parse;

use super::source::Span;

pub use parse::parse;

/// Larger files are refused.
pub const MAX_BYTES: usize = 1 << 20;
/// More nodes, after anchors are expanded, are refused.
pub const MAX_NODES: usize = 100_000;
/// Deeper nesting, after anchors are expanded, is refused.
pub const MAX_DEPTH: usize = 48;

/// A value and its place.
#[derive(Debug, Clone)]
pub struct Node {
    /// From its first to its last character.
    pub span: Span,
    /// The value.
    pub value: Value,
}

/// A YAML value.
#[derive(Debug, Clone)]
pub enum Value {
    /// A single value.
    Scalar(Scalar),
    /// A list.
    List(Vec<Node>),
    /// A mapping, in the file's order, keys unique.
    Map(Vec<Entry>),
}

/// One entry of a mapping.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The key's text.
    pub key: String,
    /// Where the key stands.
    pub key_span: Span,
    /// The value.
    pub value: Node,
}

/// A single value as it is written.
#[derive(Debug, Clone)]
pub struct Scalar {
    /// After quotes and escapes.
    pub text: String,
    /// Neither quoted nor tagged as a string: its text decides its type.
    pub plain: bool,
}

/// What a scalar is by YAML 1.2's core schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScalarKind {
    /// Nothing, `~` or `null`.
    Null,
    /// `true` or `false`.
    Bool,
    /// A whole number.
    Integer,
    /// Another number.
    Float,
    /// Anything else.
    Text,
}

impl Scalar {
    /// Its type.
    pub fn kind(&self) -> ScalarKind {
        if self.plain { plain_kind(&self.text) } else { ScalarKind::Text }
    }
}

/// The type of an unquoted text.
pub fn plain_kind(text: &str) -> ScalarKind {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return ScalarKind::Null,
        "true" | "True" | "TRUE" | "false" | "False" | "FALSE" => return ScalarKind::Bool,
        ".nan" | ".NaN" | ".NAN" => return ScalarKind::Float,
        _ => {}
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") {
        return ScalarKind::Float;
    }
    let based = |prefix: &str, base: u32| {
        text.strip_prefix(prefix).is_some_and(|digits| !digits.is_empty() && digits.chars().all(|c| c.is_digit(base)))
    };
    if based("0x", 16) || based("0o", 8) {
        return ScalarKind::Integer;
    }
    if !unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return ScalarKind::Text;
    }
    if unsigned.bytes().all(|byte| byte.is_ascii_digit()) {
        return ScalarKind::Integer;
    }
    let number = unsigned.bytes().all(|byte| byte.is_ascii_digit() || b".eE+-".contains(&byte));
    if number && unsigned.parse::<f64>().is_ok() { ScalarKind::Float } else { ScalarKind::Text }
}

impl Node {
    /// Whether it is null.
    pub fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar(scalar) if scalar.kind() == ScalarKind::Null)
    }

    /// A mapping's value by key.
    pub fn get(&self, key: &str) -> Option<&Self> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value),
            _ => None,
        }
    }

    /// What it is, for `expected …, found …`.
    pub fn describe(&self) -> &'static str {
        match &self.value {
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
            Value::Scalar(scalar) => match scalar.kind() {
                ScalarKind::Null => "nothing",
                ScalarKind::Bool => "true or false",
                ScalarKind::Integer | ScalarKind::Float => "a number",
                ScalarKind::Text => "a text",
            },
        }
    }

    /// Whether two values are the same, wherever they stand.
    pub fn same(&self, other: &Self) -> bool {
        match (&self.value, &other.value) {
            (Value::Scalar(left), Value::Scalar(right)) => left.text == right.text && left.kind() == right.kind(),
            (Value::List(left), Value::List(right)) => {
                left.len() == right.len() && left.iter().zip(right).all(|(left, right)| left.same(right))
            }
            (Value::Map(left), Value::Map(_)) => {
                let Value::Map(right) = &other.value else { return false };
                left.len() == right.len()
                    && left.iter().all(|entry| other.get(&entry.key).is_some_and(|value| entry.value.same(value)))
            }
            _ => false,
        }
    }
}
