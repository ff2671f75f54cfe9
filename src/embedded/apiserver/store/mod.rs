//! The store: objects as serialized bytes, one global revision, one event log.
//!
//! Everything that is written passes [`Store::commit`], which alone counts the revision and appends
//! to the log; lists and watches read the same two. The lock is held for serializing one object
//! and a few map operations, never across an await. Old events are dropped by size; a watch
//! that wants them is told that they have expired.

pub mod fields;
mod log;
pub mod object;

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use tokio::sync::watch;

pub use log::{Change, Event, TooOld};
pub use object::{Index, Stored};

use log::Log;

/// A stored resource: its versions share one collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResourceId {
    /// The API group under which it is stored.
    pub group: &'static str,
    /// The plural name.
    pub plural: &'static str,
}

impl ResourceId {
    /// A resource by its group and plural name.
    pub const fn new(group: &'static str, plural: &'static str) -> Self {
        Self { group, plural }
    }
}

/// A name within a resource; sorts by namespace first, as lists do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// Empty for cluster-wide objects.
    pub namespace: Box<str>,
    /// The object's name.
    pub name: Box<str>,
}

impl Key {
    /// A key from its two parts.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

/// Why a commit did not happen.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The object is not what the write was prepared against.
    #[error("the object changed in between")]
    Changed,
    /// The namespace is gone or going: nothing new may be put there.
    #[error("the namespace is being terminated")]
    NamespaceTerminating,
}

