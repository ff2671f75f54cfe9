//! The numbers of a rollout: surge, unavailability, proportions, annotations.
//!
//! Ports `pkg/controller/deployment/util/deployment_util.go`. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::super::shared::meta::annotation;

/// A deployment's or replica set's revision.
pub const REVISION: &str = "deployment.kubernetes.io/revision";
/// Revisions that a replica set had before, separated by commas.
pub const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
/// The deployment's size when the set was last scaled.
pub const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
/// The deployment's size with surge when the set was last scaled.
pub const MAX: &str = "deployment.kubernetes.io/max-replicas";
/// The revision to go back to, set by old clients.
pub const ROLLBACK_TO: &str = "deprecated.deployment.rollback.to";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// How long the revision history may grow, in characters.
const HISTORY_CHARACTERS: usize = 2000;

/// `spec.replicas` of a deployment; 1 if absent.
pub fn wanted(deployment: &Deployment) -> i32 {
    deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

/// `spec.replicas` of a replica set; 1 if absent.
pub fn size(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

/// The available pods of a set, from its status.
pub fn available(set: &ReplicaSet) -> i32 {
    set.status.as_ref().and_then(|status| status.available_replicas).unwrap_or(0)
}

/// Anything but `Recreate`.
pub fn is_rolling(deployment: &Deployment) -> bool {
    let strategy = deployment.spec.as_ref().and_then(|spec| spec.strategy.as_ref());
    strategy.and_then(|strategy| strategy.type_.as_deref()) != Some("Recreate")
}

/// A number, or a percentage of `of` (`GetScaledValueFromIntOrPercent`).
fn scaled(value: Option<&IntOrString>, of: i32, round_up: bool) -> i32 {
    match value {
        None => 0,
        Some(IntOrString::Int(value)) => *value,
        Some(IntOrString::String(text)) => {
            let percent: i64 = text.strip_suffix('%').and_then(|text| text.parse().ok()).unwrap_or(0);
            let product = percent * i64::from(of);
            let value = if round_up { (product + 99).div_euclid(100) } else { product.div_euclid(100) };
            i32::try_from(value).unwrap_or(i32::MAX)
        }
    }
}

/// How many pods may be there beyond `replicas`, and how many may be missing (`ResolveFenceposts`).
fn fenceposts(deployment: &Deployment) -> (i32, i32) {
    let strategy = deployment.spec.as_ref().and_then(|spec| spec.strategy.as_ref());
    let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
    let surge = scaled(rolling.and_then(|rolling| rolling.max_surge.as_ref()), wanted(deployment), true);
    let unavailable = scaled(rolling.and_then(|rolling| rolling.max_unavailable.as_ref()), wanted(deployment), false);
    // Both zero would never move.
    if surge == 0 && unavailable == 0 { (0, 1) } else { (surge, unavailable) }
}

/// Pods allowed beyond `replicas`.
pub fn max_surge(deployment: &Deployment) -> i32 {
    if is_rolling(deployment) { fenceposts(deployment).0 } else { 0 }
}

/// Pods allowed to be missing.
pub fn max_unavailable(deployment: &Deployment) -> i32 {
    if !is_rolling(deployment) || wanted(deployment) == 0 {
        return 0;
    }
    fenceposts(deployment).1.min(wanted(deployment))
}

/// The size a new set may take now (`NewRSNewReplicas`).
pub fn new_set_size(deployment: &Deployment, all_sizes: i32, new_size: i32) -> i32 {
    if !is_rolling(deployment) {
        return wanted(deployment);
    }
    let most = wanted(deployment) + max_surge(deployment);
    if all_sizes >= most {
        return new_size;
    }
    new_size + (most - all_sizes).min(wanted(deployment) - new_size)
}

/// How much of a change of size falls to one set (`GetReplicaSetProportion`).
pub fn proportion(set: &ReplicaSet, deployment: &Deployment, to_add: i32, added: i32) -> i32 {
    if size(set) == 0 || to_add == 0 || to_add == added {
        return 0;
    }
    let fraction = fraction(set, deployment);
    let allowed = to_add - added;
    if to_add > 0 { fraction.min(allowed) } else { fraction.max(allowed) }
}

fn fraction(set: &ReplicaSet, deployment: &Deployment) -> i32 {
    if wanted(deployment) == 0 {
        return -size(set);
    }
    let most = wanted(deployment) + max_surge(deployment);
    let recorded = count_annotation(set, MAX).filter(|max| *max != 0);
    let before = recorded.unwrap_or_else(|| deployment.status.as_ref().and_then(|s| s.replicas).unwrap_or(0));
    if before == 0 {
        return 0;
    }
    let exact = f64::from(size(set)) * f64::from(most) / f64::from(before);
    #[expect(clippy::cast_possible_truncation, reason = "both factors are pod counts; the cast saturates")]
    let rounded = exact.round() as i32;
    rounded - size(set)
}

/// A non-negative count in an annotation.
pub fn count_annotation(set: &ReplicaSet, key: &str) -> Option<i32> {
    annotation(&set.metadata, key)?.parse().ok().filter(|count| *count >= 0)
}

/// Whether the set is all there is and all of it works (`IsSaturated`).
pub fn is_saturated(deployment: &Deployment, set: Option<&ReplicaSet>) -> bool {
    let wanted = wanted(deployment);
    set.is_some_and(|set| {
        size(set) == wanted && count_annotation(set, DESIRED) == Some(wanted) && available(set) == wanted
    })
}

/// The revision; 0 if it has none, `None` if it isn't a number.
pub fn revision(set: &ReplicaSet) -> Option<i64> {
    annotation(&set.metadata, REVISION).map_or(Some(0), |text| text.parse().ok())
}

/// The highest revision.
pub fn max_revision<'a>(sets: impl IntoIterator<Item = &'a ReplicaSet>) -> i64 {
    sets.into_iter().filter_map(revision).max().unwrap_or(0).max(0)
}

/// The second highest revision (`LastRevision`); 0 if there is none.
pub fn last_revision<'a>(sets: impl IntoIterator<Item = &'a ReplicaSet>) -> i64 {
    let mut all: Vec<i64> = sets.into_iter().filter_map(revision).collect();
    all.sort_unstable_by(|a, b| b.cmp(a));
    all.get(1).copied().unwrap_or(0)
}

