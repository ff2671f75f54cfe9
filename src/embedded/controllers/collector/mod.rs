//! Garbage collection: dependents follow their owners.
//!
//! Ports `pkg/controller/garbagecollector`. [`graph`] says what a change makes worth looking at; [`decide`](decide()) says what to do about one
//! object; this file asks the API where the graph can't tell, and acts. Deletions carry the object's uid and version as
//! preconditions, so a decision from an old view is refused, not executed.

pub mod decide;
pub mod graph;
pub mod inventory;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::future::join_all;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, Preconditions};
use kube::core::ApiResource;
use kube::{Api, Client};

use self::decide::{Action, Owners, decide};
use self::graph::{FOREGROUND, Graph, Node, ORPHAN, OwnerState, Task, Uid};
use self::inventory::{Inventory, Seen};
use super::shared::queue::Queue;
use super::shared::worker::{Doing, Next, SyncError, Syncer, code};

/// The controller; its queue holds tasks of the graph.
pub struct Collector {
    client: Client,
    graph: Arc<Mutex<Graph>>,
    inventory: Arc<Inventory>,
}

impl Collector {
    /// Registers what the graph hears.
    pub fn new(client: Client, inventory: Arc<Inventory>, queue: &Arc<Queue<Task>>) -> Self {
        let graph = Arc::new(Mutex::new(Graph::default()));
        let (of, on) = (graph.clone(), queue.clone());
        inventory.on_seen(move |seen| {
            let mut graph = lock(&of);
            let tasks = match seen {
                Seen::There(resource, meta) => graph.observe(resource, meta),
                Seen::Gone(meta) => graph.forget(meta),
                Seen::Listed(resource, listed) => graph.retain(resource, listed),
            };
            tasks.into_iter().for_each(|task| on.add(task));
        });
        Self { client, graph, inventory }
    }

    fn api(&self, resource: &ApiResource, namespace: &str) -> Api<DynamicObject> {
        if namespace.is_empty() {
            Api::all_with(self.client.clone(), resource)
        } else {
            Api::namespaced_with(self.client.clone(), namespace, resource)
        }
    }

    /// Asks the API about owners that the graph hasn't seen (`isDangling`).
    async fn classify(&self, node: &Node) -> Result<Option<Owners>, SyncError> {
        let mut owners = Owners::default();
        let known: Vec<OwnerState> = {
            let graph = lock(&self.graph);
            node.owners.iter().map(|owner| graph.state_of(owner, &node.key.namespace)).collect()
        };
        for (owner, state) in node.owners.iter().zip(known) {
            let state = match state {
                OwnerState::Unknown => match self.look_up(node, owner).await? {
                    Some(state) => state,
                    None => return Ok(None),
                },
                known => known,
            };
            match state {
                OwnerState::Waiting => owners.waiting.push(owner.uid_text.clone()),
                OwnerState::Dangling => owners.dangling.push(owner.uid_text.clone()),
                OwnerState::Solid | OwnerState::Unknown => owners.solid += 1,
            }
        }
        Ok(Some(owners))
    }

