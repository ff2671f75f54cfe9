//! Cases of upstream's `printers_test.go`, as data: the object and the cells it must give.

use serde_json::{Value, json};

use super::*;

fn now() -> Timestamp {
    "2026-01-02T00:00:00Z".parse().expect("a time")
}

fn check(group: &str, kind: &str, object: &Value, expected: &Value) {
    let cells = cells(group, kind, object, now());
    assert_eq!(&Value::from(cells.clone()), expected, "{kind}");
    assert_eq!(columns(group, kind).as_array().map(Vec::len), Some(cells.len()), "{kind}: a cell for each column");
}

#[test]
fn pods() {
    let pod = |phase: &str, statuses: Value| {
        json!({
            "metadata": {"name": "test1", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"containers": [{}, {}], "nodeName": "n"},
            "status": {"phase": phase, "containerStatuses": statuses, "podIPs": [{"ip": "1.1.1.1"}]},
        })
    };
    let running = json!({"ready": true, "restartCount": 3, "state": {"running": {}}});
    for (phase, statuses, ready, status, restarts) in [
        ("podPhase", json!([running, {"restartCount": 3}]), "1/2", "podPhase", "6"),
        (
            "podPhase",
            json!([running, {"state": {"waiting": {"reason": "ContainerWaitingReason"}}, "restartCount": 3}]),
            "1/2",
            "ContainerWaitingReason",
            "6",
        ),
        (
            "podPhase",
            json!([running, {"state": {"terminated": {"exitCode": 2, "reason": "ContainerTerminatedReason"}}}]),
            "1/2",
            "ContainerTerminatedReason",
            "3",
        ),
        ("podPhase", json!([running, {"state": {"terminated": {"exitCode": 2}}}]), "1/2", "ExitCode:2", "3"),
        ("podPhase", json!([running, {"state": {"terminated": {"signal": 9}}}]), "1/2", "Signal:9", "3"),
        ("Running", json!([{"state": {"terminated": {"reason": "Completed"}}}, running]), "1/2", "NotReady", "3"),
        (
            "Running",
            json!([{"restartCount": 2, "state": {"running": {}}, "ready": true,
            "lastState": {"terminated": {"finishedAt": "2026-01-01T23:59:50Z"}}}]),
            "1/2",
            "Running",
            "2 (10s ago)",
        ),
    ] {
        check(
            "",
            "Pod",
            &pod(phase, statuses),
            &json!(["test1", ready, status, restarts, "24h", "1.1.1.1", "n", "<none>", "<none>"]),
        );
    }
    let mut going = pod("Running", json!([]));
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    assert_eq!(cells("", "Pod", &going, now())[2], "Terminating");
    let init = json!({
        "metadata": {"name": "i"}, "spec": {"initContainers": [{"name": "a"}, {"name": "b", "restartPolicy": "Always"}], "containers": [{}]},
        "status": {"phase": "Pending", "initContainerStatuses": [
            {"name": "a", "state": {"terminated": {"exitCode": 0}}}, {"name": "b", "state": {"waiting": {"reason": "PodInitializing"}}},
        ]},
    });
    check("", "Pod", &init, &json!(["i", "0/2", "Init:1/2", "0", "<unknown>", "<none>", "<none>", "<none>", "<none>"]));
}