/// Annotations that are the deployment's own and not its sets'.
pub fn stays(key: &str) -> bool {
    matches!(key, LAST_APPLIED | REVISION | REVISION_HISTORY | DESIRED | MAX | ROLLBACK_TO)
}

/// Sets the sizes that proportional scaling starts from. True if something changed.
pub fn set_size_annotations(set: &mut ReplicaSet, deployment: &Deployment) -> bool {
    let annotations = set.metadata.annotations.get_or_insert_default();
    let desired = put(annotations, DESIRED, wanted(deployment).to_string());
    let max = put(annotations, MAX, (wanted(deployment) + max_surge(deployment)).to_string());
    desired || max
}

/// Brings the new set's annotations up to date (`SetNewReplicaSetAnnotations`). True if something changed.
pub fn set_annotations(set: &mut ReplicaSet, deployment: &Deployment, new_revision: i64) -> bool {
    let annotations = set.metadata.annotations.get_or_insert_default();
    let mut changed = false;
    for (key, value) in deployment.metadata.annotations.iter().flatten() {
        changed |= !stays(key) && put(annotations, key, value.clone());
    }
    let old = annotations.get(REVISION).cloned().filter(|old| !old.is_empty());
    let old_number: i64 = match old.as_deref().map(str::parse) {
        None => 0,
        Some(Ok(number)) => number,
        Some(Err(_)) => return false,
    };
    if old_number >= new_revision {
        return changed;
    }
    annotations.insert(REVISION.to_owned(), new_revision.to_string());
    if let Some(old) = old {
        remember(annotations, &old);
    }
    true
}

fn remember(annotations: &mut BTreeMap<String, String>, old: &str) {
    let history = annotations.get(REVISION_HISTORY).cloned().unwrap_or_default();
    if history.is_empty() {
        annotations.insert(REVISION_HISTORY.to_owned(), old.to_owned());
        return;
    }
    let mut kept = history.as_str();
    while kept.len() + old.len() + 1 > HISTORY_CHARACTERS {
        match kept.split_once(',') {
            Some((_, rest)) => kept = rest,
            None => return,
        }
    }
    annotations.insert(REVISION_HISTORY.to_owned(), format!("{kept},{old}"));
}

fn put(annotations: &mut BTreeMap<String, String>, key: &str, value: String) -> bool {
    if annotations.get(key) == Some(&value) {
        return false;
    }
    annotations.insert(key.to_owned(), value);
    true
}
