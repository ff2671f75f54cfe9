//! delete: cascades, finalizers, namespaces.

use crate::{kubectl, kubectl_input};

fn deployment(name: &str) {
    kubectl(&["create", "deployment", name, "--image=hello", "--replicas=2"]);
    kubectl(&["rollout", "status", "deployment", name, "--timeout=30s"]);
}

fn pods(name: &str) -> String {
    kubectl(&["get", "pods", "-l", &format!("app={name}"), "-o", "name"]).map(|output| output.out).unwrap_or_default()
}

#[test]
fn deleting_a_deployment_takes_its_pods_along() {
    let Some(_) = kubectl(&["version"]) else { return };
    deployment("cascade");
    assert_eq!(pods("cascade").lines().count(), 2);
    kubectl(&["delete", "deployment", "cascade", "--cascade=foreground", "--timeout=30s"]);
    assert_eq!(pods("cascade"), "");
}

#[test]
fn orphans_stay() {
    let Some(_) = kubectl(&["version"]) else { return };
    deployment("orphan");
    kubectl(&["delete", "deployment", "orphan", "--cascade=orphan"]);
    let left = kubectl(&["get", "replicasets", "-l", "app=orphan", "-o", "json"]).expect("it is here").json();
    assert_eq!(left["items"][0]["metadata"]["ownerReferences"], serde_json::Value::Null);
    assert_eq!(pods("orphan").lines().count(), 2);
    kubectl(&["delete", "replicasets", "-l", "app=orphan"]);
    kubectl(&["wait", "--for=delete", "pods", "-l", "app=orphan", "--timeout=30s"]);
}

#[test]
fn a_finalizer_holds_an_object_until_it_is_removed() {
    let manifest = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: held, finalizers: [example.com/hold]}\n";
    let Some(_) = kubectl_input(&["create", "-f", "-"], manifest) else { return };
    kubectl(&["delete", "configmap", "held", "--wait=false"]);
    let held = kubectl(&["get", "configmap", "held", "-o", "json"]).expect("it is here").json();
    assert!(held["metadata"]["deletionTimestamp"].is_string(), "{held}");
    kubectl(&["patch", "configmap", "held", "--type=merge", "-p", r#"{"metadata":{"finalizers":null}}"#]);
    kubectl(&["wait", "--for=delete", "configmap/held", "--timeout=30s"]);
}

#[test]
fn a_namespace_goes_with_all_that_is_in_it() {
    let Some(_) = kubectl(&["create", "namespace", "doomed"]) else { return };
    kubectl(&["create", "-n", "doomed", "deployment", "web", "--image=hello"]);
    kubectl(&["create", "-n", "doomed", "configmap", "some", "--from-literal=a=b"]);
    kubectl(&["rollout", "status", "-n", "doomed", "deployment/web", "--timeout=30s"]);
    kubectl(&["delete", "namespace", "doomed", "--timeout=30s"]);
    assert_eq!(kubectl(&["get", "all,configmap", "-n", "doomed", "-o", "name"]).expect("it is here").out, "");
}
