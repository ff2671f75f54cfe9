//! What controllers must do, whichever they are and whoever serves the API: our own room against itself
//! (`tests/controllers.rs`), and each half against its real counterpart (`tests/counterparts`). `super::start` says which.

use futures::StreamExt;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Event, Namespace, Pod, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{DeleteParams, Patch, PatchParams, PropagationPolicy};
use kube::runtime::{WatchStreamExt, watcher};
use serde_json::{Value, json};

use super::start;
use crate::cluster::template;

fn deployment(name: &str, replicas: i32, image: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {
        "replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template(json!({"app": name}), image),
    }})
}

fn is_rolled_out(deployment: Option<&Deployment>) -> bool {
    let Some(deployment) = deployment else { return false };
    let (Some(spec), Some(status)) = (&deployment.spec, &deployment.status) else { return false };
    status.observed_generation == deployment.metadata.generation
        && status.updated_replicas.unwrap_or(0) == spec.replicas.unwrap_or(1)
        && status.available_replicas == status.updated_replicas
        && status.replicas == status.updated_replicas
}

fn condition(deployment: &Deployment, type_: &str) -> (String, String) {
    let conditions = deployment.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let condition = conditions.into_iter().find(|condition| condition.type_ == type_);
    condition.map(|of| (of.status.clone(), of.reason.clone().unwrap_or_default())).unwrap_or_default()
}

fn revision(meta: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta) -> &str {
    &meta.annotations.as_ref().expect("annotations")["deployment.kubernetes.io/revision"]
}

fn pair(a: &str, b: &str) -> (String, String) {
    (a.to_owned(), b.to_owned())
}

#[tokio::test]
async fn a_deployment_rolls_out_forward_and_back() {
    let Some(cluster) = start().await else { return };
    cluster.create::<Deployment>("default", deployment("web", 3, "one")).await;
    let first = cluster.until("default", "web", "rolled out", is_rolled_out).await.expect("it is there");
    assert_eq!(condition(&first, "Available"), pair("True", "MinimumReplicasAvailable"));
    cluster
        .until::<Deployment>("default", "web", "progressed", |web| {
            web.is_some_and(|web| condition(web, "Progressing") == pair("True", "NewReplicaSetAvailable"))
        })
        .await;
    assert_eq!(revision(&first.metadata), "1");
    let sets = cluster.api::<ReplicaSet>("default").list(&Default::default()).await.expect("listed").items;
    let [one] = sets.as_slice() else { panic!("one set, not {sets:#?}") };
    let hash = &one.metadata.labels.as_ref().expect("labels")["pod-template-hash"];
    assert_eq!(one.metadata.name.as_deref(), Some(format!("web-{hash}").as_str()));
    let owner = &one.metadata.owner_references.as_ref().expect("an owner")[0];
    assert_eq!(
        (owner.kind.as_str(), owner.controller, owner.block_owner_deletion),
        ("Deployment", Some(true), Some(true))
    );

    // Never fewer than 3 - 25 % rounded down = 3 available, never more than 3 + 25 % rounded up = 4 wanted.
    let watched = {
        let api = cluster.api::<ReplicaSet>("default");
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            let events = watcher(api, watcher::Config::default()).applied_objects().take_until(stopped);
            futures::pin_mut!(events);
            let (mut sizes, mut most) = (std::collections::HashMap::new(), 0);
            while let Some(set) = events.next().await {
                let set = set.expect("the watch works");
                sizes.insert(set.metadata.name.clone(), set.spec.and_then(|spec| spec.replicas).unwrap_or(0));
                most = most.max(sizes.values().sum::<i32>());
            }
            most
        });
        (stop, task)
    };
    let api = cluster.api::<Deployment>("default");
    let image = |image: &str| {
        Patch::Strategic(json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}}))
    };
    api.patch("web", &PatchParams::default(), &image("two")).await.expect("patched");
    let second = cluster.until("default", "web", "rolled out again", is_rolled_out).await.expect("it is there");
    assert_eq!(revision(&second.metadata), "2");
    let _ = watched.0.send(());
    assert_eq!(watched.1.await.expect("it ends"), 4, "the surge");
    let old = cluster.until::<ReplicaSet>("default", one.metadata.name.as_deref().expect("named"), "empty", |set| {
        set.is_some_and(|set| set.status.as_ref().is_some_and(|status| status.replicas == 0))
    });
    assert_eq!(revision(&old.await.expect("history").metadata), "1");

    api.patch("web", &PatchParams::default(), &image("one")).await.expect("patched");
    let third = cluster.until("default", "web", "rolled back", is_rolled_out).await.expect("it is there");
    assert_eq!(revision(&third.metadata), "3");
    let again =
        cluster.api::<ReplicaSet>("default").get(one.metadata.name.as_deref().expect("named")).await.expect("it");
    assert_eq!(revision(&again.metadata), "3", "the old set is used again");
    assert_eq!(again.metadata.annotations.expect("some")["deployment.kubernetes.io/revision-history"], "1");
    let events = cluster.until_all::<Event>("default", "reported", |events| {
        events
            .iter()
            .any(|event| event.message.as_deref().is_some_and(|text| text.starts_with("Scaled up replica set web-")))
    });
    events.await;
    cluster.stop().await;
}

