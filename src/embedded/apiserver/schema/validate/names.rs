//! Names and keys (`apimachinery/pkg/util/validation/validation.go`).

use serde_json::Value;

use super::{FieldError, invalid};

const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const QUALIFIED: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const CONFIG_KEY: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";

const PERCENT: &str = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')";

fn is_label(text: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    edge(text.chars().next())
        && edge(text.chars().last())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

fn is_qualified(text: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    edge(text.chars().next())
        && edge(text.chars().last())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

fn too_long(text: &str, most: usize) -> Option<String> {
    (text.len() > most).then(|| format!("must be no more than {most} bytes"))
}

/// What is wrong with a DNS label.
pub(super) fn dns_label(text: &str) -> Option<String> {
    too_long(text, 63).or_else(|| (!is_label(text)).then(|| LABEL.to_owned()))
}

/// What is wrong with a DNS subdomain.
pub(super) fn dns_subdomain(text: &str) -> Option<String> {
    too_long(text, 253).or_else(|| (!text.split('.').all(is_label)).then(|| SUBDOMAIN.to_owned()))
}

/// What is wrong with a path segment (roles and bindings).
pub(super) fn path_segment(text: &str) -> Option<String> {
    if matches!(text, "." | "..") {
        return Some(format!("may not be '{text}'"));
    }
    ["/", "%"].into_iter().find(|bad| text.contains(bad)).map(|bad| format!("may not contain '{bad}'"))
}

/// What is wrong with a label's or annotation's key.
pub(super) fn qualified(text: &str) -> Option<String> {
    let name = match text.split_once('/') {
        Some((prefix, name)) => {
            if prefix.is_empty() {
                return Some("prefix part must be non-empty".into());
            }
            if let Some(detail) = dns_subdomain(prefix) {
                return Some(format!("prefix part {detail}"));
            }
            name
        }
        None => text,
    };
    if name.is_empty() {
        return Some("name part must be non-empty".into());
    }
    too_long(name, 63)
        .map(|detail| format!("name part {detail}"))
        .or_else(|| (!is_qualified(name)).then(|| QUALIFIED.to_owned()))
}

/// What is wrong with a label's value.
pub(super) fn label_value(text: &str) -> Option<String> {
    too_long(text, 63).or_else(|| (!text.is_empty() && !is_qualified(text)).then(|| VALUE.to_owned()))
}

/// What is wrong with a percentage.
pub(super) fn percent(text: &str) -> Option<String> {
    let digits = text.strip_suffix('%').unwrap_or_default();
    (digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| PERCENT.to_owned())
}

/// What is wrong with a key of a config map or secret.
pub(super) fn config_key(text: &str) -> Option<String> {
    if let Some(detail) = too_long(text, 253) {
        return Some(detail);
    }
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if text.is_empty() || !text.chars().all(fits) {
        return Some(CONFIG_KEY.to_owned());
    }
    match text {
        "." | ".." => Some(format!("must not be '{text}'")),
        _ if text.starts_with("..") => Some("must not start with '..'".into()),
        _ => None,
    }
}

/// Pushes what is wrong with a port number.
pub(super) fn port(value: &Value, field: String, errors: &mut Vec<FieldError>) {
    if !value.as_i64().is_some_and(|port| (1..=65535).contains(&port)) {
        errors.push(invalid(field, value.clone(), "must be between 1 and 65535, inclusive"));
    }
}
