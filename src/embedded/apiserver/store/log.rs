//! The event log: what watches replay.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::{ResourceId, Stored};

/// How much history is kept, counted in bytes of objects that only the log still holds
/// (at most: the newest state of an object is shared with the store).
const KEPT_BYTES: usize = 4 << 20;
/// At least this many events are kept whatever their size.
const KEPT_EVENTS: usize = 256;

/// What happened to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It came into being.
    Added,
    /// It changed.
    Modified,
    /// It is gone.
    Deleted,
}

/// One entry of the log.
#[derive(Debug)]
pub struct Event {
    /// When.
    pub revision: u64,
    /// To what resource.
    pub resource: ResourceId,
    /// What.
    pub change: Change,
    /// The object afterwards; for a deletion, its last state with the deletion's revision.
    pub object: Arc<Stored>,
    /// The object before.
    pub previous: Option<Arc<Stored>>,
}

/// The log no longer reaches back that far.
#[derive(Debug, thiserror::Error)]
#[error("too old resource version: {wanted} ({oldest})")]
pub struct TooOld {
    /// What was asked for.
    pub wanted: u64,
    /// The oldest revision from which a watch can start.
    pub oldest: u64,
}

#[derive(Debug, Default)]
pub(super) struct Log {
    events: VecDeque<Arc<Event>>,
    bytes: usize,
    /// Events of each resource up to and including this revision are gone. By resource, as upstream's watch
    /// cache is: a quiet resource's watch isn't too old because of what others wrote.
    compacted: HashMap<ResourceId, u64>,
}

impl Log {
    pub(super) fn push(&mut self, event: Event) {
        self.bytes += event.object.bytes.len();
        self.events.push_back(Arc::new(event));
        while self.bytes > KEPT_BYTES && self.events.len() > KEPT_EVENTS {
            let Some(oldest) = self.events.pop_front() else {
                break;
            };
            self.bytes -= oldest.object.bytes.len();
            self.compacted.insert(oldest.resource, oldest.revision);
        }
    }

    pub(super) fn after(&self, resource: ResourceId, revision: u64) -> Result<Vec<Arc<Event>>, TooOld> {
        let compacted = self.compacted.get(&resource).copied().unwrap_or_default();
        if revision < compacted {
            return Err(TooOld { wanted: revision, oldest: compacted });
        }
        let from = self.events.partition_point(|event| event.revision <= revision);
        Ok(self.events.range(from..).filter(|event| event.resource == resource).cloned().collect())
    }
}
