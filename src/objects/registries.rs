//! The user's credentials for registries, where nodes pull with them.

use serde_json::{Value, json};

use super::{Context, REGISTRIES_SECRET, session_labels};
use crate::plan::{NodeSpec, Plan};

/// The Secret with a Docker configuration (`.dockerconfigjson`), and the namespace's own service account with it, by which what manifests
/// and the environment's own programs start can pull too; not where that is one of the manifests. Without a configuration, the account
/// as it is without.
pub fn registries(plan: &Plan, context: &Context, configuration: Option<&Value>) -> Vec<Value> {
    let metadata = |name: &str| {
        let labels = session_labels(plan, context);
        json!({ "name": name, "namespace": context.namespace, "labels": labels })
    };
    let secret = configuration.map(|configuration| {
        json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": metadata(REGISTRIES_SECRET),
            "type": "kubernetes.io/dockerconfigjson",
            "stringData": { ".dockerconfigjson": configuration.to_string() },
        })
    });
    let account = (!has_own_account(plan, context)).then(|| {
        let mut account = json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata("default") });
        if configuration.is_some() {
            account["imagePullSecrets"] = json!([{ "name": REGISTRIES_SECRET }]);
        }
        account
    });
    secret.into_iter().chain(account).collect()
}

/// Whether a manifest says what the namespace's own service account is like.
fn has_own_account(plan: &Plan, context: &Context) -> bool {
    let manifests = plan.nodes.iter().filter_map(|node| match &node.spec {
        NodeSpec::Manifest(manifest) => Some(&manifest.objects),
        _ => None,
    });
    manifests.flatten().any(|object| {
        let (metadata, namespace) = (&object["metadata"], &object["metadata"]["namespace"]);
        object["kind"] == "ServiceAccount"
            && metadata["name"] == "default"
            && (namespace.is_null() || *namespace == context.namespace.as_str())
    })
}