#[tokio::test]
async fn a_broken_rollout_keeps_what_works_and_says_so() {
    let Some(cluster) = start().await else { return };
    cluster.create::<Deployment>("default", deployment("web", 4, "one")).await;
    cluster.until("default", "web", "rolled out", is_rolled_out).await;
    let patch = json!({"spec": {"progressDeadlineSeconds": 11, "minReadySeconds": 1, "template": {
        "metadata": {"labels": {"stuck": "yes"}}, "spec": {"containers": [{"name": "c", "image": "two"}]},
    }}});
    let api = cluster.api::<Deployment>("default");
    api.patch("web", &PatchParams::default(), &Patch::Strategic(patch)).await.expect("patched");
    let stuck = cluster
        .until::<Deployment>("default", "web", "as far as it gets", |web| {
            web.and_then(|web| web.status.as_ref()).is_some_and(|status| {
                status.updated_replicas == Some(2) && status.available_replicas == Some(3) && status.replicas == Some(5)
            })
        })
        .await
        .expect("it is there");
    assert_eq!(stuck.status.expect("status").unavailable_replicas, Some(2));
    api.patch("web", &PatchParams::default(), &Patch::Merge(json!({"spec": {"paused": true}}))).await.expect("paused");
    cluster
        .until::<Deployment>("default", "web", "paused", |web| {
            web.is_some_and(|web| condition(web, "Progressing") == pair("Unknown", "DeploymentPaused"))
        })
        .await;
    cluster.stop().await;
}

#[tokio::test]
async fn recreate_waits_until_the_old_pods_are_gone() {
    let Some(cluster) = start().await else { return };
    let mut object = deployment("db", 2, "one");
    object["spec"]["strategy"] = json!({"type": "Recreate"});
    cluster.create::<Deployment>("default", object).await;
    cluster.until("default", "db", "rolled out", is_rolled_out).await;
    let pods = cluster.api::<Pod>("default");
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let watch = tokio::spawn(async move {
        let events = watcher(pods, watcher::Config::default()).take_until(stopped);
        futures::pin_mut!(events);
        let mut images = std::collections::HashMap::new();
        while let Some(event) = events.next().await {
            match event.expect("the watch works") {
                watcher::Event::Apply(pod) | watcher::Event::InitApply(pod) => {
                    let image = pod.spec.as_ref().and_then(|spec| spec.containers[0].image.clone());
                    images.insert(pod.metadata.name.clone(), image);
                }
                watcher::Event::Delete(pod) => drop(images.remove(&pod.metadata.name)),
                _ => {}
            }
            let kinds: std::collections::HashSet<_> = images.values().collect();
            assert!(kinds.len() <= 1, "old and new side by side");
        }
    });
    let patch = json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "two"}]}}}});
    cluster
        .api::<Deployment>("default")
        .patch("db", &PatchParams::default(), &Patch::Strategic(patch))
        .await
        .expect("patched");
    cluster.until("default", "db", "rolled out", is_rolled_out).await;
    let _ = stop.send(());
    watch.await.expect("never mixed");
    cluster.stop().await;
}

