//! Nothing is touched that the session didn't make.

use std::time::Duration;

use envctl::cluster::apply::Applier;
use envctl::cluster::kubeconfig;
use envctl::cluster::tenancy::record::Lodged;
use envctl::cluster::tenancy::{Lodging, MoveInError};
use kube::config::Kubeconfig;
use serde_json::json;

use crate::rig::Rig;

#[tokio::test]
async fn a_namespace_of_that_name_is_not_adopted() {
    let Some(rig) = Rig::new() else { return };
    let name = format!("envctl-taken-{}", std::process::id());
    let labels = json!({"app.kubernetes.io/managed-by": "envctl", "envctl.dev/session": "taken-1"});
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
    rig.apply(&namespace);
    let config = Kubeconfig::read_from(&rig.kubeconfig).expect("a kubeconfig");
    let client = kubeconfig::client(config, &name).await.expect("a client");
    let lodged = Lodged::new("cluster", "https://c", "taken-1", &name);
    let lodging = Lodging::new(client.clone(), lodged, rig.home.path(), Duration::from_secs(600));
    let moved = lodging.move_in(&Applier::new(lodging.contact(), &name), &namespace).await;
    assert!(matches!(&moved, Err(MoveInError::Taken(taken)) if *taken == name), "{moved:?}");
    assert!(!Lodged::is_in(rig.home.path()), "there is nothing to take away");
    assert!(rig.has(&name));
    rig.kubectl(&["delete", "namespace", &name]);
}

#[test]
fn a_namespace_made_anew_by_somebody_else_is_left_alone() {
    let Some(rig) = Rig::new() else { return };
    rig.expect(0, &["up"]);
    let namespace = rig.namespace();
    let labels = rig.kubectl(&["get", "namespace", &namespace, "-o", "jsonpath={.metadata.labels}"]);
    rig.kill_agent().expect("an agent");
    rig.kubectl(&["delete", "namespace", &namespace]);
    let labels: serde_json::Value = serde_json::from_str(&labels).expect("labels");
    rig.apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}}));
    rig.expect(0, &["down"]);
    assert!(rig.has(&namespace), "it is somebody else's");
    assert!(rig.sessions().is_empty());
    rig.kubectl(&["delete", "namespace", &namespace]);
}

#[test]
fn what_is_outside_the_namespace_goes_with_it_and_what_was_there_stays() {
    let Some(rig) = Rig::new() else { return };
    let role = format!("envctl-test-{}", std::process::id());
    std::fs::create_dir_all(rig.home.path().join("project/manifests")).expect("a directory");
    let manifest = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": role}, "rules": []});
    std::fs::write(rig.home.path().join("project/manifests/role.yaml"), manifest.to_string()).expect("written");
    rig.add("manifests: [{ path: manifests/role.yaml }]\n");
    rig.expect(0, &["up"]);
    rig.kubectl(&["get", "clusterrole", &role]);
    rig.expect(0, &["down"]);
    let ran = rig.try_kubectl(&["wait", "--for=delete", &format!("clusterrole/{role}"), "--timeout=60s"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    rig.apply(&manifest);
    let ran = rig.expect(3, &["up"]);
    assert!(ran.stderr.contains(&format!("ClusterRole/{role} is on the cluster already")), "{}", ran.stderr);
    rig.kubectl(&["get", "clusterrole", &role]);
    rig.kubectl(&["delete", "clusterrole", &role]);
}
