//! Kubeconfigs that lead nowhere, namespaces that end under a session, fields that others change: each is told, nothing is left.

use std::net::TcpListener;

use serde_json::{Value, json};

use crate::life::until_held;
use crate::rig::{IMAGE, Ran, Rig};

/// What `up` says by the administrator's kubeconfig with something changed.
fn up_by(rig: &mut Rig, change: impl Fn(&mut Value)) -> Ran {
    let admin = rig.kubectl(&["config", "view", "--raw", "--minify", "-o", "json"]);
    let mut config: Value = serde_json::from_str(&admin).expect("JSON");
    change(&mut config);
    rig.kubeconfig = rig.home.path().join("changed.kubeconfig");
    std::fs::write(&rig.kubeconfig, config.to_string()).expect("written");
    let ran = rig.expect(4, &["up"]);
    assert!(rig.sessions().is_empty(), "{ran:?}");
    ran
}

#[test]
fn a_kubeconfig_that_is_not_there_or_is_none_is_named() {
    let Some(mut rig) = Rig::new() else { return };
    rig.kubeconfig = rig.home.path().join("nowhere");
    let ran = rig.expect(4, &["up"]);
    assert!(ran.stderr.contains("there is no kubeconfig") && ran.stderr.contains("nowhere"), "{}", ran.stderr);
    std::fs::write(&rig.kubeconfig, "contexts: [").expect("written");
    let ran = rig.expect(4, &["up"]);
    assert!(ran.stderr.contains(&format!("reading {}", rig.kubeconfig.display())), "{}", ran.stderr);
    assert!(rig.sessions().is_empty());
}

#[test]
fn an_address_where_nobody_listens_or_nobody_answers_is_told() {
    let Some(mut rig) = Rig::new() else { return };
    let closed = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let ran = up_by(&mut rig, |config| config["clusters"][0]["cluster"]["server"] = format!("https://{closed}").into());
    assert!(ran.stderr.contains("[ClusterUnavailable]"), "{}", ran.stderr);
    assert!(ran.stderr.contains(&closed.to_string()) && ran.stderr.contains("onnection refused"), "{}", ran.stderr);
    // Accepts by its backlog, and says nothing.
    let mute = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = mute.local_addr().expect("an address");
    let ran =
        up_by(&mut rig, |config| config["clusters"][0]["cluster"]["server"] = format!("https://{address}").into());
    assert!(ran.stderr.contains("no answer within 15 s"), "{}", ran.stderr);
}

#[test]
fn an_authority_that_did_not_sign_the_server_is_told() {
    let Some(mut rig) = Rig::new() else { return };
    let another = rcgen_authority();
    let ran = up_by(&mut rig, |config| {
        config["clusters"][0]["cluster"]["certificate-authority-data"] = another.clone().into()
    });
    assert!(ran.stderr.contains("[ClusterUnavailable]") && ran.stderr.contains("certificate"), "{}", ran.stderr);
}

/// An authority that signed nothing here, as a kubeconfig has it.
fn rcgen_authority() -> String {
    use base64::Engine as _;
    let mut parameters = rcgen::CertificateParams::new(Vec::<String>::new()).expect("parameters");
    parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().expect("a key");
    base64::engine::general_purpose::STANDARD.encode(parameters.self_signed(&key).expect("a certificate").pem())
}

#[test]
fn a_namespace_that_somebody_deletes_is_told_and_down_names_what_holds_it() {
    let Some(rig) = Rig::new() else { return };
    rig.expect(0, &["up"]);
    let namespace = rig.namespace();
    rig.apply(&json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "stuck", "namespace": namespace, "finalizers": ["example.com/never"]},
    }));
    rig.kubectl(&["delete", "namespace", &namespace, "--wait=false"]);
    rig.write(&format!(
        "name: guest\nservices: {{ other: {{ image: {IMAGE} }} }}\nimages: {{ {IMAGE}: {{ process: {{ entrypoint: [hello] }} }} }}\n"
    ));
    let ran = rig.expect(4, &["up"]);
    assert!(ran.stderr.contains("[NamespaceLost]") && ran.stderr.contains("being terminated"), "{}", ran.stderr);
    assert!(ran.stderr.contains("it was not envctl that deleted it"), "{}", ran.stderr);
    // Its pods take their time; then the cluster knows what is left.
    until_held(&rig, &namespace);
    let ran = rig.expect(6, &["down", "--timeout", "5s"]);
    assert!(ran.stderr.contains("held by its finalizer example.com/never"), "{}", ran.stderr);
    let free = r#"{"metadata":{"finalizers":null}}"#;
    rig.kubectl(&["-n", &namespace, "patch", "configmap", "stuck", "--type=merge", "-p", free]);
    rig.expect(0, &["gc"]);
    assert!(!rig.has(&namespace) && rig.sessions().is_empty());
}

#[test]
fn what_others_changed_is_as_the_file_says_again_and_told() {
    let Some(rig) = Rig::new() else { return };
    rig.expect(0, &["up"]);
    let namespace = rig.namespace();
    rig.kubectl(&["-n", &namespace, "scale", "deployment", "web", "--replicas=2"]);
    let text = std::fs::read_to_string(rig.home.path().join("project/envctl.yaml")).expect("a file");
    rig.write(&text.replace("args: [web]", "args: [changed]"));
    let ran = rig.expect(0, &["up"]);
    let told = "Deployment/web had been changed by others and is as the file says again: .spec.replicas by \"kubectl\"";
    assert!(ran.stderr.contains(told), "{}", ran.stderr);
    // Ready is the new generation, not what was ready before.
    let status = rig.kubectl(&["-n", &namespace, "get", "deployment", "web", "-o", "json"]);
    let status: Value = serde_json::from_str(&status).expect("JSON");
    assert_eq!(status["spec"]["replicas"], 1);
    assert_eq!(status["status"]["observedGeneration"], status["metadata"]["generation"]);
    assert_eq!((&status["status"]["updatedReplicas"], &status["status"]["replicas"]), (&json!(1), &json!(1)));
    let address = rig.record()["addresses"]["web.http"].as_str().expect("an address").to_owned();
    assert!(rig.get(&address).ends_with("changed\n"));
    rig.expect(0, &["down"]);
}

#[test]
fn a_changed_job_is_awaited_in_its_new_run() {
    let Some(rig) = Rig::new() else { return };
    let file = |script: &str| {
        format!(
            "name: guest\njobs:\n  migrate: {{ image: {IMAGE}, command: [/bin/sh, -c, '{script}'], retries: 0 }}\nimages:\n  {IMAGE}: {{ process: \
             {{ entrypoint: [hello] }} }}\n"
        )
    };
    rig.write(&file("echo first"));
    rig.expect(0, &["up"]);
    rig.write(&file("echo second; exit 4"));
    let ran = rig.expect(3, &["up"]);
    assert!(ran.stderr.contains("job migrate failed") && ran.stderr.contains("[JobFailed]"), "{}", ran.stderr);
    assert!(ran.stderr.contains("| second"), "{}", ran.stderr);
    rig.expect(0, &["down"]);
}