#[tokio::test]
async fn two_hundred_pods_come_and_go() {
    let Some(cluster) = start().await else { return };
    cluster.create::<Deployment>("default", deployment("many", 1, "one")).await;
    cluster.until("default", "many", "rolled out", is_rolled_out).await;
    let patch = Patch::Merge(json!({"spec": {"replicas": 200}}));
    cluster.api::<Deployment>("default").patch("many", &PatchParams::default(), &patch).await.expect("scaled");
    let full = |web: Option<&Deployment>| {
        is_rolled_out(web) && web.and_then(|web| web.status.as_ref()?.available_replicas) == Some(200)
    };
    cluster.until("default", "many", "200 available", full).await;
    cluster.api::<Deployment>("default").delete("many", &DeleteParams::default()).await.expect("deleted");
    cluster.until_all::<Pod>("default", "gone", <[Pod]>::is_empty).await;
    cluster.stop().await;
}

fn job(name: &str, exit: &str, more: Value) -> Value {
    let mut template = template(json!({"exit": exit}), "one");
    template["spec"]["restartPolicy"] = "Never".into();
    let mut spec = json!({"template": template});
    for (key, value) in more.as_object().expect("an object") {
        spec[key] = value.clone();
    }
    json!({"metadata": {"name": name}, "spec": spec})
}

fn job_has(type_: &'static str) -> impl Fn(Option<&Job>) -> bool {
    move |job| {
        let conditions = job.and_then(|job| job.status.as_ref()?.conditions.as_ref());
        conditions.is_some_and(|all| all.iter().any(|condition| condition.type_ == type_ && condition.status == "True"))
    }
}

#[tokio::test]
async fn jobs_complete_fail_and_go() {
    let Some(cluster) = start().await else { return };
    cluster.create::<Job>("default", job("five", "0", json!({"completions": 5, "parallelism": 2}))).await;
    let done = cluster.until("default", "five", "complete", job_has("Complete")).await.expect("it is there");
    let status = done.status.expect("status");
    assert_eq!((status.succeeded, status.failed, status.active, status.ready), (Some(5), None, None, Some(0)));
    assert!(status.start_time.is_some() && status.completion_time.is_some());
    let types: Vec<_> =
        status.conditions.expect("conditions").into_iter().map(|c| (c.type_, c.reason.unwrap_or_default())).collect();
    assert_eq!(types, [pair("SuccessCriteriaMet", "CompletionsReached"), pair("Complete", "CompletionsReached")]);
    let pods = cluster.api::<Pod>("default").list(&Default::default()).await.expect("listed").items;
    assert_eq!(pods.len(), 5);
    assert!(pods.iter().all(|pod| pod.metadata.finalizers.as_ref().is_none_or(Vec::is_empty)), "all counted");

    cluster.create::<Job>("default", job("fails", "3", json!({"backoffLimit": 0}))).await;
    let failed = cluster.until("default", "fails", "failed", job_has("Failed")).await.expect("it is there");
    let status = failed.status.expect("status");
    assert_eq!((status.succeeded, status.failed, status.completion_time), (None, Some(1), None));
    let types: Vec<_> =
        status.conditions.expect("conditions").into_iter().map(|c| (c.type_, c.reason.unwrap_or_default())).collect();
    assert_eq!(types, [pair("FailureTarget", "BackoffLimitExceeded"), pair("Failed", "BackoffLimitExceeded")]);

    let policy = json!({"backoffLimit": 5, "podFailurePolicy": {"rules": [
        {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}},
    ]}});
    cluster.create::<Job>("default", job("policy", "42", policy)).await;
    let failed = cluster.until("default", "policy", "failed", job_has("Failed")).await.expect("it is there");
    let conditions = failed.status.and_then(|status| status.conditions).expect("conditions");
    assert_eq!(conditions[0].reason.as_deref(), Some("PodFailurePolicy"));

    let indexed = json!({"completions": 3, "parallelism": 3, "completionMode": "Indexed"});
    cluster.create::<Job>("default", job("indexed", "0", indexed)).await;
    let done = cluster.until("default", "indexed", "complete", job_has("Complete")).await.expect("it is there");
    assert_eq!(done.status.and_then(|status| status.completed_indexes).as_deref(), Some("0-2"));

    cluster.create::<Job>("default", job("brief", "0", json!({"ttlSecondsAfterFinished": 0}))).await;
    cluster.until::<Job>("default", "brief", "gone", |job| job.is_none()).await;

    let mut suspended = job("later", "0", json!({"suspend": true}));
    suspended["metadata"]["labels"] = json!({"a": "b"});
    cluster.create::<Job>("default", suspended).await;
    cluster.until("default", "later", "suspended", job_has("Suspended")).await;
    let patch = Patch::Merge(json!({"spec": {"suspend": false}}));
    cluster.api::<Job>("default").patch("later", &PatchParams::default(), &patch).await.expect("resumed");
    cluster.until("default", "later", "complete", job_has("Complete")).await;

    let mut slow = job("slow", "0", json!({"activeDeadlineSeconds": 1}));
    slow["spec"]["template"]["metadata"]["labels"] = json!({"stuck": "yes"});
    cluster.create::<Job>("default", slow).await;
    let failed = cluster.until("default", "slow", "failed", job_has("Failed")).await.expect("it is there");
    let conditions = failed.status.and_then(|status| status.conditions).expect("conditions");
    assert_eq!(conditions[0].reason.as_deref(), Some("DeadlineExceeded"));
    cluster.stop().await;
}

