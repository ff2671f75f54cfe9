//! The API server under real clients: kube-rs in-process and over TLS.

#![cfg(feature = "cli")]

#[path = "api/common.rs"]
mod common;
#[path = "api/forms.rs"]
mod forms;
#[path = "api/warnings.rs"]
mod warnings;
#[path = "api/watches.rs"]
mod watches;
#[path = "api/writes.rs"]
mod writes;

use envctl::embedded::apiserver::User;
use futures::TryStreamExt as _;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use serde_json::json;

fn config_map(name: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name, "labels": {"app": name}}, "data": {"a": "1"}}))
        .expect("a config map")
}

#[tokio::test]
async fn a_config_map_lives_and_dies_over_tls_and_in_process() {
    let cluster = common::Served::start().await;
    for client in [cluster.client().await, cluster.api.client(User::admin())] {
        let api: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
        let created = api.create(&PostParams::default(), &config_map("one")).await.expect("created");
        assert!(created.metadata.uid.is_some() && created.metadata.creation_timestamp.is_some());
        let mut events = Box::pin(
            api.watch(
                &WatchParams::default().labels("app=one"),
                created.metadata.resource_version.as_deref().expect("a version"),
            )
            .await
            .expect("a watch"),
        );
        let patch = json!({"data": {"a": null, "b": "2"}});
        let patched = api.patch("one", &PatchParams::default(), &Patch::Merge(patch)).await.expect("patched");
        assert_eq!(patched.data.expect("data").into_iter().collect::<Vec<_>>(), [("b".to_owned(), "2".to_owned())]);
        let stale = api.replace("one", &PostParams::default(), &created).await.expect_err("stale");
        assert!(matches!(stale, kube::Error::Api(status) if status.code == 409 && status.reason == "Conflict"));
        api.delete("one", &DeleteParams::default()).await.expect("deleted");
        let mut kinds = Vec::new();
        while let Some(event) = events.try_next().await.expect("an event") {
            kinds.push(match event {
                WatchEvent::Modified(_) => "MODIFIED",
                WatchEvent::Deleted(_) => "DELETED",
                _ => "other",
            });
            if kinds.len() == 2 {
                break;
            }
        }
        assert_eq!(kinds, ["MODIFIED", "DELETED"]);
        let missing = api.get("one").await.expect_err("gone");
        assert!(matches!(missing, kube::Error::Api(status) if status.message == "configmaps \"one\" not found"));
    }
    cluster.stop().await;
}

#[tokio::test]
async fn a_long_list_comes_in_pages_of_one_snapshot() {
    let cluster = common::Served::start().await;
    let api: Api<ConfigMap> = Api::namespaced(cluster.client().await, "default");
    for index in 0..5 {
        api.create(&PostParams::default(), &config_map(&format!("m{index}"))).await.expect("created");
    }
    let first = api
        .list(&ListParams::default().limit(2).fields("metadata.namespace=default").labels("app"))
        .await
        .expect("a page");
    let token = first.metadata.continue_.clone().expect("more");
    api.delete("m4", &DeleteParams::default()).await.expect("deleted");
    let rest = api.list(&ListParams::default().labels("app").continue_token(&token)).await.expect("the rest");
    let names: Vec<_> = first.items.iter().chain(&rest.items).filter_map(|item| item.metadata.name.clone()).collect();
    assert_eq!(names, ["m0", "m1", "m2", "m3", "m4"]);
    assert_eq!(first.metadata.resource_version, rest.metadata.resource_version);
    cluster.stop().await;
}

#[tokio::test]
async fn nothing_is_created_where_no_namespace_is() {
    let cluster = common::Served::start().await;
    let client = cluster.client().await;
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), "nowhere");
    let refused = api.create(&PostParams::default(), &config_map("a")).await.expect_err("no namespace");
    assert!(
        matches!(refused, kube::Error::Api(status) if status.message == "namespaces \"nowhere\" not found" && status.code == 404)
    );
    let namespaces: Api<Namespace> = Api::all(client);
    let names: Vec<_> = namespaces
        .list(&ListParams::default())
        .await
        .expect("a list")
        .items
        .into_iter()
        .filter_map(|ns| ns.metadata.name)
        .collect();
    assert_eq!(names, ["default", "kube-node-lease", "kube-public", "kube-system"]);
    cluster.stop().await;
}

