//! rollout, scale, wait, expose: what controllers do.

use crate::{kubectl, kubectl_input};

fn image(colour: &str) -> String {
    format!(
        r#"{{"apiVersion":"apps/v1","kind":"Deployment","metadata":{{"name":"rolling"}},"spec":{{"replicas":3,
        "selector":{{"matchLabels":{{"app":"rolling"}}}},"template":{{"metadata":{{"labels":{{"app":"rolling"}}}},
        "spec":{{"containers":[{{"name":"hello","image":"hello","args":["{colour}"],"ports":[{{"containerPort":8080}}],
        "readinessProbe":{{"httpGet":{{"port":8080}},"periodSeconds":1}}}}]}}}}}}}}"#
    )
}

fn argument() -> String {
    let path = "jsonpath={.spec.template.spec.containers[0].args[0]}";
    kubectl(&["get", "deployment", "rolling", "-o", path]).map(|output| output.out).unwrap_or_default()
}

#[test]
fn a_rollout_goes_forward_and_back() {
    let Some(_) = kubectl_input(&["apply", "-f", "-"], &image("red")) else { return };
    let status = &["rollout", "status", "deployment/rolling", "--timeout=60s"];
    let done = kubectl(status).expect("it is here");
    assert!(done.out.contains("successfully rolled out"), "{}", done.out);
    kubectl_input(&["apply", "-f", "-"], &image("blue"));
    kubectl(status);
    let history = kubectl(&["rollout", "history", "deployment/rolling"]).expect("it is here").out;
    assert!(history.lines().any(|line| line.starts_with('2')), "{history}");
    kubectl(&["rollout", "undo", "deployment/rolling"]);
    kubectl(status);
    assert_eq!(argument(), "red");
    kubectl(&["rollout", "restart", "deployment/rolling"]);
    kubectl(status);
    let ready = kubectl(&["get", "pods", "-l", "app=rolling", "--no-headers"]).expect("it is here").out;
    assert!(ready.lines().filter(|line| line.contains("Running")).count() >= 3, "{ready}");
    kubectl(&["delete", "deployment", "rolling"]);
}

#[test]
fn scale_and_wait_follow_the_number_of_pods() {
    let Some(_) = kubectl(&["create", "deployment", "scaled", "--image=hello"]) else { return };
    kubectl(&["wait", "--for=condition=Available", "deployment/scaled", "--timeout=30s"]);
    kubectl(&["scale", "deployment/scaled", "--replicas=4", "--current-replicas=1"]);
    kubectl(&["wait", "--for=jsonpath={.status.readyReplicas}=4", "deployment/scaled", "--timeout=30s"]);
    kubectl(&["scale", "deployment/scaled", "--replicas=0"]);
    kubectl(&["wait", "--for=delete", "pods", "-l", "app=scaled", "--timeout=30s"]);
    kubectl(&["delete", "deployment", "scaled"]);
}

#[test]
fn an_exposed_deployment_answers_by_its_service_name() {
    let Some(_) = kubectl(&["create", "deployment", "exposed", "--image=hello", "--replicas=2"]) else { return };
    kubectl(&["expose", "deployment", "exposed", "--port=80", "--target-port=8080"]);
    kubectl(&["rollout", "status", "deployment/exposed", "--timeout=30s"]);
    kubectl(&[
        "wait",
        "--for=jsonpath={.endpoints[1].conditions.ready}=true",
        "endpointslice",
        "-l",
        "kubernetes.io/service-name=exposed",
        "--timeout=30s",
    ]);
    kubectl(&["run", "caller", "--image=platform", "--restart=Never", "--", "request", "GET", "http://exposed"]);
    kubectl(&["wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/caller", "--timeout=30s"]);
    assert!(kubectl(&["logs", "caller"]).expect("it is here").out.starts_with("200 "));
    kubectl(&["delete", "deployment/exposed", "service/exposed", "pod/caller"]);
}
