//! What a write must pass, and what it leaves.

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod, Service};
use kube::api::{Api, EvictParams, Patch, PatchParams, PostParams};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::{common, config_map};

fn of<K: DeserializeOwned>(object: Value) -> K {
    serde_json::from_value(object).expect("an object of the kind")
}

fn deployment(name: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"app": name}}, "spec": {
        "selector": {"matchLabels": {"app": name}},
        "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "c", "image": "i"}]}},
    }})
}

fn refusal<T: std::fmt::Debug>(result: Result<T, kube::Error>) -> kube::core::Status {
    match result.expect_err("refused") {
        kube::Error::Api(status) => *status,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn what_is_invalid_is_refused_field_by_field_however_it_is_written() {
    let cluster = common::Served::start().await;
    let client = cluster.client().await;
    let services: Api<Service> = Api::namespaced(client.clone(), "default");
    let service = json!({"metadata": {"name": "Bad_Name"}, "spec": {"ports": [{"port": 70_000}]}});
    let status = refusal(services.create(&PostParams::default(), &of(service)).await);
    assert_eq!((status.code, status.reason.as_str()), (422, "Invalid"));
    assert!(
        status.message.starts_with("Service \"Bad_Name\" is invalid: [metadata.name: Invalid value: "),
        "{status:?}"
    );
    let causes: Vec<(String, String)> =
        status.details.expect("details").causes.into_iter().map(|cause| (cause.reason, cause.field)).collect();
    let expected = |field: &str| ("FieldValueInvalid".to_owned(), field.to_owned());
    // The target port is the port where none is given.
    assert_eq!(causes, ["metadata.name", "spec.ports[0].port", "spec.ports[0].targetPort"].map(expected));

    let deployments: Api<Deployment> = Api::namespaced(client, "default");
    let created = deployments.create(&PostParams::default(), &of(deployment("web"))).await.expect("created");
    let elsewhere = json!({"spec": {
        "selector": {"matchLabels": {"app": "other"}}, "template": {"metadata": {"labels": {"app": "other"}}},
    }});
    let words = "Deployment.apps \"web\" is invalid: spec.selector: Invalid value: ";
    for patch in [Patch::Merge(&elsewhere), Patch::Strategic(&elsewhere)] {
        let status = refusal(deployments.patch("web", &PatchParams::default(), &patch).await);
        assert!(status.code == 422 && status.message.starts_with(words), "{status:?}");
        assert!(status.message.ends_with("field is immutable"), "{status:?}");
    }
    let mut applied = elsewhere.clone();
    applied["apiVersion"] = "apps/v1".into();
    applied["kind"] = "Deployment".into();
    let params = PatchParams::apply("test").force();
    assert_eq!(refusal(deployments.patch("web", &params, &Patch::Apply(&applied)).await).code, 422);
    let mut replaced = serde_json::to_value(&created).expect("JSON");
    replaced["spec"]["replicas"] = json!(-1);
    let status = refusal(deployments.replace("web", &PostParams::default(), &of(replaced)).await);
    assert!(
        status.message.contains("spec.replicas: Invalid value: -1: must be greater than or equal to 0"),
        "{status:?}"
    );
    let untouched = deployments.get("web").await.expect("there");
    assert_eq!(untouched.metadata.resource_version, created.metadata.resource_version);
    cluster.stop().await;
}

#[tokio::test]
async fn a_status_update_keeps_what_upstream_lets_it_change() {
    let cluster = common::Served::start().await;
    let client = cluster.client().await;
    let change =
        json!({"metadata": {"annotations": {"note": "here"}, "labels": {"new": "label"}}, "status": {"replicas": 2}});
    let params = PatchParams::default();
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), "default");
    deployments.create(&PostParams::default(), &of(deployment("a"))).await.expect("created");
    let patched = deployments.patch_status("a", &params, &Patch::Merge(&change)).await.expect("patched");
    assert_eq!(patched.metadata.annotations.expect("annotations")["note"], "here");
    // `deploymentStatusStrategy` takes labels back, `rsStatusStrategy` doesn't.
    assert!(!patched.metadata.labels.expect("labels").contains_key("new"));
    let sets: Api<ReplicaSet> = Api::namespaced(client, "default");
    sets.create(&PostParams::default(), &of(deployment("a"))).await.expect("created");
    let patched = sets.patch_status("a", &params, &Patch::Merge(&change)).await.expect("patched");
    assert_eq!(patched.metadata.labels.expect("labels")["new"], "label");
    assert_eq!(patched.status.expect("a status").replicas, 2);
    cluster.stop().await;
}

