//! Who owns which field: server-side apply, and ownership kept by every other write.
//!
//! Follows `sigs.k8s.io/structured-merge-diff/v6` (`merge/update.go`, `typed/*.go`, `fieldpath/*.go`) and
//! `apimachinery/pkg/util/managedfields/internal` (`structuredmerge.go`, `managedfieldsupdater.go`, `stripmeta.go`,
//! `lastappliedmanager.go`, `skipnonapplied.go`, `conflict.go`). All versions of a kind are taken to have one shape: an
//! entry of another version is compared as it is. Upstream merges the oldest of more than ten updaters into
//! `ancient-changes`; that isn't done here.
//!
//! Invariants: an apply that changes nothing returns the live object, timestamps included; a write never loses the
//! ownership of a field that it didn't touch.

mod entries;
mod fit;
mod merge;
mod remove;
mod set;
mod shape;
mod walk;

use serde_json::{Map, Value};

use super::gvk::Gvk;
use entries::{Entry, Managers, Operation};
use set::{Path, Set};
use shape::Ty;
use walk::{Comparison, compare, to_field_set};

/// One field that someone else owns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// `conflict with "NAME" …`, as a Status cause's message.
    pub message: String,
    /// The field's path (`.spec.replicas`), as a Status cause's field.
    pub field: String,
    /// The owner as messages print it.
    manager: String,
}

/// Why an apply is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// Others own fields that would change (409, reason `Conflict`, cause `FieldManagerConflict`).
    #[error("{}", conflict_message(.0))]
    Conflicts(Vec<Conflict>),
    /// The applied object says `metadata.managedFields` (400).
    #[error("metadata.managedFields must be nil")]
    ManagedFieldsGiven,
    /// The applied object doesn't fit its type: a duplicate or keyless list element (500 upstream, in these words).
    #[error("failed to create typed patch object ({object}): {problem}")]
    Untyped {
        /// `namespace/name; apiVersion, Kind=…`.
        object: String,
        /// What is wrong and where.
        problem: String,
    },
}

fn conflict_message(conflicts: &[Conflict]) -> String {
    if let [only] = conflicts {
        return format!("Apply failed with 1 conflict: conflict with {}: {}", only.manager, only.field);
    }
    let mut lines = vec![];
    let mut last = None;
    for conflict in conflicts {
        if last != Some(&conflict.manager) {
            lines.push(format!("conflicts with {}:", conflict.manager));
            last = Some(&conflict.manager);
        }
        lines.push(format!("- {}", conflict.field));
    }
    format!("Apply failed with {} conflicts: {}", conflicts.len(), lines.join("\n"))
}

const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Applies `applied` over `live`: the merged object with its `managedFields`. `now` is RFC 3339; `subresource` is empty
/// for the object itself. `live` is `None` for a create.
///
/// # Errors
/// [`ApplyError`].
pub fn apply(
    gvk: Gvk<'_>,
    live: Option<&Value>,
    applied: &Value,
    manager: &str,
    force: bool,
    subresource: &str,
    now: &str,
) -> Result<Value, ApplyError> {
    if applied.pointer("/metadata/managedFields").is_some_and(|given| !given.is_null()) {
        return Err(ApplyError::ManagedFieldsGiven);
    }
    let ty = Ty::of(gvk);
    let version = gvk.api_version();
    let ignored = ignored_fields(gvk, subresource);
    let mut config = applied.clone();
    remove_managed(&mut config);
    let mut bare = live.cloned().unwrap_or_else(|| Value::Object(Map::new()));
    let before = remove_managed(&mut bare);
    let mut managers = entries::decode(before.as_ref());
    if managers.is_empty() && live.is_some() {
        // `skipnonapplied.go`: what was there before anyone applied belongs to somebody.
        let set = without_meta(to_field_set(ty, &bare).recursive_difference(&ignored));
        managers.insert(Entry::update("before-first-apply", &version, ""), set, Some(now.to_owned()));
    }
    let applier = Entry::apply(manager, subresource);
    let merged = merge::merge(ty, Some(&bare), &config).map_err(|problem| untyped(applied, problem))?;
    let last = managers.get_mut(&applier).cloned();
    let owned = to_field_set(ty, &config).recursive_difference(&ignored);
    let time = managers.time(&applier);
    managers.insert(applier.clone(), owned, time);
    managers.set_version(&applier, &version);
    let merged = match last.filter(|last| !last.is_empty()) {
        Some(last) => prune(ty, merged, &mut managers, &last),
        None => merged,
    };
    let changes = compare(ty, &bare, &merged).excluding(&ignored);
    if let Err(conflicts) = settle(&mut managers, &changes, &applier, force) {
        let allowed = if manager == "kubectl" { from_last_applied(ty, &version, &bare) } else { Set::default() };
        let refused: Vec<_> = conflicts.into_iter().filter(|(_, path)| !allowed.has(path)).collect();
        if !refused.is_empty() {
            return Err(ApplyError::Conflicts(
                refused.iter().map(|(entry, path)| conflict(entry, path, &managers)).collect(),
            ));
        }
        let _ = settle(&mut managers, &changes, &applier, true);
    }
    if let Some(set) = managers.get_mut(&applier) {
        *set = without_meta(std::mem::take(set));
    }
    managers.drop_empty();
    let unchanged = merged == bare;
    if !unchanged || live.is_none() || managers.time(&applier).is_none() {
        managers.touch(&applier, now);
    }
    let mut fields = managers.encode();
    if unchanged && let Some(before) = before.filter(|before| entries::same_but_times(before, &fields)) {
        fields = before;
    }
    let mut merged = merged;
    put_managed(&mut merged, fields);
    Ok(merged)
}

