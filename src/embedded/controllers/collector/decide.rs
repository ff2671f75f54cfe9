//! What to do about one object whose owners are classified.
//!
//! Ports `attemptToDeleteItem` of `garbagecollector.go`. Pure.

use std::sync::Arc;

use kube::api::PropagationPolicy;

use super::graph::Node;

/// An object's owners, by what became of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owners {
    /// How many are there to stay.
    pub solid: usize,
    /// Uids of those that are gone.
    pub dangling: Vec<Arc<str>>,
    /// Uids of those that wait for their dependents.
    pub waiting: Vec<Arc<str>>,
}

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// It stays as it is.
    Nothing,
    /// It stays, without references to these.
    DropReferences(Vec<Arc<str>>),
    /// It goes.
    Delete(PropagationPolicy),
}

/// Decides.
pub fn decide(node: &Node, owners: &Owners, has_dependents: bool) -> Action {
    if node.owners.is_empty() {
        return Action::Nothing;
    }
    if owners.solid > 0 {
        if owners.dangling.is_empty() && owners.waiting.is_empty() {
            return Action::Nothing;
        }
        return Action::DropReferences(owners.dangling.iter().chain(&owners.waiting).cloned().collect());
    }
    if !owners.waiting.is_empty() && has_dependents {
        // Its own dependents go first, as its owner wants to see everything gone.
        return Action::Delete(PropagationPolicy::Foreground);
    }
    Action::Delete(if node.orphan {
        PropagationPolicy::Orphan
    } else if node.foreground {
        PropagationPolicy::Foreground
    } else {
        PropagationPolicy::Background
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedded::controllers::shared::cache::Key;
    use kube::core::ApiResource;

    #[test]
    fn owners_decide() {
        let owner = || super::super::graph::Owner {
            uid: super::super::graph::Uid::new("a"),
            uid_text: "a".into(),
            api_version: "v1".into(),
            kind: "ConfigMap".into(),
            name: "a".into(),
            blocks: true,
        };
        let node = |orphan| Node {
            resource: Arc::new(ApiResource::erase::<k8s_openapi::api::core::v1::ConfigMap>(&())),
            key: Key::new("default", "x"),
            uid_text: "x".into(),
            resource_version: None,
            owners: vec![owner()],
            going: false,
            foreground: false,
            orphan,
        };
        let owners = |solid, dangling: &[&str], waiting: &[&str]| Owners {
            solid,
            dangling: dangling.iter().map(|uid| (*uid).into()).collect(),
            waiting: waiting.iter().map(|uid| (*uid).into()).collect(),
        };
        for (given, has_dependents, orphan, expected) in [
            (owners(1, &[], &[]), false, false, Action::Nothing),
            (owners(1, &["a"], &["b"]), false, false, Action::DropReferences(vec!["a".into(), "b".into()])),
            (owners(0, &["a"], &[]), true, false, Action::Delete(PropagationPolicy::Background)),
            (owners(0, &[], &["a"]), true, false, Action::Delete(PropagationPolicy::Foreground)),
            (owners(0, &[], &["a"]), false, false, Action::Delete(PropagationPolicy::Background)),
            (owners(0, &["a"], &[]), true, true, Action::Delete(PropagationPolicy::Orphan)),
        ] {
            assert_eq!(decide(&node(orphan), &given, has_dependents), expected, "{given:?}");
        }
    }
}
