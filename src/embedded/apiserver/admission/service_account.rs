//! Every pod has a service account, and its token where nothing else is mounted there
//! (`plugin/pkg/admission/serviceaccount/admission.go`).

use serde_json::{Value, json};

use super::super::context::Context;
use super::super::meta;
use super::super::status::{Status, quote};
use super::super::store::ResourceId;

const SERVICE_ACCOUNTS: ResourceId = ResourceId::new("", "serviceaccounts");
const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const VOLUME_PREFIX: &str = "kube-api-access-";
/// `WarnOnlyBoundTokenExpirationSeconds`
const TOKEN_SECONDS: u32 = 3607;

/// Fills in a pod's account, token volume and pull secrets.
pub fn admit(context: &Context<'_>, pod: &mut Value) -> Result<(), Status> {
    if pod["metadata"]["annotations"]["kubernetes.io/config.mirror"].is_string() {
        return Ok(());
    }
    let namespace = context.info.namespace.clone();
    let pod_name = meta::text(pod, "name").to_owned();
    let spec = meta::child(pod, "spec");
    let given = spec.get("serviceAccountName").and_then(Value::as_str).filter(|name| !name.is_empty());
    let name = given.unwrap_or("default").to_owned();
    spec.insert("serviceAccountName".to_owned(), Value::String(name.clone()));
    // The old name of the same field is kept in step (conversion.go).
    spec.insert("serviceAccount".to_owned(), Value::String(name.clone()));
    let account = context.server.store.get(SERVICE_ACCOUNTS, &namespace, &name).ok_or_else(|| {
        let why =
            format!("error looking up service account {namespace}/{name}: serviceaccount {} not found", quote(&name));
        Status::forbidden(context.row.resource(), &pod_name, &why)
    })?;
    let account = account.value();
    let automount = spec
        .get("automountServiceAccountToken")
        .and_then(Value::as_bool)
        .or_else(|| account["automountServiceAccountToken"].as_bool())
        .unwrap_or(true);
    if automount {
        mount_token(spec);
    }
    let has_pull_secrets =
        spec.get("imagePullSecrets").and_then(Value::as_array).is_some_and(|secrets| !secrets.is_empty());
    if !has_pull_secrets && account["imagePullSecrets"].as_array().is_some_and(|secrets| !secrets.is_empty()) {
        spec.insert("imagePullSecrets".to_owned(), account["imagePullSecrets"].clone());
    }
    Ok(())
}

fn mount_token(spec: &mut serde_json::Map<String, Value>) {
    let volumes = spec.get("volumes").and_then(Value::as_array).into_iter().flatten();
    let existing = volumes
        .filter_map(|volume| volume["name"].as_str())
        .find(|name| name.starts_with(VOLUME_PREFIX))
        .map(str::to_owned);
    let volume = existing.clone().unwrap_or_else(|| format!("{VOLUME_PREFIX}{}", meta::random_suffix()));
    let mut needed = false;
    for list in ["initContainers", "containers"] {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            let Some(container) = container.as_object_mut() else { continue };
            let mounts = container.entry("volumeMounts").or_insert_with(|| json!([]));
            if mounts.is_null() {
                *mounts = json!([]);
            }
            let Some(mounts) = mounts.as_array_mut() else { continue };
            if mounts.iter().any(|mount| mount["mountPath"] == MOUNT_PATH) {
                continue;
            }
            mounts.push(json!({"name": volume, "readOnly": true, "mountPath": MOUNT_PATH}));
            needed = true;
        }
    }
    if existing.is_some() || !needed {
        return;
    }
    let volumes = spec.entry("volumes").or_insert_with(|| json!([]));
    if volumes.is_null() {
        *volumes = json!([]);
    }
    if let Some(volumes) = volumes.as_array_mut() {
        volumes.push(json!({"name": volume, "projected": {"defaultMode": 420, "sources": [
            {"serviceAccountToken": {"path": "token", "expirationSeconds": TOKEN_SECONDS}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [
                {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}},
            ]}},
        ]}}));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_goes_where_nothing_else_is() {
        let mut pod = json!({"containers": [
            {"name": "a"},
            {"name": "b", "volumeMounts": [{"name": "own", "mountPath": MOUNT_PATH}]},
        ]});
        mount_token(pod.as_object_mut().expect("a map"));
        let name = pod["volumes"][0]["name"].as_str().expect("a volume").to_owned();
        assert!(name.starts_with("kube-api-access-") && name.len() == 21);
        assert_eq!(pod["containers"][0]["volumeMounts"][0]["name"], name.as_str());
        assert_eq!(pod["containers"][1]["volumeMounts"].as_array().map(Vec::len), Some(1));
        mount_token(pod.as_object_mut().expect("a map"));
        assert_eq!(pod["volumes"].as_array().map(Vec::len), Some(1));
    }
}
