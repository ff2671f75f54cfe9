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

/// Takes out lists and maps that are empty: Go's `omitempty` never writes them.
pub fn drop_empty(object: &mut Value) {
    let metadata = metadata(object);
    for field in ["labels", "annotations", "ownerReferences", "finalizers", "managedFields"] {
        let is_empty = match metadata.get(field) {
            Some(Value::Array(list)) => list.is_empty(),
            Some(Value::Object(map)) => map.is_empty(),
            Some(Value::Null) => true,
            _ => false,
        };
        if is_empty {
            metadata.remove(field);
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_empty_is_not_kept() {
        let mut object = serde_json::json!({"metadata": {
            "name": "a", "labels": {}, "ownerReferences": [], "annotations": null, "finalizers": ["b"],
        }});
        drop_empty(&mut object);
        assert_eq!(object, serde_json::json!({"metadata": {"name": "a", "finalizers": ["b"]}}));
    }

    #[test]
    fn generated_names_end_in_five_characters() {
        let name = generate_name("web-");
        assert!(name.starts_with("web-"));
        assert_eq!(name.len(), 9);
        assert_eq!(generate_name(&"a".repeat(70)).len(), 63);
    }
}
