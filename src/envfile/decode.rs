//! From the tree to typed values, reporting everything that is wrong on the way.
//!
//! [`Decode`] is to the tree what `Deserialize` is to a stream, except that it goes on after a problem: `None` means that
//! something was reported and the value is unusable; what an optional field or an entry loses that way is left out, so that
//! the rest can be checked too. A result is only good if nothing was reported. The `record!` macro makes a struct, its decoder and its JSON Schema from
//! one list of fields, so the three cannot disagree. Host variables are put in here, scalar by scalar, so that those in
//! anchors and profiles that nobody uses are never asked for.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value as Json, json};

use super::problem::Problem;
use super::source::{Sources, Span};
use super::suggest;
use super::template::Template;
use super::tree::{Entry, Node, Scalar, ScalarKind, Value, plain_kind};

/// What decoding needs and where it reports.
pub struct Decoder<'a> {
    /// The host's variables.
    pub variables: &'a dyn Fn(&str) -> Option<String>,
    /// The files' texts.
    pub sources: &'a Sources,
    /// What is wrong so far.
    pub problems: Vec<Problem>,
}

impl Decoder<'_> {
    /// Reports a problem.
    pub fn problem(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// Reports that something else was expected.
    pub fn expected<T>(&mut self, what: &str, node: &Node) -> Option<T> {
        self.problem(Problem::at(node.span, format!("expected {what}, found {}", node.describe())));
        None
    }

    /// The scalar's text with host variables put in; reports what is wrong with it.
    fn template(&mut self, scalar: &Scalar, span: Span) -> Option<Template> {
        match Template::parse(&scalar.text, self.variables) {
            Ok(template) => Some(template),
            Err(errors) => {
                for error in errors {
                    let at = self.sources.narrow(span, &scalar.text[error.at]);
                    self.problem(Problem::at(at, error.kind.to_string()).hint(error.kind.hint()));
                }
                None
            }
        }
    }

    /// The scalar's text where references have no meaning.
    fn text(&mut self, scalar: &Scalar, span: Span) -> Option<String> {
        let template = self.template(scalar, span)?;
        if let Some(text) = template.as_text() {
            return Some(text.to_owned());
        }
        for reference in template.references() {
            let at = self.sources.narrow(span, &reference.to_string());
            let hint = "they can be used in `env`, `args`, `command`, `files`, `exports`, in a suite's `env` and in a key's calls";
            self.problem(Problem::at(at, "references have no meaning here").hint(Some(hint.to_owned())));
        }
        None
    }

    /// A scalar's text and type after host variables are put in (a plain `${REPLICAS:-2}` is a number).
    fn resolved(&mut self, node: &Node, what: &str) -> Option<(String, ScalarKind)> {
        let Value::Scalar(scalar) = &node.value else { return self.expected(what, node) };
        let kind = scalar.kind();
        if kind != ScalarKind::Text || !scalar.text.contains('$') {
            return Some((scalar.text.clone(), kind));
        }
        let text = self.text(scalar, node.span)?;
        let kind = if scalar.plain { plain_kind(&text) } else { ScalarKind::Text };
        Some((text, kind))
    }
}

/// A type that the environment file has in it.
pub trait Decode: Sized + JsonSchema {
    /// The value; `None` after reporting why there is none.
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self>;

    /// What a field that isn't there means; `None`: it must be there.
    fn absent() -> Option<Self> {
        None
    }
}

/// A value that remembers its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spanned<T> {
    /// Where.
    pub span: Span,
    /// What.
    pub value: T,
}

impl<T: JsonSchema> JsonSchema for Spanned<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }
    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }
    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

impl<T: Decode> Decode for Spanned<T> {
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        Some(Self { span: node.span, value: T::decode(node, decoder)? })
    }
}

impl<T: Decode> Decode for Box<T> {
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        T::decode(node, decoder).map(Self::new)
    }
}

impl<T: Decode> Decode for Option<T> {
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        if node.is_null() { Some(None) } else { T::decode(node, decoder).map(Some) }
    }
    fn absent() -> Option<Self> {
        Some(None)
    }
}

impl<T: Decode> Decode for Vec<T> {
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        match &node.value {
            Value::List(items) => Some(items.iter().filter_map(|item| T::decode(item, decoder)).collect()),
            _ if node.is_null() => Some(Self::new()),
            _ => decoder.expected("a list", node),
        }
    }
    fn absent() -> Option<Self> {
        Some(Self::new())
    }
}

/// A text that must not have references.
impl Decode for String {
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        match decoder.resolved(node, "a text")? {
            (text, ScalarKind::Text) => Some(text),
            (_, _) if !matches!(&node.value, Value::Scalar(scalar) if scalar.kind() == ScalarKind::Text) => {
                let found = node.describe();
                let hint = (found != "nothing")
                    .then(|| format!("write it in quotes: \"{}\"", decoder.sources.slice(node.span)));
                decoder.problem(Problem::at(node.span, format!("expected a text, found {found}")).hint(hint));
                None
            }
            // A variable's value is text, whatever it looks like.
            (text, _) => Some(text),
        }
    }
}

/// A text that may have references; numbers and booleans are taken as they are written.
impl Decode for Template {
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        match &node.value {
            Value::Scalar(scalar) if scalar.kind() != ScalarKind::Null => decoder.template(scalar, node.span),
            Value::Scalar(_) => {
                decoder.problem(
                    Problem::at(node.span, "expected a text, found nothing")
                        .hint(Some("write `\"\"` for an empty text".to_owned())),
                );
                None
            }
            _ => decoder.expected("a text", node),
        }
    }
}

