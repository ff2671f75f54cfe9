//! Namespaces: when one is deleted, everything in it goes first.
//!
//! Ports `pkg/controller/namespace/deletion`. Pods go before everything else (OrderedNamespaceDeletion), since what they need must outlive
//! them. Upstream looks again after an estimated time; here whatever leaves a namespace that is going makes it be looked at again.

pub mod conditions;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DeleteParams, DynamicObject, ListParams, PostParams, PropagationPolicy};
use kube::{Api, Client};

use self::conditions::Totals;
use super::collector::inventory::{Inventory, Kind, Seen};
use super::shared::cache::Key;
use super::shared::caches::Caches;
use super::shared::meta;
use super::shared::queue::Queue;
use super::shared::worker::{Doing, Next, SyncError, Syncer, code};

/// The finalizer in `spec.finalizers` that is ours to remove.
const KUBERNETES: &str = "kubernetes";
/// Upstream's `finalizerEstimateSeconds`, from which it computes when to look again; here only a safety net for
/// kinds whose deletions are not seen.
const ESTIMATE: Duration = Duration::from_secs(15);

/// The controller; its queue holds namespaces' keys.
pub struct Namespaces {
    client: Client,
    caches: Caches,
    inventory: Arc<Inventory>,
}

impl Namespaces {
    /// Registers what enqueues a namespace.
    pub fn new(client: Client, caches: Caches, inventory: Arc<Inventory>, queue: &Arc<Queue<Key>>) -> Self {
        let on = queue.clone();
        caches.namespaces.on_change(move |change| {
            if let Some(namespace) = change.states().last()
                && namespace.metadata.deletion_timestamp.is_some()
            {
                on.add(Key::of(&namespace.metadata));
            }
        });
        let (on, all) = (queue.clone(), caches.namespaces.clone());
        inventory.on_seen(move |seen| {
            let Seen::Gone(object) = seen else { return };
            let Some(namespace) = &object.namespace else { return };
            let key = Key::new("", namespace);
            if all.get(&key).is_some_and(|namespace| namespace.metadata.deletion_timestamp.is_some()) {
                on.add(key);
            }
        });
        Self { client, caches, inventory }
    }

    async fn empty(&self, namespace: &str, totals: &mut Totals) {
        let kinds = self.inventory.kinds().await;
        let is_pods = |kind: &&Kind| kind.resource.group.is_empty() && kind.resource.plural == "pods";
        if let Some(pods) = kinds.iter().find(is_pods) {
            totals.add(&pods.resource, self.delete_all(pods, namespace).await);
            if totals.remain() {
                return;
            }
        }
        let rest = kinds.iter().filter(|kind| kind.namespaced && !is_pods(kind));
        let results = rest.map(|kind| async move { (kind, self.delete_all(kind, namespace).await) });
        for (kind, result) in join_all(results).await {
            totals.add(&kind.resource, result);
        }
    }

    /// Deletes everything of a kind; what remains, by finalizer (the empty one counts objects without any).
    async fn delete_all(&self, kind: &Kind, namespace: &str) -> Result<Remaining, SyncError> {
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), namespace, &*kind.resource);
        let before = list(&api).await?;
        if before.objects == 0 {
            return Ok(before);
        }
        let params =
            DeleteParams { propagation_policy: Some(PropagationPolicy::Background), ..DeleteParams::default() };
        if kind.deletes_collections {
            match api.delete_collection(&params, &ListParams::default()).await {
                Err(error) if !matches!(code(&error), 404 | 405) => {
                    return Err(error).doing("deleting a namespace's content");
                }
                _ => {}
            }
        } else {
            for name in &before.names {
                match api.delete(name, &params).await {
                    Err(error) if !matches!(code(&error), 404 | 405) => {
                        return Err(error).doing("deleting a namespace's content");
                    }
                    _ => {}
                }
            }
        }
        list(&api).await
    }
}

/// What a list of one kind showed.
#[derive(Clone, Debug, Default)]
pub struct Remaining {
    /// How many objects.
    pub objects: usize,
    /// How many objects have each finalizer.
    pub finalizers: BTreeMap<String, usize>,
    names: Vec<String>,
}

async fn list(api: &Api<DynamicObject>) -> Result<Remaining, SyncError> {
    let list = match api.list_metadata(&ListParams::default()).await {
        Err(error) if matches!(code(&error), 404 | 405) => return Ok(Remaining::default()),
        result => result.doing("listing a namespace's content")?,
    };
    let mut remaining = Remaining { objects: list.items.len(), ..Remaining::default() };
    for object in list.items {
        for finalizer in object.metadata.finalizers.into_iter().flatten() {
            *remaining.finalizers.entry(finalizer).or_default() += 1;
        }
        remaining.names.extend(object.metadata.name);
    }
    Ok(remaining)
}

impl Syncer for Namespaces {
    type Key = Key;

    async fn sync(&self, key: &Key) -> Result<Next, SyncError> {
        let Some(cached) = self.caches.namespaces.get(key) else { return Ok(Next::OnEvent) };
        let finalizers = |of: &Namespace| of.spec.as_ref().and_then(|spec| spec.finalizers.clone()).unwrap_or_default();
        let ours = finalizers(&cached).iter().any(|finalizer| finalizer == KUBERNETES);
        if cached.metadata.deletion_timestamp.is_none() || !ours {
            return Ok(Next::OnEvent);
        }
        let api: Api<Namespace> = Api::all(self.client.clone());
        // Fresh, because this is written twice: a stale one would conflict with our own writes.
        let Some(mut namespace) = api.get_opt(&key.name).await.doing("reading a namespace")? else {
            return Ok(Next::OnEvent);
        };
        if namespace.metadata.uid != cached.metadata.uid {
            return Ok(Next::OnEvent);
        }
        if namespace.status.as_ref().and_then(|status| status.phase.as_deref()) != Some("Terminating") {
            namespace.status.get_or_insert_default().phase = Some("Terminating".to_owned());
            let result = api.replace_status(&key.name, &PostParams::default(), &namespace).await;
            namespace = result.doing("marking a namespace as terminating")?;
        }
        let mut totals = Totals::default();
        self.empty(&key.name, &mut totals).await;
        if totals.is_empty() {
            let mut spec = namespace.spec.clone().unwrap_or_default();
            spec.finalizers =
                Some(finalizers(&namespace).into_iter().filter(|finalizer| finalizer != KUBERNETES).collect());
            namespace.spec = Some(spec);
            return match api.replace_subresource("finalize", &key.name, &PostParams::default(), &namespace).await {
                Err(error) if code(&error) == 404 => Ok(Next::OnEvent),
                result => result.map(|_| Next::OnEvent).doing("finalizing a namespace"),
            };
        }
        let status = namespace.status.get_or_insert_default();
        if totals.update(status, meta::now()) {
            let result = api.replace_status(&key.name, &PostParams::default(), &namespace).await;
            result.doing("updating a namespace's conditions")?;
        }
        match totals.failure() {
            Some(failure) => Err(SyncError::Incomplete(failure)),
            None => Ok(Next::After(ESTIMATE / 2 + Duration::from_secs(1))),
        }
    }
}
