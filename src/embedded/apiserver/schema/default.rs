//! Defaults: what Kubernetes fills in before it validates and stores.
//!
//! Hand-ported from `k8s.io/kubernetes/pkg/apis/*/v1/defaults.go` (`SetDefaults_*`); the published description carries
//! none of them. Feature gates are at their 1.36 defaults. Then, from the tables, the structs that Go writes even when
//! empty (`resources: {}`, `status: {}`), so that clients with non-optional fields can read what is stored.
//!
//! Invariant: idempotent.

mod core;
mod other;
mod pod;
mod workload;

use serde_json::{Map, Value, json};

use super::gvk::Gvk;
use super::tables::{Def, Kind};

type Object = Map<String, Value>;

/// Fills in a value of a built-in kind; others are left alone.
pub fn default(gvk: Gvk<'_>, value: &mut Value) {
    let Value::Object(root) = value else { return };
    match (gvk.group, gvk.kind) {
        ("", _) => core::default(gvk.kind, root),
        ("apps" | "batch", _) => workload::default(gvk.kind, root),
        _ => other::default(gvk, root),
    }
    if let Some(def) = gvk.def() {
        fill_structs(def, root);
    }
}

/// The kind's empty object as Go writes it: `{}` for every struct by value.
pub(super) fn empty(gvk: Gvk<'_>) -> Value {
    let mut map = Object::new();
    if let Some(def) = gvk.def() {
        fill_structs(def, &mut map);
    }
    Value::Object(map)
}

/// Puts `{}` where Go has a struct by value: `encoding/json` writes it in spite of `omitempty`.
fn fill_structs(def: Def, map: &mut Object) {
    for field in def.fields() {
        let ty = field.ty();
        match (ty.kind(), ty.def()) {
            (Kind::Struct, Some(inner)) => {
                let absent = !map.contains_key(field.name());
                if absent && (field.is_pointer() || field.omits_zero()) {
                    continue;
                }
                if let Value::Object(map) = map.entry(field.name()).or_insert_with(|| json!({})) {
                    fill_structs(inner, map);
                }
            }
            (Kind::List, _) => {
                let element = ty.element().filter(|e| e.kind() == Kind::Struct).and_then(|e| e.def());
                if let (Some(inner), Some(Value::Array(list))) = (element, map.get_mut(field.name())) {
                    list.iter_mut().filter_map(Value::as_object_mut).for_each(|map| fill_structs(inner, map));
                }
            }
            _ => {}
        }
    }
}

/// Whether Go would see the zero value.
fn is_unset(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => text.is_empty(),
        _ => false,
    }
}

/// Sets a field that is absent, null or the empty string.
fn set(map: &mut Object, key: &str, value: impl Into<Value>) {
    if is_unset(map.get(key)) {
        map.insert(key.to_owned(), value.into());
    }
}

/// Sets a number that isn't a pointer in Go: zero counts as unset.
fn set_number(map: &mut Object, key: &str, value: i64) {
    if map.get(key).is_none_or(|old| old.is_null() || old.as_i64() == Some(0)) {
        map.insert(key.to_owned(), value.into());
    }
}

/// The object at `key`, made if absent.
fn made<'a>(map: &'a mut Object, key: &str) -> Option<&'a mut Object> {
    if map.get(key).is_none_or(Value::is_null) {
        map.insert(key.to_owned(), json!({}));
    }
    map.get_mut(key)?.as_object_mut()
}

/// The object at `key`, if there.
fn object<'a>(map: &'a mut Object, key: &str) -> Option<&'a mut Object> {
    map.get_mut(key)?.as_object_mut()
}

/// The objects in the list at `key`.
fn objects<'a>(map: &'a mut Object, key: &str) -> impl Iterator<Item = &'a mut Object> {
    map.get_mut(key).and_then(Value::as_array_mut).into_iter().flatten().filter_map(Value::as_object_mut)
}

fn text<'a>(map: &'a Object, key: &str) -> &'a str {
    map.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn is_empty_list(map: &Object, key: &str) -> bool {
    map.get(key).and_then(Value::as_array).is_none_or(Vec::is_empty)
}

#[cfg(test)]
mod tests;
