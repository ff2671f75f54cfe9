//! Upstream's tables: `kubelet_pods_test.go` (`TestPodPhaseWithRestart*`) and `status/generate_test.go`.

use super::*;
use serde_json::{Value, json};

fn spec(policy: &str, init: &[&str], regular: &[&str]) -> PodSpec {
    let containers = |names: &[&str]| {
        names
            .iter()
            .map(|name| {
                json!({"name": name.trim_start_matches('~'),
        "restartPolicy": if name.starts_with('~') { json!("Always") } else { Value::Null }})
            })
            .collect::<Vec<_>>()
    };
    serde_json::from_value(
        json!({"restartPolicy": policy, "initContainers": containers(init), "containers": containers(regular)}),
    )
    .unwrap()
}

fn status(name: &str, words: &str) -> ContainerStatus {
    let state = match words {
        "running" | "started" | "ready" => json!({"running": {}}),
        "succeeded" => json!({"terminated": {"exitCode": 0}}),
        "failed" => json!({"terminated": {"exitCode": 1}}),
        _ => json!({"waiting": {}}),
    };
    let last = match words {
        "waiting-failed" => json!({"terminated": {"exitCode": 1}}),
        "waiting-succeeded" => json!({"terminated": {"exitCode": 0}}),
        _ => json!({}),
    };
    serde_json::from_value(json!({"name": name, "image": "", "imageID": "", "restartCount": 0, "state": state, "lastState": last,
        "ready": words == "ready" || name.starts_with('i') && words == "succeeded", "started": matches!(words, "started" | "ready")}))
    .unwrap()
}

#[test]
fn phases() {
    let one = ["a", "b"];
    for (policy, states, terminal, expected) in [
        ("Always", vec![], false, "Pending"),
        ("Always", vec!["running", "running"], false, "Running"),
        ("Always", vec!["succeeded", "succeeded"], false, "Running"),
        ("Always", vec!["failed", "failed"], false, "Running"),
        ("Always", vec!["succeeded", "succeeded"], true, "Succeeded"),
        ("Always", vec!["failed", "succeeded"], true, "Failed"),
        ("Always", vec!["running", "succeeded"], false, "Running"),
        ("Always", vec!["running"], false, "Pending"),
        ("Always", vec!["running", "waiting"], false, "Pending"),
        ("Always", vec!["running", "waiting-failed"], false, "Running"),
        ("Always", vec!["waiting-failed", "waiting-failed"], false, "Running"),
        ("Never", vec!["succeeded", "succeeded"], false, "Succeeded"),
        ("Never", vec!["failed", "failed"], false, "Failed"),
        ("Never", vec!["running", "failed"], false, "Running"),
        ("Never", vec!["succeeded", "failed"], false, "Failed"),
        ("OnFailure", vec!["succeeded", "succeeded"], false, "Succeeded"),
        ("OnFailure", vec!["failed", "failed"], false, "Running"),
        ("OnFailure", vec!["succeeded", "waiting-failed"], false, "Running"),
    ] {
        let owned: Vec<ContainerStatus> = states.iter().zip(one).map(|(state, name)| status(name, state)).collect();
        let refs: Vec<&ContainerStatus> = owned.iter().collect();
        assert_eq!(phase(&spec(policy, &[], &one), &refs, terminal, true), expected, "{policy} {states:?} {terminal}");
    }
}

#[test]
fn phases_with_init_containers() {
    for (policy, init, states, initialized, expected) in [
        ("Always", "i", vec![("i", "running")], false, "Pending"),
        ("Always", "i", vec![("i", "failed")], false, "Pending"),
        ("Never", "i", vec![("i", "failed")], false, "Failed"),
        ("OnFailure", "i", vec![("i", "waiting-failed")], false, "Pending"),
        ("Always", "i", vec![("i", "succeeded"), ("a", "running")], true, "Running"),
        ("Always", "i", vec![("i", "succeeded"), ("a", "waiting")], false, "Pending"),
        ("Always", "~i", vec![("i", "running"), ("a", "waiting")], false, "Pending"),
        ("Always", "~i", vec![("i", "running"), ("a", "running")], true, "Running"),
        ("Never", "~i", vec![("i", "succeeded"), ("a", "succeeded")], true, "Succeeded"),
        ("Never", "~i", vec![("i", "started"), ("a", "succeeded")], true, "Running"),
    ] {
        let owned: Vec<ContainerStatus> = states.iter().map(|(name, state)| status(name, state)).collect();
        let refs: Vec<&ContainerStatus> = owned.iter().collect();
        assert_eq!(
            phase(&spec(policy, &[init], &["a"]), &refs, false, initialized),
            expected,
            "{policy} {init} {states:?}"
        );
    }
}

