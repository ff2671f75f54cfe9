//! A deployment's status and conditions, in upstream's words.
//!
//! Ports `calculateStatus` of `sync.go` and `progress.go`. Pure.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet};

use super::super::shared::meta::{self, nonzero};
use super::super::shared::pods::wait_until;
use super::scale;

/// Reason when the new replica set could not be created.
pub const FAILED_RS_CREATE: &str = "ReplicaSetCreateError";
const PROGRESSING: &str = "Progressing";
const AVAILABLE: &str = "Available";
const REPLICA_FAILURE: &str = "ReplicaFailure";
/// Reason when the rollout has reached its end.
pub const NEW_RS_AVAILABLE: &str = "NewReplicaSetAvailable";
/// Reason when it took too long.
pub const TIMED_OUT: &str = "ProgressDeadlineExceeded";
const PAUSED: &str = "DeploymentPaused";

/// The condition of a type.
pub fn condition<'a>(status: &'a DeploymentStatus, type_: &str) -> Option<&'a DeploymentCondition> {
    status.conditions.as_ref()?.iter().find(|condition| condition.type_ == type_)
}

/// `SetDeploymentCondition`: nothing if status and reason are the same; keeps the transition time if only the reason changed.
fn set(status: &mut DeploymentStatus, mut new: DeploymentCondition) {
    if let Some(old) = condition(status, &new.type_) {
        if old.status == new.status && old.reason == new.reason {
            return;
        }
        if old.status == new.status {
            new.last_transition_time = old.last_transition_time.clone();
        }
    }
    remove(status, &new.type_);
    status.conditions.get_or_insert_default().push(new);
}

fn remove(status: &mut DeploymentStatus, type_: &str) {
    if let Some(conditions) = &mut status.conditions {
        conditions.retain(|condition| condition.type_ != type_);
    }
}

fn new(now: Timestamp, type_: &str, status: &str, reason: &str, message: String) -> DeploymentCondition {
    DeploymentCondition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        last_update_time: Some(meta::seconds(now)),
        last_transition_time: Some(meta::seconds(now)),
        reason: Some(reason.to_owned()),
        message: Some(message),
    }
}

/// `spec.progressDeadlineSeconds`, unless it means never.
pub fn deadline(deployment: &Deployment) -> Option<i32> {
    deployment.spec.as_ref()?.progress_deadline_seconds.filter(|seconds| *seconds != i32::MAX)
}

/// Says that the rollout moved: a new set was made, or an old one found.
pub fn set_progressing(deployment: &mut Deployment, now: Timestamp, reason: &str, message: String) {
    if deadline(deployment).is_some() {
        set(deployment.status.get_or_insert_default(), new(now, PROGRESSING, "True", reason, message));
    }
}

/// Says that the new set could not be created.
pub fn set_create_failure(deployment: &mut Deployment, message: String) {
    let now = Timestamp::now();
    set(deployment.status.get_or_insert_default(), new(now, PROGRESSING, "False", FAILED_RS_CREATE, message));
}

/// Whether the deployment has a Progressing condition yet.
pub fn has_progressing(deployment: &Deployment) -> bool {
    deployment.status.as_ref().is_some_and(|status| condition(status, PROGRESSING).is_some())
}

/// `checkPausedConditions`: so that a paused rollout doesn't run out of time.
pub fn set_paused(deployment: &mut Deployment, now: Timestamp) {
    if deadline(deployment).is_none() {
        return;
    }
    let paused = deployment.spec.as_ref().and_then(|spec| spec.paused).unwrap_or(false);
    let status = deployment.status.get_or_insert_default();
    let reason = condition(status, PROGRESSING).and_then(|condition| condition.reason.as_deref());
    match (paused, reason) {
        (_, Some(TIMED_OUT)) | (true, Some(PAUSED)) => {}
        (true, _) => set(status, new(now, PROGRESSING, "Unknown", PAUSED, "Deployment is paused".to_owned())),
        (false, Some(PAUSED)) => {
            set(status, new(now, PROGRESSING, "Unknown", "DeploymentResumed", "Deployment is resumed".to_owned()));
        }
        (false, _) => {}
    }
}

/// Counts and the Available condition (`calculateStatus`); conditions start from the deployment's own.
pub fn calculate(
    deployment: &Deployment,
    new_set: Option<&ReplicaSet>,
    old: &[ReplicaSet],
    now: Timestamp,
) -> DeploymentStatus {
    let all = || old.iter().chain(new_set);
    let sum = |of: fn(&ReplicaSet) -> i32| all().map(of).sum::<i32>();
    let actual: fn(&ReplicaSet) -> i32 = |set| set.status.as_ref().map_or(0, |status| status.replicas);
    let ready: fn(&ReplicaSet) -> i32 = |set| set.status.as_ref().and_then(|s| s.ready_replicas).unwrap_or(0);
    let available = sum(scale::available);
    let before = deployment.status.clone().unwrap_or_default();
    let mut status = DeploymentStatus {
        observed_generation: deployment.metadata.generation,
        replicas: nonzero(sum(actual)),
        updated_replicas: nonzero(new_set.map_or(0, actual)),
        ready_replicas: nonzero(sum(ready)),
        available_replicas: nonzero(available),
        unavailable_replicas: nonzero((sum(scale::size) - available).max(0)),
        terminating_replicas: terminating(all()),
        collision_count: before.collision_count,
        conditions: before.conditions,
    };
    let (verdict, reason, message) = if available >= scale::wanted(deployment) - scale::max_unavailable(deployment) {
        ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
    } else {
        ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
    };
    set(&mut status, new(now, AVAILABLE, verdict, reason, message.to_owned()));
    status
}