#[tokio::test]
async fn roles_decide_and_refusals_are_kubernetes_own_words() {
    use k8s_openapi::api::core::v1::{Pod, Secret};
    use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
    let cluster = common::Served::start().await;
    let nobody: Api<Pod> = Api::namespaced(cluster.client_as(User::new("jane", &[])).await, "default");
    let refused = nobody.list(&ListParams::default()).await.expect_err("no rights");
    let words =
        "pods is forbidden: User \"jane\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\"";
    assert!(matches!(refused, kube::Error::Api(status) if status.code == 403 && status.message == words));

    let admin = cluster.client().await;
    let role = json!({"metadata": {"name": "reader"}, "rules": [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]},
        {"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles", "rolebindings"], "verbs": ["create"]},
    ]});
    let binding = json!({
        "metadata": {"name": "reader"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"},
        "subjects": [{"kind": "User", "name": "jane", "apiGroup": "rbac.authorization.k8s.io"}],
    });
    let roles: Api<Role> = Api::namespaced(admin.clone(), "default");
    roles.create(&PostParams::default(), &serde_json::from_value(role).expect("a role")).await.expect("created");
    let bindings: Api<RoleBinding> = Api::namespaced(admin, "default");
    bindings
        .create(&PostParams::default(), &serde_json::from_value(binding).expect("a binding"))
        .await
        .expect("created");
    nobody.list(&ListParams::default()).await.expect("allowed now");

    let jane = cluster.client_as(User::new("jane", &[])).await;
    let more = json!({"metadata": {"name": "more"}, "rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]});
    let escalated = Api::<Role>::namespaced(jane.clone(), "default")
        .create(&PostParams::default(), &serde_json::from_value(more).expect("a role"))
        .await
        .expect_err("escalation");
    assert!(
        matches!(&escalated, kube::Error::Api(status) if status.message.contains("is attempting to grant RBAC permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"get\"]}")),
        "{escalated}"
    );
    assert!(Api::<Secret>::namespaced(jane, "default").list(&ListParams::default()).await.is_err());
    cluster.stop().await;
}

#[tokio::test]
async fn a_pods_token_is_its_accounts_until_the_pod_is_gone() {
    use k8s_openapi::api::authentication::v1::TokenRequest;
    use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
    let cluster = common::Served::start().await;
    let admin = cluster.client().await;
    let pods: Api<Pod> = Api::namespaced(admin.clone(), "default");
    let pod = json!({"metadata": {"name": "a"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let pod = pods.create(&PostParams::default(), &serde_json::from_value(pod).expect("a pod")).await.expect("created");
    let spec = pod.spec.expect("a spec");
    assert_eq!(spec.service_account_name.as_deref(), Some("default"));
    let mount = &spec.containers[0].volume_mounts.as_ref().expect("mounts")[0];
    assert_eq!(mount.mount_path, "/var/run/secrets/kubernetes.io/serviceaccount");
    assert_eq!(pod.status.expect("a status").qos_class.as_deref(), Some("BestEffort"));

    let request: TokenRequest = serde_json::from_value(json!({"spec": {
        "audiences": [], "expirationSeconds": 3607, "boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "a"},
    }}))
    .expect("a request");
    let accounts: Api<ServiceAccount> = Api::namespaced(admin, "default");
    let token = accounts.create_token_request("default", &PostParams::default(), &request).await.expect("a token");
    let token = token.status.and_then(|status| status.token).expect("a token");
    let kubeconfig = cluster.api.kubeconfig(&cluster.url, &token, "default");
    let client = common::client_of(&kubeconfig).await;
    let refused =
        Api::<Pod>::namespaced(client.clone(), "default").list(&ListParams::default()).await.expect_err("no rights");
    assert!(
        matches!(refused, kube::Error::Api(status) if status.message.contains("User \"system:serviceaccount:default:default\" cannot list"))
    );
    pods.delete("a", &DeleteParams::default()).await.expect("deleted at once: it runs nowhere");
    let unknown = Api::<Pod>::namespaced(client, "default").list(&ListParams::default()).await.expect_err("no pod");
    assert!(matches!(unknown, kube::Error::Api(status) if status.code == 401));
    cluster.stop().await;
}

#[tokio::test]
async fn deployments_scale_and_services_get_addresses() {
    use k8s_openapi::api::apps::v1::Deployment;
    use k8s_openapi::api::core::v1::Service;
    let cluster = common::Served::start().await;
    let client = cluster.client().await;
    let deployment = json!({"metadata": {"name": "web"}, "spec": {
        "replicas": 1, "selector": {"matchLabels": {"app": "web"}},
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}},
    }});
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), "default");
    deployments
        .create(&PostParams::default(), &serde_json::from_value(deployment).expect("one"))
        .await
        .expect("created");
    let scale =
        deployments.patch_scale("web", &PatchParams::default(), &Patch::Merge(json!({"spec": {"replicas": 3}}))).await;
    assert_eq!(scale.expect("scaled").spec.and_then(|spec| spec.replicas), Some(3));
    let now = deployments.get("web").await.expect("there");
    assert_eq!((now.metadata.generation, now.spec.and_then(|spec| spec.replicas)), (Some(2), Some(3)));
    let status = json!({"status": {"replicas": 3}, "spec": {"replicas": 9}});
    let patched =
        deployments.patch_status("web", &PatchParams::default(), &Patch::Merge(status)).await.expect("patched");
    assert_eq!((patched.metadata.generation, patched.spec.and_then(|spec| spec.replicas)), (Some(2), Some(3)));
    assert_eq!(patched.status.and_then(|status| status.replicas), Some(3));

    let services: Api<Service> = Api::namespaced(client, "default");
    let service = json!({"metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}]}});
    let service =
        services.create(&PostParams::default(), &serde_json::from_value(service).expect("one")).await.expect("created");
    let address = service.spec.and_then(|spec| spec.cluster_ip).expect("an address");
    assert!(address.starts_with("10.96."), "{address}");
    let kubernetes = services.get("kubernetes").await.expect("there").spec.and_then(|spec| spec.cluster_ip);
    assert_eq!(kubernetes.as_deref(), Some("10.96.0.1"));
    cluster.stop().await;
}

#[tokio::test]
async fn a_streamed_list_ends_with_its_mark_and_a_watch_with_the_server() {
    use futures::StreamExt as _;
    use kube::runtime::watcher;
    let cluster = common::Served::start().await;
    let api: Api<ConfigMap> = Api::namespaced(cluster.client().await, "default");
    api.create(&PostParams::default(), &config_map("one")).await.expect("created");
    let mut events = watcher(api, watcher::Config::default().streaming_lists()).boxed();
    let mut seen = Vec::new();
    while let Some(event) = events.next().await {
        match event.expect("an event") {
            watcher::Event::InitApply(map) => seen.extend(map.metadata.name),
            watcher::Event::InitDone => break,
            _ => {}
        }
    }
    seen.sort();
    assert_eq!(seen, ["kube-root-ca.crt", "one"]);
    cluster.stop().await;
}

#[tokio::test]
#[ignore = "a measurement: run with --include-ignored --nocapture"]
async fn what_it_costs() {
    use std::time::Instant;
    let begun = Instant::now();
    let api = envctl::embedded::apiserver::ApiServer::new(Default::default()).expect("an API server");
    println!("ApiServer::new: {:?}", begun.elapsed());
    drop(api);
    let cluster = common::Served::start().await;
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client().await, "default");
    let mut events = Box::pin(maps.watch(&WatchParams::default(), "0").await.expect("a watch"));
    events.try_next().await.expect("the initial one");
    let mut times = Vec::new();
    for index in 0..200 {
        let begun = Instant::now();
        maps.create(&PostParams::default(), &config_map(&format!("m{index}"))).await.expect("created");
        events.try_next().await.expect("an event");
        times.push(begun.elapsed());
    }
    times.sort();
    println!("create and see it over TLS: p50 {:?}, p99 {:?}", times[100], times[198]);
    cluster.stop().await;
}

#[tokio::test]
async fn applying_owns_fields_and_conflicts_name_the_owner() {
    let cluster = common::Served::start().await;
    let api: Api<ConfigMap> = Api::namespaced(cluster.client().await, "default");
    let applied =
        |value: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": value}});
    api.patch("a", &PatchParams::apply("one"), &Patch::Apply(applied("1"))).await.expect("created");
    let conflict = api.patch("a", &PatchParams::apply("two"), &Patch::Apply(applied("2"))).await.expect_err("owned");
    let words = "Apply failed with 1 conflict: conflict with \"one\": .data.k";
    assert!(
        matches!(&conflict, kube::Error::Api(status) if status.code == 409 && status.message == words),
        "{conflict}"
    );
    let forced = api.patch("a", &PatchParams::apply("two").force(), &Patch::Apply(applied("2"))).await.expect("forced");
    assert_eq!(forced.data.expect("data")["k"], "2");
    let unchanged =
        api.patch("a", &PatchParams::apply("two").force(), &Patch::Apply(applied("2"))).await.expect("again");
    assert_eq!(unchanged.metadata.resource_version, forced.metadata.resource_version);
    cluster.stop().await;
}
