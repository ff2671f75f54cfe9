//! From the tree to typed values, reporting everything that is wrong on the way.
//!
//! [`Decode`] is to the tree what `Deserialize` is to a stream, except that it goes on after a problem: `None` means that
//! something was reported and the value is unusable; what an optional field or an entry loses that way is left out, so that
//! the rest can be checked too. A result is only good if nothing was reported. Structs and enums are `record`s. Host variables are put in here, scalar by scalar, so that those in
//! anchors and profiles that nobody uses are never asked for.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::problem::Problem;
use super::source::{Sources, Span};
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
