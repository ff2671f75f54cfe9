use serde_json::json;

use super::*;
use crate::provision::failure::Cause;
use crate::readiness::Patience;

fn deployment(generation: i64, revision: &str, ready: i64) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"namespace": "ns", "name": "api", "uid": "d", "generation": generation, "annotations": {REVISION: revision}},
        "spec": {"replicas": 1},
        "status": {"observedGeneration": generation, "replicas": 1, "updatedReplicas": 1, "readyReplicas": ready,
            "availableReplicas": ready, "conditions": [{"type": "Available", "status": if ready > 0 { "True" } else { "False" }}]}})
}

fn replica_set(revision: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": {"namespace": "ns", "name": format!("api-{revision}"), "uid": format!("r{revision}"),
            "annotations": {REVISION: revision},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": "api", "uid": "d", "controller": true}]},
        "spec": {"replicas": 1}, "status": {}})
}

fn pod(revision: &str, waiting: &str) -> Change {
    let pod = json!({"metadata": {"namespace": "ns", "name": format!("api-{revision}-x"), "uid": format!("p{revision}"),
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": format!("api-{revision}"),
                "uid": format!("r{revision}"), "controller": true}]},
        "spec": {"containers": [{"name": "api", "image": "demo"}]},
        "status": {"containerStatuses": [{"name": "api", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"waiting": {"reason": waiting, "message": "why"}}}]}});
    Change::Pod(Box::new(serde_json::from_value(pod).expect("a pod")))
}

fn event(kind: &str, uid: &str, name: &str, reason: &str, message: &str) -> Change {
    let event = json!({"metadata": {"name": format!("{name}.{reason}")}, "reason": reason, "message": message,
        "involvedObject": {"apiVersion": "v1", "kind": kind, "namespace": "ns", "name": name, "uid": uid}});
    Change::Event(Box::new(serde_json::from_value(event).expect("an event")))
}

fn key() -> ObjectKey {
    ObjectKey {
        group: "apps".to_owned(),
        kind: "Deployment".to_owned(),
        namespace: "ns".to_owned(),
        name: "api".to_owned(),
    }
}

fn verdict(observed: &Observed, generation: i64) -> Verdict {
    observed.verdict(&key(), &Expected { uid: "d".to_owned(), generation }, Role::Serve, &Limits::default())
}

fn cause(verdict: Verdict) -> Cause {
    match verdict {
        Verdict::Failing(finding) => finding.cause,
        other => panic!("expected a finding, got {other:?}"),
    }
}

#[test]
fn changes_lead_to_the_object_that_was_applied() {
    let mut observed = Observed::default();
    assert_eq!(observed.apply(Change::Object(deployment(1, "1", 0))), Some(key()));
    assert_eq!(observed.apply(Change::Object(replica_set("1"))), Some(key()));
    assert_eq!(observed.apply(pod("1", "ContainerCreating")), Some(key()));
    assert_eq!(observed.apply(event("Pod", "p1", "api-1-x", "Pulled", "m")), Some(key()));
    assert_eq!(observed.apply(Change::PodGone("api-1-x".to_owned())), Some(key()));
}

#[test]
fn a_state_older_than_what_was_applied_is_not_judged() {
    let mut observed = Observed::default();
    observed.apply(Change::Object(deployment(1, "1", 1)));
    assert_eq!(verdict(&observed, 1), Verdict::Ready);
    assert_eq!(verdict(&observed, 2), Verdict::Waiting("applied".to_owned()));
    let another = Expected { uid: "other".to_owned(), generation: 1 };
    assert!(matches!(observed.verdict(&key(), &another, Role::Serve, &Limits::default()), Verdict::Waiting(_)));
}

#[test]
fn pods_of_an_older_revision_are_not_held_against_it() {
    let mut observed = Observed::default();
    observed.apply(Change::Object(deployment(2, "2", 0)));
    observed.apply(Change::Object(replica_set("1")));
    observed.apply(pod("1", "ErrImagePull"));
    assert_eq!(verdict(&observed, 2), Verdict::Waiting("0 of 1 ready".to_owned()));
    observed.apply(Change::Object(replica_set("2")));
    observed.apply(pod("2", "ErrImagePull"));
    assert_eq!(cause(verdict(&observed, 2)), Cause::ImageNotFound { image: "demo".to_owned() });
}

