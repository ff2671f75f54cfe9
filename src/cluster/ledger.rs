//! What a session has in its cluster: what was applied for each node, by UID.
//!
//! The agent holds it for the session's life (if the agent dies, the session does); it serializes for the session's record.
//! By it a second `up` finds what changed, and nothing is ever deleted that the session didn't make.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::apply::{Applied, Kind};
use crate::plan::NodeId;
use crate::readiness::{Expected, ObjectKey};

/// What was applied for each node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    entries: Vec<Entry>,
}

/// What was applied for one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// The node.
    pub node: NodeId,
    /// Its objects, in the order in which they were applied.
    pub objects: Vec<Owned>,
    /// Whether it has been ready (a job: completed) since it was applied so.
    pub was_ready: bool,
}

/// An object of the session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Owned {
    /// Which.
    pub key: ObjectKey,
    /// Where such objects are.
    pub kind: Kind,
    /// As it was after applying.
    pub expected: Expected,
    /// Of what was applied.
    pub digest: String,
}

impl Owned {
    /// An object that was applied as `rendered`.
    pub fn new(applied: Applied, rendered: &Value) -> Self {
        Self { key: applied.key, kind: applied.kind, expected: applied.expected, digest: digest(rendered) }
    }
}

impl Ledger {
    /// What was applied for a node.
    pub fn entry(&self, node: &NodeId) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.node == *node)
    }

    /// Replaces what is known about a node.
    pub fn record(&mut self, node: &NodeId, objects: Vec<Owned>) {
        self.forget(node);
        self.entries.push(Entry { node: node.clone(), objects, was_ready: false });
    }

    /// Replaces what is known about a node whose objects were applied in part: what it had beside these is there, or was, in whatever state.
    pub fn record_part(&mut self, node: &NodeId, mut objects: Vec<Owned>) {
        let before = self.entry(node).map(|entry| entry.objects.clone()).unwrap_or_default();
        for owned in before {
            if !objects.iter().any(|known| known.key == owned.key) {
                objects.push(Owned { digest: String::new(), ..owned });
            }
        }
        self.record(node, objects);
    }

    /// The node is ready as it was applied.
    pub fn mark_ready(&mut self, node: &NodeId) {
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.node == *node) {
            entry.was_ready = true;
        }
    }

    /// Nothing of the node is there any more.
    pub fn forget(&mut self, node: &NodeId) {
        self.entries.retain(|entry| entry.node != *node);
    }

    /// The nodes that were applied, latest last.
    pub fn nodes(&self) -> impl DoubleEndedIterator<Item = &NodeId> {
        self.entries.iter().map(|entry| &entry.node)
    }

    /// What `node` has and no other node shares, latest first: the order in which to delete.
    pub fn only_of(&self, node: &NodeId) -> Vec<Owned> {
        let mut holders: BTreeMap<&ObjectKey, usize> = BTreeMap::new();
        for object in self.entries.iter().flat_map(|entry| &entry.objects) {
            *holders.entry(&object.key).or_default() += 1;
        }
        let objects = self.entry(node).map_or(&[][..], |entry| &entry.objects);
        objects.iter().rev().filter(|object| holders.get(&object.key) == Some(&1)).cloned().collect()
    }
}

/// A digest of an object as it was rendered (serde_json's maps are sorted, so the same object gives the same text).
pub fn digest(rendered: &Value) -> String {
    let bytes: [u8; 32] = Sha256::digest(rendered.to_string()).into();
    bytes[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::plan::NodeKind;

    fn owned(kind: &str, name: &str) -> Owned {
        let object = json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name}});
        let kind = Kind {
            group: String::new(),
            version: "v1".to_owned(),
            kind: kind.to_owned(),
            plural: format!("{}s", kind.to_lowercase()),
            namespaced: kind != "Namespace",
        };
        Owned { key: ObjectKey::of(&object), kind, expected: Expected::default(), digest: digest(&object) }
    }

    #[test]
    fn what_two_nodes_share_is_no_ones_to_delete() {
        let (a, b) = (NodeId::new(NodeKind::Service, "a"), NodeId::new(NodeKind::Service, "b"));
        let mut ledger = Ledger::default();
        ledger.record(&a, vec![owned("Secret", "shared"), owned("Service", "a"), owned("Deployment", "a")]);
        ledger.record(&b, vec![owned("Secret", "shared")]);
        let names = |objects: Vec<Owned>| objects.iter().map(|object| object.key.to_string()).collect::<Vec<_>>();
        assert_eq!(names(ledger.only_of(&a)), ["Deployment/a", "Service/a"]);
        ledger.forget(&b);
        assert_eq!(names(ledger.only_of(&a)), ["Deployment/a", "Service/a", "Secret/shared"]);
    }

    #[test]
    fn a_node_is_ready_only_as_it_was_applied() {
        let node = NodeId::new(NodeKind::Job, "migrate");
        let mut ledger = Ledger::default();
        ledger.record(&node, vec![owned("Job", "migrate"), owned("Namespace", "n")]);
        ledger.mark_ready(&node);
        assert!(ledger.entry(&node).is_some_and(|entry| entry.was_ready));
        ledger.record(&node, Vec::new());
        assert!(ledger.entry(&node).is_some_and(|entry| !entry.was_ready));
    }

    #[test]
    fn digests_do_not_depend_on_the_order_of_fields() {
        let first: Value = serde_json::from_str(r#"{"a":1,"b":2}"#).expect("JSON");
        let second: Value = serde_json::from_str(r#"{"b":2,"a":1}"#).expect("JSON");
        assert_eq!(digest(&first), digest(&second));
    }
}
