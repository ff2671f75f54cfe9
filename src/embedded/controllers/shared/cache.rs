//! One watch per kind, kept as a map that all controllers share (client-go's shared informer).
//!
//! Neighbours: [`super::caches`] owns one [`Cache`] per kind, controllers register handlers that enqueue
//! keys. Invariants: handlers run after the map holds the new state, on the watch's own task, and never
//! block; the seen revision only grows.

use std::collections::{HashMap, HashSet};
use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use futures::StreamExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::runtime::watcher;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::reading::Events;

/// Namespace (empty for what is cluster-scoped) and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Empty for cluster-scoped objects.
    pub namespace: Arc<str>,
    /// The object's name.
    pub name: Arc<str>,
}

impl Key {
    /// The key of a namespaced (or, with an empty namespace, cluster-scoped) name.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// The key of an object.
    pub fn of(meta: &ObjectMeta) -> Self {
        Self::new(meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default())
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.namespace.is_empty() { f.write_str(&self.name) } else { write!(f, "{}/{}", self.namespace, self.name) }
    }
}

/// A kind that can be cached.
pub trait Cached: kube::Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug + Send + Sync + 'static {
    /// Drops what no controller reads, so that it isn't kept.
    fn prune(&mut self) {}
}

/// What a watch reported.
pub enum Change<K> {
    /// Created or changed; `old` is what the cache held before.
    Applied {
        /// The object as it was in the cache, if it was.
        old: Option<Arc<K>>,
        /// The object now.
        new: Arc<K>,
    },
    /// Gone; the last state known.
    Deleted(Arc<K>),
}

impl<K> Change<K> {
    /// The states this change touches: the old one (if any) and the new or last one.
    pub fn states(&self) -> impl Iterator<Item = &Arc<K>> {
        let (a, b) = match self {
            Change::Applied { old, new } => (old.as_ref(), new),
            Change::Deleted(last) => (None, last),
        };
        a.into_iter().chain(std::iter::once(b))
    }
}

type Handler<K> = Box<dyn Fn(&Change<K>) + Send + Sync>;

/// A shared, indexed, eventually consistent map of one kind.
pub struct Cache<K> {
    state: RwLock<State<K>>,
    handlers: RwLock<Vec<Handler<K>>>,
    seen: AtomicU64,
    synced: watch::Sender<bool>,
}

struct State<K> {
    objects: HashMap<Arc<str>, HashMap<Arc<str>, Arc<K>>>,
    by_controller: HashMap<String, HashSet<Key>>,
}

impl<K: Cached> Default for Cache<K> {
    fn default() -> Self {
        Self {
            state: RwLock::new(State { objects: HashMap::new(), by_controller: HashMap::new() }),
            handlers: RwLock::new(Vec::new()),
            seen: AtomicU64::new(0),
            synced: watch::Sender::new(false),
        }
    }
}

impl<K: Cached> Cache<K> {
    /// Adds a handler; must happen before [`Cache::run`], or it misses what was there.
    pub fn on_change(&self, handler: impl Fn(&Change<K>) + Send + Sync + 'static) {
        self.handlers.write().unwrap_or_else(PoisonError::into_inner).push(Box::new(handler));
    }

    /// The object under `key`.
    pub fn get(&self, key: &Key) -> Option<Arc<K>> {
        self.read().objects.get(&key.namespace)?.get(&key.name).cloned()
    }