#[tokio::test]
async fn scale_takes_every_kind_of_patch() {
    let cluster = common::Served::start().await;
    let api: Api<Deployment> = Api::namespaced(cluster.client().await, "default");
    api.create(&PostParams::default(), &of(deployment("a"))).await.expect("created");
    let params = PatchParams::default();
    let to = |replicas: i32| json!({"spec": {"replicas": replicas}});
    let operations = json!([{"op": "replace", "path": "/spec/replicas", "value": 4}]);
    for (patch, expected) in [
        (Patch::Merge(to(2)), 2),
        (Patch::Strategic(to(3)), 3),
        (Patch::Json(serde_json::from_value(operations).expect("a patch")), 4),
    ] {
        let scale = api.patch_scale("a", &params, &patch).await.expect("scaled");
        assert_eq!(scale.spec.and_then(|spec| spec.replicas), Some(expected));
        assert_eq!(scale.status.and_then(|status| status.selector).as_deref(), Some("app=a"));
    }
    assert_eq!(refusal(api.patch_scale("a", &params, &Patch::Merge(to(-1))).await).code, 422);
    cluster.stop().await;
}

#[tokio::test]
async fn a_job_gets_its_selector_and_its_pods_labels() {
    let cluster = common::Served::start().await;
    let api: Api<Job> = Api::namespaced(cluster.client().await, "default");
    let job = |name: &str, labels: Value| {
        json!({"metadata": {"name": name}, "spec": {"template": {
            "metadata": {"labels": labels},
            "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]},
        }}})
    };
    let created = api.create(&PostParams::default(), &of(job("sum", json!({"own": "label"})))).await.expect("created");
    let uid = created.metadata.uid.expect("a uid");
    let spec = created.spec.expect("a spec");
    let selector = spec.selector.and_then(|selector| selector.match_labels).expect("a selector");
    assert_eq!(
        selector.into_iter().collect::<Vec<_>>(),
        [("batch.kubernetes.io/controller-uid".to_owned(), uid.clone())]
    );
    let labels = spec.template.metadata.and_then(|metadata| metadata.labels).expect("labels");
    let labels: Vec<(&str, &str)> = labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    assert_eq!(
        labels,
        [
            ("batch.kubernetes.io/controller-uid", uid.as_str()),
            ("batch.kubernetes.io/job-name", "sum"),
            ("controller-uid", uid.as_str()),
            ("job-name", "sum"),
            ("own", "label"),
        ]
    );
    let status = refusal(api.create(&PostParams::default(), &of(job("b", json!({"job-name": "other"})))).await);
    assert!(status.message.contains("spec.template.metadata.labels[job-name]: Invalid value"), "{status:?}");
    assert!(status.message.contains("must be 'b'"), "{status:?}");
    cluster.stop().await;
}

