//! The order of merged lists: the patch's own order first, the server's for what only it has.

use std::cmp::Ordering;

use serde_json::Value;

use super::{PATCH, PatchError};

/// Whether the element is a directive.
pub(super) fn is_marked(value: &Value) -> bool {
    value.get(PATCH).is_some()
}

fn position(list: &[Value], wanted: &Value, key: Option<&str>) -> Option<usize> {
    match key {
        Some(key) => list.iter().position(|value| value.get(key) == wanted.get(key)),
        None => list.iter().position(|value| value == wanted),
    }
}

fn missing(value: &Value, key: &str) -> PatchError {
    PatchError::NoMergeKey { map: value.to_string(), key: key.to_owned() }
}

/// `validatePatchWithSetOrderList`: every element that isn't a directive comes in the given order.
pub(super) fn agrees(patch: &[Value], order: &[Value], key: Option<&str>) -> Result<(), PatchError> {
    if patch.is_empty() || order.is_empty() {
        return Ok(());
    }
    let mut left = patch.iter().filter(|value| !is_marked(value)).peekable();
    for ordered in order {
        let Some(next) = left.peek() else { break };
        let equal = match key {
            Some(key) => {
                let of = |value: &Value| value.get(key).cloned().ok_or_else(|| missing(value, key));
                of(next)? == of(ordered)?
            }
            None => *next == ordered,
        };
        if equal {
            left.next();
        }
    }
    if left.peek().is_none() {
        return Ok(());
    }
    let text = |list: &[Value]| Value::Array(list.to_vec()).to_string();
    Err(PatchError::OrderMismatch { patch: text(patch), order: text(order) })
}

/// What is named in `by`, and what isn't.
pub(super) fn partition(
    all: Vec<Value>,
    by: &[Value],
    key: Option<&str>,
) -> Result<(Vec<Value>, Vec<Value>), PatchError> {
    if let Some(key) = key
        && let Some(bad) = all.iter().find(|value| value.get(key).is_none())
    {
        return Err(missing(bad, key));
    }
    Ok(all.into_iter().partition(|value| position(by, value, key).is_some()))
}

/// `normalizeElementOrder`.
pub(super) fn normalize(
    patch: Vec<Value>,
    server_only: Vec<Value>,
    patch_order: &[Value],
    server_order: &[Value],
    key: Option<&str>,
) -> Result<Vec<Value>, PatchError> {
    let patch = sorted(patch, patch_order, key)?;
    let server_only = sorted(server_only, server_order, key)?;
    let mut out = Vec::with_capacity(patch.len() + server_only.len());
    let (mut left, mut right) = (server_only.into_iter().peekable(), patch.into_iter().peekable());
    loop {
        let take_left = match (left.peek(), right.peek()) {
            (None, None) => return Ok(out),
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (Some(l), Some(r)) => match (position(server_order, l, key), position(server_order, r, key)) {
                (Some(l), Some(r)) => l < r,
                _ => false,
            },
        };
        out.extend(if take_left { left.next() } else { right.next() });
    }
}

/// `normalizeSliceOrder`: by the order, directives last.
fn sorted(list: Vec<Value>, order: &[Value], key: Option<&str>) -> Result<Vec<Value>, PatchError> {
    if let Some(key) = key
        && let Some(bad) = list.iter().chain(order).find(|value| value.get(key).is_none())
    {
        return Err(missing(bad, key));
    }
    let (marked, mut plain): (Vec<_>, Vec<_>) = list.into_iter().partition(is_marked);
    plain.sort_by(|a, b| match (position(order, a, key), position(order, b, key)) {
        (Some(a), Some(b)) => a.cmp(&b),
        // Upstream's comparison isn't an order here; everything partitioned by this order is in it.
        _ => Ordering::Equal,
    });
    plain.extend(marked);
    Ok(plain)
}

/// `deduplicateScalars`, which fills a gap with the last element.
pub(super) fn deduplicate(list: &mut Vec<Value>) {
    let mut i = 0;
    while i + 1 < list.len() {
        let mut j = i + 1;
        while j < list.len() {
            if list[i] == list[j] {
                list.swap_remove(j);
            } else {
                j += 1;
            }
        }
        i += 1;
    }
}
