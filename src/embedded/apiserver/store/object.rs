//! One stored object: its bytes, and the little of it that lists and watches need to know.

use bytes::Bytes;
use serde_json::Value;

use super::ResourceId;
use super::fields;

/// An object as it is kept: immutable, shared by the store, the event log and open lists.
#[derive(Debug)]
pub struct Stored {
    /// The whole object as JSON, with its `resourceVersion`.
    pub bytes: Bytes,
    /// The index of its metadata.
    pub index: Index,
}

/// What selectors and preconditions look at, so that bytes need not be parsed for them.
#[derive(Debug)]
pub struct Index {
    /// Empty for cluster-wide objects.
    pub namespace: Box<str>,
    /// The object's name.
    pub name: Box<str>,
    /// Its identity.
    pub uid: Box<str>,
    /// The revision at which it was last written.
    pub revision: u64,
    /// Its labels, sorted by key.
    pub labels: Box<[(Box<str>, Box<str>)]>,
    /// Values of the kind's selectable fields beyond name and namespace, in [`fields::selectable`]'s order.
    pub fields: Box<[Box<str>]>,
    /// Whether it is being deleted.
    pub deleting: bool,
}

impl Stored {
    /// Serializes an object whose `resourceVersion` is already in it.
    pub fn new(resource: ResourceId, object: &Value, revision: u64) -> Self {
        let metadata = &object["metadata"];
        let text = |value: &Value| value.as_str().unwrap_or_default().into();
        let labels = metadata["labels"].as_object().map(|labels| {
            labels.iter().map(|(key, value)| (key.as_str().into(), text(value))).collect::<Vec<(Box<str>, Box<str>)>>()
        });
        Self {
            bytes: Bytes::from(serde_json::to_vec(object).unwrap_or_default().into_boxed_slice()),
            index: Index {
                namespace: text(&metadata["namespace"]),
                name: text(&metadata["name"]),
                uid: text(&metadata["uid"]),
                revision,
                labels: labels.unwrap_or_default().into_boxed_slice(),
                fields: fields::values(resource, object),
                deleting: !metadata["deletionTimestamp"].is_null(),
            },
        }
    }

    /// The object, parsed anew.
    pub fn value(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_default()
    }
}

impl Index {
    /// The value of one label.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels.binary_search_by(|(name, _)| (**name).cmp(key)).ok().map(|at| &*self.labels[at].1)
    }
}
