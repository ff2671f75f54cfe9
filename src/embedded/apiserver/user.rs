//! Who is asking.

use std::collections::BTreeMap;

/// An identity, however it was proved.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct User {
    /// For example `system:serviceaccount:default:default`.
    pub name: String,
    /// Without `system:authenticated`, which everybody known gets.
    pub groups: Vec<String>,
    /// Empty if there is none.
    pub uid: String,
    /// What else is known, for example the pod that a token is bound to.
    pub extra: BTreeMap<String, Vec<String>>,
}

/// The group of everybody who is known.
pub const AUTHENTICATED: &str = "system:authenticated";
/// The group of those who are not.
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
/// The group that may do everything.
pub const MASTERS: &str = "system:masters";

impl User {
    /// A user with a name and groups.
    pub fn new(name: impl Into<String>, groups: &[&str]) -> Self {
        Self { name: name.into(), groups: groups.iter().map(|&group| group.to_owned()).collect(), ..Self::default() }
    }

    /// Someone who may do everything, for the session's owner.
    pub fn admin() -> Self {
        Self::new("kubernetes-admin", &[MASTERS])
    }

    /// A controller of the cluster, by its role's name: `deployment-controller`.
    /// Follows `bootstrappolicy/controller_policy.go`: each has a service account in `kube-system`.
    pub fn controller(name: &str) -> Self {
        Self::service_account("kube-system", name)
    }

    /// The kubelet of a node (`pkg/auth/nodeidentifier`).
    pub fn node(name: &str) -> Self {
        Self::new(format!("system:node:{name}"), &["system:nodes"])
    }

    /// Whether it is a controller or a node of this cluster, which only repeat what somebody else wrote.
    pub fn is_part_of_the_cluster(&self) -> bool {
        ["system:serviceaccount:kube-system:", "system:node:", "system:kube-"]
            .iter()
            .any(|prefix| self.name.starts_with(prefix))
    }

    /// A service account (`apiserver/pkg/authentication/serviceaccount/util.go`).
    pub fn service_account(namespace: &str, name: &str) -> Self {
        Self {
            name: format!("system:serviceaccount:{namespace}:{name}"),
            groups: vec!["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")],
            ..Self::default()
        }
    }

    /// A part of the cluster itself: a controller, or a node's kubelet.
    pub fn is_component(&self) -> bool {
        ["system:serviceaccount:kube-system:", "system:node:", "system:kube-"]
            .iter()
            .any(|prefix| self.name.starts_with(prefix))
    }

    /// Whoever shows nothing.
    pub fn anonymous() -> Self {
        Self::new("system:anonymous", &[UNAUTHENTICATED])
    }

    pub(super) fn known(mut self) -> Self {
        if !self.groups.iter().any(|group| group == AUTHENTICATED || group == UNAUTHENTICATED) {
            self.groups.push(AUTHENTICATED.to_owned());
        }
        self
    }
}
