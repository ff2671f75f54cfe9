//! How many pods to create, which to delete, and what the status says.
//!
//! Ports `manageReplicas`, `getPodsToDelete` and `calculateStatus` of `pkg/controller/replicaset`. Pure.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};

use super::super::shared::meta::{self, matches_labels, nonzero};
use super::super::shared::pods::deletion_order;
use super::super::shared::view::Pod;

/// Upstream's `BurstReplicas`: at most so many in one pass.
const BURST: usize = 500;

/// What the caches show.
pub struct Observed<'a> {
    /// The set.
    pub set: &'a ReplicaSet,
    /// Its pods, whatever their phase.
    pub pods: &'a [Arc<Pod>],
    /// Pods of all sets of the same deployment.
    pub related: &'a [Arc<Pod>],
    /// The time.
    pub now: Timestamp,
}

/// What to do about the number of pods.
#[derive(Debug)]
pub enum Action {
    /// It is right, or the set is going.
    Nothing,
    /// Create so many.
    Create(usize),
    /// Delete these.
    Delete(Vec<Arc<Pod>>),
}

impl Observed<'_> {
    fn active(&self) -> impl Iterator<Item = &Arc<Pod>> {
        self.pods.iter().filter(|pod| pod.is_active())
    }

    fn wanted(&self) -> usize {
        usize::try_from(self.set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)).unwrap_or(0)
    }

    fn min_ready_seconds(&self) -> i32 {
        self.set.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0)
    }
}

/// Decides.
pub fn decide(observed: &Observed<'_>) -> Action {
    if observed.set.metadata.deletion_timestamp.is_some() {
        return Action::Nothing;
    }
    let (active, wanted) = (observed.active().count(), observed.wanted());
    match active.cmp(&wanted) {
        std::cmp::Ordering::Equal => Action::Nothing,
        std::cmp::Ordering::Less => Action::Create((wanted - active).min(BURST)),
        std::cmp::Ordering::Greater => Action::Delete(to_delete(observed, (active - wanted).min(BURST))),
    }
}

fn to_delete(observed: &Observed<'_>, count: usize) -> Vec<Arc<Pod>> {
    let mut per_node: HashMap<&str, usize> = HashMap::new();
    for pod in observed.related.iter().filter(|pod| pod.is_active() && pod.is_ready()) {
        *per_node.entry(pod.spec.node_name.as_deref().unwrap_or_default()).or_default() += 1;
    }
    let rank = |pod: &Pod| per_node.get(pod.spec.node_name.as_deref().unwrap_or_default()).copied().unwrap_or(0);
    let mut pods: Vec<Arc<Pod>> = observed.active().cloned().collect();
    pods.sort_by(|a, b| deletion_order((a, rank(a)), (b, rank(b)), observed.now));
    pods.truncate(count);
    pods
}

/// The status if it must be written, and when a ready pod will become available.
pub fn status(observed: &Observed<'_>, failure: Option<String>) -> (Option<ReplicaSetStatus>, Option<Duration>) {
    let set = observed.set;
    let before = set.status.clone().unwrap_or_default();
    let template = set.spec.as_ref().and_then(|spec| spec.template.as_ref()?.metadata.as_ref()?.labels.clone());
    let template = template.unwrap_or_default();
    let (mut replicas, mut labeled, mut ready, mut available) = (0, 0, 0, 0);
    let mut again: Option<Duration> = None;
    for pod in observed.active() {
        replicas += 1;
        labeled += i32::from(matches_labels(&template, pod.metadata.labels.as_ref()));
        match pod.available_in(observed.min_ready_seconds(), observed.now) {
            None => {}
            Some(Duration::ZERO) => (ready, available) = (ready + 1, available + 1),
            Some(left) => {
                ready += 1;
                again = Some(again.map_or(left, |again| again.min(left)));
            }
        }
    }
    let terminating = observed.pods.iter().filter(|pod| pod.is_terminating()).count();
    let after = ReplicaSetStatus {
        replicas,
        fully_labeled_replicas: nonzero(labeled),
        ready_replicas: nonzero(ready),
        available_replicas: nonzero(available),
        terminating_replicas: Some(i32::try_from(terminating).unwrap_or(i32::MAX)),
        conditions: conditions(observed, &before, failure),
        observed_generation: set.metadata.generation,
    };
    ((after != before).then_some(after), again)
}

fn conditions(
    observed: &Observed<'_>,
    before: &ReplicaSetStatus,
    failure: Option<String>,
) -> Option<Vec<ReplicaSetCondition>> {
    let is_failure = |condition: &ReplicaSetCondition| condition.type_ == "ReplicaFailure";
    let mut conditions = before.conditions.clone();
    let known = conditions.iter().flatten().any(is_failure);
    match failure {
        Some(message) if !known => {
            let reason = if observed.active().count() < observed.wanted() { "FailedCreate" } else { "FailedDelete" };
            conditions.get_or_insert_default().push(ReplicaSetCondition {
                type_: "ReplicaFailure".to_owned(),
                status: "True".to_owned(),
                reason: Some(reason.to_owned()),
                message: Some(message),
                last_transition_time: Some(meta::seconds(observed.now)),
            });
        }
        None if known => {
            conditions = conditions.map(|conditions| conditions.into_iter().filter(|c| !is_failure(c)).collect());
        }
        _ => {}
    }
    conditions.filter(|conditions: &Vec<_>| !conditions.is_empty())
}
