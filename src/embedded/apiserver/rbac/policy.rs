//! Roles and bindings, parsed once and again only where they changed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

use super::super::store::{ResourceId, Store, Stored};
use super::super::user::User;
use super::rule::Rule;

const GROUP: &str = "rbac.authorization.k8s.io";
const CLUSTER_ROLES: ResourceId = ResourceId::new(GROUP, "clusterroles");
const ROLES: ResourceId = ResourceId::new(GROUP, "roles");
const CLUSTER_ROLE_BINDINGS: ResourceId = ResourceId::new(GROUP, "clusterrolebindings");
const ROLE_BINDINGS: ResourceId = ResourceId::new(GROUP, "rolebindings");
const ALL: [ResourceId; 4] = [CLUSTER_ROLES, ROLES, CLUSTER_ROLE_BINDINGS, ROLE_BINDINGS];

/// Everything roles and bindings say at one moment.
#[derive(Debug, Default)]
pub struct Policy {
    changes: [u64; 4],
    /// By namespace (`""`: cluster roles) and name.
    roles: HashMap<(Box<str>, Box<str>), Arc<Role>>,
    /// By namespace (`""`: cluster role bindings).
    bindings: HashMap<Box<str>, Vec<Arc<Binding>>>,
}

#[derive(Debug, Default)]
struct Role {
    revision: u64,
    rules: Arc<[Rule]>,
    /// Label sets whose cluster roles' rules are this one's.
    aggregates: Vec<Vec<(String, String)>>,
    labels: Vec<(String, String)>,
}

#[derive(Debug)]
struct Binding {
    revision: u64,
    namespace: Box<str>,
    role: RoleRef,
    subjects: Vec<Subject>,
}

/// Which role a binding grants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleRef {
    /// Whether it is a ClusterRole.
    pub cluster: bool,
    /// The role's name.
    pub name: String,
}

#[derive(Debug, PartialEq, Eq)]
enum Subject {
    User(String),
    Group(String),
}

impl RoleRef {
    /// Reads a `roleRef`.
    pub fn parse(value: &Value) -> Self {
        Self { cluster: value["kind"] == "ClusterRole", name: value["name"].as_str().unwrap_or_default().to_owned() }
    }
}

/// A role that a binding names and that isn't there, in upstream's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingRole(pub String);

/// Keeps the newest [`Policy`].
#[derive(Debug, Default)]
pub struct PolicyCache(Mutex<Arc<Policy>>);

impl PolicyCache {
    /// What roles and bindings say now.
    pub fn current(&self, store: &Store) -> Arc<Policy> {
        let changes = ALL.map(|resource| store.last_change(resource));
        let mut cached = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if cached.changes != changes {
            *cached = Arc::new(Policy::read(store, changes, &cached));
        }
        Arc::clone(&cached)
    }
}

impl Policy {
    fn read(store: &Store, changes: [u64; 4], old: &Self) -> Self {
        let mut policy = Self { changes, ..Self::default() };
        for resource in [CLUSTER_ROLES, ROLES] {
            for stored in store.all(resource, "") {
                let key = (stored.index.namespace.clone(), stored.index.name.clone());
                let role = old.roles.get(&key).filter(|role| role.revision == stored.index.revision);
                let role = role.cloned().unwrap_or_else(|| Arc::new(Role::parse(&stored)));
                policy.roles.insert(key, role);
            }
        }
        for resource in [CLUSTER_ROLE_BINDINGS, ROLE_BINDINGS] {
            for stored in store.all(resource, "") {
                let known = old
                    .bindings
                    .get(&stored.index.namespace)
                    .and_then(|bindings| bindings.iter().find(|binding| binding.revision == stored.index.revision));
                let binding = known.cloned().unwrap_or_else(|| Arc::new(Binding::parse(&stored)));
                policy.bindings.entry(stored.index.namespace.clone()).or_default().push(binding);
            }
        }
        policy
    }

