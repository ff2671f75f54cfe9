//! The applied object over the live one (`typed/merge.go`).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::set::Element;
use super::shape::{Shape, Ty};

/// The merged value. The error names a list element of `right` that can't be told from the others.
pub(super) fn merge(ty: Ty, left: Option<&Value>, right: &Value) -> Result<Value, String> {
    let shape = ty.shape(right);
    let left = left.filter(|left| ty.shape(left) == shape);
    match (shape, left, right) {
        (Shape::Map, _, Value::Object(applied)) => {
            let mut out = left.and_then(Value::as_object).cloned().unwrap_or_default();
            for (key, value) in applied {
                let merged =
                    merge(ty.field(key), out.get(key), value).map_err(|e| format!(".{key}{}", separated(&e)))?;
                out.insert(key.clone(), merged);
            }
            Ok(Value::Object(out))
        }
        (Shape::Map, Some(Value::Object(live)), Value::Null) if !live.is_empty() => Ok(Value::Object(live.clone())),
        (Shape::List, Some(Value::Array(live)), Value::Null) if !live.is_empty() => Ok(Value::Array(live.clone())),
        (Shape::List, _, Value::Array(applied)) => {
            let none = Vec::new();
            let live = left.and_then(Value::as_array).unwrap_or(&none);
            if live.is_empty() && applied.is_empty() {
                return Ok(right.clone());
            }
            lists(ty, live, applied).map(Value::Array)
        }
        _ => Ok(right.clone()),
    }
}

/// Between a path and a message there is a colon, between two steps nothing.
fn separated(text: &str) -> String {
    if text.starts_with(['.', '[']) { text.to_owned() } else { format!(": {text}") }
}

/// `visitListItems`: the applied order, with what only the live list has where it was.
fn lists(ty: Ty, live: &[Value], applied: &[Value]) -> Result<Vec<Value>, String> {
    let mut right: Vec<Element> = Vec::with_capacity(applied.len());
    let mut in_right: BTreeMap<Element, &Value> = BTreeMap::new();
    for (index, item) in applied.iter().enumerate() {
        let element = ty.item(item).map_err(|e| format!("element {index}: {e}"))?;
        if in_right.insert(element.clone(), item).is_some() {
            return Err(format!("duplicate entries for key {}", element.show()));
        }
        right.push(element);
    }
    let mut left: Vec<(Element, &Value)> = Vec::with_capacity(live.len());
    let mut in_left: BTreeMap<Element, Option<&Value>> = BTreeMap::new();
    for item in live {
        let Ok(element) = ty.item(item) else { continue };
        // A duplicated item isn't merged with the new one.
        in_left.entry(element.clone()).and_modify(|first| *first = None).or_insert(Some(item));
        left.push((element, item));
    }
    let mut shared = right.iter().filter(|element| in_left.contains_key(element));
    let mut next_shared = shared.next();
    let mut done: BTreeSet<&Element> = BTreeSet::new();
    let mut out = Vec::with_capacity(live.len().max(applied.len()));
    let take = |element: &Element, out: &mut Vec<Value>| -> Result<(), String> {
        if let Some(item) = in_right.get(element) {
            let old = in_left.get(element).copied().flatten();
            let merged = merge(ty.element(), old, item).map_err(|e| format!("{}{}", element.show(), separated(&e)))?;
            out.push(merged);
        }
        Ok(())
    };
    let (mut l, mut r) = (0, 0);
    while l < left.len() || r < right.len() {
        if let (Some((element, _)), Some(wanted)) = (left.get(l), right.get(r)) {
            if element == wanted {
                take(wanted, &mut out)?;
                done.insert(wanted);
                (l, r) = (l + 1, r + 1);
                next_shared = shared.next();
                continue;
            }
            if in_right.contains_key(element) && next_shared.is_some_and(|next| next != element) {
                // Shared, but its turn comes later.
                l += 1;
                continue;
            }
        }
        if let Some((element, item)) = left.get(l) {
            if !in_right.contains_key(element) {
                out.push((*item).clone());
                l += 1;
                continue;
            }
            if done.contains(element) {
                l += 1;
            }
        }
        if let Some(element) = right.get(r) {
            done.insert(element);
            take(element, &mut out)?;
            r += 1;
            if next_shared == Some(element) {
                next_shared = shared.next();
            }
        } else if let Some((element, _)) = left.get(l)
            && in_right.contains_key(element)
            && !done.contains(element)
        {
            l += 1;
        }
    }
    Ok(out)
}