fn terminating<'a>(sets: impl Iterator<Item = &'a ReplicaSet>) -> Option<i32> {
    let mut sum = 0;
    for set in sets {
        match &set.status {
            Some(status) if status.terminating_replicas.is_some() => sum += status.terminating_replicas.unwrap_or(0),
            Some(status) if status.observed_generation.unwrap_or(0) != 0 => return None,
            _ => {}
        }
    }
    Some(sum)
}

/// Whether everything is new and available (`DeploymentComplete`).
pub fn is_complete(deployment: &Deployment, status: &DeploymentStatus) -> bool {
    let wanted = nonzero(scale::wanted(deployment));
    let of = |count: Option<i32>| nonzero(count.unwrap_or(0));
    of(status.updated_replicas) == wanted
        && of(status.replicas) == wanted
        && of(status.available_replicas) == wanted
        && status.observed_generation.unwrap_or(0) >= deployment.metadata.generation.unwrap_or(0)
}

fn has_progressed(old: &DeploymentStatus, new: &DeploymentStatus) -> bool {
    let of = |count: Option<i32>| count.unwrap_or(0);
    let olds = |status: &DeploymentStatus| of(status.replicas) - of(status.updated_replicas);
    of(new.updated_replicas) > of(old.updated_replicas)
        || olds(new) < olds(old)
        || of(new.ready_replicas) > of(old.ready_replicas)
        || of(new.available_replicas) > of(old.available_replicas)
}

fn has_timed_out(deployment: &Deployment, status: &DeploymentStatus, now: Timestamp) -> bool {
    let (Some(seconds), Some(at)) = (deadline(deployment), condition(status, PROGRESSING)) else {
        return false;
    };
    match at.reason.as_deref() {
        Some(NEW_RS_AVAILABLE) => false,
        Some(TIMED_OUT) => true,
        _ => at.last_update_time.as_ref().is_some_and(|since| wait_until(since, seconds.into(), now).is_zero()),
    }
}

/// The status of a rollout, with its Progressing and ReplicaFailure conditions (`syncRolloutStatus`).
pub fn of_rollout(
    deployment: &Deployment,
    new_set: Option<&ReplicaSet>,
    old: &[ReplicaSet],
    now: Timestamp,
) -> DeploymentStatus {
    let mut status = calculate(deployment, new_set, old, now);
    let before = deployment.status.clone().unwrap_or_default();
    let current = condition(&before, PROGRESSING);
    let settled = status.replicas == status.updated_replicas
        && current.is_some_and(|current| current.reason.as_deref() == Some(NEW_RS_AVAILABLE));
    if deadline(deployment).is_none() {
        remove(&mut status, PROGRESSING);
    } else if !settled {
        let subject = new_set.map_or_else(
            || format!("Deployment {:?}", meta::name(&deployment.metadata)),
            |set| format!("ReplicaSet {:?}", meta::name(&set.metadata)),
        );
        if is_complete(deployment, &status) {
            let message = format!("{subject} has successfully progressed.");
            set(&mut status, new(now, PROGRESSING, "True", NEW_RS_AVAILABLE, message));
        } else if has_progressed(&before, &status) {
            let mut moved = new(now, PROGRESSING, "True", "ReplicaSetUpdated", format!("{subject} is progressing."));
            if let Some(current) = current {
                if current.status == "True" {
                    moved.last_transition_time = current.last_transition_time.clone();
                }
                // Removed first: the update time must move even when nothing else does.
                remove(&mut status, PROGRESSING);
            }
            set(&mut status, moved);
        } else if has_timed_out(deployment, &status, now) {
            let message = format!("{subject} has timed out progressing.");
            set(&mut status, new(now, PROGRESSING, "False", TIMED_OUT, message));
        }
    }
    let failures = new_set.into_iter().chain(old).filter_map(|set| set.status.as_ref()?.conditions.as_ref());
    match failures.flatten().find(|condition| condition.type_ == REPLICA_FAILURE) {
        Some(failure) => set(
            &mut status,
            DeploymentCondition {
                type_: failure.type_.clone(),
                status: failure.status.clone(),
                last_transition_time: failure.last_transition_time.clone(),
                last_update_time: failure.last_transition_time.clone(),
                reason: failure.reason.clone(),
                message: failure.message.clone(),
            },
        ),
        None => remove(&mut status, REPLICA_FAILURE),
    }
    status
}

/// When to look again so that the deadline is noticed (`requeueStuckDeployment`).
pub fn next_check(deployment: &Deployment, status: &DeploymentStatus, now: Timestamp) -> Option<Duration> {
    let seconds = deadline(deployment)?;
    let current = condition(status, PROGRESSING)?;
    if is_complete(deployment, status) || current.reason.as_deref() == Some(TIMED_OUT) {
        return None;
    }
    Some(wait_until(current.last_update_time.as_ref()?, seconds.into(), now) + Duration::from_secs(1))
}
