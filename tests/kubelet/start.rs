//! Pods start: probes, environment, init containers, what is missing.

use std::sync::Arc;

use envctl::embedded::kubelet::image::Image;
use serde_json::{Value, json};

use super::rig::{Rig, ended, is_running, main, phase, shell_with};

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_readiness_probe() {
    let Some(rig) = Rig::start().await else { return };
    for (name, probe) in [
        ("http", json!({"httpGet": {"path": "/", "port": "web"}})),
        ("tcp", json!({"tcpSocket": {"port": 8080}})),
        ("exec", json!({"exec": {"command": ["sh", "-c", "test \"$NAME\" = exec"]}})),
    ] {
        let container = json!({"name": "main", "command": ["hello"], "readinessProbe": probe,
            "ports": [{"name": "web", "containerPort": 8080}], "env": [{"name": "NAME", "value": name}]});
        rig.pod(name, json!({"containers": [container]})).await;
    }
    for name in ["http", "tcp", "exec"] {
        let pod = rig.until_ready(name).await;
        assert_eq!(main(&pod).map(|status| (status.ready, status.restart_count)), Some((true, 0)), "{name}");
        assert!(pod.status.and_then(|status| status.pod_ip).is_some_and(|ip| ip.starts_with("10.244.")), "{name}");
    }
    // Nobody listens there: it runs, and is not ready.
    let container =
        shell_with("exec sleep 1000", json!({"readinessProbe": {"tcpSocket": {"port": 1}, "periodSeconds": 1}}));
    rig.pod("deaf", json!({"containers": [container]})).await;
    rig.until_event("deaf", &["Unhealthy", "Readiness probe failed", "connection refused"]).await;
    let pod = rig.until("deaf", "running", is_running).await;
    assert_eq!(main(&pod).map(|status| (status.ready, status.started)), Some((false, Some(true))));
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_environment() {
    let Some(rig) = Rig::start().await else { return };
    rig.create("v1", "ConfigMap", json!({"metadata": {"name": "settings"}, "data": {"LEVEL": "high", "COLOR": "red"}}))
        .await;
    rig.create("v1", "Secret", json!({"metadata": {"name": "db"}, "stringData": {"password": "p$ss"}})).await;
    let env = json!([
        {"name": "LEVEL", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "LEVEL"}}},
        {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "db", "key": "password"}}},
        {"name": "ABSENT", "valueFrom": {"secretKeyRef": {"name": "db", "key": "none", "optional": true}}},
        {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "LABEL", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
        {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "LIMIT", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
        {"name": "URL", "value": "http://$(POD):$(PORT)/$$(POD)"},
    ]);
    let script = "echo \"$LEVEL|$PASSWORD|${ABSENT-unset}|$POD|$LABEL|$LIMIT|$URL|$MAP_COLOR|$1\"; echo $IP; env | grep -c CARGO";
    let container = json!({"name": "main", "command": ["sh", "-c", script, "sh"], "args": ["$(LEVEL)-$(NOBODY)"], "env": env,
        "envFrom": [{"prefix": "MAP_", "configMapRef": {"name": "settings"}}], "resources": {"limits": {"memory": "64Mi"}}});
    rig.labelled_pod("env", json!({"app": "shop"}), json!({"restartPolicy": "Never", "containers": [container]})).await;
    let (pod, log) = rig.finished("env").await;
    let ip = pod.status.and_then(|status| status.pod_ip).expect("an address");
    let said: Vec<&str> = log.lines().collect();
    assert_eq!(said[0], "high|p$ss|unset|env|shop|64|http://env:$(PORT)/$(POD)|red|high-$(NOBODY)");
    assert_eq!(said[1..], [ip.as_str(), "0"], "its own address, and nothing of the caller's environment");
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn init_containers_run_one_by_one_before_the_rest() {
    let Some(rig) = Rig::start().await else { return };
    let mounts = json!([{"name": "work", "mountPath": "/work"}]);
    let init =
        |name: &str, script: &str| json!({"name": name, "command": ["sh", "-c", script], "volumeMounts": mounts});
    let spec = |first: &str| {
        json!({"restartPolicy": "Never", "volumes": [{"name": "work", "emptyDir": {}}],
            "initContainers": [init("first", first), init("second", "cat /work/log && echo second >>/work/log")],
            "containers": [shell_with("echo main >>/work/log; cat /work/log", json!({"volumeMounts": mounts}))]})
    };
    rig.pod("good", spec("echo first >>/work/log")).await;
    let (pod, log) = rig.finished("good").await;
    assert_eq!((phase(&pod), log.as_str()), ("Succeeded", "first\nsecond\nmain\n"));
    rig.pod("bad", spec("exit 7")).await;
    let pod = rig.until("bad", "over", |pod| phase(pod) == "Failed").await;
    let status = pod.status.expect("a status");
    let codes: Vec<Option<i32>> = status
        .init_container_statuses
        .into_iter()
        .flatten()
        .map(|status| status.state.and_then(|state| state.terminated).map(|ended| ended.exit_code))
        .collect();
    assert_eq!(codes, [Some(7), None], "the second never ran");
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_image_says_how_to_map_it_and_is_run_once_mapped() {
    let Some(rig) = Rig::start().await else { return };
    rig.pod("late", json!({"restartPolicy": "Never", "containers": [{"name": "main", "image": "demo/late:1"}]})).await;
    let message = rig.until_waiting("late", "ErrImagePull").await;
    assert!(message.contains("images: { \"demo/late:1\": { process: { entrypoint: [PROGRAM] } } }"), "{message}");
    rig.until_event("late", &["Failed", "Failed to pull image \"demo/late:1\""]).await;
    let entrypoint = ["sh", "-c", "echo mapped"].map(str::to_owned).to_vec();
    rig.images.send_modify(|table| {
        Arc::make_mut(table).insert("demo/late:1".to_owned(), Image { entrypoint, ..Image::default() });
    });
    assert_eq!(rig.finished("late").await.1, "mapped\n");
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_secret_is_waited_for() {
    let Some(rig) = Rig::start().await else { return };
    let env = json!([{"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "db", "key": "password"}}}]);
    rig.pod(
        "app",
        json!({"restartPolicy": "Never", "containers": [shell_with("echo $PASSWORD", json!({"env": env}))]}),
    )
    .await;
    assert_eq!(rig.until_waiting("app", "CreateContainerConfigError").await, "secret \"db\" not found");
    rig.create("v1", "Secret", json!({"metadata": {"name": "db"}, "stringData": {"password": "found"}})).await;
    assert_eq!(rig.finished("app").await.1, "found\n");
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_is_not_there() {
    let Some(rig) = Rig::start().await else { return };
    let spec = |policy: &str| -> Value {
        json!({"restartPolicy": policy, "containers": [{"name": "main", "command": ["no-such-program"]}]})
    };
    rig.pod("never", spec("Never")).await;
    let pod = rig.until("never", "over", |pod| phase(pod) == "Failed").await;
    assert_eq!(ended(&pod), Some(128), "as containerd's StartError");
    rig.pod("always", spec("Always")).await;
    let message = rig.until_waiting("always", "RunContainerError").await;
    assert!(message.contains("exec: \"no-such-program\": executable file not found in $PATH"), "{message}");
    rig.pod("empty", json!({"containers": [{"name": "main"}]})).await;
    let message = rig.until_waiting("empty", "CreateContainerError").await;
    assert!(message.contains("no command specified"), "{message}");
    rig.end().await;
}
