//! What every object's metadata gets and keeps.
//!
//! Follows `apiserver/pkg/registry/rest/{create,update,meta}.go`,
//! `apiserver/pkg/storage/names/generate.go` and `apimachinery/pkg/api/validation/objectmeta.go`. Pure
//! but for the clock and randomness.

use serde_json::{Map, Value};

use super::registry::Row;
use super::status::FieldError;

/// The time as Kubernetes writes it: UTC, whole seconds.
pub fn now() -> String {
    timestamp(jiff::Timestamp::now())
}

/// A time as Kubernetes writes it.
pub fn timestamp(time: jiff::Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A fresh object identity.
pub fn new_uid() -> String {
    uuid::Uuid::new_v4().to_string()
}

const SUFFIX_LENGTH: usize = 5;
const LONGEST_PREFIX: usize = 63 - SUFFIX_LENGTH;

/// A name from `generateName`: five characters, without vowels and look-alikes, are appended.
pub fn generate_name(prefix: &str) -> String {
    let mut name: String = prefix.chars().take(LONGEST_PREFIX).collect();
    name.push_str(&random_suffix());
    name
}

/// Five random characters as upstream's `utilrand.String(5)`.
pub fn random_suffix() -> String {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let bytes = uuid::Uuid::new_v4().into_bytes();
    bytes.iter().take(SUFFIX_LENGTH).map(|&byte| char::from(ALPHABET[usize::from(byte) % ALPHABET.len()])).collect()
}

/// An object's metadata, made if absent.
pub fn metadata(object: &mut Value) -> &mut Map<String, Value> {
    child(object, "metadata")
}

/// A field of an object as a map, made if absent.
pub fn child<'a>(object: &'a mut Value, field: &str) -> &'a mut Map<String, Value> {
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    let slot = &mut object[field];
    if !slot.is_object() {
        *slot = Value::Object(Map::new());
    }
    match slot {
        Value::Object(map) => map,
        _ => unreachable!("it was made a map just above"),
    }
}

/// A text field of the metadata, `""` if absent.
pub fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object["metadata"][field].as_str().unwrap_or_default()
}

/// Whether deletion waits for something.
pub fn has_finalizers(object: &Value) -> bool {
    object["metadata"]["finalizers"].as_array().is_some_and(|finalizers| !finalizers.is_empty())
}

/// Keeps what clients may not change: identity, times, and the deletion under way
/// (`ValidateObjectMetaUpdate`, `rest.BeforeUpdate`).
pub fn keep_system_fields(new: &mut Value, old: &Value) {
    let old = &old["metadata"];
    let new = metadata(new);
    for field in [
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "selfLink",
        "generateName",
    ] {
        match &old[field] {
            Value::Null => new.remove(field),
            value => new.insert(field.to_owned(), value.clone()),
        };
    }
}

/// What is wrong with an update's metadata: fields that can't change did.
pub fn update_errors(row: &Row, new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for field in ["name", "namespace", "uid", "creationTimestamp"] {
        let (new, old) = (text(new, field), text(old, field));
        if !new.is_empty() && new != old && (field != "namespace" || row.namespaced) {
            errors.push(FieldError::invalid(&format!("metadata.{field}"), new, "field is immutable"));
        }
    }
    // New finalizers may not appear on what is already being deleted (ValidateNoNewFinalizers).
    if !old["metadata"]["deletionTimestamp"].is_null() {
        let list = |object: &Value| object["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
        let before = list(old);
        let added: Vec<Value> = list(new).into_iter().filter(|finalizer| !before.contains(finalizer)).collect();
        if !added.is_empty() {
            let names: Vec<&str> = added.iter().filter_map(Value::as_str).collect();
            errors.push(FieldError::forbidden(
                "metadata.finalizers",
                &format!(
                    "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                    names.iter().map(|name| super::status::quote(name)).collect::<Vec<_>>().join(", ")
                ),
            ));
        }
    }
    errors
}

const SUBDOMAIN_RULE: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL_RULE: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SERVICE_RULE: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";

/// Which rule a kind's names follow (the `NameFn` of `validation.ValidateObjectMeta`'s callers).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NameRule {
    Subdomain,
    Label,
    PathSegment,
}

fn name_rule(row: &Row) -> NameRule {
    match (row.group, row.plural) {
        ("", "namespaces") => NameRule::Label,
        ("", "services") => NameRule::Label,
        ("rbac.authorization.k8s.io", _) => NameRule::PathSegment,
        ("certificates.k8s.io", _) | ("", "events") => NameRule::PathSegment,
        _ => NameRule::Subdomain,
    }
}

/// What is wrong with a new object's name.
pub fn name_errors(row: &Row, name: &str) -> Vec<FieldError> {
    let bad = |detail: &str| vec![FieldError::invalid("metadata.name", name, detail)];
    match name_rule(row) {
        NameRule::PathSegment if name == "." || name == ".." => bad(&format!("may not be '{name}'")),
        NameRule::PathSegment if name.contains('/') => bad("may not contain '/'"),
        NameRule::PathSegment if name.contains('%') => bad("may not contain '%'"),
        NameRule::PathSegment => Vec::new(),
        NameRule::Label if name.len() > 63 => bad("must be no more than 63 characters"),
        NameRule::Label if !is_label(name) => bad(LABEL_RULE),
        NameRule::Label if row.plural == "services" && name.starts_with(|c: char| c.is_ascii_digit()) => {
            bad(SERVICE_RULE)
        }
        NameRule::Subdomain if name.len() > 253 => bad("must be no more than 253 characters"),
        NameRule::Subdomain if !name.split('.').all(is_label) => bad(SUBDOMAIN_RULE),
        NameRule::Label | NameRule::Subdomain => Vec::new(),
    }
}

fn is_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    let alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    bytes.first().is_some_and(alphanumeric)
        && bytes.last().is_some_and(alphanumeric)
        && bytes.iter().all(|byte| alphanumeric(byte) || *byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::super::registry;
    use super::*;

    #[test]
    fn names() {
        let row = |plural| registry::find("", "v1", plural).expect("a row");
        assert!(name_errors(row("pods"), "a.b-c").is_empty());
        assert!(!name_errors(row("pods"), "A").is_empty());
        assert!(!name_errors(row("namespaces"), "a.b").is_empty());
        let role = registry::find("rbac.authorization.k8s.io", "v1", "roles").expect("a row");
        assert!(name_errors(role, "system:node").is_empty());
        let name = generate_name("web-");
        assert_eq!(name.len(), 9);
        assert!(name_errors(row("pods"), &name).is_empty());
    }
}