/// What a write does to an object.
#[derive(Debug)]
pub enum Write<'a> {
    /// Stores this, new or changed. Its `resourceVersion` is set here.
    Put(&'a mut Value),
    /// Removes it. The value is its last state, whose `resourceVersion` becomes the deletion's.
    Remove(&'a mut Value),
}

/// All objects, and the history of how they came about.
#[derive(Debug, Default)]
pub struct Store {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    revision: u64,
    collections: HashMap<ResourceId, Collection>,
    log: Log,
    /// Who created an object, by its UID, where that was a user.
    creators: HashMap<Box<str>, Box<str>>,
}

#[derive(Debug)]
struct Collection {
    objects: BTreeMap<Key, Arc<Stored>>,
    /// The revision of this collection's last change: wakes its watchers.
    changed: watch::Sender<u64>,
}

impl Default for Collection {
    fn default() -> Self {
        Self { objects: BTreeMap::new(), changed: watch::Sender::new(0) }
    }
}

/// One page of a list, and where the next begins.
#[derive(Debug)]
pub struct Page {
    /// In order of key.
    pub items: Vec<Arc<Stored>>,
    /// The store's revision at the time.
    pub revision: u64,
    /// The last key of this page if there is more, and how many follow.
    pub next: Option<(Key, usize)>,
}

impl Store {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The revision of the last write.
    pub fn revision(&self) -> u64 {
        self.lock().revision
    }

    /// One object.
    pub fn get(&self, resource: ResourceId, namespace: &str, name: &str) -> Option<Arc<Stored>> {
        self.lock().collections.get(&resource)?.objects.get(&Key::new(namespace, name)).cloned()
    }

    /// All objects of a resource, in a namespace or (`""`) everywhere.
    pub fn all(&self, resource: ResourceId, namespace: &str) -> Vec<Arc<Stored>> {
        let inner = self.lock();
        inner.collections.get(&resource).map_or_else(Vec::new, |collection| {
            in_namespace(&collection.objects, namespace, None).map(|(_, stored)| Arc::clone(stored)).collect()
        })
    }

    /// Up to `limit` objects after `after` for which `wanted` holds, now or as of revision `snapshot`.
    ///
    /// # Errors
    /// [`TooOld`] when the log no longer reaches back to the snapshot.
    pub fn page(
        &self,
        resource: ResourceId,
        namespace: &str,
        after: Option<&Key>,
        limit: usize,
        snapshot: Option<u64>,
        wanted: impl Fn(&Index) -> bool,
    ) -> Result<Page, TooOld> {
        let inner = self.lock();
        let mut page = Page { items: Vec::new(), revision: snapshot.unwrap_or(inner.revision), next: None };
        let Some(collection) = inner.collections.get(&resource) else {
            return Ok(page);
        };
        let past = match snapshot {
            Some(revision) if revision < inner.revision => Some(inner.undo(resource, revision)?),
            _ => None,
        };
        let mut left = 0;
        let mut take = |stored: &Arc<Stored>| {
            if !wanted(&stored.index) {
            } else if page.items.len() < limit {
                page.items.push(Arc::clone(stored));
            } else {
                left += 1;
            }
        };
        let objects = past.as_ref().filter(|past| !past.is_empty()).map(|past| {
            let mut objects = collection.objects.clone();
            for (key, stored) in past {
                match stored {
                    Some(stored) => objects.insert(key.clone(), Arc::clone(stored)),
                    None => objects.remove(key),
                };
            }
            objects
        });
        let objects = objects.as_ref().unwrap_or(&collection.objects);
        in_namespace(objects, namespace, after).for_each(|(_, stored)| take(stored));
        if let Some(last) = page.items.last().filter(|_| left > 0) {
            page.next = Some((Key { namespace: last.index.namespace.clone(), name: last.index.name.clone() }, left));
        }
        Ok(page)
    }

    /// Writes one object, provided that it still is `expected` (`None`: is not there).
    ///
    /// # Errors
    /// [`CommitError`]: the caller reads again, or tells the client.
    pub fn commit(
        &self,
        resource: ResourceId,
        key: Key,
        expected: Option<&Arc<Stored>>,
        write: Write<'_>,
    ) -> Result<Arc<Stored>, CommitError> {
        let mut guard = self.lock();
        let inner = &mut *guard;
        if expected.is_none() && matches!(write, Write::Put(_)) && !key.namespace.is_empty() {
            let namespaces = inner.collections.get(&NAMESPACES);
            let namespace = namespaces.and_then(|all| all.objects.get(&Key::new("", &key.namespace)));
            if namespace.is_none_or(|stored| stored.index.deleting) {
                return Err(CommitError::NamespaceTerminating);
            }
        }
        let collection = inner.collections.entry(resource).or_default();
        let current = collection.objects.get(&key);
        let same = match (current, expected) {
            (Some(current), Some(expected)) => Arc::ptr_eq(current, expected),
            (None, None) => true,
            _ => false,
        };
        if !same {
            return Err(CommitError::Changed);
        }
        let previous = current.cloned();
        let revision = inner.revision + 1;
        let (object, change) = match write {
            Write::Put(object) if previous.is_some() => (object, Change::Modified),
            Write::Put(object) => (object, Change::Added),
            Write::Remove(object) => (object, Change::Deleted),
        };
        object["metadata"]["resourceVersion"] = Value::String(revision.to_string());
        let stored = Arc::new(Stored::new(resource, object, revision));
        if change == Change::Deleted {
            collection.objects.remove(&key);
            inner.creators.remove(&stored.index.uid);
        } else {
            collection.objects.insert(key, Arc::clone(&stored));
        }
        inner.revision = revision;
        inner.log.push(Event { revision, resource, change, object: Arc::clone(&stored), previous });
        collection.changed.send_replace(revision);
        Ok(stored)
    }

    /// Remembers who created an object, for as long as it is there.
    pub fn created_by(&self, object: &Stored, user: &str) {
        self.lock().creators.insert(object.index.uid.clone(), user.into());
    }

    /// Who created an object, where that was a user.
    pub fn creator(&self, uid: &str) -> Option<String> {
        self.lock().creators.get(uid).map(|user| user.to_string())
    }

    /// Tells when a resource changes. The value is the revision of its last change.
    pub fn subscribe(&self, resource: ResourceId) -> watch::Receiver<u64> {
        self.lock().collections.entry(resource).or_default().changed.subscribe()
    }

    /// The revision of a resource's last change, 0 if it never changed.
    pub fn last_change(&self, resource: ResourceId) -> u64 {
        self.lock().collections.get(&resource).map_or(0, |collection| *collection.changed.borrow())
    }

    /// What happened to a resource after `revision`, and the store's revision now.
    ///
    /// # Errors
    /// [`TooOld`] when the log no longer reaches back that far.
    pub fn events_after(&self, resource: ResourceId, revision: u64) -> Result<(Vec<Arc<Event>>, u64), TooOld> {
        let inner = self.lock();
        Ok((inner.log.after(resource, revision)?, inner.revision))
    }
}

impl Inner {
    /// What the objects that changed after a revision were then; `None`: not there.
    fn undo(&self, resource: ResourceId, revision: u64) -> Result<BTreeMap<Key, Option<Arc<Stored>>>, TooOld> {
        let mut past = BTreeMap::new();
        for event in self.log.after(resource, revision)? {
            let index = &event.object.index;
            past.entry(Key { namespace: index.namespace.clone(), name: index.name.clone() })
                .or_insert_with(|| event.previous.clone());
        }
        Ok(past)
    }
}

fn in_namespace<'a>(
    objects: &'a BTreeMap<Key, Arc<Stored>>,
    namespace: &'a str,
    after: Option<&Key>,
) -> impl Iterator<Item = (&'a Key, &'a Arc<Stored>)> {
    let start = match after {
        Some(key) => Bound::Excluded(key.clone()),
        None => Bound::Included(Key::new(namespace, "")),
    };
    objects
        .range((start, Bound::Unbounded))
        .take_while(move |(key, _)| namespace.is_empty() || *key.namespace == *namespace)
}

