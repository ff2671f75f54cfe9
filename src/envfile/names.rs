//! What names, images, quantities and paths may look like: where they become Kubernetes', Kubernetes' rules.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::decode::{Decode, Decoder, KeyKind};
use super::duration::TimeSpan;
use super::model::PlainText;
use super::problem::Problem;
use super::template::Template;
use super::tree::{Node, Scalar, ScalarKind, Value};

/// A DNS label as Services need it (RFC 1035): `validation.IsDNS1035Label` in k8s.io/apimachinery.
#[derive(Debug, Clone)]
pub struct DnsLabel;
/// A variable's name: what every shell can export.
#[derive(Debug, Clone)]
pub struct VariableName;
/// An image's name.
#[derive(Debug, Clone)]
pub struct ImageName;
/// A port's name: `validation.IsValidPortName` in k8s.io/apimachinery.
#[derive(Debug, Clone)]
pub struct PortName;
/// A file's name as a ConfigMap's key: `validation.IsConfigMapKey` in k8s.io/apimachinery.
#[derive(Debug, Clone)]
pub struct FileName;
/// An absolute path in a container.
#[derive(Debug, Clone)]
pub struct ContainerPath;
/// Any name that is typed on a command line.
#[derive(Debug, Clone)]
pub struct Word;
/// Anything that isn't empty.
#[derive(Debug, Clone)]
pub struct AnyText;

impl KeyKind for DnsLabel {
    const NAME: &'static str = "DnsLabel";
    const PATTERN: &'static str = "^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$";
    fn check(key: &str) -> Result<(), String> {
        dns_label(key)
    }
}

/// Checks a name that becomes a Kubernetes object's.
pub fn dns_label(name: &str) -> Result<(), String> {
    let good = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.ends_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        && name.len() <= 63;
    if good {
        return Ok(());
    }
    Err(format!(
        "`{name}` is not a name that Kubernetes takes: up to 63 lower-case letters, digits and `-`, starting with a letter and ending with a letter or digit"
    ))
}

impl KeyKind for VariableName {
    const NAME: &'static str = "VariableName";
    const PATTERN: &'static str = "^[A-Za-z_][A-Za-z0-9_]*$";
    fn check(key: &str) -> Result<(), String> {
        let good = !key.is_empty()
            && !key.starts_with(|c: char| c.is_ascii_digit())
            && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if good {
            Ok(())
        } else {
            Err(format!("`{key}` is not a variable's name: letters, digits and `_`, not starting with a digit"))
        }
    }
}

impl KeyKind for ImageName {
    const NAME: &'static str = "ImageName";
    const PATTERN: &'static str = "^[^\\s]+$";
    fn check(key: &str) -> Result<(), String> {
        image_name(key)
    }
}

/// Checks an image reference: `[HOST[:PORT]/]PATH[:TAG][@DIGEST]`, after github.com/distribution/reference.
pub fn image_name(name: &str) -> Result<(), String> {
    let bad = |why: &str| Err(format!("`{name}` is not an image's name: {why}"));
    let (rest, digest) = match name.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (name, None),
    };
    if let Some(digest) = digest
        && !digest.split_once(':').is_some_and(|(kind, hex)| {
            !kind.is_empty() && hex.len() >= 32 && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
        })
    {
        return bad("after `@` comes a digest such as `sha256:…`");
    }
    let (host, path) = match rest.split_once('/') {
        Some((first, path)) if first.contains(['.', ':']) || first == "localhost" => (Some(first), path),
        _ => (None, rest),
    };
    if host.is_some_and(|host| !host.chars().all(|c| c.is_ascii_alphanumeric() || ".-:[]".contains(c))) {
        return bad("its registry is not a host's name");
    }
    let (path, tag) = match path.rsplit_once(':') {
        Some((path, tag)) => (path, Some(tag)),
        None => (path, None),
    };
    let tag_good = |tag: &str| {
        !tag.is_empty()
            && tag.len() <= 128
            && !tag.starts_with(['.', '-'])
            && tag.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
    };
    if tag.is_some_and(|tag| !tag_good(tag)) {
        return bad("after `:` comes a tag of letters, digits, `_`, `.` and `-`");
    }
    let component_good = |part: &str| {
        let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        part.starts_with(edge) && part.ends_with(edge) && part.chars().all(|c| edge(c) || "._-".contains(c))
    };
    if !path.split('/').all(component_good) {
        return bad("its parts are lower-case letters and digits, with `.`, `_` and `-` between them");
    }
    Ok(())
}