    /// `None` if the question makes no sense: a cluster-scoped object can't have an owner in a namespace.
    async fn look_up(&self, node: &Node, owner: &graph::Owner) -> Result<Option<OwnerState>, SyncError> {
        let kinds = self.inventory.kinds().await;
        let (group, version) = owner.api_version.split_once('/').unwrap_or(("", &owner.api_version));
        let kind = kinds.iter().find(|kind| *kind.resource.kind == *owner.kind && kind.resource.group == group);
        let Some(kind) = kind else {
            // Unknown kinds may come back; upstream keeps their dependents and asks again.
            return Err(SyncError::Incomplete(format!(
                "no matches for kind {:?} in {group:?} {version:?}",
                owner.kind
            )));
        };
        if kind.namespaced && node.key.namespace.is_empty() {
            return Ok(None);
        }
        let namespace = if kind.namespaced { &*node.key.namespace } else { "" };
        let found = self.api(&kind.resource, namespace).get_metadata_opt(&owner.name).await;
        let found =
            found.doing("looking an owner up")?.filter(|found| found.metadata.uid.as_deref() == Some(&owner.uid_text));
        Ok(Some(match found {
            None => OwnerState::Dangling,
            Some(found) => {
                let foreground = found.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == FOREGROUND);
                if found.metadata.deletion_timestamp.is_some() && foreground {
                    OwnerState::Waiting
                } else {
                    OwnerState::Solid
                }
            }
        }))
    }

    async fn attempt(&self, uid: Uid) -> Result<Next, SyncError> {
        let Some(node) = lock(&self.graph).node(uid).cloned() else { return Ok(Next::OnEvent) };
        if node.going && !node.is_deleting_dependents() {
            return Ok(Next::OnEvent);
        }
        if node.is_deleting_dependents() {
            let blocked = !lock(&self.graph).blocking(uid).is_empty();
            if !blocked {
                self.remove_finalizer(&node, FOREGROUND).await?;
            }
            return Ok(Next::OnEvent);
        }
        let Some(owners) = self.classify(&node).await? else { return Ok(Next::OnEvent) };
        let (has_dependents, has_waiting_dependents) = {
            let graph = lock(&self.graph);
            let dependents = graph.dependents(uid);
            (!dependents.is_empty(), dependents.iter().any(|dependent| dependent.is_deleting_dependents()))
        };
        match decide(&node, &owners, has_dependents) {
            Action::Nothing => {}
            Action::DropReferences(uids) => self.drop_references(&node, &uids).await?,
            Action::Delete(policy) => {
                if has_waiting_dependents && !owners.waiting.is_empty() {
                    // A circle of foreground deletions would wait for itself.
                    self.unblock(&node).await?;
                }
                self.delete(&node, policy).await?;
            }
        }
        Ok(Next::OnEvent)
    }

    async fn delete(&self, node: &Node, policy: kube::api::PropagationPolicy) -> Result<(), SyncError> {
        let params = DeleteParams {
            propagation_policy: Some(policy),
            preconditions: Some(Preconditions {
                uid: Some(node.uid_text.to_string()),
                resource_version: node.resource_version.clone(),
            }),
            ..DeleteParams::default()
        };
        match self.api(&node.resource, &node.key.namespace).delete(&node.key.name, &params).await {
            Err(error) if code(&error) == 404 => Ok(()),
            result => result.map(|_| ()).doing("deleting a dependent"),
        }
    }

    /// Edits an object's owner references or finalizers over its latest version.
    async fn edit(
        &self,
        node: &Node,
        edit: impl Fn(&k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta) -> serde_json::Value,
    ) -> Result<(), SyncError> {
        let api = self.api(&node.resource, &node.key.namespace);
        let latest = api.get_metadata_opt(&node.key.name).await.doing("reading an object to edit its references")?;
        let Some(latest) = latest.filter(|latest| latest.metadata.uid.as_deref() == Some(&node.uid_text)) else {
            return Ok(());
        };
        let mut patch = serde_json::json!({ "metadata": edit(&latest.metadata) });
        patch["metadata"]["uid"] = latest.metadata.uid.into();
        patch["metadata"]["resourceVersion"] = latest.metadata.resource_version.into();
        match api.patch_metadata(&node.key.name, &PatchParams::default(), &Patch::Merge(&patch)).await {
            Err(error) if code(&error) == 404 => Ok(()),
            result => result.map(|_| ()).doing("editing an object's references"),
        }
    }

    async fn remove_finalizer(&self, node: &Node, finalizer: &str) -> Result<(), SyncError> {
        self.edit(node, |meta| {
            let left: Vec<&String> = meta.finalizers.iter().flatten().filter(|of| *of != finalizer).collect();
            serde_json::json!({ "finalizers": left })
        })
        .await
    }

    async fn drop_references(&self, node: &Node, uids: &[Arc<str>]) -> Result<(), SyncError> {
        self.edit(node, |meta| {
            let gone = |uid: &str| uids.iter().any(|of| **of == *uid);
            let left: Vec<_> = meta.owner_references.iter().flatten().filter(|owner| !gone(&owner.uid)).collect();
            serde_json::json!({ "ownerReferences": left })
        })
        .await
    }

    async fn unblock(&self, node: &Node) -> Result<(), SyncError> {
        self.edit(node, |meta| {
            let mut owners = meta.owner_references.clone().unwrap_or_default();
            owners.iter_mut().for_each(|owner| owner.block_owner_deletion = Some(false));
            serde_json::json!({ "ownerReferences": owners })
        })
        .await
    }

    /// `attemptToOrphan`: first the dependents, then the finalizer.
    async fn orphan(&self, uid: Uid) -> Result<Next, SyncError> {
        let (node, dependents) = {
            let graph = lock(&self.graph);
            let Some(node) = graph.node(uid).cloned() else { return Ok(Next::OnEvent) };
            (node, graph.dependents(uid).into_iter().cloned().collect::<Vec<_>>())
        };
        let gone = [node.uid_text.clone()];
        let all = join_all(dependents.iter().map(|dependent| self.drop_references(dependent, &gone))).await;
        all.into_iter().collect::<Result<(), _>>()?;
        self.remove_finalizer(&node, ORPHAN).await?;
        Ok(Next::OnEvent)
    }
}

fn lock(graph: &Mutex<Graph>) -> MutexGuard<'_, Graph> {
    graph.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Syncer for Collector {
    type Key = Task;

    async fn sync(&self, key: &Task) -> Result<Next, SyncError> {
        match key {
            Task::Attempt(uid) => self.attempt(*uid).await,
            Task::Orphan(uid) => self.orphan(*uid).await,
        }
    }
}
