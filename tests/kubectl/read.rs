//! get, describe, explain, api-resources, auth.

use crate::{kubectl, kubectl_fails};

fn columns(table: &str) -> Vec<&str> {
    table.lines().next().unwrap_or_default().split_whitespace().collect()
}

#[test]
fn get_prints_kubernetes_columns() {
    let Some(pods) = kubectl(&["get", "pods", "-l", "app.kubernetes.io/name=web"]) else { return };
    assert_eq!(columns(&pods.out), ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]);
    assert!(pods.out.lines().any(|line| line.contains("1/1") && line.contains("Running")), "{}", pods.out);
    for (kind, expected) in [
        ("deployments", &["NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE"][..]),
        ("replicasets", &["NAME", "DESIRED", "CURRENT", "READY", "AGE"]),
        ("services", &["NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE"]),
        ("endpointslices", &["NAME", "ADDRESSTYPE", "PORTS", "ENDPOINTS", "AGE"]),
        ("nodes", &["NAME", "STATUS", "ROLES", "AGE", "VERSION"]),
        ("namespaces", &["NAME", "STATUS", "AGE"]),
        // 1.36 no longer prints the number of secrets.
        ("serviceaccounts", &["NAME", "AGE"]),
        ("configmaps", &["NAME", "DATA", "AGE"]),
        ("clusterroles", &["NAME", "CREATED", "AT"]),
    ] {
        assert_eq!(columns(&kubectl(&["get", kind]).expect("it is here").out), expected, "{kind}");
    }
}

#[test]
fn get_answers_every_output_format() {
    let Some(all) = kubectl(&["get", "all", "-o", "name"]) else { return };
    assert!(all.out.contains("deployment.apps/web") && all.out.contains("service/web"), "{}", all.out);
    let deployment = kubectl(&["get", "deploy/web", "-o", "json"]).expect("it is here").json();
    assert_eq!(deployment["status"]["readyReplicas"], 1);
    assert_eq!(deployment["status"]["observedGeneration"], deployment["metadata"]["generation"]);
    let path = kubectl(&["get", "svc", "web", "-o", "jsonpath={.spec.ports[0].name}"]).expect("it is here");
    assert_eq!(path.out, "http");
    let wide = kubectl(&["get", "pods", "-o", "wide", "--field-selector=status.phase=Running"]).expect("it is here");
    assert!(columns(&wide.out).contains(&"NODE"), "{}", wide.out);
    let sorted = kubectl(&["get", "events", "--sort-by=.metadata.creationTimestamp", "-A"]).expect("it is here");
    assert!(sorted.out.contains("SuccessfulCreate") && sorted.out.contains("Started"), "{}", sorted.out);
}

#[test]
fn describe_tells_the_whole_story() {
    let Some(pod) = kubectl(&["describe", "pods", "-l", "app.kubernetes.io/name=web"]) else { return };
    for part in
        ["Controlled By:", "Readiness:", "Conditions:", "PodScheduled", "Events:", "Started", "Service Account:"]
    {
        assert!(pod.out.contains(part), "{part} is missing in\n{}", pod.out);
    }
    for (what, parts) in [
        ("deployment/web", &["StrategyType:", "RollingUpdate", "NewReplicaSet:", "ScalingReplicaSet"][..]),
        ("service/web", &["Selector:", "Endpoints:", "8080"]),
        ("nodes", &["Capacity:", "KubeletReady", "Non-terminated Pods:", "Lease:"]),
        ("namespace/default", &["Status:", "Active"]),
    ] {
        let described = kubectl(&["describe", what]).expect("it is here").out;
        for part in parts {
            assert!(described.contains(part), "{part} is missing in describe {what}:\n{described}");
        }
    }
}

#[test]
fn discovery_and_schemas_serve_explain_and_api_resources() {
    let Some(resources) = kubectl(&["api-resources"]) else { return };
    for resource in ["deployments", "endpointslices", "cronjobs", "customresourcedefinitions", "leases"] {
        assert!(resources.out.lines().any(|line| line.starts_with(resource)), "{resource}");
    }
    assert!(kubectl(&["api-versions"]).expect("it is here").out.contains("apps/v1"));
    let explained = kubectl(&["explain", "deployment.spec.strategy.rollingUpdate"]).expect("it is here");
    assert!(explained.out.contains("maxUnavailable"), "{}", explained.out);
    let version = kubectl(&["version", "-o", "json"]).expect("it is here").json();
    assert!(version["serverVersion"]["gitVersion"].as_str().expect("a version").starts_with("v1.36."), "{version}");
}

#[test]
fn what_is_not_there_is_said_in_kubernetes_words() {
    let Some(missing) = kubectl_fails(&["get", "pod", "nobody"], "") else { return };
    assert_eq!(missing.err, "Error from server (NotFound): pods \"nobody\" not found\n");
    let unknown = kubectl_fails(&["get", "wombats"], "").expect("it is here");
    assert_eq!(unknown.err, "error: the server doesn't have a resource type \"wombats\"\n");
}

#[test]
fn access_is_decided_by_rbac() {
    let Some(yes) = kubectl(&["auth", "can-i", "create", "deployments"]) else { return };
    assert_eq!(yes.out.trim(), "yes");
    kubectl(&["create", "serviceaccount", "reader"]);
    kubectl(&["create", "role", "reader", "--verb=get,list", "--resource=pods"]);
    let namespace = kubectl(&["config", "view", "--minify", "-o", "jsonpath={..namespace}"]).expect("it is here").out;
    let account = format!("{namespace}:reader");
    kubectl(&["create", "rolebinding", "reader", "--role=reader", &format!("--serviceaccount={account}")]);
    let who = format!("--as=system:serviceaccount:{account}");
    assert_eq!(kubectl(&["auth", "can-i", "list", "pods", &who]).expect("it is here").out.trim(), "yes");
    assert_eq!(kubectl_fails(&["auth", "can-i", "delete", "pods", &who], "").expect("it is here").out.trim(), "no");
    let token = kubectl(&["create", "token", "reader"]).expect("it is here").out;
    assert_eq!(token.trim().split('.').count(), 3, "a JSON web token");
    let refused = kubectl_fails(&["delete", "pod", "nobody", &who], "").expect("it is here");
    let words = format!(
        "pods \"nobody\" is forbidden: User \"system:serviceaccount:{account}\" cannot delete resource \"pods\" in API group \"\" in the namespace \"{namespace}\""
    );
    assert!(refused.err.contains(&words), "{}", refused.err);
}
