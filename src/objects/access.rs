//! A workload's own service account and what it may do in the session's namespace.

use serde_json::{Value, json};

use super::Scope;
use crate::plan::PolicyRule;

const GROUP: &str = "rbac.authorization.k8s.io";

/// ServiceAccount, Role and RoleBinding, all under the node's name; nothing without rules.
pub(super) fn objects(scope: &Scope<'_>, rules: &[PolicyRule]) -> Vec<Value> {
    if rules.is_empty() {
        return Vec::new();
    }
    let name = scope.name();
    vec![
        json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": scope.metadata(name) }),
        json!({
            "apiVersion": format!("{GROUP}/v1"),
            "kind": "Role",
            "metadata": scope.metadata(name),
            "rules": rules,
        }),
        json!({
            "apiVersion": format!("{GROUP}/v1"),
            "kind": "RoleBinding",
            "metadata": scope.metadata(name),
            "roleRef": { "apiGroup": GROUP, "kind": "Role", "name": name },
            "subjects": [{ "kind": "ServiceAccount", "name": name, "namespace": scope.context.namespace }],
        }),
    ]
}
