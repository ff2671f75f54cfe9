//! The API server under real clients: kube-rs in-process and over TLS.

#![cfg(feature = "cli")]

#[path = "api/common.rs"]
mod common;

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
