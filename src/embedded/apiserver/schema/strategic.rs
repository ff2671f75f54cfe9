//! Strategic merge patch: lists merge by key, and directives (`$patch`, `$retainKeys`, `$setElementOrder/…`,
//! `$deleteFromPrimitiveList/…`) say the rest.
//!
//! Follows `apimachinery/pkg/util/strategicpatch/patch.go` (`StrategicMergeMapPatch`: `MergeParallelList` and
//! `IgnoreUnmatchedNulls` both on) and `apimachinery/pkg/util/mergepatch/errors.go` for the words. A kind without a
//! schema has no strategies: maps merge, lists are replaced.

use serde_json::{Map, Value};

use super::gvk::Gvk;
use super::tables::Type;
use order::{normalize, partition};
use schema::Schema;

mod order;
mod schema;

const PATCH: &str = "$patch";
const RETAIN: &str = "$retainKeys";
const DELETE_PREFIX: &str = "$deleteFromPrimitiveList";
const ORDER_PREFIX: &str = "$setElementOrder";

/// Why a patch means nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// A `$patch` of another word.
    #[error("unknown patch type '{kind}' in map: {map}")]
    BadPatchType {
        /// The word.
        kind: String,
        /// Where it was.
        map: String,
    },
    /// A list element without the list's key.
    #[error("map: {map} does not contain declared merge key: {key}")]
    NoMergeKey {
        /// The element.
        map: String,
        /// The key.
        key: String,
    },
    /// `$retainKeys` isn't a list, or misses a field of the patch.
    #[error("$retainKeys in patch is not a list or doesn't contain all fields of the patch")]
    BadRetainKeys,
    /// A malformed `$setElementOrder`.
    #[error("invalid patch format of setElementOrder list")]
    BadSetElementOrder,
    /// A malformed `$deleteFromPrimitiveList`.
    #[error("invalid patch format of primitive list")]
    BadPrimitiveList,
    /// Lists of lists can't be merged.
    #[error("lists of lists are not supported")]
    ListOfLists,
    /// Elements of different types.
    #[error("list element types are not identical: {0}")]
    MixedList(String),
    /// An argument of a type that a directive doesn't take.
    #[error("expected a {wanted}, but received a {found}")]
    BadArgument {
        /// What it takes.
        wanted: &'static str,
        /// What it got.
        found: &'static str,
    },
    /// The patch's list and the order it gives contradict each other.
    #[error("The order in patch list:\n{patch}\n doesn't match $setElementOrder list:\n{order}\n")]
    OrderMismatch {
        /// The list.
        patch: String,
        /// The order.
        order: String,
    },
    /// A list that merges, without a key to merge by.
    #[error("cannot merge lists without merge key for {0}")]
    Unkeyed(String),
    /// `$patch: merge` in a list.
    #[error("merging lists cannot yet be specified in the patch")]
    MergeDirective,
    /// Original or patch is no object.
    #[error("Invalid JSON document")]
    NotAnObject,
}

