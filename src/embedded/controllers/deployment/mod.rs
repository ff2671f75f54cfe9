//! Deployments: one replica set per template, scaled against each other.
//!
//! [`decide`](decide()) is the whole of upstream's `syncDeployment` as a function of what the caches show; this file only gathers
//! and acts. Ports `pkg/controller/deployment`. Neighbours: replica sets make the pods.

pub mod decide;
pub mod rollout;
pub mod scale;
pub mod status;
pub mod template;

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, Client};

use self::decide::{Action, Observed, decide};
use super::shared::cache::{Change, Key};
use super::shared::caches::Caches;
use super::shared::events::{Note, Recorder};
use super::shared::meta::{self, Claim};
use super::shared::queue::Queue;
use super::shared::requests;
use super::shared::worker::{Doing, Next, SyncError, Syncer, code, words};
use super::shared::written::Written;

/// The controller; its queue holds deployments' keys.
pub struct Deployments {
    client: Client,
    caches: Caches,
    events: Recorder,
    written: Written,
}

impl Deployments {
    /// Registers what enqueues a deployment.
    pub fn new(client: Client, caches: Caches, events: Recorder, queue: &Arc<Queue<Key>>) -> Self {
        let on = queue.clone();
        caches.deployments.on_change(move |change| {
            if let Some(state) = change.states().last() {
                on.add(Key::of(&state.metadata));
            }
        });
        let (on, all) = (queue.clone(), caches.deployments.clone());
        caches.replica_sets.on_change(move |change| {
            for state in change.states() {
                match meta::controller_of(&state.metadata) {
                    Some(owner) if owner.kind == "Deployment" => {
                        on.add(Key::new(meta::namespace(&state.metadata), &owner.name));
                    }
                    Some(_) => {}
                    // An orphan: whoever selects it may adopt it.
                    None => {
                        for deployment in all.in_namespace(meta::namespace(&state.metadata)) {
                            if selects(&deployment, state) {
                                on.add(Key::of(&deployment.metadata));
                            }
                        }
                    }
                }
            }
        });
        let (on, sets) = (queue.clone(), caches.replica_sets.clone());
        caches.pods.on_change(move |change| {
            // Only Recreate waits for pods to be gone; replica sets' status says the rest.
            let pod = match change {
                Change::Deleted(pod) => pod,
                Change::Applied { new, .. } if new.is_finished() => new,
                Change::Applied { .. } => return,
            };
            let Some(owner) = meta::controller_of(&pod.metadata).filter(|owner| owner.kind == "ReplicaSet") else {
                return;
            };
            let Some(set) = sets.get(&Key::new(meta::namespace(&pod.metadata), &owner.name)) else {
                return;
            };
            if let Some(owner) = meta::controller_of(&set.metadata) {
                on.add(Key::new(meta::namespace(&set.metadata), &owner.name));
            }
        });
        Self { client, caches, events, written: Written::default() }
    }

    async fn claim(&self, deployment: &Deployment) -> Result<Vec<Arc<ReplicaSet>>, SyncError> {
        let selector = meta::selector(&deployment.spec.as_ref().map(|spec| spec.selector.clone()).unwrap_or_default())?;
        let mut ours = Vec::new();
        let namespace = meta::namespace(&deployment.metadata);
        let api: Api<ReplicaSet> = Api::namespaced(self.client.clone(), namespace);
        for set in self.caches.replica_sets.in_namespace(namespace) {
            match meta::claim(&deployment.metadata, &selector, &set.metadata) {
                Claim::Keep => ours.push(set),
                Claim::Ignore => {}
                Claim::Adopt => {
                    let patch = meta::adoption(deployment, &set.metadata);
                    let patched =
                        api.patch(meta::name(&set.metadata), &PatchParams::default(), &Patch::Strategic(patch)).await;
                    ours.push(Arc::new(patched.doing("adopting a replica set")?));
                }
                Claim::Release => {
                    let patch = meta::release(&deployment.metadata, &set.metadata);
                    match api.patch(meta::name(&set.metadata), &PatchParams::default(), &Patch::Strategic(patch)).await
                    {
                        Err(error) if !matches!(code(&error), 404 | 422) => {
                            return Err(error).doing("releasing a replica set");
                        }
                        _ => {}
                    }
                }
            }
        }
        Ok(ours)
    }