#[tokio::test]
async fn slices_follow_pods() {
    let Some(cluster) = start().await else { return };
    let service = json!({"metadata": {"name": "web", "labels": {"l": "1"}}, "spec": {
        "selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "targetPort": "web"}],
    }});
    cluster.create::<Service>("default", service).await;
    let ready = |count: usize| {
        move |slices: &[EndpointSlice]| {
            let mine = slices.iter().filter(|slice| {
                slice
                    .metadata
                    .labels
                    .as_ref()
                    .is_some_and(|labels| labels.get("kubernetes.io/service-name").is_some_and(|s| s == "web"))
            });
            let mine: Vec<_> = mine.collect();
            let endpoints = mine.iter().flat_map(|slice| slice.endpoints.iter().flatten());
            !mine.is_empty()
                && endpoints.filter(|e| e.conditions.as_ref().and_then(|c| c.ready) == Some(true)).count() == count
        }
    };
    let empty = cluster.until_all("default", "empty", ready(0)).await;
    assert!(empty.iter().all(|slice| slice.ports.as_ref().is_none_or(Vec::is_empty)) || empty.len() > 1);
    cluster.create::<Deployment>("default", deployment("web", 3, "one")).await;
    let slices = cluster.until_all("default", "three ready", ready(3)).await;
    let slice = slices.iter().find(|slice| slice.metadata.generate_name.as_deref() == Some("web-")).expect("ours");
    let port = &slice.ports.as_ref().expect("ports")[0];
    assert_eq!((port.name.as_deref(), port.port, port.protocol.as_deref()), (Some("http"), Some(8080), Some("TCP")));
    assert_eq!(slice.address_type, "IPv4");
    assert_eq!(slice.metadata.labels.as_ref().expect("labels")["l"], "1");
    let pod = slice.endpoints.as_ref().expect("endpoints")[0]
        .target_ref
        .as_ref()
        .and_then(|pod| pod.name.clone())
        .expect("a pod");
    let patch = Patch::Strategic(json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}}));
    cluster.api::<Pod>("default").patch_status(&pod, &PatchParams::default(), &patch).await.expect("unready");
    cluster.until_all("default", "two ready", ready(2)).await;
    cluster.api::<Service>("default").delete("web", &DeleteParams::default()).await.expect("deleted");
    cluster
        .until_all::<EndpointSlice>("default", "collected", |slices| {
            !slices.iter().any(|slice| slice.metadata.generate_name.as_deref() == Some("web-"))
        })
        .await;
    cluster.stop().await;
}

