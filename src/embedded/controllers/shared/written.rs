//! Reads of one's own writes: a key isn't synced while the caches are behind what its last sync wrote.
//!
//! This is what upstream's expectations (`pkg/controller/controller_utils.go`) and consistency store
//! (`pkg/controller/util/consistency`, 1.36) do together: without it a controller whose cache lags would create the
//! same pods twice. Neighbours: [`super::cache`] answers. Invariant: whatever clears a wait also enqueues the key, because
//! the event that the cache takes in belongs to an object that the key controls (or is the key's own).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::cache::{Key, Seen, revision};

enum Awaited {
    /// Something was created or changed at this revision.
    Revision { cache: Arc<dyn Seen>, at: u64, key: Key, uid: String, fresh: bool },
    /// A deletion was asked for.
    Deletion { cache: Arc<dyn Seen>, key: Key, uid: String },
}

impl Awaited {
    fn arrived(&self) -> bool {
        match self {
            Awaited::Revision { cache, at, key, uid, fresh } => {
                cache.revision() >= *at || (!fresh && cache.is_gone(key, uid))
            }
            Awaited::Deletion { cache, key, uid } => cache.is_going(key, uid),
        }
    }
}

/// What each key's syncs wrote and the caches haven't shown yet.
#[derive(Default)]
pub struct Written {
    awaited: Mutex<HashMap<Key, Vec<Awaited>>>,
}

impl Written {
    /// Whether the caches have caught up with everything written for `key`.
    pub fn caught_up(&self, key: &Key) -> bool {
        let mut all = self.awaited.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(of) = all.get_mut(key) else {
            return true;
        };
        of.retain(|awaited| !awaited.arrived());
        if of.is_empty() {
            all.remove(key);
            return true;
        }
        false
    }

    /// The object was created; `meta` is what the API answered.
    pub fn created(&self, key: &Key, cache: Arc<dyn Seen>, meta: &ObjectMeta) {
        self.revision(key, cache, meta, true);
    }

    /// The object was changed; `meta` is what the API answered.
    pub fn updated(&self, key: &Key, cache: Arc<dyn Seen>, meta: &ObjectMeta) {
        self.revision(key, cache, meta, false);
    }

    /// The object's deletion was accepted; `meta` is what was known of it.
    pub fn deleted(&self, key: &Key, cache: Arc<dyn Seen>, meta: &ObjectMeta) {
        let (object, uid) = (Key::of(meta), meta.uid.clone().unwrap_or_default());
        self.push(key, Awaited::Deletion { cache, key: object, uid });
    }

    fn revision(&self, key: &Key, cache: Arc<dyn Seen>, meta: &ObjectMeta, fresh: bool) {
        let (object, uid) = (Key::of(meta), meta.uid.clone().unwrap_or_default());
        self.push(key, Awaited::Revision { cache, at: revision(meta), key: object, uid, fresh });
    }

    fn push(&self, key: &Key, awaited: Awaited) {
        if awaited.arrived() {
            return;
        }
        self.awaited.lock().unwrap_or_else(PoisonError::into_inner).entry(key.clone()).or_default().push(awaited);
    }
}
