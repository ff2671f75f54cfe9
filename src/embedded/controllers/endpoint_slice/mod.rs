//! Endpoint slices: which pods a service's traffic may go to.
//!
//! Ports `pkg/controller/endpointslice` and `staging/src/k8s.io/endpointslice/reconciler.go`. [`decide`](decide()) keeps existing slices as
//! they are where it can, so that one pod's readiness changes one slice. Left out: the last-change-trigger-time annotation, topology
//! hints, and the legacy Endpoints objects.

pub mod decide;

use std::sync::Arc;

use futures::future::try_join_all;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::DeleteParams;
use kube::{Api, Client};

use self::decide::{Action, MANAGED_BY, MANAGER, Observed, SERVICE_NAME, decide};
use super::shared::cache::{Change, Key};
use super::shared::caches::Caches;
use super::shared::events::Recorder;
use super::shared::meta;
use super::shared::queue::Queue;
use super::shared::requests;
use super::shared::view::Pod;
use super::shared::worker::{Doing, Next, SyncError, Syncer, code};
use super::shared::written::Written;

/// The controller; its queue holds services' keys.
pub struct EndpointSlices {
    client: Client,
    caches: Caches,
    written: Written,
}

impl EndpointSlices {
    /// Registers what enqueues a service.
    pub fn new(client: Client, caches: Caches, _events: Recorder, queue: &Arc<Queue<Key>>) -> Self {
        let on = queue.clone();
        caches.services.on_change(move |change| {
            if let Some(service) = change.states().last() {
                on.add(Key::of(&service.metadata));
            }
        });
        let on = queue.clone();
        caches.endpoint_slices.on_change(move |change| {
            for slice in change.states().filter(|slice| is_ours(slice)) {
                if let Some(service) = slice.metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE_NAME)) {
                    on.add(Key::new(meta::namespace(&slice.metadata), service));
                }
            }
        });
        let (on, services) = (queue.clone(), caches.services.clone());
        caches.pods.on_change(move |change| {
            let Some(pod) = change.states().last() else { return };
            if let Change::Applied { old: Some(old), new } = change
                && same_endpoint(old, new)
            {
                return;
            }
            for service in services.in_namespace(meta::namespace(&pod.metadata)) {
                if change.states().any(|pod| selects(&service, pod)) {
                    on.add(Key::of(&service.metadata));
                }
            }
        });
        Self { client, caches, written: Written::default() }
    }

    async fn act(&self, key: &Key, action: Action) -> Result<(), SyncError> {
        let api: Api<EndpointSlice> = Api::namespaced(self.client.clone(), &key.namespace);
        let cache = self.caches.endpoint_slices.clone();
        match action {
            Action::Create(slice) => match requests::create(&self.client, &key.namespace, &*slice).await {
                Err(error) if super::replica_set::is_namespace_going(&error) => {}
                result => self.written.created(key, cache, &result.doing("creating an endpoint slice")?.metadata),
            },
            Action::Update(slice) => {
                let slice = requests::replace(&self.client, &key.namespace, &*slice).await;
                self.written.updated(key, cache, &slice.doing("updating an endpoint slice")?.metadata);
            }
            Action::Delete(slice) => match api.delete(meta::name(&slice), &DeleteParams::default()).await {
                Err(error) if code(&error) != 404 => return Err(error).doing("deleting an endpoint slice"),
                _ => self.written.deleted(key, cache, &slice),
            },
        }
        Ok(())
    }
}

fn is_ours(slice: &EndpointSlice) -> bool {
    slice.metadata.labels.as_ref().and_then(|labels| labels.get(MANAGED_BY)).is_some_and(|by| by == MANAGER)
}

fn selects(service: &Service, pod: &Pod) -> bool {
    let selector =
        service.spec.as_ref().and_then(|spec| spec.selector.as_ref()).filter(|selector| !selector.is_empty());
    selector.is_some_and(|selector| meta::matches_labels(selector, pod.metadata.labels.as_ref()))
}

/// Whether a pod's change cannot change an endpoint (`podEndpointsChanged`).
fn same_endpoint(old: &Pod, new: &Pod) -> bool {
    let ips = |pod: &Pod| pod.status.pod_ips.iter().map(|ip| ip.ip.clone()).collect::<Vec<_>>();
    old.is_ready() == new.is_ready()
        && old.is_going() == new.is_going()
        && old.is_finished() == new.is_finished()
        && old.metadata.labels == new.metadata.labels
        && old.status.pod_ip == new.status.pod_ip
        && ips(old) == ips(new)
        && old.spec.node_name == new.spec.node_name
}

impl Syncer for EndpointSlices {
    type Key = Key;

    async fn sync(&self, key: &Key) -> Result<Next, SyncError> {
        if !self.written.caught_up(key) {
            return Ok(Next::OnEvent);
        }
        // A service that is gone takes its slices along by their owner references.
        let Some(service) = self.caches.services.get(key) else { return Ok(Next::OnEvent) };
        let slices = self.caches.endpoint_slices.in_namespace(&key.namespace).into_iter().filter(|slice| {
            let name = slice.metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE_NAME));
            is_ours(slice)
                && name.is_some_and(|name| **name == *key.name)
                && slice.metadata.deletion_timestamp.is_none()
        });
        let pods = self.caches.pods.in_namespace(&key.namespace).into_iter().filter(|pod| selects(&service, pod));
        let observed = Observed { service: &service, slices: slices.collect(), pods: pods.collect() };
        try_join_all(decide(&observed).into_iter().map(|action| self.act(key, action))).await?;
        Ok(Next::OnEvent)
    }
}
