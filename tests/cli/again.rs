//! The second `up`, after the file has changed, after a failed one, or after nothing: the session is what the file says, and keeps its data.

use std::net::TcpStream;

use super::context::{Context, Ran};
use super::swap::get;

const IMAGES: &str = "name: demo\nimages: { sh: { entrypoint: [/bin/sh, -c], process: {} }, python: { entrypoint: [python3], process: {} } }\n";
const SLEEP: &str = "exec sleep 100000";

fn up(context: &Context, file: &str) -> Ran {
    context.write("envctl.yaml", &format!("{IMAGES}{file}"));
    context.run(&["up", "--wait-timeout", "60s"])
}

#[track_caller]
fn comes_up(context: &Context, file: &str) -> Ran {
    let ran = up(context, file);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    ran
}

fn service(name: &str, more: &str) -> String {
    format!("  {name}: {{ image: sh, args: [\"{SLEEP}\"], grace: 1s{more} }}\n")
}

const DATA: &str = ", volumes: { /data: { name: data } }";

#[track_caller]
fn inside(context: &Context, service: &str, script: &str) -> String {
    let ran = context.run(&["exec", service, "--", "sh", "-c", script]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    ran.stdout
}

#[test]
fn a_volume_stays_while_any_service_has_it() {
    let context = Context::new();
    // Whoever comes first makes it.
    let all = ["a", "b", "c", "d"].map(|name| service(name, DATA)).concat();
    comes_up(&context, &format!("services:\n{all}"));
    inside(&context, "a", "echo kept > /data/x");
    let (with, without) = (service("a", DATA), service("b", ""));
    comes_up(&context, &format!("services:\n{with}{without}"));
    // And where its only one has another name now.
    let renamed = service("z", DATA);
    comes_up(&context, &format!("services:\n{renamed}{without}"));
    assert_eq!(context.run(&["restart", "z"]).code, Some(0));
    assert_eq!(inside(&context, "z", "cat /data/x"), "kept\n");
}

#[test]
fn what_a_manifest_applied_is_unchanged_and_moves_with_its_file() {
    let context = Context::new();
    let objects: Vec<serde_json::Value> = (0..8)
        .map(|number| serde_json::json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": format!("map-{number}") }, "data": { "a": "b" } }))
        .collect();
    let budget = serde_json::json!({ "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": { "name": "budget" },
        "spec": { "minAvailable": 0, "selector": { "matchLabels": { "app": "x" } } } });
    let limits = serde_json::json!({ "apiVersion": "v1", "kind": "LimitRange", "metadata": { "name": "limits" },
        "spec": { "limits": [{ "type": "Container", "default": { "memory": "1Gi" } }] } });
    let job = serde_json::json!({ "apiVersion": "batch/v1", "kind": "Job", "metadata": { "name": "once" }, "spec": { "template": {
        "spec": { "restartPolicy": "Never", "containers": [{ "name": "once", "image": "sh", "args": ["true"] }] } } } });
    let text: Vec<String> = objects.iter().chain([&budget, &limits, &job]).map(ToString::to_string).collect();
    context.write("k8s/all.yaml", &text.join("\n---\n"));
    context.write("deploy/all.yaml", &text.join("\n---\n"));
    let file = |path: &str| {
        format!(
            "services:\n{}manifests: [{{ path: {path} }}]\n",
            service("a", ", rbac: [{ apiGroups: [\"*\"], resources: [\"*\"], verbs: [\"*\"] }]")
        )
    };
    comes_up(&context, &file("k8s/all.yaml"));
    let again = comes_up(&context, &file("k8s/all.yaml"));
    assert!(again.stderr.contains("manifest k8s/all.yaml: unchanged"), "{again:?}");
    comes_up(&context, &file("deploy/all.yaml"));
    let again = comes_up(&context, &file("deploy/all.yaml"));
    assert!(again.stderr.contains("manifest deploy/all.yaml: unchanged"), "{again:?}");
    let dump = context.run(&["dump", "--to", "bundle"]);
    assert_eq!(dump.code, Some(0), "{dump:?}");
    let listed = std::process::Command::new("grep")
        .args(["-rlE", "name: map-7"])
        .arg(context.project().join("bundle"))
        .output()
        .unwrap();
    assert!(listed.status.success(), "all of it is there");
}

#[test]
fn what_a_failed_up_applied_is_undone_with_the_file() {
    let context = Context::new();
    let write = |mode: &str, replicas: serde_json::Value| {
        let map = serde_json::json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "map" }, "data": { "mode": mode } });
        let pod = serde_json::json!({ "containers": [{ "name": "web", "image": "sh", "args": [SLEEP] }], "terminationGracePeriodSeconds": 1 });
        let labels = serde_json::json!({ "app": "web" });
        let web = serde_json::json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "web" },
            "spec": { "replicas": replicas, "selector": { "matchLabels": labels }, "template": { "metadata": { "labels": labels }, "spec": pod } } });
        context.write("all.yaml", &format!("{map}\n---\n{web}\n"));
    };
    let file = "manifests: [{ path: all.yaml }]\n";
    write("one", 1.into());
    comes_up(&context, file);
    write("two", "many".into());
    let failed = up(&context, file);
    assert!(failed.code == Some(3) && failed.stderr.contains("replicas"), "{failed:?}");
    write("one", 1.into());
    let again = comes_up(&context, file);
    assert!(!again.stderr.contains("manifest all.yaml: unchanged"), "{again:?}");
}

