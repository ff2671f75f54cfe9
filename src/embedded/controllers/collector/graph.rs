//! Who owns whom, as the watches show it, and what follows from each change.
//!
//! Ports `pkg/controller/garbagecollector/graph.go` and `graph_builder.go`. Instead of a node per object, and virtual ones for
//! owners not seen yet, it keeps a node only for objects that have owners or wait for their dependents, and of all others just that they
//! exist. Pure.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::ApiResource;

use super::super::shared::cache::Key;

/// The finalizer of an object that waits until its dependents are gone.
pub const FOREGROUND: &str = "foregroundDeletion";
/// The finalizer of an object whose dependents must lose their reference to it first.
pub const ORPHAN: &str = "orphan";

/// A uid, in 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Uid(u128);

impl Uid {
    /// Any string is a uid; UUIDs, the usual ones, are told apart exactly.
    pub fn new(text: &str) -> Self {
        use std::hash::{DefaultHasher, Hash, Hasher};
        Self(uuid::Uuid::parse_str(text).map_or_else(
            |_| {
                let mut hasher = DefaultHasher::new();
                text.hash(&mut hasher);
                u128::from(hasher.finish())
            },
            |uuid| uuid.as_u128(),
        ))
    }
}

impl std::fmt::Display for Uid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// A reference to an owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The owner's uid.
    pub uid: Uid,
    /// The uid as it is written.
    pub uid_text: Arc<str>,
    /// `group/version`.
    pub api_version: Arc<str>,
    /// The kind.
    pub kind: Arc<str>,
    /// The name, in the dependent's namespace or none.
    pub name: Arc<str>,
    /// Whether an owner in foreground deletion waits for this dependent.
    pub blocks: bool,
}

/// What is known of an object.
#[derive(Clone, Debug)]
pub struct Node {
    /// What it is.
    pub resource: Arc<ApiResource>,
    /// Where it is.
    pub key: Key,
    /// Its uid as it is written.
    pub uid_text: Arc<str>,
    /// Its version when last seen.
    pub resource_version: Option<String>,
    /// Its owners.
    pub owners: Vec<Owner>,
    /// Marked for deletion.
    pub going: bool,
    /// Has the [`FOREGROUND`] finalizer.
    pub foreground: bool,
    /// Has the [`ORPHAN`] finalizer.
    pub orphan: bool,
}

impl Node {
    /// Waits until its blocking dependents are gone.
    pub fn is_deleting_dependents(&self) -> bool {
        self.going && self.foreground
    }

    fn matters(&self) -> bool {
        !self.owners.is_empty() || (self.going && (self.foreground || self.orphan))
    }
}

/// What is known of an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnerState {
    /// It is there.
    Solid,
    /// It is there until its dependents are gone.
    Waiting,
    /// It is gone, or can't be an owner from where it is.
    Dangling,
    /// Not seen: only the API can tell.
    Unknown,
}

/// Something to do for an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Task {
    /// See whether it must be deleted, or its dependents are gone.
    Attempt(Uid),
    /// Take the references to it out of its dependents.
    Orphan(Uid),
}

impl std::fmt::Display for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Task::Attempt(uid) => write!(f, "attempt {uid}"),
            Task::Orphan(uid) => write!(f, "orphan {uid}"),
        }
    }
}

/// The graph.
#[derive(Default)]
pub struct Graph {
    /// Everything seen, with its namespace and kind.
    seen: HashMap<Uid, (Arc<str>, Arc<ApiResource>)>,
    nodes: HashMap<Uid, Node>,
    dependents: HashMap<Uid, HashSet<Uid>>,
    /// Owners that are gone while they still had dependents.
    absent: HashSet<Uid>,
    /// Namespaces' names, each stored once.
    names: HashSet<Arc<str>>,
}

