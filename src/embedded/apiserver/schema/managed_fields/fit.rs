//! Whether an applied object fits its type (`typed/validate.go`), in upstream's words. Lists with duplicate keys are [`super::merge`]'s.

use serde_json::Value;

use super::super::tables::{Kind, Type};
use super::shape::Ty;

/// What doesn't fit, with its path; as one text.
pub(super) fn problem(ty: Ty, value: &Value) -> Option<String> {
    let mut found = Vec::new();
    walk(ty, value, &mut String::new(), &mut found);
    match found.as_slice() {
        [] => None,
        [only] => Some(only.clone()),
        // `ValidationErrors.Error`
        many => Some(format!("errors:\n  {}", many.join("\n  "))),
    }
}

fn walk(ty: Ty, value: &Value, path: &mut String, found: &mut Vec<String>) {
    let length = path.len();
    match value {
        Value::Object(map) => {
            let is_struct = ty.is_struct();
            for (key, value) in map {
                path.push('.');
                path.push_str(key);
                if is_struct && !ty.has_field(key) {
                    found.push(format!("{path}: field not declared in schema"));
                } else {
                    walk(ty.field(key), value, path, found);
                }
                path.truncate(length);
            }
        }
        Value::Array(list) => {
            for (index, item) in list.iter().enumerate() {
                // What has no key is refused by the merge.
                let element = ty.item(item).map_or_else(|_| format!("[{index}]"), |element| element.show());
                path.push_str(&element);
                walk(ty.element(), item, path, found);
                path.truncate(length);
            }
        }
        Value::Null => {}
        scalar => {
            if let Ty::Typed(ty) = ty
                && let Some(expected) = misfit(ty, scalar)
            {
                found.push(format!("{path}: {expected}"));
            }
        }
    }
}

/// `validateScalar`: Go's formats `%#v` and `%T` of the value's wrapper are what people get to see.
fn misfit(ty: Type, value: &Value) -> Option<String> {
    match (ty.kind(), value) {
        (Kind::String | Kind::Bytes, Value::Number(_) | Value::Bool(_)) => {
            Some(format!("expected string, got &value.valueUnstructured{{Value:{value}}}"))
        }
        (Kind::Int32 | Kind::Int64 | Kind::Double, Value::String(_) | Value::Bool(_)) => {
            Some("expected numeric (int or float), got *value.valueUnstructured".to_owned())
        }
        (Kind::Bool, Value::String(text)) => Some(format!("expected boolean, got &{{{text}}}")),
        (Kind::Bool, Value::Number(number)) => Some(format!("expected boolean, got &{{{number}}}")),
        _ => None,
    }
}
