//! Whether one object is what its spec asks for, from the object alone.
//!
//! Follows the rules that Helm and `kubectl`-based tools wait by: sigs.k8s.io/cli-utils
//! `pkg/kstatus/status/{core,generic}.go`, restricted to the kinds that ship with Kubernetes and the
//! generic rule (observedGeneration, then the `Ready`, `Reconciling` and `Stalled` conditions) for all others.

use serde_json::Value;

/// What an object's own status says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// As its spec asks.
    Current,
    /// On its way; what is missing, for people.
    InProgress(String),
    /// It has given up; its own reason and message.
    Failed {
        /// CamelCase, the object's own.
        reason: String,
        /// The object's own.
        message: String,
    },
}

/// The status of any object.
pub fn of(object: &Value) -> Status {
    if !object["metadata"]["deletionTimestamp"].is_null() {
        return Status::InProgress("being deleted".to_owned());
    }
    let generation = object["metadata"]["generation"].as_i64();
    let observed = object["status"]["observedGeneration"].as_i64();
    let kind = object["kind"].as_str().unwrap_or_default();
    let group =
        object["apiVersion"].as_str().and_then(|version| version.split_once('/')).map_or("", |(group, _)| group);
    if let (Some(generation), Some(observed)) = (generation, observed)
        && observed < generation
    {
        return Status::InProgress("waiting for its controller".to_owned());
    }
    match (group, kind) {
        ("apps", "Deployment") => deployment(object),
        ("apps", "StatefulSet") => stateful_set(object),
        ("apps", "DaemonSet") => daemon_set(object),
        ("apps", "ReplicaSet") => replica_set(object),
        ("batch", "Job") => job(object),
        ("", "Pod") => pod(object),
        ("", "PersistentVolumeClaim") => claim(object),
        ("", "Service") => service(object),
        ("", "Namespace") => Status::Current,
        ("apiextensions.k8s.io", "CustomResourceDefinition") => custom_resource_definition(object),
        ("policy", "PodDisruptionBudget") => Status::Current,
        _ => generic(object),
    }
}

/// A condition of the object: its status, reason and message.
pub fn condition<'a>(object: &'a Value, kind: &str) -> Option<Condition<'a>> {
    object["status"]["conditions"].as_array()?.iter().find(|entry| entry["type"] == kind).map(|entry| Condition {
        status: entry["status"].as_str().unwrap_or_default(),
        reason: entry["reason"].as_str().unwrap_or_default(),
        message: entry["message"].as_str().unwrap_or_default(),
    })
}

/// One entry of `status.conditions`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Condition<'a> {
    /// `True`, `False` or `Unknown`.
    pub status: &'a str,
    /// CamelCase.
    pub reason: &'a str,
    /// For people.
    pub message: &'a str,
}

impl Condition<'_> {
    fn failed(self) -> Status {
        Status::Failed { reason: self.reason.to_owned(), message: self.message.to_owned() }
    }
}

fn number(object: &Value, field: &str) -> i64 {
    object["status"][field].as_i64().unwrap_or(0)
}

fn replicas(object: &Value) -> i64 {
    object["spec"]["replicas"].as_i64().unwrap_or(1)
}

fn progress(what: &str, have: i64, want: i64) -> Option<Status> {
    (have < want).then(|| Status::InProgress(format!("{have} of {want} {what}")))
}

/// kstatus `deploymentConditions`; the Deployment's own verdict that it ran out of time is final.
fn deployment(object: &Value) -> Status {
    if let Some(progressing) = condition(object, "Progressing")
        && progressing.reason == "ProgressDeadlineExceeded"
    {
        return progressing.failed();
    }
    if object["status"]["observedGeneration"].is_null() {
        return Status::InProgress("waiting for its controller".to_owned());
    }
    let want = replicas(object);
    let (updated, ready, available) =
        (number(object, "updatedReplicas"), number(object, "readyReplicas"), number(object, "availableReplicas"));
    if let Some(status) = progress("created", updated, want) {
        return status;
    }
    if number(object, "replicas") > updated {
        return Status::InProgress(format!("{} old to end", number(object, "replicas") - updated));
    }
    if let Some(status) = progress("ready", ready, want).or_else(|| progress("available", available, want)) {
        return status;
    }
    match condition(object, "Available") {
        Some(available) if available.status == "True" => Status::Current,
        _ if want == 0 => Status::Current,
        _ => Status::InProgress("not available yet".to_owned()),
    }
}