fn condition<'a>(status: &'a PodStatus, kind: &str) -> &'a PodCondition {
    status.conditions.iter().flatten().find(|condition| condition.type_ == kind).unwrap()
}

fn observed(init: Vec<ContainerStatus>, regular: Vec<ContainerStatus>) -> Observed {
    Observed {
        has_initialized: !regular.is_empty(),
        init,
        regular,
        sandbox: true,
        pod_ip: Some("10.244.0.7".to_owned()),
        host_ip: "10.244.0.1".to_owned(),
        start_time: at(1),
        terminal: false,
        failed: None,
    }
}

fn at(second: i64) -> Time {
    Time(k8s_openapi::jiff::Timestamp::from_second(second).unwrap())
}

fn pod(spec: PodSpec) -> Pod {
    let mut pod = Pod { spec: Some(spec), ..Pod::default() };
    pod.metadata.generation = Some(3);
    pod
}

#[test]
fn conditions_on_the_way_to_ready() {
    let pod = pod(spec("Always", &["i"], &["a"]));
    let first = generate(
        &pod,
        &PodStatus::default(),
        &observed(vec![status("i", "running")], vec![status("a", "waiting")]),
        at(1),
    );
    assert_eq!(first.phase.as_deref(), Some("Pending"));
    let initialized = condition(&first, "Initialized");
    assert_eq!(initialized.status, "False");
    assert_eq!(initialized.reason.as_deref(), Some("ContainersNotInitialized"));
    assert_eq!(initialized.message.as_deref(), Some("containers with incomplete status: [i]"));
    assert_eq!(condition(&first, "Ready").message.as_deref(), Some("containers with unready status: [a]"));
    assert_eq!(condition(&first, "PodReadyToStartContainers").status, "True");
    assert_eq!(condition(&first, "PodScheduled").observed_generation, Some(3));

    let second = generate(&pod, &first, &observed(vec![status("i", "succeeded")], vec![status("a", "ready")]), at(2));
    assert_eq!(second.phase.as_deref(), Some("Running"));
    for kind in ["Initialized", "Ready", "ContainersReady"] {
        assert_eq!(condition(&second, kind).status, "True", "{kind}");
        assert_eq!(condition(&second, kind).last_transition_time, Some(at(2)), "{kind}");
    }
    assert_eq!(condition(&second, "PodScheduled").last_transition_time, Some(at(1)), "unchanged");
    assert_eq!(second.observed_generation, Some(3));
}

#[test]
fn readiness_gates() {
    let mut pod = pod(spec("Always", &[], &["a"]));
    pod.spec.as_mut().unwrap().readiness_gates =
        Some(vec![k8s_openapi::api::core::v1::PodReadinessGate { condition_type: "my/gate".to_owned() }]);
    let seen = observed(vec![], vec![status("a", "ready")]);
    let status = generate(&pod, &PodStatus::default(), &seen, at(1));
    assert_eq!(condition(&status, "ContainersReady").status, "True");
    assert_eq!(condition(&status, "Ready").reason.as_deref(), Some("ReadinessGatesNotReady"));
    assert_eq!(
        condition(&status, "Ready").message.as_deref(),
        Some("corresponding condition of pod readiness gate \"my/gate\" does not exist.")
    );
    pod.status = serde_json::from_value(json!({"conditions": [{"type": "my/gate", "status": "True"}]})).unwrap();
    let status = generate(&pod, &PodStatus::default(), &seen, at(1));
    assert_eq!(condition(&status, "Ready").status, "True");
}

#[test]
fn terminal_phases_stick_and_explain() {
    let pod = pod(spec("Never", &[], &["a"]));
    let done = generate(&pod, &PodStatus::default(), &observed(vec![], vec![status("a", "succeeded")]), at(1));
    assert_eq!(done.phase.as_deref(), Some("Succeeded"));
    assert_eq!(condition(&done, "Ready").reason.as_deref(), Some("PodCompleted"));
    assert_eq!(condition(&done, "Initialized").reason.as_deref(), Some("PodCompleted"));
    let mut seen = observed(vec![], vec![status("a", "failed")]);
    seen.failed = Some(("DeadlineExceeded", "Pod was active on the node longer than the specified deadline"));
    let failed = generate(&pod, &PodStatus::default(), &seen, at(1));
    assert_eq!((failed.phase.as_deref(), failed.reason.as_deref()), (Some("Failed"), Some("DeadlineExceeded")));
    assert_eq!(condition(&failed, "ContainersReady").reason.as_deref(), Some("PodFailed"));
    let later = generate(&pod, &failed, &observed(vec![], vec![status("a", "succeeded")]), at(2));
    assert_eq!(later.phase.as_deref(), Some("Failed"), "never leaves it");
}
