//! The controllers against our own API server, both in this process.

#![cfg(feature = "cli")]

#[path = "controllers/cases.rs"]
mod cases;
#[path = "controllers/cluster.rs"]
mod cluster;

use cluster::Cluster;
use envctl::embedded::apiserver::{ApiServer, Config, User};
use envctl::embedded::controllers::{self, Controllers};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::DeleteParams;
use serde_json::json;
use tokio_util::sync::CancellationToken;

/// A cluster of our own rooms.
async fn start() -> Option<Cluster> {
    let api = ApiServer::new(Config::default()).expect("an API server");
    let volumes = tempfile::tempdir().expect("a directory");
    let config = controllers::Config {
        ca_pem: api.certificate_authority_pem().to_owned(),
        volumes_dir: volumes.path().to_owned(),
    };
    // As `embedded::Owner` does it, and upstream: the shared informers read with the manager's own identity.
    let clients = |name: &'static str| match name {
        controllers::SHARED_INFORMERS => api.client(User::new("system:kube-controller-manager", &[])),
        _ => api.client(User::controller(name)),
    };
    let controllers = Controllers::start(clients, config, CancellationToken::new());
    // There is no node: all pods are run.
    Some(Cluster::of(api.client(User::admin()), volumes, |_| true, controllers.stop()))
}

#[tokio::test]
async fn a_claim_gets_a_directory_and_gives_it_back() {
    let Some(cluster) = start().await else { return };
    cluster
        .create::<StorageClass>("", json!({"metadata": {"name": "local"}, "provisioner": "envctl.dev/local-path"}))
        .await;
    let claim = json!({"metadata": {"name": "data"}, "spec": {
        "accessModes": ["ReadWriteOnce"], "storageClassName": "local", "resources": {"requests": {"storage": "1Gi"}},
    }});
    cluster.create::<PersistentVolumeClaim>("default", claim).await;
    let bound = cluster
        .until::<PersistentVolumeClaim>("default", "data", "bound", |claim| {
            claim.is_some_and(|claim| claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound"))
        })
        .await
        .expect("it is there");
    let name = bound.spec.and_then(|spec| spec.volume_name).expect("a volume");
    let volume = cluster
        .until::<PersistentVolume>("", &name, "bound", |volume| {
            volume.is_some_and(|volume| {
                volume.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound")
            })
        })
        .await
        .expect("it is there");
    let path = volume.spec.and_then(|spec| spec.host_path).expect("a path").path;
    assert!(path.starts_with(cluster.volumes.path().to_str().expect("utf-8")));
    std::fs::write(format!("{path}/file"), "x").expect("writable");
    cluster.api::<PersistentVolumeClaim>("default").delete("data", &DeleteParams::default()).await.expect("deleted");
    cluster.until::<PersistentVolume>("", &name, "gone", |volume| volume.is_none()).await;
    assert!(!std::path::Path::new(&path).exists());
    cluster.stop().await;
}