fn stateful_set(object: &Value) -> Status {
    if object["spec"]["updateStrategy"]["type"] == "OnDelete" {
        return Status::Current;
    }
    let want = replicas(object);
    let partition = object["spec"]["updateStrategy"]["rollingUpdate"]["partition"].as_i64().unwrap_or(0);
    if let Some(status) = progress("created", number(object, "replicas"), want)
        .or_else(|| progress("ready", number(object, "readyReplicas"), want))
    {
        return status;
    }
    if number(object, "replicas") > want {
        return Status::InProgress("scaling down".to_owned());
    }
    if partition > 0 {
        return progress("updated", number(object, "updatedReplicas"), want - partition).unwrap_or(Status::Current);
    }
    if object["status"]["currentRevision"] != object["status"]["updateRevision"] {
        return Status::InProgress("rolling out".to_owned());
    }
    Status::Current
}

fn daemon_set(object: &Value) -> Status {
    if object["status"]["observedGeneration"].is_null() {
        return Status::InProgress("waiting for its controller".to_owned());
    }
    let want = number(object, "desiredNumberScheduled");
    progress("updated", number(object, "updatedNumberScheduled"), want)
        .or_else(|| progress("available", number(object, "numberAvailable"), want))
        .or_else(|| progress("ready", number(object, "numberReady"), want))
        .unwrap_or(Status::Current)
}

fn replica_set(object: &Value) -> Status {
    if let Some(failure) = condition(object, "ReplicaFailure")
        && failure.status == "True"
    {
        return Status::InProgress(failure.message.to_owned());
    }
    let want = replicas(object);
    progress("created", number(object, "replicas"), want)
        .or_else(|| progress("ready", number(object, "readyReplicas"), want))
        .or_else(|| progress("available", number(object, "availableReplicas"), want))
        .unwrap_or(Status::Current)
}

/// Unlike kstatus, for which a Job that has started is current: here a Job is waited for until it is complete.
fn job(object: &Value) -> Status {
    if let Some(failed) = condition(object, "Failed").filter(|condition| condition.status == "True") {
        return failed.failed();
    }
    if condition(object, "Complete").is_some_and(|condition| condition.status == "True") {
        return Status::Current;
    }
    if object["spec"]["suspend"] == true {
        return Status::InProgress("suspended".to_owned());
    }
    let want = object["spec"]["completions"].as_i64().unwrap_or(1);
    let (done, failed) = (number(object, "succeeded"), number(object, "failed"));
    Status::InProgress(match (want, failed) {
        (1, 0) => "running".to_owned(),
        (1, failed) => format!("running again, failed {failed}×"),
        (want, _) => format!("{done} of {want} completed"),
    })
}

fn pod(object: &Value) -> Status {
    match object["status"]["phase"].as_str().unwrap_or_default() {
        "Succeeded" => Status::Current,
        "Failed" => Status::Failed {
            reason: object["status"]["reason"].as_str().unwrap_or("PodFailed").to_owned(),
            message: object["status"]["message"].as_str().unwrap_or("the pod failed").to_owned(),
        },
        "Running" => match condition(object, "Ready") {
            Some(ready) if ready.status == "True" => Status::Current,
            _ => Status::InProgress("running, not ready".to_owned()),
        },
        _ => Status::InProgress("pending".to_owned()),
    }
}

fn claim(object: &Value) -> Status {
    match object["status"]["phase"].as_str() {
        Some("Bound") => Status::Current,
        phase => Status::InProgress(format!("claim is {}", phase.unwrap_or("Pending"))),
    }
}

fn service(object: &Value) -> Status {
    if object["spec"]["type"] == "LoadBalancer" && object["spec"]["clusterIP"].as_str().unwrap_or_default().is_empty() {
        return Status::InProgress("no address yet".to_owned());
    }
    Status::Current
}

