//! What a workload mounts: the pod's `volumes`, the container's `volumeMounts`, and the objects behind them.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::{RenderError, Scope, session_labels};
use crate::plan::{Viewpoint, VolumeMount, VolumeSource};

/// A workload's storage in its three places.
#[derive(Default)]
pub(super) struct Storage {
    /// ConfigMaps and PersistentVolumeClaims.
    pub objects: Vec<Value>,
    /// The pod's volumes.
    pub volumes: Vec<Value>,
    /// The container's mounts.
    pub mounts: Vec<Value>,
    /// The digest of all inline files, if there are any.
    pub digest: Option<String>,
}

/// Renders the mounts in the file's order; the pod's volumes are called `volume-0`, `volume-1`…
pub(super) fn render(scope: &Scope<'_>, mounts: &[VolumeMount]) -> Result<Storage, RenderError> {
    let mut storage = Storage::default();
    let mut hasher = Sha256::new();
    let mut claims = BTreeMap::new();
    for (index, mount) in mounts.iter().enumerate() {
        let name = format!("volume-{index}");
        let mut rendered =
            Map::from_iter([("name".to_owned(), json!(name)), ("mountPath".to_owned(), json!(mount.path))]);
        if mount.read_only {
            rendered.insert("readOnly".to_owned(), json!(true));
        }
        storage.mounts.push(Value::Object(rendered));
        let (key, source) = match &mount.source {
            VolumeSource::Empty { size: None } => ("emptyDir", json!({})),
            VolumeSource::Empty { size: Some(size) } => ("emptyDir", json!({ "sizeLimit": size })),
            VolumeSource::Claim { name, size } => {
                claims.insert(name, size);
                ("persistentVolumeClaim", json!({ "claimName": name }))
            }
            VolumeSource::HostPath(path) => ("hostPath", json!({ "path": path })),
            VolumeSource::ConfigMap(name) => ("configMap", json!({ "name": name })),
            VolumeSource::Secret(name) => ("secret", json!({ "secretName": name })),
            VolumeSource::Files(files) => {
                let object = format!("{}-files-{index}", scope.name());
                let mut data = BTreeMap::new();
                for (file, content) in files {
                    let content = content
                        .resolve(scope.plan, Viewpoint::Pod, &BTreeMap::new())
                        .map_err(|source| scope.reference_error(source))?;
                    for part in [mount.path.as_str(), file, &content] {
                        hasher.update(part.len().to_le_bytes());
                        hasher.update(part);
                    }
                    data.insert(file, content);
                }
                storage.objects.push(json!({
                    "apiVersion": "v1",
                    "kind": "ConfigMap",
                    "metadata": scope.metadata(&object),
                    "data": data,
                }));
                ("configMap", json!({ "name": object }))
            }
        };
        storage
            .volumes
            .push(Value::Object(Map::from_iter([("name".to_owned(), json!(name)), (key.to_owned(), source)])));
    }
    if mounts.iter().any(|mount| matches!(mount.source, VolumeSource::Files(_))) {
        storage.digest = Some(hex(&hasher.finalize()));
    }
    storage.objects.extend(claims.into_iter().map(|(name, size)| claim(scope, name, size)));
    Ok(storage)
}

/// The same object from every node that shares it, hence without the node's labels. `ReadWriteOnce` is what the default
/// storage classes of kind and minikube offer; it is once per node, not per pod.
fn claim(scope: &Scope<'_>, name: &str, size: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": name,
            "namespace": scope.context.namespace,
            "labels": session_labels(scope.plan, scope.context),
        },
        "spec": { "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": size } } },
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        for nibble in [byte >> 4, byte & 15] {
            text.push(char::from_digit(u32::from(nibble), 16).unwrap_or('0'));
        }
        text
    })
}
