//! The user's credentials for registries, where nodes pull with them.

use serde_json::{Value, json};

use super::{Context, REGISTRIES_SECRET, session_labels};
use crate::plan::Plan;

/// The Secret with a Docker configuration (`.dockerconfigjson`), and the namespace's own service account with it, by which what manifests
/// and the environment's own programs start can pull too.
pub fn registries(plan: &Plan, context: &Context, configuration: &Value) -> [Value; 2] {
    let metadata = |name: &str| {
        let labels = session_labels(plan, context);
        json!({ "name": name, "namespace": context.namespace, "labels": labels })
    };
    [
        json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": metadata(REGISTRIES_SECRET),
            "type": "kubernetes.io/dockerconfigjson",
            "stringData": { ".dockerconfigjson": configuration.to_string() },
        }),
        json!({
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": metadata("default"),
            "imagePullSecrets": [{ "name": REGISTRIES_SECRET }],
        }),
    ]
}