impl KeyKind for PortName {
    const NAME: &'static str = "PortName";
    const PATTERN: &'static str = "^[a-z0-9]([-a-z0-9]{0,13}[a-z0-9])?$";
    fn check(key: &str) -> Result<(), String> {
        let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let good = key.len() <= 15
            && key.starts_with(edge)
            && key.ends_with(edge)
            && key.chars().all(|c| edge(c) || c == '-')
            && key.chars().any(|c| c.is_ascii_lowercase())
            && !key.contains("--");
        if good {
            Ok(())
        } else {
            Err(format!(
                "`{key}` is not a port's name: up to 15 lower-case letters, digits and single `-`, with at least one letter"
            ))
        }
    }
}

impl KeyKind for FileName {
    const NAME: &'static str = "FileName";
    const PATTERN: &'static str = "^[-._a-zA-Z0-9]+$";
    fn check(key: &str) -> Result<(), String> {
        let good = !key.is_empty()
            && key.len() <= 253
            && key != "."
            && !key.starts_with("..")
            && key.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c));
        if good {
            Ok(())
        } else {
            Err(format!("`{key}` is not a file's name here: letters, digits, `-`, `_` and `.`, no directories"))
        }
    }
}

impl KeyKind for ContainerPath {
    const NAME: &'static str = "ContainerPath";
    const PATTERN: &'static str = "^/[^:]+$";
    fn check(key: &str) -> Result<(), String> {
        if !key.starts_with('/') || key.len() < 2 {
            return Err(format!(
                "`{key}` is not where a volume can be mounted: an absolute path in the container, not `/` itself"
            ));
        }
        // As in Kubernetes' validation of mountPath.
        if key.contains(':') { Err(format!("`{key}`: a mount path must not contain `:`")) } else { Ok(()) }
    }
}

impl KeyKind for Word {
    const NAME: &'static str = "Word";
    const PATTERN: &'static str = "^[A-Za-z0-9][-_.A-Za-z0-9]*$";
    fn check(key: &str) -> Result<(), String> {
        let good = key.starts_with(|c: char| c.is_ascii_alphanumeric())
            && key.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
        if good {
            Ok(())
        } else {
            Err(format!("`{key}` is not a name: letters, digits, `-`, `_` and `.`, starting with a letter or digit"))
        }
    }
}

impl KeyKind for AnyText {
    const NAME: &'static str = "AnyText";
    const PATTERN: &'static str = ".+";
    fn check(key: &str) -> Result<(), String> {
        if key.is_empty() { Err("a name must not be empty".to_owned()) } else { Ok(()) }
    }
}

/// A text that is checked by the rule `K`.
#[derive(Debug, Clone)]
pub struct Name<K> {
    /// The text.
    pub text: String,
    kind: std::marker::PhantomData<K>,
}

impl<K: KeyKind> Decode for Name<K> {
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        let text = String::decode(node, decoder)?;
        match K::check(&text) {
            Ok(()) => Some(Self { text, kind: std::marker::PhantomData }),
            Err(message) => {
                decoder.problem(Problem::at(node.span, message));
                None
            }
        }
    }
}

impl<K: KeyKind> JsonSchema for Name<K> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        K::NAME.into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "minLength": 1 })
    }
}

impl Decode for TimeSpan {
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        let text = match &node.value {
            Value::Scalar(Scalar { text, .. }) if !node.is_null() && !text.contains('$') => text.clone(),
            _ => String::decode(node, decoder)?,
        };
        match text.parse() {
            Ok(span) => Some(span),
            Err(_) => {
                let hint = text.parse::<f64>().is_ok().then(|| format!("with a unit: `{text}s`?"));
                let hint = hint.unwrap_or_else(|| "write it like `90s`, `5m` or `1h30m`".to_owned());
                decoder.problem(Problem::at(node.span, format!("`{text}` is not a duration")).hint(Some(hint)));
                None
            }
        }
    }
}

