//! Group, version and kind: how everybody names a type.

use serde_json::Value;

use super::tables::{self, Def};

/// A group, version and kind, borrowed from wherever they are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Gvk<'a> {
    /// The group; empty for core.
    pub group: &'a str,
    /// The version.
    pub version: &'a str,
    /// The kind.
    pub kind: &'a str,
}

impl<'a> Gvk<'a> {
    /// From the three parts.
    pub const fn new(group: &'a str, version: &'a str, kind: &'a str) -> Self {
        Self { group, version, kind }
    }

    /// From an `apiVersion` such as `apps/v1` or `v1`, and a kind.
    pub fn from_api_version(api_version: &'a str, kind: &'a str) -> Self {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        Self { group, version, kind }
    }

    /// From a value's own `apiVersion` and `kind`; what is missing is empty.
    pub fn of(value: &'a Value) -> Self {
        let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default();
        Self::from_api_version(text("apiVersion"), text("kind"))
    }

    /// `apps/v1`, or `v1` for core.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_owned() } else { format!("{}/{}", self.group, self.version) }
    }

    /// The definition, or `None` for a kind without a schema. Options and `Status` are known in every group, as
    /// `metav1.AddToGroupVersion` registers them.
    pub(super) fn def(&self) -> Option<Def> {
        tables::lookup(self.group, self.version, self.kind).or_else(|| match self.kind {
            "DeleteOptions" | "Status" | "WatchEvent" => tables::lookup("", "v1", self.kind),
            "CreateOptions"
            | "UpdateOptions"
            | "PatchOptions"
            | "GetOptions"
            | "ListOptions"
            | "PartialObjectMetadata"
            | "PartialObjectMetadataList" => tables::lookup("meta.k8s.io", "v1", self.kind),
            _ => None,
        })
    }

    /// Whether the tables know this kind.
    pub fn is_known(&self) -> bool {
        self.def().is_some()
    }
}
