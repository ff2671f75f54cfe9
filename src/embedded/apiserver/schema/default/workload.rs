//! Workloads (`pkg/apis/apps/v1/defaults.go`, `pkg/apis/batch/v1/defaults.go`).

use serde_json::json;

use super::{Object, core, is_unset, made, object, objects, pod, set, text};

/// A value of the `apps` or `batch` kind `kind`.
pub(super) fn default(kind: &str, root: &mut Object) {
    if kind == "Job" {
        job_labels(root);
    }
    let Some(spec) = made(root, "spec").filter(|_| kind != "ControllerRevision") else { return };
    match kind {
        "Deployment" => {
            pod::template(spec);
            set(spec, "replicas", 1);
            if let Some(strategy) = made(spec, "strategy") {
                set(strategy, "type", "RollingUpdate");
                if let Some(rolling) = rolling(strategy, true) {
                    set(rolling, "maxUnavailable", "25%");
                    set(rolling, "maxSurge", "25%");
                }
            }
            set(spec, "revisionHistoryLimit", 10);
            set(spec, "progressDeadlineSeconds", 600);
        }
        "ReplicaSet" => {
            pod::template(spec);
            set(spec, "replicas", 1);
        }
        "DaemonSet" => {
            pod::template(spec);
            if let Some(strategy) = made(spec, "updateStrategy") {
                set(strategy, "type", "RollingUpdate");
                if let Some(rolling) = rolling(strategy, true) {
                    set(rolling, "maxUnavailable", 1);
                    set(rolling, "maxSurge", 0);
                }
            }
            set(spec, "revisionHistoryLimit", 10);
        }
        "StatefulSet" => stateful_set(spec),
        "Job" => {
            pod::template(spec);
            job(spec);
        }
        "CronJob" => {
            if let Some(job) = object(spec, "jobTemplate").and_then(|template| object(template, "spec")) {
                pod::template(job);
            }
            set(spec, "concurrencyPolicy", "Allow");
            set(spec, "suspend", false);
            set(spec, "successfulJobsHistoryLimit", 3);
            set(spec, "failedJobsHistoryLimit", 1);
        }
        _ => {}
    }
}

/// `rollingUpdate` of a strategy of that type; made if absent and `make`.
fn rolling(strategy: &mut Object, make: bool) -> Option<&mut Object> {
    if text(strategy, "type") != "RollingUpdate" {
        return None;
    }
    if make { made(strategy, "rollingUpdate") } else { object(strategy, "rollingUpdate") }
}

fn stateful_set(spec: &mut Object) {
    pod::template(spec);
    objects(spec, "volumeClaimTemplates").for_each(core::claim);
    set(spec, "podManagementPolicy", "OrderedReady");
    if let Some(strategy) = made(spec, "updateStrategy") {
        let untyped = is_unset(strategy.get("type"));
        set(strategy, "type", "RollingUpdate");
        if let Some(rolling) = rolling(strategy, untyped) {
            set(rolling, "partition", 0);
            set(rolling, "maxUnavailable", 1);
        }
    }
    if let Some(policy) = made(spec, "persistentVolumeClaimRetentionPolicy") {
        set(policy, "whenDeleted", "Retain");
        set(policy, "whenScaled", "Retain");
    }
    set(spec, "replicas", 1);
    set(spec, "revisionHistoryLimit", 10);
}

fn job(spec: &mut Object) {
    if is_unset(spec.get("completions")) && is_unset(spec.get("parallelism")) {
        set(spec, "completions", 1);
    }
    set(spec, "parallelism", 1);
    let limit = if is_unset(spec.get("backoffLimitPerIndex")) { 6 } else { i32::MAX };
    set(spec, "backoffLimit", limit);
    set(spec, "completionMode", "NonIndexed");
    set(spec, "suspend", false);
    let replacement = if is_unset(spec.get("podFailurePolicy")) { "TerminatingOrFailed" } else { "Failed" };
    set(spec, "podReplacementPolicy", replacement);
    set(spec, "manualSelector", false);
    if let Some(policy) = object(spec, "podFailurePolicy") {
        for rule in objects(policy, "rules") {
            for pattern in objects(rule, "onPodConditions") {
                set(pattern, "status", json!("True"));
            }
        }
    }
}

/// A job without labels takes its template's.
fn job_labels(root: &mut Object) {
    let labels = object(root, "spec")
        .and_then(|spec| object(spec, "template"))
        .and_then(|template| object(template, "metadata"))
        .and_then(|meta| meta.get("labels").cloned());
    if let (Some(labels), Some(meta)) = (labels, object(root, "metadata"))
        && meta.get("labels").and_then(|labels| labels.as_object()).is_none_or(|labels| labels.is_empty())
    {
        meta.insert("labels".into(), labels);
    }
}
