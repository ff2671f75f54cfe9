//! How watches end: with the server, and when what they ask for is forgotten.

use futures::TryStreamExt as _;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::core::PartialObjectMeta;
use serde_json::json;

use crate::{common, config_map};

#[tokio::test]
async fn what_is_compacted_is_gone() {
    let cluster = common::Served::start().await;
    let api: Api<ConfigMap> = Api::namespaced(cluster.client().await, "default");
    let first = api.create(&PostParams::default(), &config_map("a")).await.expect("created");
    api.create(&PostParams::default(), &config_map("b")).await.expect("created");
    let version = first.metadata.resource_version.expect("a version");
    let page = api.list(&ListParams::default().limit(1)).await.expect("a page");
    let token = page.metadata.continue_.expect("more");
    // More than the log holds.
    for index in 0..300 {
        let patch = json!({"data": {"filler": "x".repeat(20_000), "index": index.to_string()}});
        api.patch("b", &PatchParams::default(), &Patch::Merge(patch)).await.expect("patched");
    }

    let mut events = Box::pin(api.watch(&WatchParams::default(), &version).await.expect("a watch"));
    match events.try_next().await.expect("an event") {
        Some(WatchEvent::Error(status)) => {
            assert_eq!((status.code, status.reason.as_str()), (410, "Expired"));
            assert!(status.message.starts_with(&format!("too old resource version: {version} (")), "{status:?}");
        }
        other => panic!("{other:?}"),
    }
    assert!(events.try_next().await.expect("the end").is_none());
    for lists in [
        ListParams::default().continue_token(&token),
        ListParams::default().at(&version).matching(kube::api::VersionMatch::Exact),
    ] {
        let expired = api.list(&lists).await.expect_err("forgotten");
        assert!(
            matches!(&expired, kube::Error::Api(status) if status.code == 410 && status.reason == "Expired"),
            "{expired}"
        );
    }
    // What is recent is still there.
    let now = api.get("b").await.expect("there").metadata.resource_version.expect("a version");
    let mut events = Box::pin(api.watch(&WatchParams::default(), &now).await.expect("a watch"));
    let patch = json!({"data": {"filler": null}});
    api.patch("b", &PatchParams::default(), &Patch::Merge(patch)).await.expect("patched");
    assert!(matches!(events.try_next().await.expect("an event"), Some(WatchEvent::Modified(_))));
    drop(events);
    cluster.stop().await;
}

#[tokio::test]
async fn every_open_watch_ends_with_the_server() {
    let cluster = common::Served::start().await;
    let mut open = Vec::new();
    for client in [cluster.client().await, cluster.client().await] {
        let api: Api<ConfigMap> = Api::all(client);
        for _ in 0..20 {
            let mut events = Box::pin(api.watch(&WatchParams::default(), "0").await.expect("a watch"));
            events.try_next().await.expect("the first").expect("a config map that every namespace has");
            open.push(events);
        }
    }
    cluster.stop().await;
    for mut events in open {
        // A connection that is cut is an error; a watch that ends is not.
        while events.try_next().await.expect("it ends by itself").is_some() {}
    }
}

#[tokio::test]
async fn metadata_alone_is_listed_and_watched() {
    let cluster = common::Served::start().await;
    let api: Api<ConfigMap> = Api::namespaced(cluster.client().await, "default");
    api.create(&PostParams::default(), &config_map("one")).await.expect("created");
    let alone = api.get_metadata("one").await.expect("there");
    assert_eq!(alone.types.expect("a kind").kind, "PartialObjectMetadata");
    assert_eq!(alone.metadata.labels.expect("labels")["app"], "one");
    let list = api.list_metadata(&ListParams::default().labels("app=one")).await.expect("a list");
    assert_eq!(list.types.kind, "PartialObjectMetadataList");
    assert_eq!(list.items.len(), 1);
    let version = list.metadata.resource_version.expect("a version");
    let mut events = Box::pin(api.watch_metadata(&WatchParams::default(), &version).await.expect("a watch"));
    let patch = json!({"metadata": {"labels": {"new": "yes"}}, "data": {"secret": "not shown"}});
    api.patch("one", &PatchParams::default(), &Patch::Merge(patch)).await.expect("patched");
    match events.try_next().await.expect("an event") {
        Some(WatchEvent::Modified(PartialObjectMeta { metadata, .. })) => {
            assert_eq!(metadata.labels.expect("labels")["new"], "yes");
        }
        other => panic!("{other:?}"),
    }
    drop(events);
    cluster.stop().await;
}