impl JsonSchema for TimeSpan {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A length of time: `90s`, `5m`, `1h30m`, `500ms`.",
            "type": "string",
            "pattern": "^(0|([0-9]+(ms|d|h|m|s))+)$|\\$",
        })
    }
}

/// A Kubernetes quantity that isn't negative: `resource.ParseQuantity` in k8s.io/apimachinery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quantity(pub String);

const SUFFIXES: [&str; 17] =
    ["", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei", "e0"];

impl Quantity {
    fn check(text: &str) -> bool {
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').len();
        let (number, suffix) = text.split_at(digits);
        let number_good =
            number.chars().filter(|c| *c == '.').count() <= 1 && number.chars().any(|c| c.is_ascii_digit());
        let exponent = suffix.strip_prefix(['e', 'E']).is_some_and(|rest| {
            let rest = rest.strip_prefix(['-', '+']).unwrap_or(rest);
            !rest.is_empty() && rest.len() <= 3 && rest.chars().all(|c| c.is_ascii_digit())
        });
        number_good && (SUFFIXES.contains(&suffix) || exponent)
    }
}

impl Decode for Quantity {
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        let text = match &node.value {
            Value::Scalar(scalar) if matches!(scalar.kind(), ScalarKind::Integer | ScalarKind::Float) => {
                scalar.text.clone()
            }
            _ => String::decode(node, decoder)?,
        };
        if Self::check(&text) {
            return Some(Self(text));
        }
        let number = text.trim_end_matches(|c: char| !c.is_ascii_digit());
        let hint = match text[number.len()..].trim().to_ascii_lowercase().as_str() {
            "k" | "kb" | "kib" if !number.is_empty() => format!("did you mean `{number}Ki`?"),
            "m" | "mb" | "mib" | "mi" if !number.is_empty() => format!("did you mean `{number}Mi`?"),
            "g" | "gb" | "gib" | "gi" if !number.is_empty() => format!("did you mean `{number}Gi`?"),
            _ => "write it as in Kubernetes: `256Mi`, `2Gi`, `500m`, `2`".to_owned(),
        };
        decoder.problem(Problem::at(node.span, format!("`{text}` is not a quantity")).hint(Some(hint)));
        None
    }
}

impl JsonSchema for Quantity {
    fn schema_name() -> Cow<'static, str> {
        "Quantity".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "description": "A Kubernetes quantity: `256Mi`, `500m`, `2`.", "type": ["string", "number"] })
    }
}

/// A program with its arguments: not empty, no references.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command(pub Vec<String>);

impl Decode for Command {
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        let words: Vec<String> = command_words::<PlainText>(node, decoder)?.into_iter().map(|word| word.0).collect();
        Some(Self(words))
    }
}

impl JsonSchema for Command {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Command".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "array", "minItems": 1, "items": { "type": ["string", "number", "boolean"] } })
    }
}

/// A program with its arguments: not empty, references allowed.
#[derive(Debug, Clone)]
pub struct CommandTemplate(pub Vec<super::decode::Spanned<Template>>);

impl Decode for CommandTemplate {
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        command_words(node, decoder).map(Self)
    }
}

impl JsonSchema for CommandTemplate {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "CommandTemplate".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "array", "minItems": 1, "items": generator.subschema_for::<Template>() })
    }
}

fn command_words<T: Decode>(node: &Node, decoder: &mut Decoder<'_>) -> Option<Vec<T>> {
    match &node.value {
        Value::List(items) if items.is_empty() => {
            decoder.problem(Problem::at(node.span, "the command is empty"));
            None
        }
        Value::List(items) => {
            let words: Vec<T> = items.iter().filter_map(|item| T::decode(item, decoder)).collect();
            (words.len() == items.len()).then_some(words)
        }
        Value::Scalar(scalar) if scalar.kind() == ScalarKind::Text => {
            let words: Vec<&str> = scalar.text.split_whitespace().collect();
            let hint = format!("write it as a list, no shell reads it: [{}]", words.join(", "));
            decoder.problem(Problem::at(node.span, "expected a list, found a text").hint(Some(hint)));
            None
        }
        _ => decoder.expected("a list of a program and its arguments", node),
    }
}
