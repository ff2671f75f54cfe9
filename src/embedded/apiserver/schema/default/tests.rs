//! Cases after `pkg/apis/*/v1/defaults_test.go`.

use super::*;

fn defaulted(mut value: Value) -> Value {
    let copy = value.clone();
    let gvk = Gvk::of(&copy);
    default(gvk, &mut value);
    let once = value.clone();
    default(gvk, &mut value);
    assert_eq!(value, once, "defaults are idempotent");
    value
}

#[test]
fn pods() {
    let pod = defaulted(
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {"serviceAccountName": "x",
        "containers": [{"name": "c", "image": "r.io:5000/a", "ports": [{"containerPort": 1}], "readinessProbe": {"httpGet": {"port": 1}},
            "resources": {"limits": {"cpu": "1"}}}, {"name": "d", "image": "a:1@sha256:0"}],
        "volumes": [{"name": "v"}, {"name": "s", "secret": {}}]}}),
    );
    let expected = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "status": {}, "spec": {
        "serviceAccountName": "x", "serviceAccount": "x", "dnsPolicy": "ClusterFirst", "restartPolicy": "Always",
        "securityContext": {}, "terminationGracePeriodSeconds": 30, "schedulerName": "default-scheduler", "enableServiceLinks": true,
        "containers": [
            {"name": "c", "image": "r.io:5000/a", "imagePullPolicy": "Always", "terminationMessagePath": "/dev/termination-log",
             "terminationMessagePolicy": "File", "ports": [{"containerPort": 1, "protocol": "TCP"}],
             "resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "1"}},
             "readinessProbe": {"httpGet": {"port": 1, "path": "/", "scheme": "HTTP"}, "timeoutSeconds": 1, "periodSeconds": 10,
                "successThreshold": 1, "failureThreshold": 3}},
            {"name": "d", "image": "a:1@sha256:0", "imagePullPolicy": "IfNotPresent", "resources": {},
             "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File"}],
        "volumes": [{"name": "v", "emptyDir": {}}, {"name": "s", "secret": {"defaultMode": 420}}]}});
    assert_eq!(pod, expected);
}

#[test]
fn workloads() {
    let spec = |kind: &str| {
        let group = if kind == "Job" || kind == "CronJob" { "batch/v1" } else { "apps/v1" };
        defaulted(json!({"apiVersion": group, "kind": kind, "metadata": {"name": "a"},
            "spec": {"template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c"}]}}}}))
    };
    let deployment = spec("Deployment");
    assert_eq!(
        deployment["spec"]["strategy"],
        json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}})
    );
    assert_eq!(deployment["spec"]["progressDeadlineSeconds"], 600);
    assert_eq!(deployment["spec"]["template"]["spec"]["restartPolicy"], "Always");
    assert!(deployment["spec"]["template"]["spec"].get("enableServiceLinks").is_none(), "only pods get it");
    let set = spec("StatefulSet");
    assert_eq!(set["spec"]["updateStrategy"]["rollingUpdate"], json!({"partition": 0, "maxUnavailable": 1}));
    let job = spec("Job");
    assert_eq!(job["metadata"]["labels"], json!({"a": "b"}));
    assert_eq!((&job["spec"]["completions"], &job["spec"]["backoffLimit"]), (&json!(1), &json!(6)));
}

#[test]
fn services() {
    let service = |spec: Value| defaulted(json!({"apiVersion": "v1", "kind": "Service", "spec": spec}))["spec"].clone();
    let expected = json!({"type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster",
        "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}]});
    assert_eq!(service(json!({"ports": [{"port": 80}]})), expected);
    let balancer = service(json!({"type": "LoadBalancer"}));
    assert_eq!(balancer["allocateLoadBalancerNodePorts"], true);
    assert_eq!(balancer["externalTrafficPolicy"], "Cluster");
}

#[test]
fn unknown_kinds_are_left_alone() {
    let value = json!({"apiVersion": "x.io/v1", "kind": "Foo", "spec": {"template": {}}});
    assert_eq!(defaulted(value.clone()), value);
}