/// Merges `patch` into `original`.
///
/// # Errors
/// [`PatchError`], in upstream's words.
pub fn strategic_merge(gvk: Gvk<'_>, original: Value, patch: Value) -> Result<Value, PatchError> {
    match (original, patch) {
        (Value::Object(original), Value::Object(patch)) => {
            merge_map(original, patch, Schema::of(gvk)).map(Value::Object)
        }
        (Value::Null, Value::Object(patch)) => merge_map(Map::new(), patch, Schema::of(gvk)).map(Value::Object),
        _ => Err(PatchError::NotAnObject),
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "nil",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

fn merge_map(
    mut original: Map<String, Value>,
    mut patch: Map<String, Value>,
    schema: Schema,
) -> Result<Map<String, Value>, PatchError> {
    if let Some(directive) = patch.remove(PATCH) {
        return match directive.as_str() {
            Some("replace") => Ok(patch),
            Some("delete") => Ok(Map::new()),
            _ => {
                let kind = directive.as_str().map_or_else(|| directive.to_string(), str::to_owned);
                Err(PatchError::BadPatchType { kind, map: Value::Object(patch).to_string() })
            }
        };
    }
    retain_keys(&mut original, &mut patch)?;
    element_orders(&mut original, &mut patch, schema)?;
    for (key, patched) in patch {
        let (key, is_delete_list) = match key.strip_prefix(DELETE_PREFIX) {
            Some(rest) => (rest.strip_prefix('/').ok_or(PatchError::BadPrimitiveList)?.to_owned(), true),
            None => (key, false),
        };
        if patched.is_null() {
            original.remove(&key);
            continue;
        }
        let Some(current) = original.get_mut(&key) else {
            if !is_delete_list {
                put(&mut original, key, patched);
            }
            continue;
        };
        match (current, patched) {
            (Value::Object(current), Value::Object(patched)) => {
                let field = schema.field(&key);
                let merged =
                    if field.replaces() { patched } else { merge_map(std::mem::take(current), patched, field)? };
                original.insert(key, Value::Object(merged));
            }
            (Value::Array(current), Value::Array(patched)) => {
                let field = schema.field(&key);
                let merged = if field.merges() || is_delete_list {
                    merge_list(std::mem::take(current), patched, field, is_delete_list)?
                } else {
                    patched
                };
                original.insert(key, Value::Array(merged));
            }
            (_, patched) => {
                if !is_delete_list {
                    put(&mut original, key, patched);
                }
            }
        }
    }
    Ok(original)
}

/// Takes a patch's value as it is, without nulls and directives.
fn put(original: &mut Map<String, Value>, key: String, mut patched: Value) {
    discard_nulls(&mut patched);
    match without_directives(patched) {
        Some(value) => original.insert(key, value),
        None => original.remove(&key),
    };
}

fn discard_nulls(value: &mut Value) {
    if let Value::Object(map) = value {
        map.retain(|_, value| !value.is_null());
        map.values_mut().for_each(discard_nulls);
    }
}

/// `None` for something that is only a directive.
fn without_directives(value: Value) -> Option<Value> {
    match value {
        Value::Object(map) if map.contains_key(PATCH) => None,
        Value::Object(map) => {
            let kept = map.into_iter().filter_map(|(key, value)| Some((key, without_directives(value)?)));
            Some(Value::Object(kept.collect()))
        }
        Value::Array(list) => Some(Value::Array(list.into_iter().filter_map(without_directives).collect())),
        other => Some(other),
    }
}

fn retain_keys(original: &mut Map<String, Value>, patch: &mut Map<String, Value>) -> Result<(), PatchError> {
    let Some(retained) = patch.remove(RETAIN) else { return Ok(()) };
    let Value::Array(retained) = retained else { return Err(PatchError::BadRetainKeys) };
    let keeps = |key: &str| retained.iter().any(|kept| kept.as_str() == Some(key));
    let exempt =
        |key: &str, value: &Value| value.is_null() || key.starts_with(DELETE_PREFIX) || key.starts_with(ORDER_PREFIX);
    if patch.iter().any(|(key, value)| !exempt(key, value) && !keeps(key)) {
        return Err(PatchError::BadRetainKeys);
    }
    original.retain(|key, _| keeps(key));
    Ok(())
}

/// Merges the lists whose order the patch gives, and takes both from the patch.
fn element_orders(
    original: &mut Map<String, Value>,
    patch: &mut Map<String, Value>,
    schema: Schema,
) -> Result<(), PatchError> {
    let directives: Vec<String> = patch.keys().filter(|key| key.starts_with(ORDER_PREFIX)).cloned().collect();
    for directive in directives {
        let Some(order) = patch.remove(&directive) else { continue };
        let Value::Array(order) = order else {
            return Err(PatchError::BadArgument { wanted: "[]interface {}", found: kind_of(&order) });
        };
        let key = directive
            .strip_prefix(ORDER_PREFIX)
            .and_then(|rest| rest.strip_prefix('/'))
            .ok_or(PatchError::BadSetElementOrder)?;
        let list = |value: Option<Value>| match value {
            None => Ok(None),
            Some(Value::Array(list)) => Ok(Some(list)),
            Some(other) => Err(PatchError::BadArgument { wanted: "[]interface {}", found: kind_of(&other) }),
        };
        let field = schema.field(key);
        let merge_key = field.merge_key();
        let (old, new) = (list(original.get(key).cloned())?, list(patch.remove(key))?);
        order::agrees(new.as_deref().unwrap_or_default(), &order, merge_key)?;
        let server_order = old.clone().unwrap_or_default();
        let of_maps = element_is_map(&server_order, new.as_deref().unwrap_or_default());
        let merged = match (old, new) {
            (None, None) => continue,
            (Some(old), None) => old,
            (None, Some(new)) => new.into_iter().filter_map(without_directives).collect(),
            (Some(old), Some(new)) if field.merges() => merge_list(old, new, field, false)?,
            (Some(_), Some(new)) => new,
        };
        let Some(of_maps) = of_maps? else {
            original.insert(key.to_owned(), Value::Array(merged));
            continue;
        };
        let (from_patch, server_only) = partition(merged, &order, merge_key)?;
        let merged = normalize(from_patch, server_only, &order, &server_order, merge_key.filter(|_| of_maps))?;
        original.insert(key.to_owned(), Value::Array(merged));
    }
    Ok(())
}

/// Whether elements are maps; `None` without elements.
fn element_is_map(left: &[Value], right: &[Value]) -> Result<Option<bool>, PatchError> {
    let mut all = left.iter().chain(right);
    let Some(first) = all.next() else { return Ok(None) };
    if first.is_array() {
        return Err(PatchError::ListOfLists);
    }
    if all.any(|other| std::mem::discriminant(other) != std::mem::discriminant(first)) {
        let text = |list: &[Value]| Value::Array(list.to_vec()).to_string();
        return Err(PatchError::MixedList(format!("[{} {}]", text(left), text(right))));
    }
    Ok(Some(first.is_object()))
}

fn merge_list(
    mut original: Vec<Value>,
    patch: Vec<Value>,
    field: Schema,
    is_delete_list: bool,
) -> Result<Vec<Value>, PatchError> {
    let Some(of_maps) = element_is_map(&original, &patch)? else { return Ok(original) };
    if !of_maps {
        if is_delete_list {
            original.retain(|value| !patch.contains(value));
            return Ok(original);
        }
        let mut merged = original.clone();
        merged.extend(patch.iter().cloned());
        order::deduplicate(&mut merged);
        let (from_patch, server_only) = partition(merged, &patch, None)?;
        return normalize(from_patch, server_only, &patch, &original, None);
    }
    let key = field.merge_key().ok_or_else(|| PatchError::Unkeyed(field.name()))?;
    let (original, patch) = special_elements(original, patch, key)?;
    let server_order = original.clone();
    let merged = keyed_elements(original, &patch, key, field.element())?;
    let (from_patch, server_only) = partition(merged, &patch, Some(key))?;
    normalize(from_patch, server_only, &patch, &server_order, Some(key))
}

/// Handles elements that are directives; what is left is merged.
fn special_elements(
    mut original: Vec<Value>,
    patch: Vec<Value>,
    key: &str,
) -> Result<(Vec<Value>, Vec<Value>), PatchError> {
    let mut plain = Vec::new();
    let mut replace = false;
    for element in patch {
        let Some(directive) = element.get(PATCH) else {
            plain.push(element);
            continue;
        };
        match directive.as_str() {
            Some("delete") => match element.get(key) {
                Some(wanted) => original.retain(|element| element.get(key) != Some(wanted)),
                None => return Err(PatchError::NoMergeKey { map: element.to_string(), key: key.to_owned() }),
            },
            Some("replace") => replace = true,
            Some("merge") => return Err(PatchError::MergeDirective),
            _ => {
                let kind = directive.as_str().map_or_else(|| directive.to_string(), str::to_owned);
                return Err(PatchError::BadPatchType { kind, map: element.to_string() });
            }
        }
    }
    Ok(if replace { (plain, Vec::new()) } else { (original, plain) })
}

fn keyed_elements(
    mut original: Vec<Value>,
    patch: &[Value],
    key: &str,
    element: Schema,
) -> Result<Vec<Value>, PatchError> {
    for patched in patch {
        let (Value::Object(map), Some(wanted)) = (patched, patched.get(key)) else {
            return Err(PatchError::NoMergeKey { map: patched.to_string(), key: key.to_owned() });
        };
        match original.iter_mut().find(|element| element.get(key) == Some(wanted)) {
            Some(Value::Object(current)) => {
                *current = merge_map(std::mem::take(current), map.clone(), element)?;
            }
            _ => original.push(patched.clone()),
        }
    }
    Ok(original)
}

#[cfg(test)]
mod tests;
