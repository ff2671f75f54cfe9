//! Rows of resources, and how to find one.

use super::generated::RESOURCES;
use super::gvk::Gvk;

/// A resource of one group and version.
#[derive(Debug)]
pub struct Resource {
    /// The group; empty for core.
    pub group: &'static str,
    /// The version.
    pub version: &'static str,
    /// The kind of its objects.
    pub kind: &'static str,
    /// The name in paths.
    pub plural: &'static str,
    /// The singular name.
    pub singular: &'static str,
    /// Abbreviations that kubectl accepts.
    pub short_names: &'static [&'static str],
    /// Categories such as `all`.
    pub categories: &'static [&'static str],
    /// Whether objects live in a namespace.
    pub namespaced: bool,
    /// Discovery's verbs, sorted.
    pub verbs: &'static [&'static str],
    /// The definition's full name (`io.k8s.api.apps.v1.Deployment`).
    pub type_name: &'static str,
    /// Subresources, sorted by name.
    pub subresources: &'static [Subresource],
}

/// A subresource.
#[derive(Debug)]
pub struct Subresource {
    /// The last part of the path.
    pub name: &'static str,
    /// The group of what it takes and gives.
    pub group: &'static str,
    /// Its version.
    pub version: &'static str,
    /// Its kind.
    pub kind: &'static str,
    /// Discovery's verbs, sorted.
    pub verbs: &'static [&'static str],
}

impl Resource {
    /// Group, version and kind.
    pub const fn gvk(&self) -> Gvk<'static> {
        Gvk::new(self.group, self.version, self.kind)
    }

    /// Group and plural under which objects are stored: versions of one resource share it, and so do the two groups
    /// of events (`pkg/controlplane/storageversionhashdata`, `DefaultStorageFactory.AddCohabitatingResources`).
    pub fn storage(&self) -> (&'static str, &'static str) {
        if self.group == "events.k8s.io" { ("", self.plural) } else { (self.group, self.plural) }
    }

    /// The subresource called `name`.
    pub fn subresource(&self, name: &str) -> Option<&'static Subresource> {
        self.subresources.iter().find(|sub| sub.name == name)
    }

    /// Whether discovery lists `verb`.
    pub fn has_verb(&self, verb: &str) -> bool {
        self.verbs.contains(&verb)
    }
}

impl Subresource {
    /// Group, version and kind of what it takes and gives.
    pub const fn gvk(&self) -> Gvk<'static> {
        Gvk::new(self.group, self.version, self.kind)
    }
}

/// The resource that a path names.
pub fn resource(group: &str, version: &str, plural: &str) -> Option<&'static Resource> {
    RESOURCES.iter().find(|r| r.plural == plural && r.group == group && r.version == version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn core_comes_from_paths_and_the_rest_from_discovery() {
        let pods = resource("", "v1", "pods").expect("pods");
        assert_eq!((pods.kind, pods.singular, pods.namespaced), ("Pod", "pod", true));
        assert_eq!((pods.short_names, pods.categories), (&["po"][..], &["all"][..]));
        assert_eq!(pods.verbs, ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]);
        let names: Vec<_> = pods.subresources.iter().map(|s| s.name).collect();
        let expected = [
            "attach",
            "binding",
            "ephemeralcontainers",
            "eviction",
            "exec",
            "log",
            "portforward",
            "proxy",
            "resize",
            "status",
        ];
        assert_eq!(names, expected);
        assert_eq!(pods.subresource("eviction").map(|s| (s.group, s.kind)), Some(("policy", "Eviction")));
        let namespaces = resource("", "v1", "namespaces").expect("namespaces");
        assert_eq!((namespaces.namespaced, namespaces.kind), (false, "Namespace"));
        assert!(!namespaces.has_verb("deletecollection"));
        let deployments = resource("apps", "v1", "deployments").expect("deployments");
        assert_eq!(deployments.type_name, "io.k8s.api.apps.v1.Deployment");
        assert_eq!(deployments.subresource("scale").map(|s| s.gvk()), Some(Gvk::new("autoscaling", "v1", "Scale")));
        assert!(resource("apps", "v1beta1", "deployments").is_none());
    }

    #[test]
    fn every_row_has_a_schema_and_events_are_stored_once() {
        for row in RESOURCES {
            assert!(row.gvk().is_known(), "{row:?}");
            assert!(!row.type_name.is_empty(), "{row:?}");
        }
        let storage = |group| resource(group, "v1", "events").map(Resource::storage);
        assert_eq!(storage(""), storage("events.k8s.io"));
    }
}
