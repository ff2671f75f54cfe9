//! A value without some of its paths (`typed/remove.go`).

use serde_json::{Map, Value};

use super::set::{Element, Set};
use super::shape::{Shape, Ty};

/// `value` without the members of `set`; containers that lose their last item stay, empty.
pub(super) fn remove(ty: Ty, value: &Value, set: &Set) -> Value {
    match (ty.shape(value), value) {
        (Shape::Map, Value::Object(map)) => {
            let mut out = Map::new();
            for (key, value) in map {
                let element = Element::Field(key.clone());
                if set.has_element(&element) {
                    continue;
                }
                let kept = match set.below(&element) {
                    Some(below) => inner(ty.field(key), value, below),
                    None => value.clone(),
                };
                out.insert(key.clone(), kept);
            }
            Value::Object(out)
        }
        (Shape::List, Value::Array(list)) => {
            let mut out = Vec::with_capacity(list.len());
            for item in list {
                let Ok(element) = ty.item(item) else {
                    out.push(item.clone());
                    continue;
                };
                if set.has_element(&element) {
                    continue;
                }
                out.push(match set.below(&element) {
                    Some(below) => inner(ty.element(), item, below),
                    None => item.clone(),
                });
            }
            Value::Array(out)
        }
        _ => value.clone(),
    }
}

fn inner(ty: Ty, value: &Value, below: &Set) -> Value {
    // Something inside an atomic value goes with the whole value upstream: the container stays, empty.
    match (ty.shape(value), value) {
        (Shape::Leaf, Value::Object(_)) => Value::Object(Map::new()),
        (Shape::Leaf, Value::Array(_)) => Value::Array(Vec::new()),
        _ => remove(ty, value, below),
    }
}
