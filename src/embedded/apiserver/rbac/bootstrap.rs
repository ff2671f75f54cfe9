//! The roles and bindings that every cluster has.
//!
//! `policy.json` is upstream's default policy as data
//! (`plugin/pkg/auth/authorizer/rbac/bootstrappolicy`), one object per line, without what all have in
//! common. Two deviations: upstream authorizes nodes by what runs on them; with one node, the role
//! `system:node` is bound to `system:nodes` instead. And `envctl:node-volumes` lets the kubelet watch
//! claims and volumes, which upstream's polls.

use serde::Deserialize;
use serde_json::{Map, Value, json};

const POLICY: &str = include_str!("policy.json");

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Policy {
    cluster_roles: Vec<Entry>,
    cluster_role_bindings: Vec<Entry>,
    roles: Vec<Entry>,
    role_bindings: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    name: String,
    namespace: Option<String>,
    #[serde(default)]
    labels: Map<String, Value>,
    rules: Option<Value>,
    aggregation_rule: Option<Value>,
    role: Option<(String, String)>,
    subjects: Option<Vec<Value>>,
}

/// The default policy's objects, with their plural names.
///
/// # Errors
/// Never for the file that is built in; a test reads it.
pub fn objects() -> Result<Vec<(&'static str, Value)>, serde_json::Error> {
    let policy: Policy = serde_json::from_str(POLICY)?;
    let mut objects = Vec::new();
    for (plural, kind, entries) in [
        ("clusterroles", "ClusterRole", policy.cluster_roles),
        ("clusterrolebindings", "ClusterRoleBinding", policy.cluster_role_bindings),
        ("roles", "Role", policy.roles),
        ("rolebindings", "RoleBinding", policy.role_bindings),
    ] {
        objects.extend(entries.into_iter().map(|entry| (plural, object(kind, entry))));
    }
    Ok(objects)
}

fn object(kind: &str, mut entry: Entry) -> Value {
    entry.labels.insert("kubernetes.io/bootstrapping".to_owned(), "rbac-defaults".into());
    if entry.name == "system:node" && kind == "ClusterRoleBinding" {
        entry.subjects.get_or_insert_default().push(json!({
            "apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:nodes",
        }));
    }
    let mut object = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": kind,
        "metadata": {
            "name": entry.name,
            "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"},
            "labels": entry.labels,
        },
    });
    if let Some(namespace) = entry.namespace {
        object["metadata"]["namespace"] = namespace.into();
    }
    if let Some(aggregation) = entry.aggregation_rule {
        object["aggregationRule"] = aggregation;
    }
    if let Some((kind, name)) = entry.role {
        object["roleRef"] = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name});
        object["subjects"] = entry.subjects.unwrap_or_default().into();
    } else {
        object["rules"] = entry.rules.unwrap_or_else(|| json!([]));
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_policy_is_readable() {
        let objects = objects().expect("readable");
        assert!(objects.len() > 100);
        let admin = |(plural, object): &&(&str, Value)| {
            *plural == "clusterroles" && object["metadata"]["name"] == "cluster-admin"
        };
        assert_eq!(objects.iter().find(admin).expect("cluster-admin").1["rules"][0]["verbs"], json!(["*"]));
    }
}
