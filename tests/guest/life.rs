//! A session's whole life on a real cluster.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::rig::{IMAGE, Rig};

#[test]
fn it_comes_up_is_reached_and_is_gone_afterwards() {
    let Some(rig) = Rig::new() else { return };
    rig.expect(0, &["up"]);
    let record = rig.record();
    let namespace = record["namespace"].as_str().expect("a namespace");
    let answer = rig.get(record["addresses"]["web.http"].as_str().expect("an address"));
    assert!(answer.ends_with("web\n"), "{answer}");
    let logs = rig.expect(0, &["logs", "web"]);
    assert!(logs.stdout.contains("web listens on 8080"), "{logs:?}");
    let exec = rig.expect(127, &["exec", "web", "--", "/nowhere"]);
    assert!(exec.stderr.contains("/nowhere"), "{exec:?}");
    let kubeconfig = rig.sessions()[0].join("kubeconfig");
    assert_eq!(std::fs::metadata(&kubeconfig).expect("a file").permissions().mode() & 0o777, 0o600);
    let all = "jobs,services,leases,deployments,serviceaccounts";
    let unlabelled = rig.kubectl(&["-n", namespace, "get", all, "-l", "!envctl.dev/session", "-o", "name"]);
    assert_eq!(unlabelled, "serviceaccount/default");
    rig.expect(0, &["down"]);
    assert!(!rig.has(namespace));
    assert!(rig.sessions().is_empty());
}

#[test]
fn an_address_leads_to_a_ready_pod_also_after_the_pod_was_replaced() {
    let Some(rig) = Rig::new() else { return };
    rig.expect(0, &["up"]);
    let record = rig.record();
    let (namespace, address) =
        (record["namespace"].as_str().unwrap(), record["addresses"]["web.http"].as_str().unwrap());
    for _ in 0..3 {
        assert!(rig.get(address).ends_with("web\n"));
        // Returns when the pod is gone; whether the next one is ready by then is for the connection to wait for.
        rig.kubectl(&["-n", namespace, "delete", "pods", "-l", "envctl.dev/node=web"]);
    }
    assert!(rig.get(address).ends_with("web\n"));
}

#[test]
fn what_a_pod_lacks_may_be_made_after_it_was_missed() {
    let Some(rig) = Rig::new() else { return };
    let password = "env: { PASSWORD: { secret: { name: db, key: password } } }";
    let job = format!("image: {IMAGE}, command: [/bin/sh, -c, ':']");
    rig.write(&format!(
        "name: guest\nservices:\n  web: {{ image: {IMAGE}, {password} }}\njobs:\n  one: {{ {job} }}\n  two: {{ {job}, needs: [one] }}\n\
         manifests: [{{ name: db, path: db.yaml, needs: [two] }}]\nimages: {{ {IMAGE}: {{ process: {{ entrypoint: [hello] }} }} }}\n"
    ));
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: { name: db }\nstringData: { password: late }\n";
    std::fs::write(rig.home.path().join("project/db.yaml"), secret).expect("written");
    // Kubelets ask again only after a while, when everything else is ready.
    let ran = rig.expect(0, &["up"]);
    assert!(ran.stderr.contains("secret \"db\" not found"), "{}", ran.stderr);
    rig.expect(0, &["down"]);
}

#[test]
fn nodes_stop_before_what_they_need() {
    let Some(rig) = Rig::new() else { return };
    let image = "envctl-test-hello";
    rig.write(&format!(
        "name: guest\nservices:\n  first: {{ image: {image}, grace: 1s }}\n  second: {{ image: {image}, needs: [first], grace: 1s }}\n  \
         third: {{ image: {image}, needs: [second], grace: 1s }}\nimages: {{ {image}: {{ process: {{ entrypoint: [hello] }} }} }}\n"
    ));
    rig.expect(0, &["up"]);
    let namespace = rig.namespace();
    let mut watch = Command::new("kubectl");
    watch.args(["-n", &namespace, "get", "pods", "--watch", "--output-watch-events", "--no-headers", "-o"]);
    watch
        .arg("custom-columns=TYPE:.type,NAME:.object.metadata.name")
        .env("KUBECONFIG", rig.sessions()[0].join("kubeconfig"));
    let mut watch = watch.stdout(Stdio::piped()).spawn().expect("kubectl runs");
    let mut lines = BufReader::new(watch.stdout.take().expect("a pipe")).lines().map_while(Result::ok);
    for _ in 0..3 {
        assert!(lines.next().is_some_and(|line| line.starts_with("ADDED")));
    }
    rig.expect(0, &["down"]);
    let gone: Vec<String> = lines
        .filter(|line| line.starts_with("DELETED"))
        .filter_map(|line| Some(line.split_whitespace().nth(1)?.split('-').next()?.to_owned()))
        .take(3)
        .collect();
    assert_eq!(gone, ["third", "second", "first"]);
    watch.kill().expect("it was running");
    watch.wait().expect("it ended");
}