    /// A role's rules, with those that it aggregates.
    ///
    /// # Errors
    /// [`MissingRole`] when it isn't there.
    pub fn role_rules(&self, role: &RoleRef, namespace: &str) -> Result<Vec<Arc<[Rule]>>, MissingRole> {
        let scope = if role.cluster { "" } else { namespace };
        let found = self.roles.get(&(scope.into(), role.name.as_str().into())).ok_or_else(|| {
            let kind = if role.cluster { "clusterrole" } else { "role" };
            MissingRole(format!("{kind}.{GROUP} {} not found", super::super::status::quote(&role.name)))
        })?;
        let mut rules = Vec::new();
        self.collect(found, &mut rules, 0);
        Ok(rules)
    }

    /// Upstream's controller writes aggregated rules into the role; here they are looked up.
    fn collect(&self, role: &Role, rules: &mut Vec<Arc<[Rule]>>, depth: usize) {
        rules.push(Arc::clone(&role.rules));
        // admin ⊃ edit ⊃ view is as deep as roles nest; the bound only stops a role that selects itself.
        if depth > 4 {
            return;
        }
        for wanted in &role.aggregates {
            for ((namespace, _), other) in &self.roles {
                if namespace.is_empty() && wanted.iter().all(|label| other.labels.contains(label)) {
                    self.collect(other, rules, depth + 1);
                }
            }
        }
    }

    /// Shows a user's rules in a namespace one by one until `visit` says stop (true). Bindings to
    /// missing roles come as errors.
    pub fn visit(&self, user: &User, namespace: &str, mut visit: impl FnMut(Result<&[Rule], MissingRole>) -> bool) {
        let cluster = self.bindings.get("").into_iter().flatten();
        let local = self.bindings.get(namespace).filter(|_| !namespace.is_empty()).into_iter().flatten();
        for binding in cluster.chain(local) {
            if !binding.subjects.iter().any(|subject| subject.is(user)) {
                continue;
            }
            match self.role_rules(&binding.role, &binding.namespace) {
                Ok(all) => {
                    if all.iter().any(|rules| visit(Ok(rules))) {
                        return;
                    }
                }
                Err(missing) => {
                    if visit(Err(missing)) {
                        return;
                    }
                }
            }
        }
    }
}

impl Role {
    fn parse(stored: &Stored) -> Self {
        let value = stored.value();
        let rules: Vec<Rule> = serde_json::from_value(value["rules"].clone()).unwrap_or_default();
        let pairs = |labels: &Value| -> Vec<(String, String)> {
            let labels = labels.as_object().into_iter().flatten();
            labels.map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned())).collect()
        };
        let selectors = value["aggregationRule"]["clusterRoleSelectors"].as_array().into_iter().flatten();
        Self {
            revision: stored.index.revision,
            rules: rules.into(),
            aggregates: selectors
                .map(|selector| pairs(&selector["matchLabels"]))
                .filter(|labels| !labels.is_empty())
                .collect(),
            labels: pairs(&value["metadata"]["labels"]),
        }
    }
}

impl Binding {
    fn parse(stored: &Stored) -> Self {
        let value = stored.value();
        let namespace = &stored.index.namespace;
        let subjects = value["subjects"].as_array().into_iter().flatten();
        Self {
            revision: stored.index.revision,
            namespace: namespace.clone(),
            role: RoleRef::parse(&value["roleRef"]),
            subjects: subjects.filter_map(|subject| Subject::parse(subject, namespace)).collect(),
        }
    }
}

impl Subject {
    /// `appliesToUser`: a service account without a namespace is the binding's own.
    fn parse(subject: &Value, namespace: &str) -> Option<Self> {
        let name = subject["name"].as_str()?.to_owned();
        match subject["kind"].as_str()? {
            "User" => Some(Self::User(name)),
            "Group" => Some(Self::Group(name)),
            "ServiceAccount" => {
                let namespace = subject["namespace"].as_str().filter(|text| !text.is_empty()).unwrap_or(namespace);
                Some(Self::User(format!("system:serviceaccount:{namespace}:{name}")))
            }
            _ => None,
        }
    }

    fn is(&self, user: &User) -> bool {
        match self {
            Self::User(name) => *name == user.name,
            Self::Group(group) => user.groups.contains(group),
        }
    }
}
