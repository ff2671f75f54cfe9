//! Pods live and end: crashes, liveness, startup, grace, hooks.

use kube::api::LogParams;
use serde_json::{Value, json};

use super::rig::{Rig, ended, is_ready, is_running, main, shell, shell_with};

/// A container with a directory that outlives its runs.
fn keeping(script: &str, fields: Value) -> Value {
    let mut fields = fields;
    fields["volumeMounts"] = json!([{"name": "kept", "mountPath": "/kept"}]);
    json!({"volumes": [{"name": "kept", "emptyDir": {}}], "containers": [shell_with(script, fields)]})
}

fn restarts(pod: &k8s_openapi::api::core::v1::Pod) -> i32 {
    main(pod).map_or(0, |status| status.restart_count)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_is_restarted_at_once_and_its_log_kept() {
    let Some(rig) = Rig::start().await else { return };
    let script = "if [ -e /kept/x ]; then echo second; exec sleep 1000; fi; touch /kept/x; echo first; exit 3";
    rig.pod("once", keeping(script, json!({}))).await;
    let pod = rig.until("once", "running again", |pod| is_running(pod) && restarts(pod) == 1).await;
    assert_eq!(ended(&pod), Some(3));
    let previous = LogParams { previous: true, ..LogParams::default() };
    assert_eq!(rig.pods().logs("once", &previous).await.expect("a log"), "first\n");
    assert_eq!(rig.first_line("once").await, "second");

    rig.pod("often", json!({"containers": [shell("echo again; exit 1")]})).await;
    let message = rig.until_waiting("often", "CrashLoopBackOff").await;
    assert!(
        message.starts_with("back-off ") && message.contains("s restarting failed container=main pod=often_default("),
        "{message}"
    );
    rig.until_event("often", &["BackOff", "Back-off restarting failed container main"]).await;
    let pod = rig.pods().get("often").await.expect("it is there");
    assert!(restarts(&pod) >= 1 && !is_ready(&pod), "{pod:?}");

    rig.pod("never", json!({"restartPolicy": "Never", "containers": [shell("echo once; exit 4")]})).await;
    let (pod, log) = rig.finished("never").await;
    assert_eq!((ended(&pod), restarts(&pod), log.as_str()), (Some(4), 0, "once\n"));
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_liveness_probe_restarts() {
    let Some(rig) = Rig::start().await else { return };
    let probe =
        json!({"exec": {"command": ["test", "!", "-e", "/kept/bad"]}, "periodSeconds": 1, "failureThreshold": 1});
    let script = "rm -f /kept/bad; exec sleep 1000";
    rig.pod(
        "sick",
        keeping(script, json!({"livenessProbe": probe, "readinessProbe": {"exec": {"command": ["true"]}}})),
    )
    .await;
    rig.until_ready("sick").await;
    assert_eq!(rig.exec("sick", "touch /kept/bad").await.1, 0);
    rig.until_event("sick", &["Killing", "Container main failed liveness probe, will be restarted"]).await;
    let pod = rig.until("sick", "ready again", |pod| is_ready(pod) && restarts(pod) == 1).await;
    assert_eq!(ended(&pod), Some(143), "SIGTERM");
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_probes_wait_for_the_startup_probe() {
    let Some(rig) = Rig::start().await else { return };
    let up = json!({"exec": {"command": ["test", "-e", "/kept/up"]}, "periodSeconds": 1, "failureThreshold": 60});
    // Would be restarted by it before it is up.
    let alive = json!({"exec": {"command": ["test", "-e", "/kept/up"]}, "periodSeconds": 1, "failureThreshold": 1});
    let fields = json!({"startupProbe": up, "livenessProbe": alive, "readinessProbe": {"exec": {"command": ["true"]}}});
    rig.pod("slow", keeping("exec sleep 1000", fields)).await;
    rig.until_event("slow", &["Unhealthy", "Startup probe failed"]).await;
    let pod = rig.pods().get("slow").await.expect("it is there");
    assert_eq!(main(&pod).map(|status| (status.started, status.ready)), Some((Some(false), false)));
    assert_eq!(rig.exec("slow", "touch /kept/up").await.1, 0);
    let pod = rig.until_ready("slow").await;
    assert_eq!((main(&pod).and_then(|status| status.started), restarts(&pod)), (Some(true), 0));
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ending_is_asked_for_then_forced() {
    let Some(rig) = Rig::start().await else { return };
    let ready = json!({"exec": {"command": ["test", "-e", "/kept/armed"]}});
    let arm = |script: &str| format!("{script}; touch /kept/armed; while :; do sleep 1000 & wait $!; done");
    for (name, script, code) in
        [("polite", "trap 'echo bye; exit 5' TERM", 5), ("deaf", "trap '' TERM", 137), ("plain", "true", 143)]
    {
        // A shell that waits has a handler or dies, whether or not it is the container's first process.
        rig.pod(name, keeping(&arm(script), json!({"readinessProbe": ready}))).await;
        rig.until_ready(name).await;
        assert_eq!(ended(&rig.delete(name).await), Some(code), "{name}");
    }
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hooks_run_before_and_after() {
    let Some(rig) = Rig::start().await else { return };
    let seen = rig.directory.path().join("seen");
    std::fs::create_dir(&seen).expect("a directory");
    let hook = |script: &str| json!({"exec": {"command": ["sh", "-c", script]}});
    let fields = json!({"volumeMounts": [{"name": "seen", "mountPath": "/seen"}],
        "lifecycle": {"postStart": hook("echo up >>/seen/log"), "preStop": hook("echo stopping >>/seen/log")}});
    let script = "trap 'echo ended >>/seen/log; exit 0' TERM; while :; do sleep 1000 & wait $!; done";
    rig.pod(
        "hooked",
        json!({"volumes": [{"name": "seen", "hostPath": {"path": seen}}], "containers": [shell_with(script, fields)]}),
    )
    .await;
    rig.until_ready("hooked").await;
    rig.delete("hooked").await;
    assert_eq!(std::fs::read_to_string(seen.join("log")).expect("a file"), "up\nstopping\nended\n");
    rig.end().await;
}