#[test]
fn what_the_api_refuses_is_found_by_the_events_of_the_replica_set() {
    let mut observed = Observed::default();
    observed.apply(Change::Object(deployment(1, "1", 0)));
    observed.apply(Change::Object(replica_set("1")));
    let refused = "Error creating: pods \"api-1-x\" is forbidden: exceeded quota: q, requested: pods=1";
    observed.apply(event("ReplicaSet", "r1", "api-1", "FailedCreate", refused));
    assert_eq!(cause(verdict(&observed, 1)), Cause::QuotaExceeded);
    // Once a pod is there, the event is history.
    observed.apply(pod("1", "ContainerCreating"));
    assert!(matches!(verdict(&observed, 1), Verdict::Waiting(_)));
}

#[test]
fn some_pods_of_several_may_be_too_many() {
    let mut observed = Observed::default();
    observed.apply(Change::Object(deployment(1, "1", 0)));
    observed.apply(pod("1", "ContainerCreating"));
    let mut set = replica_set("1");
    let message = "pods \"api-1-y\" is forbidden: exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1";
    set["status"]["conditions"] =
        json!([{"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": message}]);
    observed.apply(Change::Object(set.clone()));
    assert_eq!(cause(verdict(&observed, 1)), Cause::QuotaExceeded);
    set["status"]["conditions"] = json!([]);
    observed.apply(Change::Object(set));
    assert!(matches!(verdict(&observed, 1), Verdict::Waiting(_)));
}

#[test]
fn a_policy_that_refuses_pods_is_named() {
    let mut observed = Observed::default();
    observed.apply(Change::Object(deployment(1, "1", 0)));
    observed.apply(Change::Object(replica_set("1")));
    let refused = "Error creating: pods \"api-1-x\" is forbidden: violates PodSecurity \"restricted:latest\": runAsNonRoot != true";
    observed.apply(event("ReplicaSet", "r1", "api-1", "FailedCreate", refused));
    assert_eq!(
        cause(verdict(&observed, 1)),
        Cause::AdmissionRefused { by: "PodSecurity restricted:latest".to_owned() }
    );
}

#[test]
fn a_volume_whose_secret_is_missing_is_found_by_the_pods_events() {
    let mut observed = Observed::default();
    observed.apply(Change::Object(deployment(1, "1", 0)));
    observed.apply(Change::Object(replica_set("1")));
    observed.apply(pod("1", "ContainerCreating"));
    let message = "MountVolume.SetUp failed for volume \"s\" : secret \"s\" not found";
    observed.apply(event("Pod", "p1", "api-1-x", "FailedMount", message));
    assert_eq!(cause(verdict(&observed, 1)), Cause::MissingConfig);
}

#[test]
fn a_failed_job_says_its_reason() {
    let mut observed = Observed::default();
    let job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"namespace": "ns", "name": "m", "uid": "j"},
        "spec": {}, "status": {"conditions": [{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "limit"}]}});
    let key = ObjectKey::of(&job);
    observed.apply(Change::Object(job));
    let expected = Expected { uid: "j".to_owned(), generation: 0 };
    let verdict = observed.verdict(&key, &expected, Role::Complete, &Limits::default());
    assert!(
        matches!(&verdict, Verdict::Failing(finding) if matches!(finding.patience, Patience::For(_))),
        "{verdict:?}"
    );
    assert_eq!(cause(verdict), Cause::JobFailed { job_reason: "BackoffLimitExceeded".to_owned(), code: None });
    // Its pod's end is seen later.
    let pod = json!({"metadata": {"namespace": "ns", "name": "m-x", "uid": "p",
            "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": "m", "uid": "j", "controller": true}]},
        "spec": {"containers": [{"name": "m", "image": "demo"}]},
        "status": {"phase": "Failed", "containerStatuses": [{"name": "m", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"terminated": {"exitCode": 128, "reason": "StartError", "message": "no such program",
                "startedAt": "1970-01-01T00:00:00Z", "finishedAt": "2026-01-01T00:00:00Z"}}}]}});
    observed.apply(Change::Pod(Box::new(serde_json::from_value(pod).expect("a pod"))));
    let verdict = observed.verdict(&key, &expected, Role::Complete, &Limits::default());
    assert_eq!(cause(verdict), Cause::CommandNotFound { detail: "no such program".to_owned() });
    assert_eq!(observed.pods_of(&key).into_iter().map(pods::progress).collect::<Vec<_>>(), ["exited with code 128"]);
}