#[tokio::test]
async fn a_namespace_gets_its_basics_and_goes_with_everything() {
    let Some(cluster) = start().await else { return };
    let shop = cluster.namespace("shop").await;
    cluster.until::<ServiceAccount>("shop", "default", "there", |account| account.is_some()).await;
    let ca = cluster.until::<ConfigMap>("shop", "kube-root-ca.crt", "there", |map| map.is_some()).await.expect("there");
    assert!(ca.data.expect("data")["ca.crt"].starts_with("-----BEGIN CERTIFICATE-----"));
    cluster.create::<Deployment>("shop", deployment("web", 3, "one")).await;
    cluster.create::<Job>("shop", job("done", "0", json!({}))).await;
    cluster.until("shop", "web", "rolled out", is_rolled_out).await;
    cluster.until("shop", "done", "complete", job_has("Complete")).await;
    let kept = json!({"metadata": {"name": "kept", "finalizers": ["example.com/mine"]}});
    cluster.create::<ConfigMap>("shop", kept).await;
    cluster.api::<Namespace>("").delete(&shop, &DeleteParams::default()).await.expect("deleted");
    let waiting = cluster
        .until::<Namespace>("", &shop, "waiting for the finalizer", |namespace| {
            let conditions = namespace.and_then(|namespace| namespace.status.as_ref()?.conditions.as_ref());
            conditions.is_some_and(|all| {
                let remaining = all.iter().find(|condition| condition.type_ == "NamespaceFinalizersRemaining");
                remaining.is_some_and(|condition| {
                    condition.message.as_deref()
                        == Some("Some content in the namespace has finalizers remaining: example.com/mine in 1 resource instances")
                })
            })
        })
        .await
        .expect("it is there");
    assert_eq!(waiting.status.and_then(|status| status.phase).as_deref(), Some("Terminating"));
    let patch = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    cluster.api::<ConfigMap>("shop").patch("kept", &PatchParams::default(), &patch).await.expect("let go");
    cluster.until::<Namespace>("", &shop, "gone", |namespace| namespace.is_none()).await;
    cluster.stop().await;
}

fn owned(name: &str, owner: &ConfigMap, finalizer: Option<&str>) -> Value {
    json!({"metadata": {"name": name, "finalizers": finalizer.into_iter().collect::<Vec<_>>(), "ownerReferences": [{
        "apiVersion": "v1", "kind": "ConfigMap", "name": owner.metadata.name, "uid": owner.metadata.uid, "blockOwnerDeletion": true,
    }]}})
}

