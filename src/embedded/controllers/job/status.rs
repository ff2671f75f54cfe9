//! Conditions and counters of a job's status.
//!
//! Ports `newCondition`, `ensureJobConditionStatus` and `cleanUncountedPodsWithoutFinalizers` of `job_controller.go`. Pure.

use std::collections::HashSet;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{JobCondition, JobStatus};

use super::super::shared::meta::{self, nonzero};

/// The job ended well.
pub const COMPLETE: &str = "Complete";
/// The job failed.
pub const FAILED: &str = "Failed";
/// The job will fail once its pods are gone.
pub const FAILURE_TARGET: &str = "FailureTarget";
/// The job will complete once its pods are gone.
pub const SUCCESS_CRITERIA_MET: &str = "SuccessCriteriaMet";

/// A condition that is true from now on.
pub fn condition(now: Timestamp, type_: &str, reason: &str, message: String) -> JobCondition {
    JobCondition {
        type_: type_.to_owned(),
        status: "True".to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_probe_time: Some(meta::seconds(now)),
        last_transition_time: Some(meta::seconds(now)),
    }
}

/// The same under another type.
pub fn renamed(condition: &JobCondition, type_: &str) -> JobCondition {
    JobCondition { type_: type_.to_owned(), ..condition.clone() }
}

/// The condition of this type, if it is true.
pub fn find<'a>(status: &'a JobStatus, type_: &str) -> Option<&'a JobCondition> {
    status.conditions.iter().flatten().find(|condition| condition.type_ == type_ && condition.status == "True")
}

/// Sets the Suspended condition; one that was never there isn't added just to be false. True if it changed.
pub fn suspend(status: &mut JobStatus, now: Timestamp, suspended: bool) -> bool {
    let (value, reason, message) =
        if suspended { ("True", "JobSuspended", "Job suspended") } else { ("False", "JobResumed", "Job resumed") };
    let new = JobCondition { status: value.to_owned(), ..condition(now, "Suspended", reason, message.to_owned()) };
    let conditions = status.conditions.get_or_insert_default();
    let old = conditions.iter_mut().find(|condition| condition.type_ == "Suspended");
    let changed = match old {
        Some(old) if old.status == new.status => false,
        Some(old) => {
            *old = new;
            true
        }
        None if suspended => {
            conditions.push(new);
            true
        }
        None => false,
    };
    if conditions.is_empty() {
        status.conditions = None;
    }
    changed
}

/// Moves uncounted pods that have lost their finalizer into the counters. True if something moved.
pub fn settle(status: &mut JobStatus, tracked: &HashSet<String>) -> bool {
    let uncounted = status.uncounted_terminated_pods.get_or_insert_default();
    let move_out = |uids: &mut Option<Vec<String>>, counter: &mut Option<i32>| {
        let before = uids.as_ref().map_or(0, Vec::len);
        if let Some(uids) = uids {
            uids.retain(|uid| tracked.contains(uid));
        }
        let moved = before - uids.as_ref().map_or(0, Vec::len);
        *counter = nonzero(counter.unwrap_or(0) + i32::try_from(moved).unwrap_or(i32::MAX));
        if uids.as_ref().is_some_and(Vec::is_empty) {
            *uids = None;
        }
        moved > 0
    };
    let succeeded = move_out(&mut uncounted.succeeded, &mut status.succeeded);
    let failed = move_out(&mut uncounted.failed, &mut status.failed);
    succeeded || failed
}

/// Whether no pod waits to be counted.
pub fn all_counted(status: &JobStatus) -> bool {
    status
        .uncounted_terminated_pods
        .as_ref()
        .is_none_or(|uncounted| uncounted.succeeded.iter().chain(&uncounted.failed).all(Vec::is_empty))
}

/// The reasons a job fails for, as event reasons.
pub fn known_reason(reason: &str) -> &'static str {
    match reason {
        "BackoffLimitExceeded" => "BackoffLimitExceeded",
        "DeadlineExceeded" => "DeadlineExceeded",
        "PodFailurePolicy" => "PodFailurePolicy",
        _ => "Failed",
    }
}