#[test]
fn a_watch_that_begins_anew_forgets_only_its_kind() {
    let mut observed = Observed::default();
    observed.apply(Change::Object(deployment(1, "1", 1)));
    observed.apply(Change::Object(replica_set("1")));
    observed.apply(Change::Reset { group: "apps".to_owned(), kind: "ReplicaSet".to_owned() });
    assert!(observed.object(&key()).is_some());
    assert_eq!(observed.newest_replica_set(observed.object(&key()).expect("there")), None);
}

#[test]
fn a_name_leads_to_the_ready_pods_alone_once_its_slices_say_so() {
    let ready = |revision: &str| {
        let pod = json!({"metadata": {"namespace": "ns", "name": format!("api-{revision}-x"), "uid": format!("p{revision}"),
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": format!("api-{revision}"),
                    "uid": format!("r{revision}"), "controller": true}]},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
        Change::Pod(Box::new(serde_json::from_value(pod).expect("a pod")))
    };
    let slice = |name: &str, by: &str, pods: &[(&str, bool)]| {
        let endpoint = |(pod, ready): &(&str, bool)| json!({"conditions": {"ready": ready}, "targetRef": {"kind": "Pod", "name": pod}});
        Change::Object(json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"namespace": "ns", "name": name, "labels": {"kubernetes.io/service-name": "api",
                "endpointslice.kubernetes.io/managed-by": by}},
            "endpoints": pods.iter().map(endpoint).collect::<Vec<_>>()}))
    };
    let synced = Change::Synced { group: "discovery.k8s.io".to_owned(), kind: "EndpointSlice".to_owned() };
    let mut observed = Observed::default();
    observed.apply(Change::Object(deployment(2, "2", 1)));
    observed.apply(Change::Object(replica_set("1")));
    observed.apply(Change::Object(replica_set("2")));
    observed.apply(ready("1"));
    observed.apply(ready("2"));
    let service = ObjectKey { group: String::new(), kind: "Service".to_owned(), ..key() };
    assert_eq!(
        observed.apply(slice("api-1", SLICE_CONTROLLER, &[("api-1-x", true), ("api-2-x", true)])),
        Some(service)
    );
    assert!(!observed.is_led_to("api", &key()), "not all is listed yet");
    observed.apply(synced);
    assert!(!observed.is_led_to("api", &key()), "the old pod is still named");
    observed.apply(slice("api-1", SLICE_CONTROLLER, &[("api-1-x", false), ("api-2-x", true)]));
    assert!(observed.is_led_to("api", &key()));
    assert!(!observed.is_led_to("web", &key()), "another's name");
    // What stands in for pods is no pod of it.
    observed.apply(slice("api-on-host", "envctl.dev", &[]));
    assert!(observed.is_led_to("api", &key()));
    observed.apply(slice("api-1", SLICE_CONTROLLER, &[]));
    assert!(!observed.is_led_to("api", &key()), "nor is it led nowhere");
    // None are wanted, which the Deployment's own watch tells before the pods' and the slices' do.
    observed.apply(slice("api-1", SLICE_CONTROLLER, &[("api-1-x", false), ("api-2-x", true)]));
    let mut aside = deployment(3, "2", 0);
    aside["spec"]["replicas"] = json!(0);
    observed.apply(Change::Object(aside));
    assert!(!observed.is_led_to("api", &key()), "the pod is still there and still named");
    observed.apply(Change::PodGone("api-2-x".to_owned()));
    assert!(!observed.is_led_to("api", &key()), "the pod is still named");
    observed.apply(slice("api-1", SLICE_CONTROLLER, &[]));
    assert!(observed.is_led_to("api", &key()));
}
