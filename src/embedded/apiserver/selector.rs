//! Label and field selectors.
//!
//! Follows `apimachinery/pkg/labels/selector.go` and `apimachinery/pkg/fields/selector.go`. Pure.

use super::status::Status;
use super::store::{Index, ResourceId, fields};

/// Which objects a list, a watch or a collection's deletion is about.
#[derive(Debug, Clone, Default)]
pub struct Selector {
    labels: Vec<LabelRequirement>,
    fields: Vec<FieldRequirement>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct LabelRequirement {
    key: String,
    operator: Operator,
    values: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
    GreaterThan,
    LessThan,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct FieldRequirement {
    field: Field,
    equal: bool,
    value: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Name,
    Namespace,
    Indexed(usize),
}

impl Selector {
    /// Reads both selectors of a request.
    ///
    /// # Errors
    /// 400 for what isn't a selector, and for fields by which this resource can't be selected.
    pub fn parse(
        resource: ResourceId,
        kind: &str,
        api_version: &str,
        labels: Option<&str>,
        fields: Option<&str>,
    ) -> Result<Self, Status> {
        Ok(Self {
            labels: labels.map(parse_labels).transpose()?.unwrap_or_default(),
            fields: fields.map(|text| parse_fields(resource, kind, api_version, text)).transpose()?.unwrap_or_default(),
        })
    }

    /// Whether it selects everything.
    pub fn is_everything(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// Whether an object is selected.
    pub fn matches(&self, index: &Index) -> bool {
        self.fields.iter().all(|requirement| {
            let value: &str = match requirement.field {
                Field::Name => &index.name,
                Field::Namespace => &index.namespace,
                Field::Indexed(at) => index.fields.get(at).map_or("", |value| value),
            };
            (value == requirement.value) == requirement.equal
        }) && self.labels.iter().all(|requirement| requirement.matches(index.label(&requirement.key)))
    }
}

impl LabelRequirement {
    fn matches(&self, value: Option<&str>) -> bool {
        let contains = |value: &str| self.values.iter().any(|wanted| wanted == value);
        match (self.operator, value) {
            (Operator::In, value) => value.is_some_and(contains),
            (Operator::NotIn, value) => !value.is_some_and(contains),
            (Operator::Exists, value) => value.is_some(),
            (Operator::DoesNotExist, value) => value.is_none(),
            (Operator::GreaterThan | Operator::LessThan, None) => false,
            (Operator::GreaterThan, Some(value)) => self.compare(value, |left, right| left > right),
            (Operator::LessThan, Some(value)) => self.compare(value, |left, right| left < right),
        }
    }

    fn compare(&self, value: &str, holds: fn(i64, i64) -> bool) -> bool {
        match (value.parse(), self.values.first().and_then(|bound| bound.parse().ok())) {
            (Ok(value), Some(bound)) => holds(value, bound),
            _ => false,
        }
    }
}

fn unparsable(text: &str, why: &str) -> Status {
    Status::bad_request(format!("unable to parse requirement: {why}{}{text}", if text.is_empty() { "" } else { ": " }))
}

fn parse_labels(text: &str) -> Result<Vec<LabelRequirement>, Status> {
    split_outside_parentheses(text)
        .into_iter()
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .map(parse_label_requirement)
        .collect()
}

fn split_outside_parentheses(text: &str) -> Vec<&str> {
    let mut depth = 0_i32;
    text.split(move |character| {
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        character == ',' && depth == 0
    })
    .collect()
}

fn parse_label_requirement(text: &str) -> Result<LabelRequirement, Status> {
    let requirement = |key: &str, operator, values: Vec<String>| {
        let key = key.trim();
        check_label_key(key)?;
        for value in &values {
            check_label_value(value)?;
        }
        Ok(LabelRequirement { key: key.to_owned(), operator, values })
    };
    if let Some(key) = text.strip_prefix('!').filter(|key| !key.contains('=')) {
        return requirement(key, Operator::DoesNotExist, Vec::new());
    }
    if let Some((key, value)) = text.split_once("!=") {
        return requirement(key, Operator::NotIn, vec![value.trim().to_owned()]);
    }
    if let Some((key, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        return requirement(key, Operator::In, vec![value.trim().to_owned()]);
    }
    if let Some((head, tail)) = text.split_once('(') {
        let inner = tail.strip_suffix(')').ok_or_else(|| unparsable("", "found '', expected: ',' or ')'"))?;
        let values = inner.split(',').map(|value| value.trim().to_owned()).collect();
        let mut words = head.split_whitespace();
        return match (words.next(), words.next(), words.next()) {
            (Some(key), Some("in"), None) => requirement(key, Operator::In, values),
            (Some(key), Some("notin"), None) => requirement(key, Operator::NotIn, values),
            (_, word, _) => {
                Err(unparsable("", &format!("found '{}', expected: in, notin, =, ==, !=, gt, lt", word.unwrap_or("("))))
            }
        };
    }
    for (sign, operator) in [('>', Operator::GreaterThan), ('<', Operator::LessThan)] {
        if let Some((key, value)) = text.split_once(sign) {
            if value.trim().parse::<i64>().is_err() {
                return Err(unparsable(
                    "",
                    "values[0]: Invalid value: for 'Gt', 'Lt' operators, the value must be an integer",
                ));
            }
            return requirement(key, operator, vec![value.trim().to_owned()]);
        }
    }
    if text.split_whitespace().count() > 1 {
        let word = text.split_whitespace().nth(1).unwrap_or_default();
        return Err(unparsable("", &format!("found '{word}', expected: in, notin, =, ==, !=, gt, lt")));
    }
    requirement(text, Operator::Exists, Vec::new())
}

const NAME_RULE: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const VALUE_RULE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";

fn is_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    let ends = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    bytes.len() <= 63
        && ends(bytes.first())
        && ends(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
}

fn check_label_key(key: &str) -> Result<(), Status> {
    let name = key.rsplit_once('/').map_or(key, |(_, name)| name);
    if is_name(name) {
        return Ok(());
    }
    Err(unparsable("", &format!("key: Invalid value: {}: {NAME_RULE}", super::status::quote(key))))
}

fn check_label_value(value: &str) -> Result<(), Status> {
    if value.is_empty() || is_name(value) {
        return Ok(());
    }
    Err(unparsable("", &format!("values[0][key]: Invalid value: {}: {VALUE_RULE}", super::status::quote(value))))
}

fn parse_fields(
    resource: ResourceId,
    kind: &str,
    api_version: &str,
    text: &str,
) -> Result<Vec<FieldRequirement>, Status> {
    split_unescaped(text)
        .into_iter()
        .filter(|part| !part.is_empty())
        .map(|part| {
            let (key, equal, value) = part
                .split_once("!=")
                .map(|(key, value)| (key, false, value))
                .or_else(|| part.split_once("==").map(|(key, value)| (key, true, value)))
                .or_else(|| part.split_once('=').map(|(key, value)| (key, true, value)))
                .ok_or_else(|| Status::bad_request(format!("invalid selector: '{text}'; can't understand '{part}'")))?;
            let field = field(resource, kind, api_version, key)?;
            Ok(FieldRequirement { field, equal, value: unescape(value) })
        })
        .collect()
}

fn field(resource: ResourceId, kind: &str, api_version: &str, key: &str) -> Result<Field, Status> {
    // The newer events group has other names for the same fields (pkg/apis/events/v1/conversion.go).
    let stored = match key.strip_prefix("regarding.") {
        Some(rest) if api_version.starts_with("events.k8s.io/") => format!("involvedObject.{rest}"),
        _ if api_version.starts_with("events.k8s.io/") && key == "reportingController" => {
            "reportingComponent".to_owned()
        }
        _ => key.to_owned(),
    };
    match stored.as_str() {
        "metadata.name" => Ok(Field::Name),
        "metadata.namespace" => Ok(Field::Namespace),
        other => {
            fields::selectable(resource).iter().position(|field| *field == other).map(Field::Indexed).ok_or_else(|| {
                // The generic conversion words it otherwise than the kinds' own (apimachinery/pkg/runtime/conversion.go).
                Status::bad_request(if fields::selectable(resource).is_empty() {
                    let _ = kind;
                    format!(
                        "{} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"",
                        super::status::quote(key)
                    )
                } else {
                    format!("field label not supported: {key}")
                })
            })
        }
    }
}

fn split_unescaped(text: &str) -> Vec<&str> {
    let mut escaped = false;
    text.split(move |character| {
        let separates = character == ',' && !escaped;
        escaped = character == '\\' && !escaped;
        separates
    })
    .collect()
}

fn unescape(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        result.push(if character == '\\' { characters.next().unwrap_or('\\') } else { character });
    }
    result
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::store::Stored;
    use super::*;

    const PODS: ResourceId = ResourceId::new("", "pods");

    fn matches(labels: &str, fields: &str) -> bool {
        let pod = json!({
            "metadata": {"name": "a", "namespace": "n", "labels": {"app": "web", "size": "7"}},
            "spec": {"nodeName": "node"},
        });
        let selector = Selector::parse(PODS, "Pod", "v1", Some(labels), Some(fields)).expect("a selector");
        selector.matches(&Stored::new(PODS, &pod, 1).index)
    }

    #[test]
    fn label_selectors() {
        for (text, expected) in [
            ("", true),
            ("app=web", true),
            ("app==web,size", true),
            ("app!=web", false),
            ("other!=x", true),
            ("!app", false),
            ("!other", true),
            ("app in (web, db)", true),
            ("app notin (web)", false),
            ("size>6", true),
            ("size<6", false),
            ("app in (db),size", false),
        ] {
            assert_eq!(matches(text, ""), expected, "{text}");
        }
        for text in ["app in web", "a b", "=x", "app in (x", "-a=b"] {
            assert!(Selector::parse(PODS, "Pod", "v1", Some(text), None).is_err(), "{text}");
        }
    }

    #[test]
    fn field_selectors() {
        assert!(matches("", "spec.nodeName=node,metadata.name=a,spec.hostNetwork=false"));
        assert!(!matches("", "metadata.namespace!=n"));
        let unknown = Selector::parse(PODS, "Pod", "v1", None, Some("spec.foo=1")).expect_err("not selectable");
        assert_eq!(unknown.message, "field label not supported: spec.foo");
    }
}