#[test]
fn a_port_of_another_number_is_where_its_address_leads() {
    let context = Context::new();
    let file = |port: u16| {
        format!(
            "services:\n  web: {{ image: python, args: [-m, http.server, \"{port}\"], grace: 1s, ports: {{ http: {port} }}, ready: {{ http: {{ path: / }} }} }}\n"
        )
    };
    let answers = || {
        let address = super::swap::address(&context, "web:http");
        drop(TcpStream::connect(&address).unwrap());
        assert!(get(&address).unwrap().contains("Directory listing"), "{address}");
    };
    comes_up(&context, &file(8080));
    answers();
    comes_up(&context, &file(9090));
    answers();
}

#[test]
fn keys_that_an_up_issued_before_it_failed_reach_the_pods_with_the_next() {
    let context = Context::new();
    let file = format!(
        "services:\n{}keys:\n  A: {{ generate: {{ bytes: 16 }} }}\n  B: {{ fromEnv: BVAR }}\n",
        service("a", ", env: { A: { key: A }, B: { key: B } }")
    );
    context.write("envctl.yaml", &format!("{IMAGES}{file}"));
    let with = |arguments: &[&str]| context.ran(context.command(arguments).env("BVAR", "some-value"));
    assert_eq!(with(&["up"]).code, Some(0));
    let shown = || String::from_utf8(context.command(&["keys", "show", "A"]).output().unwrap().stdout).unwrap();
    let before = shown();
    let failed = context.run(&["keys", "rotate", "A", "B"]);
    assert_eq!(failed.code, Some(5), "{failed:?}");
    let again = with(&["up"]);
    assert_eq!(again.code, Some(0), "{again:?}");
    assert_ne!(shown(), before, "it had been issued");
    let mut command =
        context.command(&["exec", "--raw", "a", "--", "sh", "-c", "tr '\\0' '\\n' < /proc/1/environ; echo A=$A"]);
    let inside = String::from_utf8(command.output().unwrap().stdout).unwrap();
    assert!(inside.contains(&format!("A={}", shown().trim())), "what is shown is what pods have");
}

#[test]
fn two_runs_of_a_job_do_not_meet() {
    let context = Context::new();
    let file = |run: &str, rest: &str| {
        let script = format!(
            "trap 'sleep 1; echo {run} ended >> /data/log; exit 1' TERM; echo {run} began >> /data/log; {rest}"
        );
        format!(
            "services:\n{}jobs:\n  job: {{ image: sh, args: [\"{script}\"], volumes: {{ /data: {{ name: data }} }} }}\n",
            service("a", DATA)
        )
    };
    let meeting = "mkfifo /data/here 2>/dev/null; echo > /data/here; sleep 100000 & wait";
    context.write("envctl.yaml", &format!("{IMAGES}{}", file("first", meeting)));
    let mut first = context.start(&["up", "--keep", "--wait-timeout", "10s"]);
    first.until("service a: ready");
    inside(&context, "a", "mkfifo /data/here 2>/dev/null; cat /data/here");
    assert_eq!(first.end(&context).code, Some(3), "it never completes, and stays");
    comes_up(&context, &file("second", "true"));
    assert_eq!(inside(&context, "a", "cat /data/log"), "first began\nfirst ended\nsecond began\n");
}

#[test]
fn dollars_of_a_variable_reach_the_pod() {
    let context = Context::new();
    let file = service("a", ", env: { PW: \"${PASSWORD}\", DSN: \"x:${PASSWORD}@y\", LONG: \"$$(PW)/z\" }")
        .replace(SLEEP, "echo ${GREETING}; exec sleep 100000");
    context.write("envctl.yaml", &format!("{IMAGES}services:\n{file}"));
    let ran = context.ran(context.command(&["up"]).env("PASSWORD", "pa$$wo$rd$").env("GREETING", "'it costs $$5'"));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(inside(&context, "a", "echo $PW $DSN $LONG"), "pa$$wo$rd$ x:pa$$wo$rd$@y pa$$wo$rd$/z\n");
    let said = context.run(&["logs", "a"]).stdout;
    assert!(said.contains("it costs $$5"), "{said}");
}