    async fn act(&self, key: &Key, deployment: &Deployment, action: Action) -> Result<(), SyncError> {
        let sets: Api<ReplicaSet> = Api::namespaced(self.client.clone(), &key.namespace);
        match action {
            Action::Create { set, note, failed } => match requests::create(&self.client, &key.namespace, &*set).await {
                Ok(set) => {
                    self.written.created(key, self.caches.replica_sets.clone(), &set.metadata);
                    note.into_iter().for_each(|note| self.events.note(deployment, note));
                }
                Err(error) if code(&error) == 409 => {
                    return self.collision(key, deployment, &set).await;
                }
                Err(error) => {
                    let name = meta::name(&set.metadata);
                    let message = format!("Failed to create new replica set {name:?}: {}", words(&error));
                    self.events.note(deployment, Note::warning(status::FAILED_RS_CREATE, message.clone()));
                    if let Some(mut failed) = failed {
                        status::set_create_failure(&mut failed, message);
                        let _ = self.write_status(key, *failed).await;
                    }
                    return Err(error).doing("creating a replica set");
                }
            },
            Action::Update { set, note } => {
                let set = requests::replace(&self.client, &key.namespace, &*set).await;
                let set = set.doing("updating a replica set")?;
                self.written.updated(key, self.caches.replica_sets.clone(), &set.metadata);
                note.into_iter().for_each(|note| self.events.note(deployment, note));
            }
            Action::Delete(set) => match sets.delete(meta::name(&set), &DeleteParams::default()).await {
                Err(error) if code(&error) != 404 => {
                    return Err(error).doing("deleting an old replica set");
                }
                _ => self.written.deleted(key, self.caches.replica_sets.clone(), &set),
            },
            Action::Status(changed) => self.write_status(key, *changed).await?,
            Action::Rollback(changed) => {
                let changed = requests::replace(&self.client, &key.namespace, &*changed).await;
                let changed = changed.doing("rolling back")?;
                self.written.updated(key, self.caches.deployments.clone(), &changed.metadata);
            }
            Action::Note(note) => self.events.note(deployment, note),
        }
        Ok(())
    }

    async fn write_status(&self, key: &Key, changed: Deployment) -> Result<(), SyncError> {
        let changed = requests::replace_status(&self.client, &key.namespace, &changed).await;
        let changed = changed.doing("updating the deployment's status")?;
        self.written.updated(key, self.caches.deployments.clone(), &changed.metadata);
        Ok(())
    }

    /// The name that the template's hash gives is taken: by our own set (the cache was behind), or by another template, and
    /// then the collision count makes the next hash differ.
    async fn collision(&self, key: &Key, deployment: &Deployment, wanted: &ReplicaSet) -> Result<(), SyncError> {
        let sets: Api<ReplicaSet> = Api::namespaced(self.client.clone(), &key.namespace);
        let existing =
            sets.get(meta::name(&wanted.metadata)).await.doing("reading a replica set that exists already")?;
        let ours = meta::is_controlled_by(&existing.metadata, meta::uid(&deployment.metadata));
        if ours && template::is_of(deployment, &existing) {
            self.written.updated(key, self.caches.replica_sets.clone(), &existing.metadata);
            return Err(SyncError::Incomplete("the new replica set existed already; looking again".to_owned()));
        }
        let mut changed = deployment.clone();
        let status = changed.status.get_or_insert_default();
        status.collision_count = Some(status.collision_count.unwrap_or(0) + 1);
        self.write_status(key, changed).await?;
        Err(SyncError::Incomplete("the template's hash collided; the collision count was raised".to_owned()))
    }
}

fn selects(deployment: &Deployment, set: &ReplicaSet) -> bool {
    use kube::core::SelectorExt;
    let Some(spec) = &deployment.spec else {
        return false;
    };
    let Some(labels) = &set.metadata.labels else {
        return false;
    };
    meta::selector(&spec.selector).is_ok_and(|selector| !selector.selects_all() && selector.matches(labels))
}

impl Syncer for Deployments {
    type Key = Key;

    async fn sync(&self, key: &Key) -> Result<Next, SyncError> {
        if !self.written.caught_up(key) {
            return Ok(Next::OnEvent);
        }
        let Some(deployment) = self.caches.deployments.get(key) else {
            return Ok(Next::OnEvent);
        };
        let sets = self.claim(&deployment).await?;
        let running = sets.iter().flat_map(|set| {
            let pods = self.caches.pods.controlled_by(meta::uid(&set.metadata));
            let running = pods.iter().any(|pod| !pod.is_finished());
            running.then(|| meta::uid(&set.metadata).to_owned())
        });
        let observed =
            Observed { running: running.collect(), deployment: &deployment, sets: &sets, now: Timestamp::now() };
        let decision = decide(&observed);
        for action in decision.actions {
            self.act(key, &deployment, action).await?;
        }
        Ok(Next::after(decision.again))
    }
}