impl Graph {
    /// Takes in an object as it is now.
    pub fn observe(&mut self, resource: &Arc<ApiResource>, meta: &ObjectMeta) -> Vec<Task> {
        let uid_text = meta.uid.as_deref().unwrap_or_default();
        let uid = Uid::new(uid_text);
        let namespace = self.intern(meta.namespace.as_deref().unwrap_or_default());
        self.seen.insert(uid, (namespace.clone(), resource.clone()));
        self.absent.remove(&uid);
        let has = |finalizer: &str| meta.finalizers.iter().flatten().any(|of| of == finalizer);
        let new = Node {
            resource: resource.clone(),
            key: Key { namespace, name: meta.name.as_deref().unwrap_or_default().into() },
            uid_text: uid_text.into(),
            resource_version: meta.resource_version.clone(),
            owners: meta.owner_references.iter().flatten().map(Owner::from).collect(),
            going: meta.deletion_timestamp.is_some(),
            foreground: has(FOREGROUND),
            orphan: has(ORPHAN),
        };
        let old = self.nodes.remove(&uid);
        if old.is_none() && !new.matters() {
            return Vec::new();
        }
        let mut tasks = Vec::new();
        let old_owners = old.as_ref().map(|old| old.owners.as_slice()).unwrap_or_default();
        for owner in old_owners {
            let now = new.owners.iter().find(|now| now.uid == owner.uid);
            if now.is_none() {
                self.unlink(uid, owner.uid);
            }
            // No longer blocks: the owner may be able to go.
            if owner.blocks && now.is_none_or(|now| !now.blocks) && self.nodes.contains_key(&owner.uid) {
                tasks.push(Task::Attempt(owner.uid));
            }
        }
        for owner in &new.owners {
            self.dependents.entry(owner.uid).or_default().insert(uid);
            let known = old_owners.iter().any(|old| old.uid == owner.uid);
            if !known && self.state_of(owner, &new.key.namespace) != OwnerState::Solid {
                tasks.push(Task::Attempt(uid));
            }
        }
        let was = |of: fn(&Node) -> bool| old.as_ref().is_some_and(|old| old.going && of(old));
        if new.going && new.orphan && !was(|old| old.orphan) {
            tasks.push(Task::Orphan(uid));
        } else if new.is_deleting_dependents() && !was(|old| old.foreground) {
            tasks.extend(self.dependents_of(uid).map(Task::Attempt));
            tasks.push(Task::Attempt(uid));
        }
        if new.matters() {
            self.nodes.insert(uid, new);
        }
        tasks
    }

    /// Takes in that an object is gone.
    pub fn forget(&mut self, meta: &ObjectMeta) -> Vec<Task> {
        self.forget_uid(Uid::new(meta.uid.as_deref().unwrap_or_default()))
    }

    /// Takes in that of this kind only these are there.
    pub fn retain(&mut self, resource: &ApiResource, listed: &HashSet<Uid>) -> Vec<Task> {
        let gone = self.seen.iter().filter(|(uid, (_, of))| **of == *resource && !listed.contains(uid));
        let gone: Vec<Uid> = gone.map(|(uid, _)| *uid).collect();
        gone.into_iter().flat_map(|uid| self.forget_uid(uid)).collect()
    }

    fn forget_uid(&mut self, uid: Uid) -> Vec<Task> {
        self.seen.remove(&uid);
        let mut tasks: Vec<Task> = self.dependents_of(uid).map(Task::Attempt).collect();
        if !tasks.is_empty() {
            self.absent.insert(uid);
        }
        let node = self.nodes.remove(&uid);
        for owner in node.iter().flat_map(|node| &node.owners) {
            self.unlink(uid, owner.uid);
            if self.nodes.get(&owner.uid).is_some_and(Node::is_deleting_dependents) {
                tasks.push(Task::Attempt(owner.uid));
            }
        }
        tasks
    }

    /// What is known of an object, if it matters.
    pub fn node(&self, uid: Uid) -> Option<&Node> {
        self.nodes.get(&uid)
    }

    /// What is known of an owner, seen from a dependent's namespace.
    pub fn state_of(&self, owner: &Owner, from: &str) -> OwnerState {
        if self.absent.contains(&owner.uid) {
            return OwnerState::Dangling;
        }
        match self.seen.get(&owner.uid) {
            None => OwnerState::Unknown,
            // Owners must be in the same namespace or in none.
            Some((namespace, _)) if !namespace.is_empty() && **namespace != *from => OwnerState::Dangling,
            Some(_) if self.nodes.get(&owner.uid).is_some_and(Node::is_deleting_dependents) => OwnerState::Waiting,
            Some(_) => OwnerState::Solid,
        }
    }

    /// Everything that refers to an object.
    pub fn dependents(&self, uid: Uid) -> Vec<&Node> {
        self.dependents_of(uid).filter_map(|dependent| self.nodes.get(&dependent)).collect()
    }