impl JsonSchema for Template {
    fn schema_name() -> Cow<'static, str> {
        "Text".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A text. `${VAR}`, `${VAR:-default}` and `${VAR:?why}` are the host's variables; `${services.NAME.PORT.address|host|port|url}`, `${services.NAME.host}` and `${keys.NAME}` are resolved for whoever reads it; `$$` is one `$`.",
            "type": ["string", "number", "boolean"],
        })
    }
}

impl Decode for bool {
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        match decoder.resolved(node, "true or false")? {
            (text, ScalarKind::Bool) => Some(text.eq_ignore_ascii_case("true")),
            _ => decoder.expected("true or false", node),
        }
    }
    fn absent() -> Option<Self> {
        Some(false)
    }
}

/// A whole number in a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Number<const MIN: u32, const MAX: u32>(pub u32);

impl<const MIN: u32, const MAX: u32> Decode for Number<MIN, MAX> {
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        let (text, kind) = decoder.resolved(node, "a whole number")?;
        if !matches!(kind, ScalarKind::Integer | ScalarKind::Float) {
            let hint =
                (kind == ScalarKind::Text && text.parse::<u32>().is_ok()).then(|| "write it without quotes".to_owned());
            decoder.problem(
                Problem::at(node.span, format!("expected a whole number, found {}", node.describe())).hint(hint),
            );
            return None;
        }
        match text.parse::<u32>() {
            Ok(number) if (MIN..=MAX).contains(&number) => Some(Self(number)),
            _ => {
                decoder.problem(Problem::at(
                    node.span,
                    format!("expected a whole number from {MIN} to {MAX}, found {text}"),
                ));
                None
            }
        }
    }
}

/// An integer in the schema, or a text with a host variable in it.
pub fn number_schema(minimum: u32, maximum: u32) -> Schema {
    json_schema!({ "anyOf": [
        { "type": "integer", "minimum": minimum, "maximum": maximum },
        { "type": "string", "pattern": "\\$" },
    ] })
}

impl<const MIN: u32, const MAX: u32> JsonSchema for Number<MIN, MAX> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        format!("Number{MIN}To{MAX}").into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        number_schema(MIN, MAX)
    }
}

/// What the keys of a mapping must be.
pub trait KeyKind {
    /// Tells one kind's schema from another's.
    const NAME: &'static str;
    /// A regular expression for the schema.
    const PATTERN: &'static str;
    /// What is wrong with a key, if anything.
    fn check(key: &str) -> Result<(), String>;
}

/// A mapping with names for keys, in the file's order.
#[derive(Debug, Clone)]
pub struct Map<K, T> {
    /// Its entries, keys unique.
    pub entries: Vec<(Spanned<String>, T)>,
    /// The names of those that were reported and left out: a reference to one of them is no mistake.
    pub failed: Vec<String>,
    kind: std::marker::PhantomData<K>,
}

impl<K, T> Map<K, T> {
    /// An empty mapping.
    pub fn new() -> Self {
        Self { entries: Vec::new(), failed: Vec::new(), kind: std::marker::PhantomData }
    }

    /// Whether the file has something of this name, well-formed or not.
    pub fn knows(&self, name: &str) -> bool {
        self.get(name).is_some() || self.failed.iter().any(|failed| failed == name)
    }

    /// Name and value of each.
    pub fn iter(&self) -> impl Iterator<Item = (&Spanned<String>, &T)> {
        self.entries.iter().map(|(key, value)| (key, value))
    }

    /// The names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|(key, _)| key.value.as_str())
    }

    /// A value by its name.
    pub fn get(&self, name: &str) -> Option<&T> {
        self.entries.iter().find(|(key, _)| key.value == name).map(|(_, value)| value)
    }
}

impl<K: KeyKind, T: Decode> Decode for Map<K, T> {
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        let entries = match &node.value {
            Value::Map(entries) => entries,
            _ if node.is_null() => return Self::absent(),
            _ => return decoder.expected("a mapping", node),
        };
        let mut map = Self::new();
        for Entry { key, key_span, value } in entries {
            let checked = K::check(key);
            if let Err(message) = &checked {
                decoder.problem(Problem::at(*key_span, message));
            }
            match T::decode(value, decoder) {
                Some(value) if checked.is_ok() => {
                    map.entries.push((Spanned { span: *key_span, value: key.clone() }, value))
                }
                _ => map.failed.push(key.clone()),
            }
        }
        Some(map)
    }
    fn absent() -> Option<Self> {
        Some(Self::new())
    }
}

impl<K: KeyKind, T: JsonSchema> JsonSchema for Map<K, T> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        format!("{}Of{}", K::NAME, T::schema_name()).into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["object", "null"],
            "propertyNames": { "pattern": K::PATTERN },
            "additionalProperties": generator.subschema_for::<T>(),
        })
    }
}

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
                $crate::envfile::decode::unknown_fields(entries, Self::FIELDS, $what, decoder);
                $(let $field = $crate::envfile::decode::field::<$type>(node, entries, $key, $what, decoder);)*
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
                    $crate::envfile::decode::doc(&[$($field_doc),*]),
                    generator.subschema_for::<$type>(),
                    <$type as $crate::envfile::decode::Decode>::absent().is_none(),
                )),*];
                $crate::envfile::decode::record_schema(&$crate::envfile::decode::doc(&[$($doc),*]), fields)
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
                        $crate::envfile::decode::not_a_word(&text, &[$($word),*], node, decoder);
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
                    "description": $crate::envfile::decode::doc(&[$($doc),*]),
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