#[tokio::test]
async fn dependents_follow_their_owners() {
    let Some(cluster) = start().await else { return };
    let maps = cluster.api::<ConfigMap>("default");
    let delete = |policy| DeleteParams { propagation_policy: Some(policy), ..DeleteParams::default() };
    let gone = |map: Option<&ConfigMap>| map.is_none();

    let owner: ConfigMap = cluster.create("default", json!({"metadata": {"name": "background"}})).await;
    cluster.create::<ConfigMap>("default", owned("background-child", &owner, None)).await;
    maps.delete("background", &delete(PropagationPolicy::Background)).await.expect("deleted");
    cluster.until("default", "background-child", "collected", gone).await;

    // The owner is gone before the dependent is even made.
    cluster.create::<ConfigMap>("default", owned("late", &owner, None)).await;
    cluster.until("default", "late", "collected", gone).await;

    let owner: ConfigMap = cluster.create("default", json!({"metadata": {"name": "foreground"}})).await;
    cluster.create::<ConfigMap>("default", owned("foreground-child", &owner, Some("example.com/held"))).await;
    maps.delete("foreground", &delete(PropagationPolicy::Foreground)).await.expect("deleted");
    cluster
        .until::<ConfigMap>("default", "foreground-child", "going", |map| {
            map.is_some_and(|map| map.metadata.deletion_timestamp.is_some())
        })
        .await;
    assert!(maps.get_opt("foreground").await.expect("readable").is_some(), "it waits for its dependent");
    let patch = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    maps.patch("foreground-child", &PatchParams::default(), &patch).await.expect("let go");
    cluster.until("default", "foreground", "gone", gone).await;

    let owner: ConfigMap = cluster.create("default", json!({"metadata": {"name": "orphaned"}})).await;
    cluster.create::<ConfigMap>("default", owned("orphan", &owner, None)).await;
    maps.delete("orphaned", &delete(PropagationPolicy::Orphan)).await.expect("deleted");
    cluster.until("default", "orphaned", "gone", gone).await;
    let orphan = maps.get("orphan").await.expect("it stays");
    assert!(orphan.metadata.owner_references.is_none_or(|owners| owners.is_empty()));

    let (one, two): (ConfigMap, ConfigMap) = (
        cluster.create("default", json!({"metadata": {"name": "one"}})).await,
        cluster.create("default", json!({"metadata": {"name": "two"}})).await,
    );
    let mut both = owned("both", &one, None);
    both["metadata"]["ownerReferences"].as_array_mut().expect("a list").push(json!({
        "apiVersion": "v1", "kind": "ConfigMap", "name": "two", "uid": two.metadata.uid,
    }));
    cluster.create::<ConfigMap>("default", both).await;
    maps.delete("one", &DeleteParams::default()).await.expect("deleted");
    cluster
        .until::<ConfigMap>("default", "both", "kept by the other", |map| {
            map.is_some_and(|map| map.metadata.owner_references.as_ref().is_some_and(|owners| owners.len() == 1))
        })
        .await;
    cluster.stop().await;
}

#[tokio::test]
async fn replica_sets_adopt_release_and_are_orphaned() {
    let Some(cluster) = start().await else { return };
    let pod = json!({"metadata": {"name": "stray", "labels": {"app": "a"}}, "spec": {"containers": [{"name": "c", "image": "one"}]}});
    cluster.create::<Pod>("default", pod).await;
    let set = json!({"metadata": {"name": "set"}, "spec": {
        "replicas": 2, "selector": {"matchLabels": {"app": "a"}}, "template": template(json!({"app": "a"}), "one"),
    }});
    cluster.create::<ReplicaSet>("default", set).await;
    cluster
        .until::<Pod>("default", "stray", "adopted", |pod| {
            pod.is_some_and(|pod| pod.metadata.owner_references.is_some())
        })
        .await;
    let status = |ready: i32| {
        move |set: Option<&ReplicaSet>| {
            set.and_then(|set| set.status.as_ref())
                .is_some_and(|status| status.ready_replicas == Some(ready) && status.replicas == ready)
        }
    };
    cluster.until("default", "set", "full", status(2)).await;
    assert_eq!(cluster.api::<Pod>("default").list(&Default::default()).await.expect("listed").items.len(), 2);
    let patch = Patch::Merge(json!({"metadata": {"labels": {"app": "b"}}}));
    cluster.api::<Pod>("default").patch("stray", &PatchParams::default(), &patch).await.expect("relabelled");
    cluster
        .until::<Pod>("default", "stray", "released", |pod| {
            pod.is_some_and(|pod| pod.metadata.owner_references.as_ref().is_none_or(Vec::is_empty))
        })
        .await;
    cluster.until_all::<Pod>("default", "replaced", |pods| pods.len() == 3).await;
    let orphan = DeleteParams { propagation_policy: Some(PropagationPolicy::Orphan), ..DeleteParams::default() };
    cluster.api::<ReplicaSet>("default").delete("set", &orphan).await.expect("deleted");
    cluster.until::<ReplicaSet>("default", "set", "gone", |set| set.is_none()).await;
    assert_eq!(cluster.api::<Pod>("default").list(&Default::default()).await.expect("listed").items.len(), 3);
    cluster.stop().await;
}