/// Where namespaces are kept: what is put into one depends on it.
pub const NAMESPACES: ResourceId = ResourceId::new("", "namespaces");

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NODES: ResourceId = ResourceId::new("", "nodes");

    fn put(store: &Store, name: &str) -> Arc<Stored> {
        let mut object = json!({"metadata": {"name": name, "labels": {"b": "2", "a": "1"}}});
        let key = Key::new("", name);
        let current = store.get(NODES, "", name);
        store.commit(NODES, key, current.as_ref(), Write::Put(&mut object)).expect("nobody else writes")
    }

    #[test]
    fn a_write_against_an_old_state_is_refused() {
        let store = Store::default();
        let first = put(&store, "a");
        put(&store, "a");
        let mut object = json!({"metadata": {"name": "a"}});
        let result = store.commit(NODES, Key::new("", "a"), Some(&first), Write::Put(&mut object));
        assert!(matches!(result, Err(CommitError::Changed)));
        assert_eq!(store.revision(), 2);
    }

    #[test]
    fn pages_follow_each_other() {
        let store = Store::default();
        for name in ["a", "b", "c"] {
            put(&store, name);
        }
        let first = store.page(NODES, "", None, 2, None, |_| true).expect("now");
        assert_eq!(first.items.len(), 2);
        let (after, left) = first.next.expect("one more");
        assert_eq!((&*after.name, left), ("b", 1));
        // What comes later doesn't show in the rest of a list.
        put(&store, "bb");
        let c = put(&store, "c");
        let second = store.page(NODES, "", Some(&after), 2, Some(first.revision), |_| true).expect("kept");
        assert_eq!(
            second.items.iter().map(|item| (&*item.index.name, item.index.revision)).collect::<Vec<_>>(),
            [("c", 3)]
        );
        assert_eq!(c.index.revision, 5);
        assert!(second.next.is_none());
    }

    #[test]
    fn nothing_is_put_into_a_namespace_that_is_not_there() {
        let store = Store::default();
        let mut object = json!({"metadata": {"name": "a", "namespace": "gone"}});
        let result = store.commit(ResourceId::new("", "pods"), Key::new("gone", "a"), None, Write::Put(&mut object));
        assert!(matches!(result, Err(CommitError::NamespaceTerminating)));
    }

    #[test]
    fn events_come_in_order_and_labels_are_found() {
        let store = Store::default();
        let stored = put(&store, "a");
        assert_eq!(stored.index.label("a"), Some("1"));
        assert_eq!(stored.index.label("c"), None);
        put(&store, "a");
        let (events, revision) = store.events_after(NODES, 0).expect("nothing is compacted");
        assert_eq!(revision, 2);
        assert_eq!(events.iter().map(|event| event.change).collect::<Vec<_>>(), [Change::Added, Change::Modified]);
        assert_eq!(store.events_after(NODES, 1).expect("nothing is compacted").0.len(), 1);
    }
}