/// `new` with the `managedFields` that follow from writing it over `old` by any verb but apply.
pub fn update(gvk: Gvk<'_>, old: Option<&Value>, mut new: Value, manager: &str, subresource: &str, now: &str) -> Value {
    let ty = Ty::of(gvk);
    let version = gvk.api_version();
    let ignored = ignored_fields(gvk, subresource);
    let given = remove_managed(&mut new);
    // A create compares with Go's empty object, so that nobody owns a struct just for being there.
    let nothing;
    let old = match old {
        Some(old) => old,
        None => {
            nothing = super::default::empty(gvk);
            &nothing
        }
    };
    let before = managed(old);
    // `decodeLiveOrNew`: a client may write managedFields itself; an empty list means it doesn't know of them.
    let is_given = |given: &Value| given.as_array().is_some_and(|list| !list.is_empty());
    let source = given.filter(|given| subresource.is_empty() && is_given(given) && before != Some(given));
    let mut managers = match &source {
        Some(given) => entries::decode_given(given),
        None => entries::decode(before),
    };
    let changes = compare(ty, old, &new).excluding(&ignored);
    let updater = Entry::update(manager, &version, subresource);
    managers.take(&changes.removed);
    managers.take_from_others(&updater, &changes.changed);
    // What the updater has of it already stays: that names the object, and nobody owns it.
    let taken = without_meta(changes.changed);
    if !taken.is_empty() {
        managers.add(updater, taken, now);
    }
    managers.drop_empty();
    let mut fields = managers.encode();
    if let Some(before) = before.filter(|before| same_unmanaged(old, &new) && entries::same_but_times(before, &fields))
    {
        fields = before.clone();
    }
    put_managed(&mut new, fields);
    new
}

/// `Updater.update`: who else owns what changes loses it, or is in conflict.
fn settle(
    managers: &mut Managers,
    changes: &Comparison,
    writer: &Entry,
    force: bool,
) -> Result<(), Vec<(Entry, Path)>> {
    if !force {
        let mut conflicts = Vec::new();
        for (entry, set) in managers.sets().filter(|(entry, _)| *entry != writer) {
            set.intersection(&changes.changed).each(&mut |path| conflicts.push((entry.clone(), path.to_vec())));
        }
        if !conflicts.is_empty() {
            return Err(conflicts);
        }
    }
    managers.take_from_others(writer, &changes.changed);
    managers.take_from_others(writer, &changes.removed);
    Ok(())
}

/// `Updater.prune`: removes what the applier applied last time, not this time, and nobody else owns.
fn prune(ty: Ty, merged: Value, managers: &mut Managers, last: &Set) -> Value {
    let last = last.with_named_fields(ty);
    let pruned = remove::remove(ty, &merged, &last);
    let merged_set = to_field_set(ty, &merged).with_named_fields(ty);
    let owned = managers.sets().fold(Set::default(), |all, (_, set)| all.union(set)).with_named_fields(ty);
    let kept = to_field_set(ty, &pruned).with_named_fields(ty).union(&owned);
    let pruned = remove::remove(ty, &merged, &merged_set.difference(&kept));
    // Dangling items: only what the applier owned may go.
    let pruned_set = to_field_set(ty, &pruned).with_named_fields(ty);
    remove::remove(ty, &merged, &merged_set.difference(&pruned_set).intersection(&last))
}