    /// The dependents that an owner in foreground deletion waits for.
    pub fn blocking(&self, uid: Uid) -> Vec<Uid> {
        let blocks = |dependent: &Uid| {
            self.nodes
                .get(dependent)
                .is_some_and(|node| node.owners.iter().any(|owner| owner.uid == uid && owner.blocks))
        };
        self.dependents_of(uid).filter(blocks).collect()
    }

    fn dependents_of(&self, uid: Uid) -> impl Iterator<Item = Uid> + '_ {
        self.dependents.get(&uid).into_iter().flatten().copied()
    }

    fn unlink(&mut self, dependent: Uid, owner: Uid) {
        if let Some(of) = self.dependents.get_mut(&owner) {
            of.remove(&dependent);
            if of.is_empty() {
                self.dependents.remove(&owner);
                self.absent.remove(&owner);
            }
        }
    }

    fn intern(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.names.get(name) {
            return known.clone();
        }
        let new: Arc<str> = name.into();
        self.names.insert(new.clone());
        new
    }
}

impl From<&k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference> for Owner {
    fn from(of: &k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference) -> Self {
        Self {
            uid: Uid::new(&of.uid),
            uid_text: of.uid.as_str().into(),
            api_version: of.api_version.as_str().into(),
            kind: of.kind.as_str().into(),
            name: of.name.as_str().into(),
            blocks: of.block_owner_deletion == Some(true),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(uid: &str, owners: &[(&str, bool)], finalizer: Option<&str>) -> ObjectMeta {
        let owner = |(uid, blocks): &(&str, bool)| {
            serde_json::json!({
                "apiVersion": "v1", "kind": "ConfigMap", "name": uid, "uid": uid, "blockOwnerDeletion": blocks
            })
        };
        serde_json::from_value(serde_json::json!({
            "name": uid, "uid": uid, "namespace": "default",
            "ownerReferences": owners.iter().map(owner).collect::<Vec<_>>(),
            "finalizers": finalizer.into_iter().collect::<Vec<_>>(),
            "deletionTimestamp": finalizer.map(|_| "2026-01-01T00:00:00Z"),
        }))
        .expect("it is metadata")
    }

    fn attempts(tasks: &[Task]) -> Vec<Uid> {
        tasks
            .iter()
            .map(|task| match task {
                Task::Attempt(uid) | Task::Orphan(uid) => *uid,
            })
            .collect()
    }

    #[test]
    fn what_follows_from_each_change() {
        let resource = Arc::new(ApiResource::erase::<k8s_openapi::api::core::v1::ConfigMap>(&()));
        let mut graph = Graph::default();
        let (a, b, c) = (Uid::new("a"), Uid::new("b"), Uid::new("c"));
        assert!(graph.observe(&resource, &meta("a", &[], None)).is_empty());
        assert!(graph.observe(&resource, &meta("b", &[("a", true)], None)).is_empty(), "its owner is there");
        assert_eq!(
            graph.observe(&resource, &meta("c", &[("x", false)], None)),
            [Task::Attempt(c)],
            "its owner was never seen"
        );

        let tasks = graph.observe(&resource, &meta("a", &[], Some(FOREGROUND)));
        assert_eq!(tasks, [Task::Attempt(b), Task::Attempt(a)]);
        assert_eq!(graph.blocking(a), [b]);
        let owner = graph.node(b).expect("b has an owner").owners[0].clone();
        assert_eq!(graph.state_of(&owner, "default"), OwnerState::Waiting);
        assert_eq!(graph.state_of(&owner, "elsewhere"), OwnerState::Dangling);

        assert_eq!(graph.forget(&meta("b", &[], None)), [Task::Attempt(a)], "the last blocker is gone");
        assert!(graph.blocking(a).is_empty());

        graph.observe(&resource, &meta("b", &[("a", false)], None));
        assert_eq!(attempts(&graph.forget(&meta("a", &[], None))), [b], "the owner is gone");
        assert_eq!(graph.state_of(&owner, "default"), OwnerState::Dangling);
        assert_eq!(graph.observe(&resource, &meta("d", &[], Some(ORPHAN))), [Task::Orphan(Uid::new("d"))]);
    }
}
