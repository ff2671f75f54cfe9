//! Replica sets: as many pods of one template as asked for.
//!
//! Ports `pkg/controller/replicaset`. [`decide`](decide()) says how many to create or which to delete and what the status is; this file
//! claims pods, creates them in growing batches (a quota that refuses one shouldn't be asked 500 times) and deletes them at once.

pub mod decide;

use std::sync::Arc;

use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ReplicaSet;
use kube::api::{Patch, PatchParams};
use kube::core::SelectorExt;
use kube::{Api, Client};

use self::decide::{Action, Observed, decide};
use super::shared::cache::{Change, Key};
use super::shared::caches::Caches;
use super::shared::events::{Note, Recorder};
use super::shared::meta::{self, Claim};
use super::shared::pods;
use super::shared::queue::Queue;
use super::shared::requests::{self, create_raw};
use super::shared::view::Pod;
use super::shared::worker::{Doing, Next, SyncError, Syncer, code, words};
use super::shared::written::Written;

/// The controller; its queue holds replica sets' keys.
pub struct ReplicaSets {
    client: Client,
    caches: Caches,
    events: Recorder,
    written: Written,
}

impl ReplicaSets {
    /// Registers what enqueues a replica set.
    pub fn new(client: Client, caches: Caches, events: Recorder, queue: &Arc<Queue<Key>>) -> Self {
        let on = queue.clone();
        caches.replica_sets.on_change(move |change| {
            if let Some(state) = change.states().last() {
                on.add(Key::of(&state.metadata));
            }
        });
        let (on, sets) = (queue.clone(), caches.replica_sets.clone());
        caches.pods.on_change(move |change| {
            for pod in change.states() {
                match meta::controller_of(&pod.metadata) {
                    Some(owner) if owner.kind == "ReplicaSet" => {
                        on.add(Key::new(meta::namespace(&pod.metadata), &owner.name));
                    }
                    Some(_) => {}
                    None if matches!(change, Change::Deleted(_)) => {}
                    None => {
                        for set in sets.in_namespace(meta::namespace(&pod.metadata)) {
                            if selects(&set, pod) {
                                on.add(Key::of(&set.metadata));
                            }
                        }
                    }
                }
            }
        });
        Self { client, caches, events, written: Written::default() }
    }

    /// The pods that this set controls after adopting and releasing; finished ones are left alone.
    async fn claim(&self, set: &ReplicaSet) -> Result<Vec<Arc<Pod>>, SyncError> {
        let selector = meta::selector(&set.spec.as_ref().map(|spec| spec.selector.clone()).unwrap_or_default())?;
        let namespace = meta::namespace(&set.metadata);
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let mut ours = Vec::new();
        for pod in self.caches.pods.in_namespace(namespace) {
            match meta::claim(&set.metadata, &selector, &pod.metadata) {
                Claim::Keep => ours.push(pod),
                Claim::Ignore => {}
                _ if !pod.is_active() => {}
                Claim::Adopt => {
                    let patch = Patch::Strategic(meta::adoption(set, &pod.metadata));
                    let adopted = api.patch(meta::name(&pod.metadata), &PatchParams::default(), &patch).await;
                    ours.push(Arc::new(adopted.doing("adopting a pod")?));
                }
                Claim::Release => {
                    let patch = Patch::Strategic(meta::release(&set.metadata, &pod.metadata));
                    match api.patch(meta::name(&pod.metadata), &PatchParams::default(), &patch).await {
                        Err(error) if !matches!(code(&error), 404 | 422) => {
                            return Err(error).doing("releasing a pod");
                        }
                        _ => {}
                    }
                }
            }
        }
        Ok(ours)
    }

