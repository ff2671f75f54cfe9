//! What every namespace gets: the service account `default` and the config map with the cluster's certificate authority.
//!
//! Ports `pkg/controller/serviceaccount/serviceaccounts_controller.go` and
//! `pkg/controller/certificates/rootcacertpublisher/publisher.go`.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::{Api, Client};

use super::shared::cache::Key;
use super::shared::caches::{Caches, ROOT_CA};
use super::shared::meta;
use super::shared::queue::Queue;
use super::shared::worker::{Doing, Next, SyncError, Syncer, code};

const CA_KEY: &str = "ca.crt";
const CA_DESCRIPTION: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal \
                              endpoints such as the internal service IP or kubernetes.default.svc. No other usage is \
                              guaranteed across distributions of Kubernetes clusters.";

/// Makes `default` service accounts; its queue holds namespaces' keys.
pub struct ServiceAccounts {
    client: Client,
    caches: Caches,
}

impl ServiceAccounts {
    /// Registers what enqueues a namespace.
    pub fn new(client: Client, caches: Caches, queue: &Arc<Queue<Key>>) -> Self {
        on_namespaces(&caches, queue);
        let on = queue.clone();
        caches.service_accounts.on_change(move |change| {
            for account in change.states().take(1) {
                on.add(Key::new("", meta::namespace(&account.metadata)));
            }
        });
        Self { client, caches }
    }
}

impl Syncer for ServiceAccounts {
    type Key = Key;

    async fn sync(&self, key: &Key) -> Result<Next, SyncError> {
        let there = self.caches.service_accounts.get(&Key::new(&key.name, "default"));
        if there.is_some() || !is_active(&self.caches, key) {
            return Ok(Next::OnEvent);
        }
        let api: Api<ServiceAccount> = Api::namespaced(self.client.clone(), &key.name);
        let account = ServiceAccount {
            metadata: ObjectMeta { name: Some("default".to_owned()), ..ObjectMeta::default() },
            ..ServiceAccount::default()
        };
        created(api.create(&PostParams::default(), &account).await).doing("creating the default service account")
    }
}

/// Publishes the certificate authority; its queue holds namespaces' keys.
pub struct RootCa {
    client: Client,
    caches: Caches,
    ca_pem: String,
}

impl RootCa {
    /// Registers what enqueues a namespace.
    pub fn new(client: Client, caches: Caches, ca_pem: String, queue: &Arc<Queue<Key>>) -> Self {
        on_namespaces(&caches, queue);
        let on = queue.clone();
        caches.config_maps.on_change(move |change| {
            for map in change.states().take(1) {
                on.add(Key::new("", meta::namespace(&map.metadata)));
            }
        });
        Self { client, caches, ca_pem }
    }
}

impl Syncer for RootCa {
    type Key = Key;

    async fn sync(&self, key: &Key) -> Result<Next, SyncError> {
        if !is_active(&self.caches, key) {
            return Ok(Next::OnEvent);
        }
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), &key.name);
        let data = BTreeMap::from([(CA_KEY.to_owned(), self.ca_pem.clone())]);
        let annotation = ("kubernetes.io/description".to_owned(), CA_DESCRIPTION.to_owned());
        match self.caches.config_maps.get(&Key::new(&key.name, ROOT_CA)) {
            Some(map) if map.data.as_ref() == Some(&data) => Ok(Next::OnEvent),
            Some(map) => {
                let mut map = ConfigMap::clone(&map);
                map.data = Some(data);
                map.metadata.annotations.get_or_insert_default().insert(annotation.0, annotation.1);
                api.replace(ROOT_CA, &PostParams::default(), &map).await.doing("restoring the root certificate")?;
                Ok(Next::OnEvent)
            }
            None => {
                let metadata = ObjectMeta {
                    name: Some(ROOT_CA.to_owned()),
                    annotations: Some(BTreeMap::from([annotation])),
                    ..ObjectMeta::default()
                };
                let map = ConfigMap { metadata, data: Some(data), ..ConfigMap::default() };
                created(api.create(&PostParams::default(), &map).await).doing("publishing the root certificate")
            }
        }
    }
}

fn on_namespaces(caches: &Caches, queue: &Arc<Queue<Key>>) {
    let on = queue.clone();
    caches.namespaces.on_change(move |change| {
        if let Some(namespace) = change.states().last() {
            on.add(Key::new("", meta::name(&namespace.metadata)));
        }
    });
}

fn is_active(caches: &Caches, key: &Key) -> bool {
    let phase = |namespace: &Namespace| namespace.status.as_ref().and_then(|status| status.phase.clone());
    caches.namespaces.get(key).is_some_and(|namespace| {
        namespace.metadata.deletion_timestamp.is_none() && phase(&namespace).as_deref() != Some("Terminating")
    })
}

/// Someone else was faster, or the namespace is going: both are fine.
fn created<T>(result: Result<T, kube::Error>) -> Result<Next, kube::Error> {
    match result {
        Err(error) if code(&error) == 409 || super::replica_set::is_namespace_going(&error) => Ok(Next::OnEvent),
        Err(error) => Err(error),
        Ok(_) => Ok(Next::OnEvent),
    }
}