/// Returns when the cluster says that finalizers hold what is left in a namespace.
pub fn until_held(rig: &Rig, namespace: &str) {
    let held = "--for=condition=NamespaceFinalizersRemaining";
    rig.kubectl(&["wait", held, &format!("namespace/{namespace}"), "--timeout=120s"]);
}

#[test]
fn a_finalizer_that_never_finishes_is_named_and_gc_goes_on_later() {
    let Some(rig) = Rig::new() else { return };
    // Without pods, whose end the namespace's controller would wait for before it looks at the rest.
    rig.write("name: guest\n");
    rig.expect(0, &["up"]);
    let namespace = rig.namespace();
    rig.apply(&json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "stuck", "namespace": namespace, "finalizers": ["example.com/never"]},
    }));
    let ran = rig.expect(6, &["down", "--timeout", "5s"]);
    assert!(ran.stderr.contains("still there: ") && ran.stderr.contains(&namespace), "{}", ran.stderr);
    // The cluster has much to delete at once; then it knows what is left.
    until_held(&rig, &namespace);
    let ran = rig.expect(0, &["ls"]);
    assert!(ran.stderr.contains("`envctl gc` removes it"), "{ran:?}");
    let listed = rig.expect(0, &["gc", "--dry-run", "-o", "json"]).json();
    assert_eq!(listed["sessions"][0]["namespace"], namespace.as_str());
    let ran = rig.expect(6, &["gc", "--timeout", "5s"]);
    let held = format!("ConfigMap/stuck in namespace {namespace} is held by its finalizer example.com/never");
    assert!(ran.stderr.contains(&held), "{}", ran.stderr);
    rig.kubectl(&[
        "-n",
        &namespace,
        "patch",
        "configmap",
        "stuck",
        "--type=merge",
        "-p",
        r#"{"metadata":{"finalizers":null}}"#,
    ]);
    rig.expect(0, &["gc"]);
    assert!(!rig.has(&namespace));
    assert!(rig.sessions().is_empty());
}

#[test]
fn an_image_that_only_a_process_stands_for_is_explained() {
    let Some(rig) = Rig::new() else { return };
    rig.write(
        "name: guest\nimages: { nowhere: { process: { entrypoint: [sh] } } }\nservices: { web: { image: nowhere } }\n",
    );
    let ran = rig.expect(3, &["up"]);
    assert!(ran.stderr.contains("[ImageNotFound]"), "{}", ran.stderr);
    assert!(ran.stderr.contains("its `process` mapping runs on the embedded cluster only"), "{}", ran.stderr);
    assert!(rig.sessions().is_empty());
}

#[test]
fn what_the_file_says_later_is_what_the_cluster_has() {
    let Some(rig) = Rig::new() else { return };
    let file = |more: &str| {
        format!(
            "name: guest\nimages: {{ {IMAGE}: {{}} }}\nservices:\n  web: {{ image: {IMAGE}, args: [web], grace: 1s{more} }}\n"
        )
    };
    let strategy = |rig: &Rig| {
        let path = "jsonpath={.spec.strategy.type} {.spec.strategy.rollingUpdate}";
        rig.kubectl(&["-n", &rig.namespace(), "get", "deployment", "web", "-o", path])
    };
    rig.write(&file(""));
    rig.expect(0, &["up"]);
    assert!(strategy(&rig).starts_with("RollingUpdate "), "{}", strategy(&rig));
    // The API refuses `rollingUpdate` beside the other strategy.
    rig.write(&file(", volumes: { /data: { name: data } }"));
    rig.expect(0, &["up"]);
    assert_eq!(strategy(&rig).trim(), "Recreate");
    let again = rig.expect(0, &["up"]);
    assert!(again.stderr.contains("service web: unchanged"), "{again:?}");
    rig.write(&file(""));
    rig.expect(0, &["up"]);
    rig.expect(0, &["down"]);
}
