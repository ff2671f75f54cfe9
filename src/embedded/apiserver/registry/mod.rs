//! What is served: one row per resource and version, and the few ways in which kinds differ.
//!
//! The rows are data; no resource has a handler of its own. Where upstream's strategies
//! (`pkg/registry/*/*/strategy.go`) differ from the common behaviour, a small `match` here says so.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::schema::RESOURCES;
use super::status::GroupResource;
use super::store::ResourceId;

pub use super::schema::{RESOURCES as ROWS, Resource as Row, Subresource};

static BY_PATH: LazyLock<HashMap<(&'static str, &'static str, &'static str), &'static Row>> =
    LazyLock::new(|| RESOURCES.iter().map(|row| ((row.group, row.version, row.plural), row)).collect());

/// The row served at a path.
pub fn find(group: &str, version: &str, plural: &str) -> Option<&'static Row> {
    BY_PATH.get(&(group, version, plural)).copied()
}

impl Row {
    /// `v1` or `apps/v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_owned() } else { format!("{}/{}", self.group, self.version) }
    }

    /// Where its objects are kept: both groups of events share one place.
    pub fn id(&self) -> ResourceId {
        let (group, plural) = self.storage();
        ResourceId::new(group, plural)
    }

    /// The row in whose version objects are kept.
    pub fn storage_row(&'static self) -> &'static Self {
        let id = self.id();
        RESOURCES.iter().find(|row| row.group == id.group && row.plural == id.plural).unwrap_or(self)
    }

    /// For messages: `deployments.apps`.
    pub fn resource(&self) -> GroupResource<'static> {
        GroupResource { group: self.group, resource: self.plural }
    }

    /// For messages about invalid objects: `Deployment.apps`.
    pub fn group_kind(&self) -> GroupResource<'static> {
        GroupResource { group: self.group, resource: self.kind }
    }

    /// Whether `status` is written apart from the rest.
    pub fn has_status(&self) -> bool {
        self.subresource("status").is_some()
    }

    /// Whether objects count the generations of their desired state
    /// (strategies that set `Generation = 1` in `PrepareForCreate`).
    pub fn has_generation(&self) -> bool {
        match self.group {
            "apps" => self.plural != "controllerrevisions",
            "batch" | "admissionregistration.k8s.io" | "flowcontrol.apiserver.k8s.io" | "apiextensions.k8s.io" => true,
            "" => matches!(self.plural, "pods" | "podtemplates" | "replicationcontrollers"),
            "networking.k8s.io" => matches!(self.plural, "ingresses" | "ingressclasses" | "networkpolicies"),
            "policy" => self.plural == "poddisruptionbudgets",
            "discovery.k8s.io" => true,
            "scheduling.k8s.io" => self.plural == "priorityclasses",
            "resource.k8s.io" => matches!(self.plural, "resourceslices" | "deviceclasses" | "devicetaintrules"),
            _ => false,
        }
    }

    /// Whether a replace may leave `resourceVersion` out (`AllowUnconditionalUpdate`).
    pub fn unconditional_update(&self) -> bool {
        !matches!(
            self.plural,
            "podcertificaterequests"
                | "clustertrustbundles"
                | "runtimeclasses"
                | "storageversionmigrations"
                | "poddisruptionbudgets"
                | "resourcepoolstatusrequests"
                | "storageversions"
                | "csidrivers"
                | "csistoragecapacities"
                | "volumeattachments"
                | "csinodes"
                | "leases"
                | "leasecandidates"
        ) && self.group != "admissionregistration.k8s.io"
            && self.group != "apiextensions.k8s.io"
    }

    /// Whether a replace of nothing creates (`AllowCreateOnUpdate`).
    pub fn create_on_update(&self) -> bool {
        matches!(
            self.plural,
            "runtimeclasses" | "leases" | "leasecandidates" | "limitranges" | "events" | "services" | "endpoints"
        ) || self.group == "rbac.authorization.k8s.io"
    }

    /// Whether a deletion answers with the object rather than a `Status` (`ReturnDeletedObject`).
    pub fn returns_deleted(&self) -> bool {
        matches!(
            (self.group, self.plural),
            (
                "",
                "pods"
                    | "services"
                    | "serviceaccounts"
                    | "persistentvolumes"
                    | "persistentvolumeclaims"
                    | "podtemplates"
                    | "resourcequotas"
                    | "namespaces"
            ) | (
                "storage.k8s.io",
                "csidrivers" | "csinodes" | "storageclasses" | "volumeattachments" | "volumeattributesclasses"
            ) | ("resource.k8s.io", _)
        )
    }

    /// Whether something acts on objects of this kind. The others are kept and served, and a
    /// warning says so. The one place where this is listed.
    pub fn enforced(&self) -> bool {
        match self.group {
            "" => matches!(
                self.plural,
                "namespaces"
                    | "pods"
                    | "services"
                    | "configmaps"
                    | "secrets"
                    | "serviceaccounts"
                    | "events"
                    | "nodes"
                    | "persistentvolumes"
                    | "persistentvolumeclaims"
                    | "bindings"
            ),
            "apps" => matches!(self.plural, "deployments" | "replicasets"),
            "batch" => self.plural == "jobs",
            "events.k8s.io"
            | "discovery.k8s.io"
            | "rbac.authorization.k8s.io"
            | "authentication.k8s.io"
            | "authorization.k8s.io" => true,
            "coordination.k8s.io" => self.plural == "leases",
            _ => false,
        }
    }

    /// Whether objects are computed for the answer instead of kept.
    pub fn is_virtual(&self) -> bool {
        !self.verbs.contains(&"get") || self.plural == "componentstatuses"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_event_groups_share_one_place_and_one_stored_version() {
        let new = find("events.k8s.io", "v1", "events").expect("a row");
        let old = find("", "v1", "events").expect("a row");
        assert_eq!(new.id(), old.id());
        assert_eq!(new.storage_row().group, "");
        assert_eq!(find("autoscaling", "v1", "horizontalpodautoscalers").expect("a row").storage_row().version, "v2");
    }
}