/// `lastappliedmanager.go`: fields that kubectl applied client-side before and that nobody changed since.
fn from_last_applied(ty: Ty, version: &str, live: &Value) -> Set {
    let text = live.pointer("/metadata/annotations").and_then(|map| map.get(LAST_APPLIED)).and_then(Value::as_str);
    let Some(last) = text.and_then(|text| serde_json::from_str::<Value>(text).ok()) else { return Set::default() };
    if last.get("apiVersion").and_then(Value::as_str) != Some(version) {
        return Set::default();
    }
    let changes = compare(ty, &last, live);
    to_field_set(ty, &last).difference(&changes.changed).difference(&changes.removed)
}

/// What a write through this endpoint resets, and so can't own (`GetResetFields` of `pkg/registry/*/*/strategy.go`).
fn ignored_fields(gvk: Gvk<'_>, subresource: &str) -> Set {
    let mut set = Set::default();
    let mut add = |path: &[&str]| set.insert_fields(path);
    match subresource {
        "" if super::RESOURCES.iter().any(|row| row.gvk() == gvk && row.subresource("status").is_some()) => {
            add(&["status"]);
        }
        "status" => {
            add(&["spec"]);
            match (gvk.group, gvk.kind) {
                ("", "Pod") => {
                    add(&["metadata", "deletionTimestamp"]);
                    add(&["metadata", "ownerReferences"]);
                }
                ("apps", "Deployment") => add(&["metadata", "labels"]),
                _ => {}
            }
        }
        _ => {}
    }
    set
}

/// `stripmeta.go`: nobody owns what names the object.
fn without_meta(mut set: Set) -> Set {
    let mut strip = Set::default();
    for path in [&["apiVersion"][..], &["kind"], &["metadata"]] {
        strip.insert_fields(path);
    }
    for name in [
        "name",
        "namespace",
        "creationTimestamp",
        "selfLink",
        "uid",
        "clusterName",
        "generation",
        "managedFields",
        "resourceVersion",
    ] {
        strip.insert_fields(&["metadata", name]);
    }
    set.subtract(&strip);
    set
}

fn conflict(entry: &Entry, path: &Path, managers: &Managers) -> Conflict {
    // `printManager` of conflict.go.
    let mut manager = format!("{:?}", entry.manager);
    if !entry.subresource.is_empty() {
        manager = format!("{manager} with subresource {:?}", entry.subresource);
    }
    if entry.operation == Operation::Update {
        manager = match managers.time(entry) {
            Some(time) => format!("{manager} using {} at {time}", entry.api_version),
            None => format!("{manager} using {}", entry.api_version),
        };
    }
    Conflict { message: format!("conflict with {manager}"), field: set::show(path), manager }
}

/// Whether an applied object, as it was sent, fits its type.
///
/// # Errors
/// [`ApplyError::Untyped`].
pub fn check_fit(gvk: Gvk<'_>, sent: &Value) -> Result<(), ApplyError> {
    fit::problem(Ty::of(gvk), sent).map_or(Ok(()), |problem| Err(untyped(sent, problem)))
}

fn untyped(applied: &Value, problem: String) -> ApplyError {
    let text = |pointer: &str| applied.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let version = text("/apiVersion");
    // `GroupVersionKind.String`: the core group's name is empty.
    let core = if version.contains('/') { "" } else { "/" };
    let object =
        format!("{}/{}; {core}{version}, Kind={}", text("/metadata/namespace"), text("/metadata/name"), text("/kind"));
    ApplyError::Untyped { object, problem }
}

/// Whether two states differ in nothing but when their fields were managed.
pub fn same_but_times(a: &Value, b: &Value) -> bool {
    same_unmanaged(a, b)
        && match (managed(a).and_then(Value::as_array), managed(b).and_then(Value::as_array)) {
            (Some(a), Some(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_but(a, b, "time")),
            (a, b) => a == b,
        }
}

/// Whether two objects are the same but for their `managedFields`.
fn same_unmanaged(a: &Value, b: &Value) -> bool {
    same_but(a, b, "metadata") && same_but(&a["metadata"], &b["metadata"], "managedFields")
}

fn same_but(a: &Value, b: &Value, field: &str) -> bool {
    match (a.as_object(), b.as_object()) {
        (Some(a), Some(b)) => a.iter().filter(|(key, _)| *key != field).eq(b.iter().filter(|(key, _)| *key != field)),
        _ => a == b,
    }
}

fn managed(object: &Value) -> Option<&Value> {
    object.get("metadata")?.get("managedFields")
}

fn remove_managed(value: &mut Value) -> Option<Value> {
    value.get_mut("metadata")?.as_object_mut()?.remove("managedFields")
}

fn put_managed(value: &mut Value, fields: Value) {
    if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut)
        && fields.as_array().is_some_and(|list| !list.is_empty())
    {
        metadata.insert("managedFields".into(), fields);
    }
}

#[cfg(test)]
mod tests;
