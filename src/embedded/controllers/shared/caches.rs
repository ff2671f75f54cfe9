//! The one cache per kind that all controllers share, and the tasks that fill them.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{
    ConfigMap, Namespace, PersistentVolume, PersistentVolumeClaim, Service, ServiceAccount,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::Client;
use kube::runtime::watcher;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::cache::{Cache, Cached};
use super::view::Pod;
use crate::reading;

/// The name of the config map that every namespace gets with the cluster's certificate authority.
pub const ROOT_CA: &str = "kube-root-ca.crt";

/// All shared caches.
#[derive(Clone, Default)]
#[expect(missing_docs, reason = "each field is the cache of the kind that its type names")]
pub struct Caches {
    pub pods: Arc<Cache<Pod>>,
    pub deployments: Arc<Cache<Deployment>>,
    pub replica_sets: Arc<Cache<ReplicaSet>>,
    pub jobs: Arc<Cache<Job>>,
    pub services: Arc<Cache<Service>>,
    pub endpoint_slices: Arc<Cache<EndpointSlice>>,
    pub namespaces: Arc<Cache<Namespace>>,
    /// Those named `default` only.
    pub service_accounts: Arc<Cache<ServiceAccount>>,
    /// Those named [`ROOT_CA`] only.
    pub config_maps: Arc<Cache<ConfigMap>>,
    pub volumes: Arc<Cache<PersistentVolume>>,
    pub claims: Arc<Cache<PersistentVolumeClaim>>,
    pub classes: Arc<Cache<StorageClass>>,
}

impl Caches {
    /// Starts every watch. Handlers must have been added before.
    pub fn start(&self, client: &Client, tasks: &TaskTracker, shutdown: &CancellationToken) {
        let run = Run { client, tasks, shutdown };
        run.watch(&self.namespaces, watcher::Config::default());
        run.watch(&self.deployments, watcher::Config::default());
        run.watch(&self.replica_sets, watcher::Config::default());
        run.watch(&self.pods, watcher::Config::default());
        run.watch(&self.services, watcher::Config::default());
        run.watch(&self.endpoint_slices, watcher::Config::default());
        run.watch(&self.service_accounts, watcher::Config::default().fields("metadata.name=default"));
        run.watch(&self.config_maps, watcher::Config::default().fields(&format!("metadata.name={ROOT_CA}")));
        run.watch(&self.jobs, watcher::Config::default());
        run.watch(&self.volumes, watcher::Config::default());
        run.watch(&self.claims, watcher::Config::default());
        run.watch(&self.classes, watcher::Config::default());
    }
}

impl Caches {
    /// Completes when every first list has been taken in.
    pub async fn synced(&self) {
        self.namespaces.synced().await;
        self.deployments.synced().await;
        self.replica_sets.synced().await;
        self.pods.synced().await;
        self.services.synced().await;
        self.endpoint_slices.synced().await;
        self.service_accounts.synced().await;
        self.config_maps.synced().await;
        self.jobs.synced().await;
        self.volumes.synced().await;
        self.claims.synced().await;
        self.classes.synced().await;
    }
}

struct Run<'a> {
    client: &'a Client,
    tasks: &'a TaskTracker,
    shutdown: &'a CancellationToken,
}

impl Run<'_> {
    fn watch<K: Cached>(&self, cache: &Arc<Cache<K>>, config: watcher::Config) {
        let events = reading::watch(self.client.clone(), None, config.streaming_lists());
        let (cache, shutdown) = (cache.clone(), self.shutdown.clone());
        self.tasks.spawn(async move { cache.run(events, shutdown).await });
    }
}