    async fn create(&self, key: &Key, set: &ReplicaSet, count: usize) -> Result<(), kube::Error> {
        let Some(template) = set.spec.as_ref().and_then(|spec| spec.template.as_ref()) else {
            return Ok(());
        };
        let pod = pods::from_template(template, &key.name, meta::controller_ref(set));
        let body = serde_json::to_vec(&pod).map_err(kube::Error::SerdeError)?;
        let (mut left, mut batch) = (count, 1);
        while left > 0 {
            batch = batch.min(left);
            let one = || create_raw::<Pod>(&self.client, &key.namespace, body.clone());
            let mut failure = None;
            for result in join_all(std::iter::repeat_with(one).take(batch)).await {
                match result {
                    Ok(pod) => {
                        self.written.created(key, self.caches.pods.clone(), &pod.metadata);
                        let message = format!("Created pod: {}", meta::name(&pod.metadata));
                        self.events.note(set, Note::normal("SuccessfulCreate", message));
                    }
                    Err(error) if is_namespace_going(&error) => {}
                    Err(error) => failure = Some(error),
                }
            }
            if let Some(error) = failure {
                self.events.note(set, Note::warning("FailedCreate", format!("Error creating: {}", words(&error))));
                return Err(error);
            }
            left -= batch;
            batch *= 2;
        }
        Ok(())
    }

    async fn delete(&self, key: &Key, set: &ReplicaSet, doomed: Vec<Arc<Pod>>) -> Result<(), kube::Error> {
        let deletions = doomed.iter().map(|pod| async move {
            pods::delete(&self.client, &pod.metadata).await?;
            self.written.deleted(key, self.caches.pods.clone(), &pod.metadata);
            let message = format!("Deleted pod: {}", meta::name(&pod.metadata));
            self.events.note(set, Note::normal("SuccessfulDelete", message));
            Ok(())
        });
        join_all(deletions).await.into_iter().collect()
    }
}

/// The API refuses to create in a namespace that is being deleted (`v1.NamespaceTerminatingCause`).
pub(super) fn is_namespace_going(error: &kube::Error) -> bool {
    code(error) == 403 && error.to_string().contains("because it is being terminated")
}

fn selects(set: &ReplicaSet, pod: &Pod) -> bool {
    let (Some(spec), Some(labels)) = (&set.spec, &pod.metadata.labels) else {
        return false;
    };
    meta::selector(&spec.selector).is_ok_and(|selector| !selector.selects_all() && selector.matches(labels))
}

impl Syncer for ReplicaSets {
    type Key = Key;

    async fn sync(&self, key: &Key) -> Result<Next, SyncError> {
        if !self.written.caught_up(key) {
            return Ok(Next::OnEvent);
        }
        let Some(set) = self.caches.replica_sets.get(key) else {
            return Ok(Next::OnEvent);
        };
        let pods = self.claim(&set).await?;
        // Pods' ranks for deletion count those of all sets of the same deployment (`getIndirectlyRelatedPods`).
        let related = meta::controller_of(&set.metadata).map_or_else(Vec::new, |owner| {
            let sets = self.caches.replica_sets.controlled_by(&owner.uid);
            sets.iter().flat_map(|set| self.caches.pods.controlled_by(meta::uid(&set.metadata))).collect()
        });
        let observed = Observed { set: &set, pods: &pods, related: &related, now: Timestamp::now() };
        let failure = match decide(&observed) {
            Action::Nothing => None,
            Action::Create(count) => self.create(key, &set, count).await.err(),
            Action::Delete(doomed) => self.delete(key, &set, doomed).await.err(),
        };
        let said = failure.as_ref().map(ToString::to_string);
        let (status, again) = decide::status(&observed, said);
        if let Some(status) = status {
            let mut changed = ReplicaSet::clone(&set);
            changed.status = Some(status);
            let changed = requests::replace_status(&self.client, &key.namespace, &changed).await;
            let changed = changed.doing("updating the replica set's status")?;
            self.written.updated(key, self.caches.replica_sets.clone(), &changed.metadata);
        }
        match failure {
            Some(error) => Err(error).doing("creating or deleting pods"),
            None => Ok(Next::after(again)),
        }
    }
}