#[test]
fn workloads() {
    let template = json!({"spec": {"containers": [{"name": "fake-container1", "image": "fake-image1"}, {"name": "fake-container2", "image": "fake-image2"}]}});
    let meta = json!({"name": "test1", "creationTimestamp": "2026-01-01T23:58:00Z"});
    let selector = json!({"matchLabels": {"foo": "bar"}});
    check(
        "apps",
        "Deployment",
        &json!({
            "metadata": meta, "spec": {"replicas": 5, "template": template, "selector": selector},
            "status": {"replicas": 10, "updatedReplicas": 2, "availableReplicas": 1, "unavailableReplicas": 4},
        }),
        &json!(["test1", "0/5", 2, 1, "2m", "fake-container1,fake-container2", "fake-image1,fake-image2", "foo=bar"]),
    );
    check(
        "apps",
        "ReplicaSet",
        &json!({
            "metadata": meta, "spec": {"replicas": 5, "template": template, "selector": selector}, "status": {"replicas": 5, "readyReplicas": 2},
        }),
        &json!(["test1", 5, 5, 2, "2m", "fake-container1,fake-container2", "fake-image1,fake-image2", "foo=bar"]),
    );
    check(
        "batch",
        "Job",
        &json!({
            "metadata": meta, "spec": {"completions": 2, "template": template, "selector": {"matchExpressions": [
                {"key": "a", "operator": "In", "values": ["y", "x"]}, {"key": "b", "operator": "DoesNotExist"}]}},
            "status": {"succeeded": 1, "startTime": "2026-01-01T23:40:00Z", "completionTime": "2026-01-01T23:59:00Z",
                "conditions": [{"type": "Complete", "status": "True"}]},
        }),
        &json!([
            "test1",
            "Complete",
            "1/2",
            "19m",
            "2m",
            "fake-container1,fake-container2",
            "fake-image1,fake-image2",
            "a in (x,y),!b"
        ]),
    );
    let bare = json!({"metadata": meta, "spec": {"parallelism": 20}, "status": {}});
    assert_eq!(cells("batch", "Job", &bare, now())[1..4], [json!("Running"), json!("0/1 of 20"), json!("")]);
    check(
        "policy",
        "PodDisruptionBudget",
        &json!({
            "metadata": meta, "spec": {"maxUnavailable": 6}, "status": {"disruptionsAllowed": 5},
        }),
        &json!(["test1", "N/A", "6", 5, "2m"]),
    );
    let metric = json!({"type": "Resource", "resource": {"name": "cpu", "target": {"averageUtilization": 80}}});
    check(
        "autoscaling",
        "HorizontalPodAutoscaler",
        &json!({
            "metadata": meta, "spec": {"scaleTargetRef": {"kind": "ReplicationController", "name": "some-rc"}, "minReplicas": 2,
                "maxReplicas": 10, "metrics": [metric, metric, metric]},
            "status": {"currentReplicas": 4, "currentMetrics": [{"resource": {"current": {"averageUtilization": 50}}}]},
        }),
        &json!([
            "test1",
            "ReplicationController/some-rc",
            "cpu: 50%/80%, cpu: <unknown>/80% + 1 more...",
            "2",
            10,
            4,
            "2m"
        ]),
    );
}

