//! Unknown fields: named (`fieldValidation=Strict` and `Warn`) or dropped.
//!
//! Follows `sigs.k8s.io/json` strict decoding: `unknown field "spec.containers[0].foo"`.

use serde_json::Value;

use super::gvk::Gvk;
use super::tables::{Def, Kind, Type};

/// The fields that the kind doesn't have, in upstream's words. Empty for a kind without a schema.
pub fn unknown_fields(gvk: Gvk<'_>, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    if let Some(def) = gvk.def() {
        in_def(def, value, &mut String::new(), &mut found);
    }
    found
}

fn in_def(def: Def, value: &Value, path: &mut String, found: &mut Vec<String>) {
    let Value::Object(map) = value else { return };
    let len = path.len();
    for (key, value) in map {
        if len > 0 {
            path.push('.');
        }
        path.push_str(key);
        match def.field(key) {
            Some(field) => in_type(field.ty(), value, path, found),
            None => found.push(format!("unknown field \"{path}\"")),
        }
        path.truncate(len);
    }
}

fn in_type(ty: Type, value: &Value, path: &mut String, found: &mut Vec<String>) {
    match (ty.kind(), value) {
        (Kind::Struct, Value::Object(_)) => {
            if let Some(def) = ty.def() {
                in_def(def, value, path, found);
            }
        }
        (Kind::List, Value::Array(list)) => {
            let (Some(element), len) = (ty.element(), path.len()) else { return };
            if !has_fields(element) {
                return;
            }
            for (index, value) in list.iter().enumerate() {
                path.push_str(&format!("[{index}]"));
                in_type(element, value, path, found);
                path.truncate(len);
            }
        }
        (Kind::Map, Value::Object(map)) => {
            let (Some(element), len) = (ty.element(), path.len()) else { return };
            if !has_fields(element) {
                return;
            }
            for (key, value) in map {
                path.push('.');
                path.push_str(key);
                in_type(element, value, path, found);
                path.truncate(len);
            }
        }
        _ => {}
    }
}

fn has_fields(ty: Type) -> bool {
    matches!(ty.kind(), Kind::Struct | Kind::List | Kind::Map)
}

/// Drops what decoding into Go types drops: unknown fields and nulls. A kind without a schema is left alone.
pub fn prune(gvk: Gvk<'_>, value: &mut Value) {
    if let Some(def) = gvk.def() {
        prune_def(def, value);
    }
}

fn prune_def(def: Def, value: &mut Value) {
    let Value::Object(map) = value else { return };
    map.retain(|key, value| match def.field(key) {
        Some(field) if !value.is_null() => {
            prune_type(field.ty(), value);
            true
        }
        // `null` has a meaning only where any JSON does.
        Some(field) => field.ty().kind() == Kind::Json,
        None => false,
    });
}

fn prune_type(ty: Type, value: &mut Value) {
    match (ty.kind(), &mut *value) {
        (Kind::Struct, Value::Object(_)) => {
            if let Some(def) = ty.def() {
                prune_def(def, value);
            }
        }
        (Kind::List, Value::Array(list)) => {
            if let Some(element) = ty.element().filter(|element| has_fields(*element)) {
                for value in list {
                    prune_type(element, value);
                }
            }
        }
        (Kind::Map, Value::Object(map)) => {
            let Some(element) = ty.element() else { return };
            // A null value decodes to the zero value, which a map keeps.
            for value in map.values_mut() {
                if value.is_null() && element.kind() == Kind::String {
                    *value = Value::String(String::new());
                }
                prune_type(element, value);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const DEPLOYMENT: Gvk<'_> = Gvk::new("apps", "v1", "Deployment");

    #[test]
    fn unknown_fields_are_named_by_path() {
        let value = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"labels": {"any": "x"}, "nam": "y"},
            "spec": {"foo": 1, "template": {"spec": {"containers": [{"name": "a"}, {"imagePullPollicy": "x"}]}}}});
        let expected = [
            r#"unknown field "metadata.nam""#,
            r#"unknown field "spec.foo""#,
            r#"unknown field "spec.template.spec.containers[1].imagePullPollicy""#,
        ];
        assert_eq!(unknown_fields(DEPLOYMENT, &value), expected);
        assert!(unknown_fields(Gvk::new("x.io", "v1", "Foo"), &value).is_empty());
    }

    #[test]
    fn pruning_drops_unknown_fields_and_nulls_and_keeps_free_forms() {
        let mut value = json!({"metadata": {"creationTimestamp": null, "labels": {"a": null}, "x": 1},
            "spec": {"replicas": 1, "strategy": null, "template": {"spec": {"containers": [{"bad": 1, "name": "a"}]}}}});
        prune(DEPLOYMENT, &mut value);
        let expected = json!({"metadata": {"labels": {"a": ""}},
            "spec": {"replicas": 1, "template": {"spec": {"containers": [{"name": "a"}]}}}});
        assert_eq!(value, expected);
        let free = json!({"data": {"anything": [1, null]}, "revision": 1});
        let mut value = free.clone();
        prune(Gvk::new("apps", "v1", "ControllerRevision"), &mut value);
        assert_eq!(value, free);
    }
}
