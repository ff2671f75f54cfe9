//! Owner references, selectors and claims: who controls what.
//!
//! Ports `pkg/controller/controller_ref_manager.go` and `metav1.GetControllerOf`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference, Time};
use kube::core::{Selector, SelectorExt};

/// The owner reference with `controller: true`.
pub fn controller_of(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references.as_ref()?.iter().find(|owner| owner.controller == Some(true))
}

/// The reference that makes `owner` the controller (`metav1.NewControllerRef`).
pub fn controller_ref<K: kube::Resource<DynamicType = ()>>(owner: &K) -> OwnerReference {
    OwnerReference {
        api_version: K::api_version(&()).into_owned(),
        kind: K::kind(&()).into_owned(),
        name: owner.meta().name.clone().unwrap_or_default(),
        uid: owner.meta().uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// Whether `meta` is controlled by the object with this uid.
pub fn is_controlled_by(meta: &ObjectMeta, uid: &str) -> bool {
    controller_of(meta).is_some_and(|owner| owner.uid == uid)
}

/// What to do about an object that may belong to a controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Ours, and it matches.
    Keep,
    /// Nobody's, and it matches: take it.
    Adopt,
    /// Ours, but it no longer matches: let it go.
    Release,
    /// None of our business.
    Ignore,
}

/// `BaseControllerRefManager.ClaimObject` as a decision.
pub fn claim(owner: &ObjectMeta, selector: &Selector, object: &ObjectMeta) -> Claim {
    let no_labels = BTreeMap::new();
    let matches = selector.matches(object.labels.as_ref().unwrap_or(&no_labels));
    let owner_going = owner.deletion_timestamp.is_some();
    match controller_of(object) {
        Some(by) if Some(&by.uid) != owner.uid.as_ref() => Claim::Ignore,
        Some(_) if matches => Claim::Keep,
        Some(_) if owner_going => Claim::Ignore,
        Some(_) => Claim::Release,
        None if owner_going || !matches || object.deletion_timestamp.is_some() => Claim::Ignore,
        None => Claim::Adopt,
    }
}

/// A selector that matches; an empty one matches everything, as in `metav1.LabelSelectorAsSelector`.
///
/// # Errors
/// When an expression's operator and values don't fit.
pub fn selector(of: &LabelSelector) -> Result<Selector, kube::core::ParseExpressionError> {
    Selector::try_from(of.clone())
}

/// A selector over plain labels.
pub fn matches_labels(wanted: &BTreeMap<String, String>, labels: Option<&BTreeMap<String, String>>) -> bool {
    wanted.iter().all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value))
}

/// Now, in whole seconds: what the API would hand back for a `metav1.Time`.
pub fn now() -> Time {
    seconds(Timestamp::now())
}

/// `at` as the API would hand it back.
pub fn seconds(at: Timestamp) -> Time {
    Time(Timestamp::from_second(at.as_second()).unwrap_or(at))
}

/// `None` for 0, as Go's `omitempty` leaves a zero count out.
pub fn nonzero(count: i32) -> Option<i32> {
    (count != 0).then_some(count)
}

/// The name, empty if there is none yet.
pub fn name(meta: &ObjectMeta) -> &str {
    meta.name.as_deref().unwrap_or_default()
}

/// The namespace, empty if there is none.
pub fn namespace(meta: &ObjectMeta) -> &str {
    meta.namespace.as_deref().unwrap_or_default()
}

/// The uid, empty if there is none yet.
pub fn uid(meta: &ObjectMeta) -> &str {
    meta.uid.as_deref().unwrap_or_default()
}

/// The value of an annotation.
pub fn annotation<'a>(meta: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    meta.annotations.as_ref()?.get(key).map(String::as_str)
}

/// The strategic merge patch by which `owner` adopts an object (`AdoptPod` and its kin); the uid makes it fail for another object.
pub fn adoption<K: kube::Resource<DynamicType = ()>>(owner: &K, object: &ObjectMeta) -> serde_json::Value {
    serde_json::json!({ "metadata": { "ownerReferences": [controller_ref(owner)], "uid": uid(object) } })
}

/// The strategic merge patch by which `owner` lets an object go (`ReleasePod` and its kin).
pub fn release(owner: &ObjectMeta, object: &ObjectMeta) -> serde_json::Value {
    serde_json::json!({
        "metadata": { "ownerReferences": [{ "$patch": "delete", "uid": uid(owner) }], "uid": uid(object) }
    })
}