fn custom_resource_definition(object: &Value) -> Status {
    if let Some(names) = condition(object, "NamesAccepted")
        && names.status == "False"
    {
        return names.failed();
    }
    match condition(object, "Established") {
        Some(established) if established.status == "True" => Status::Current,
        _ => Status::InProgress("not established yet".to_owned()),
    }
}

/// kstatus `checkGenericProperties`: an object without these conditions is current as soon as it exists.
fn generic(object: &Value) -> Status {
    if let Some(stalled) = condition(object, "Stalled").filter(|condition| condition.status == "True") {
        return stalled.failed();
    }
    if let Some(reconciling) = condition(object, "Reconciling").filter(|condition| condition.status == "True") {
        return Status::InProgress(reconciling.message.to_owned());
    }
    match condition(object, "Ready") {
        Some(ready) if ready.status != "True" => {
            Status::InProgress(if ready.message.is_empty() { "not ready".to_owned() } else { ready.message.to_owned() })
        }
        _ => Status::Current,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn deployment(generation: i64, status: Value) -> Value {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"generation": generation},
               "spec": {"replicas": 2}, "status": status})
    }

    fn waits(object: &Value) -> String {
        match of(object) {
            Status::InProgress(why) => why,
            other => panic!("expected progress, got {other:?}"),
        }
    }

    #[test]
    fn a_deployment_is_current_only_for_its_own_generation() {
        let done = json!({"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 2,
                          "availableReplicas": 2, "conditions": [{"type": "Available", "status": "True"}]});
        assert_eq!(of(&deployment(2, done.clone())), Status::Current);
        assert_eq!(waits(&deployment(3, done)), "waiting for its controller");
        assert_eq!(waits(&deployment(1, json!({}))), "waiting for its controller");
    }

    #[test]
    fn a_deployment_counts_what_is_missing_and_waits_for_the_old_ones_to_end() {
        let with = |updated: i64, ready: i64, replicas: i64| {
            deployment(
                1,
                json!({"observedGeneration": 1, "replicas": replicas, "updatedReplicas": updated,
                                 "readyReplicas": ready, "availableReplicas": ready}),
            )
        };
        assert_eq!(waits(&with(1, 2, 3)), "1 of 2 created");
        assert_eq!(waits(&with(2, 1, 3)), "1 old to end");
        assert_eq!(waits(&with(2, 1, 2)), "1 of 2 ready");
        assert_eq!(waits(&with(2, 2, 2)), "not available yet");
    }

    #[test]
    fn a_deployment_past_its_progress_deadline_has_failed() {
        let status = json!({"observedGeneration": 1, "conditions": [{"type": "Progressing", "status": "False",
            "reason": "ProgressDeadlineExceeded", "message": "timed out progressing"}]});
        assert!(
            matches!(of(&deployment(1, status)), Status::Failed { reason, .. } if reason == "ProgressDeadlineExceeded")
        );
    }

    #[test]
    fn a_job_is_waited_for_until_it_is_complete() {
        let job = |status: Value| json!({"apiVersion": "batch/v1", "kind": "Job", "spec": {}, "status": status});
        assert_eq!(waits(&job(json!({}))), "running");
        assert_eq!(waits(&job(json!({"failed": 2}))), "running again, failed 2×");
        assert_eq!(of(&job(json!({"conditions": [{"type": "Complete", "status": "True"}]}))), Status::Current);
        let failed = json!({"conditions": [{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}]});
        assert!(matches!(of(&job(failed)), Status::Failed { reason, .. } if reason == "BackoffLimitExceeded"));
    }

    #[test]
    fn other_kinds_follow_their_conditions_and_are_current_without_any() {
        let custom = |conditions: Value| json!({"apiVersion": "demo.dev/v1", "kind": "Thing", "status": {"conditions": conditions}});
        assert_eq!(of(&custom(json!([]))), Status::Current);
        assert_eq!(waits(&custom(json!([{"type": "Ready", "status": "False", "message": "brewing"}]))), "brewing");
        assert!(matches!(
            of(&custom(json!([{"type": "Stalled", "status": "True", "reason": "Broken"}]))),
            Status::Failed { .. }
        ));
        assert_eq!(of(&json!({"apiVersion": "v1", "kind": "ConfigMap"})), Status::Current);
    }
}