#[test]
fn the_rest() {
    let meta = json!({"name": "svc1", "creationTimestamp": "2026-01-01T23:59:59Z"});
    check(
        "",
        "Service",
        &json!({
            "metadata": meta, "spec": {"type": "NodePort", "clusterIPs": ["10.9.8.7"], "selector": {"foo": "bar"},
                "ports": [{"port": 8888, "protocol": "tcp", "nodePort": 9999}, {"port": 1, "protocol": "UDP"}]},
        }),
        &json!(["svc1", "NodePort", "10.9.8.7", "<none>", "8888:9999/tcp,1/UDP", "1s", "foo=bar"]),
    );
    for (spec, status, expected) in [
        (json!({"type": "LoadBalancer"}), json!({}), "<pending>"),
        (
            json!({"type": "LoadBalancer", "externalIPs": ["e"]}),
            json!({"loadBalancer": {"ingress": [{"ip": "b"}, {"hostname": "a"}]}}),
            "a,b,e",
        ),
        (
            json!({"type": "ExternalName", "externalName": "my.database.example.com"}),
            json!({}),
            "my.database.example.com",
        ),
        (json!({}), json!({}), "<unknown>"),
    ] {
        assert_eq!(
            cells("", "Service", &json!({"metadata": meta, "spec": spec, "status": status}), now())[3],
            expected
        );
    }
    check(
        "discovery.k8s.io",
        "EndpointSlice",
        &json!({
            "metadata": meta, "addressType": "IPv4", "ports": [{"name": "http", "port": 80}, {"name": "x"}],
            "endpoints": [{"addresses": ["10.1.2.3"]}, {"addresses": ["10.1.2.4"]}, {"addresses": ["10.1.2.5"]}, {"addresses": ["10.1.2.6"]}],
        }),
        &json!(["svc1", "IPv4", "80,x", "10.1.2.3,10.1.2.4,10.1.2.5 + 1 more...", "1s"]),
    );
    check(
        "",
        "Event",
        &json!({
            "metadata": {"name": "event2"}, "type": "Warning", "reason": "Event Reason", "message": " Message Data ", "count": 6,
            "firstTimestamp": "2026-01-01T23:50:00Z", "lastTimestamp": "2026-01-01T23:59:57Z",
            "source": {"component": "kubelet", "host": "Node1"}, "involvedObject": {"kind": "Pod", "name": "Pod Name", "fieldPath": "spec.containers{foo}"},
        }),
        &json!([
            "3s",
            "Warning",
            "Event Reason",
            "pod/Pod Name",
            "spec.containers{foo}",
            "kubelet, Node1",
            "Message Data",
            "10m",
            6,
            "event2"
        ]),
    );
    check(
        "",
        "Node",
        &json!({
            "metadata": {"name": "foo1", "labels": {"node-role.kubernetes.io/b": "", "kubernetes.io/role": "a"}},
            "spec": {"unschedulable": true}, "status": {"conditions": [{"type": "Ready", "status": "False"}],
                "nodeInfo": {"kernelVersion": "6.1", "architecture": "amd64"}, "addresses": [{"type": "InternalIP", "address": "1.1.1.1"}]},
        }),
        &json!([
            "foo1",
            "NotReady,SchedulingDisabled",
            "a,b",
            "<unknown>",
            "",
            "1.1.1.1",
            "<none>",
            "<unknown>",
            "6.1 (amd64)",
            "<unknown>"
        ]),
    );
    check(
        "",
        "PersistentVolumeClaim",
        &json!({
            "metadata": meta, "spec": {"volumeName": "my-volume", "volumeMode": "Filesystem"},
            "status": {"phase": "Lost", "accessModes": ["ReadOnlyMany", "ReadWriteOnce"], "capacity": {"storage": "4Gi"}},
        }),
        &json!(["svc1", "Lost", "my-volume", "4Gi", "RWO,ROX", "", "<unset>", "1s", "Filesystem"]),
    );
    check(
        "rbac.authorization.k8s.io",
        "RoleBinding",
        &json!({
            "metadata": meta, "roleRef": {"kind": "Role", "name": "r"}, "subjects": [
                {"kind": "User", "name": "u"}, {"kind": "Group", "name": "g"}, {"kind": "ServiceAccount", "namespace": "n", "name": "s"}],
        }),
        &json!(["svc1", "Role/r", "1s", "u", "g", "n/s"]),
    );
    check("example.com", "Widget", &json!({"metadata": meta}), &json!(["svc1", "1s"]));
    check("rbac.authorization.k8s.io", "Role", &json!({"metadata": meta}), &json!(["svc1", "2026-01-01T23:59:59Z"]));
}

#[test]
fn durations() {
    for (seconds, expected) in [
        (-5, "<invalid>"),
        (-1, "0s"),
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (121, "2m1s"),
        (599, "9m59s"),
        (600, "10m"),
        (10799, "179m"),
        (10800, "3h"),
        (10860, "3h1m"),
        (28800, "8h"),
        (172_799, "47h"),
        (172_800, "2d"),
        (176_400, "2d1h"),
        (691_200, "8d"),
        (63_072_000, "2y"),
        (63_158_400, "2y1d"),
        (252_288_000, "8y"),
    ] {
        assert_eq!(format::human(seconds), expected);
    }
}