    /// Everything in one namespace, in no order.
    pub fn in_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        self.read().objects.get(namespace).map(|of| of.values().cloned().collect()).unwrap_or_default()
    }

    /// Everything, in no order.
    pub fn all(&self) -> Vec<Arc<K>> {
        self.read().objects.values().flat_map(|of| of.values().cloned()).collect()
    }

    /// What the object with this uid controls (its `ownerReferences` entry with `controller: true`).
    pub fn controlled_by(&self, uid: &str) -> Vec<Arc<K>> {
        let state = self.read();
        let keys = state.by_controller.get(uid).into_iter().flatten();
        keys.filter_map(|key| state.objects.get(&key.namespace)?.get(&key.name).cloned()).collect()
    }

    /// Completes when the first list has been taken in.
    pub async fn synced(&self) {
        let mut synced = self.synced.subscribe();
        // The sender lives in self, so this cannot fail while we hold it.
        let _ = synced.wait_for(|synced| *synced).await;
    }

    /// Watches until `shutdown`; restarts by itself after errors (backing off) and after 410.
    pub async fn run(&self, mut events: Events<K>, shutdown: CancellationToken) {
        let mut listed: Option<Vec<K>> = None;
        loop {
            let event = tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                event = events.next() => event,
            };
            match event {
                None => return,
                Some(Ok(watcher::Event::Init)) => listed = Some(Vec::new()),
                Some(Ok(watcher::Event::InitApply(mut object))) => {
                    object.prune();
                    listed.get_or_insert_default().push(object);
                }
                Some(Ok(watcher::Event::InitDone)) => self.replace(listed.take().unwrap_or_default()),
                Some(Ok(watcher::Event::Apply(mut object))) => {
                    object.prune();
                    self.apply(object);
                }
                Some(Ok(watcher::Event::Delete(mut object))) => {
                    object.prune();
                    self.delete(object);
                }
                Some(Err(error)) => {
                    tracing::warn!(kind = %K::kind(&()), %error, "watch failed; it restarts")
                }
            }
        }
    }

    fn replace(&self, objects: Vec<K>) {
        let present: HashSet<Key> = objects.iter().map(|object| Key::of(object.meta())).collect();
        let gone: Vec<_> = self.all().into_iter().filter(|object| !present.contains(&Key::of(object.meta()))).collect();
        for object in gone {
            self.delete(K::clone(&object));
        }
        for object in objects {
            self.apply(object);
        }
        self.synced.send_replace(true);
    }

    fn apply(&self, object: K) {
        let (key, revision) = (Key::of(object.meta()), revision(object.meta()));
        let new = Arc::new(object);
        let old = {
            let mut state = self.write();
            let of = state.objects.entry(key.namespace.clone()).or_default();
            let old = of.insert(key.name.clone(), new.clone());
            let (before, after) = (old.as_deref().and_then(controller_uid), controller_uid(&*new));
            if before != after {
                state.unindex(before, &key);
                if let Some(uid) = after {
                    state.by_controller.entry(uid.to_owned()).or_default().insert(key);
                }
            }
            old
        };
        self.seen.fetch_max(revision, Ordering::AcqRel);
        self.tell(&Change::Applied { old, new });
    }

    fn delete(&self, object: K) {
        let key = Key::of(object.meta());
        {
            let mut state = self.write();
            if let Some(of) = state.objects.get_mut(&key.namespace) {
                let old = of.remove(&key.name);
                if of.is_empty() {
                    state.objects.remove(&key.namespace);
                }
                state.unindex(old.as_deref().and_then(controller_uid), &key);
            }
        }
        self.seen.fetch_max(revision(object.meta()), Ordering::AcqRel);
        self.tell(&Change::Deleted(Arc::new(object)));
    }

    fn tell(&self, change: &Change<K>) {
        for handler in self.handlers.read().unwrap_or_else(PoisonError::into_inner).iter() {
            handler(change);
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, State<K>> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State<K>> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K> State<K> {
    fn unindex(&mut self, uid: Option<&str>, key: &Key) {
        let Some(uid) = uid else { return };
        if let Some(keys) = self.by_controller.get_mut(uid) {
            keys.remove(key);
            if keys.is_empty() {
                self.by_controller.remove(uid);
            }
        }
    }
}

/// What [`super::written`] asks of a cache, whatever its kind.
pub trait Seen: Send + Sync {
    /// The newest resource version that this cache has taken in.
    fn revision(&self) -> u64;
    /// Whether the object is absent, replaced by another of its name, or marked for deletion.
    fn is_going(&self, key: &Key, uid: &str) -> bool;
    /// Whether the object is absent or replaced by another of its name.
    fn is_gone(&self, key: &Key, uid: &str) -> bool;
}

impl<K: Cached> Seen for Cache<K> {
    fn revision(&self) -> u64 {
        self.seen.load(Ordering::Acquire)
    }

    fn is_going(&self, key: &Key, uid: &str) -> bool {
        self.get(key).is_none_or(|o| o.meta().uid.as_deref() != Some(uid) || o.meta().deletion_timestamp.is_some())
    }

    fn is_gone(&self, key: &Key, uid: &str) -> bool {
        self.get(key).is_none_or(|o| o.meta().uid.as_deref() != Some(uid))
    }
}

/// An object's resource version as the number it is since Kubernetes 1.35; 0 if it isn't one.
pub fn revision(meta: &ObjectMeta) -> u64 {
    meta.resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or(0)
}

fn controller_uid<K: kube::Resource>(object: &K) -> Option<&str> {
    super::meta::controller_of(object.meta()).map(|owner| owner.uid.as_str())
}