#[tokio::test]
async fn an_eviction_says_why_and_lets_the_pod_end() {
    let cluster = common::Served::start().await;
    let client = cluster.client().await;
    Api::<Node>::all(client.clone())
        .create(&PostParams::default(), &of(json!({"metadata": {"name": "n"}})))
        .await
        .expect("a node");
    let pods: Api<Pod> = Api::namespaced(client, "default");
    let pod =
        json!({"metadata": {"name": "a"}, "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "i"}]}});
    pods.create(&PostParams::default(), &of(pod)).await.expect("created");
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    pods.evict("a", &EvictParams { post_options: dry, ..EvictParams::default() }).await.expect("it would be");
    assert!(pods.get("a").await.expect("there").metadata.deletion_timestamp.is_none(), "a dry run changes nothing");
    pods.evict("a", &EvictParams::default()).await.expect("evicted");
    let going = pods.get("a").await.expect("its node still has to end it");
    assert_eq!(going.metadata.deletion_grace_period_seconds, Some(30));
    let conditions = going.status.and_then(|status| status.conditions).expect("conditions");
    let condition = conditions.iter().find(|condition| condition.type_ == "DisruptionTarget").expect("why");
    assert_eq!(condition.reason.as_deref(), Some("EvictionByEvictionAPI"));
    assert_eq!(refusal(pods.evict("nobody", &EvictParams::default()).await).code, 404);
    cluster.stop().await;
}

#[tokio::test]
async fn a_dry_run_answers_and_stores_nothing() {
    let cluster = common::Served::start().await;
    let api: Api<ConfigMap> = Api::namespaced(cluster.client().await, "default");
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    assert!(api.create(&dry, &config_map("a")).await.expect("an answer").metadata.uid.is_some());
    assert!(api.get_opt("a").await.expect("an answer").is_none());
    let strict =
        PatchParams { field_validation: Some(kube::api::ValidationDirective::Strict), ..PatchParams::default() };
    api.create(&PostParams::default(), &config_map("a")).await.expect("created");
    let status = refusal(api.patch("a", &strict, &Patch::Merge(json!({"datta": {}}))).await);
    assert!(status.message.contains("unknown field \"datta\""), "{status:?}");
    cluster.stop().await;
}

#[tokio::test]
async fn a_pod_waits_for_a_node_and_says_why() {
    use k8s_openapi::api::core::v1::Event;
    use kube::api::ListParams;
    let cluster = common::Served::start().await;
    let client = cluster.client().await;
    let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
    let nodes: Api<Node> = Api::all(client.clone());
    let pod = |name: &str| json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let create = async |object: Value| pods.create(&PostParams::default(), &of(object)).await.expect("created");
    let place = async |name: &str| {
        let pod = pods.get(name).await.expect("there");
        let conditions = pod.status.and_then(|status| status.conditions).unwrap_or_default();
        let scheduled = conditions.into_iter().find(|condition| condition.type_ == "PodScheduled");
        (pod.spec.and_then(|spec| spec.node_name), scheduled.map(|condition| (condition.status, condition.message)))
    };
    create(pod("early")).await;
    assert_eq!(place("early").await, (None, None), "there is no node yet");
    let mut gated = pod("gated");
    gated["spec"]["schedulingGates"] = json!([{"name": "example.com/gate"}]);
    create(gated).await;

    nodes.create(&PostParams::default(), &of(json!({"metadata": {"name": "n"}}))).await.expect("a node");
    let nowhere = |why: &str| (None, Some(("False".to_owned(), Some(format!("0/1 nodes are available: 1 {why}.")))));
    assert_eq!(place("early").await, nowhere("node(s) had untolerated taint(s)"));
    let ready = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
    nodes.patch_status("n", &PatchParams::default(), &Patch::Merge(ready)).await.expect("ready");
    let here = (Some("n".to_owned()), Some(("True".to_owned(), None)));
    assert_eq!(place("early").await, here);
    assert_eq!(place("gated").await.0, None);
    let open = json!([{"op": "remove", "path": "/spec/schedulingGates"}]);
    let open: Patch<()> = Patch::Json(serde_json::from_value(open).expect("a patch"));
    pods.patch("gated", &PatchParams::default(), &open).await.expect("opened");
    assert_eq!(place("gated").await, here);

    nodes.cordon("n").await.expect("cordoned");
    create(pod("late")).await;
    assert_eq!(place("late").await, nowhere("node(s) were unschedulable"));
    let events: Api<Event> = Api::namespaced(client, "default");
    let events = events.list(&ListParams::default().fields("involvedObject.name=late")).await.expect("events");
    let reasons: Vec<_> = events.items.iter().filter_map(|event| event.reason.as_deref()).collect();
    assert_eq!(reasons, ["FailedScheduling"]);
    nodes.uncordon("n").await.expect("uncordoned");
    assert_eq!(place("late").await, here);
    cluster.stop().await;
}
