//! The objects that every cluster has, before anyone asks.
//!
//! Follows `pkg/controlplane/controller/*` (system namespaces, the `kubernetes` service), the RBAC
//! post-start hook, and the priority classes of `pkg/apis/scheduling/v1/helpers.go`.

use serde_json::{Value, json};

use super::registry::{self, Row};
use super::store::{Key, Write};
use super::{ApiServerError, Server, convert, meta, rbac, schemas, strategy};

/// Creates them. The store is empty, so nothing can be in the way.
pub fn create(server: &Server) -> Result<(), ApiServerError> {
    for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
        put(server, "", "namespaces", json!({"metadata": {"name": name}}))?;
        // The two controllers that make these in every namespace come later; nobody should have to wait for them here.
        put(server, "", "serviceaccounts", json!({"metadata": {"name": "default", "namespace": name}}))?;
        put(
            server,
            "",
            "configmaps",
            json!({
                "metadata": {
                    "name": "kube-root-ca.crt", "namespace": name,
                    "annotations": {"kubernetes.io/description": ROOT_CA},
                },
                "data": {"ca.crt": server.pki.authority_pem},
            }),
        )?;
    }
    let policy = rbac::bootstrap::objects()
        .map_err(|error| ApiServerError::Bootstrap { what: "the default roles".to_owned(), why: error.to_string() })?;
    for (plural, object) in policy {
        put(server, "rbac.authorization.k8s.io", plural, object)?;
    }
    let (address, _) = server.services.well_known();
    put(
        server,
        "",
        "services",
        json!({
            "metadata": {
                "name": "kubernetes", "namespace": "default",
                "labels": {"component": "apiserver", "provider": "kubernetes"},
            },
            "spec": {
                "clusterIP": address.to_string(), "clusterIPs": [address.to_string()], "type": "ClusterIP",
                "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack", "internalTrafficPolicy": "Cluster",
                "sessionAffinity": "None",
                "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": 443}],
            },
        }),
    )?;
    for (name, value, text) in [
        (
            "system-node-critical",
            2_000_001_000_i64,
            "Used for system critical pods that must not be moved from their current node.",
        ),
        (
            "system-cluster-critical",
            2_000_000_000,
            "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
        ),
    ] {
        let class = json!({"metadata": {"name": name}, "value": value, "description": text, "preemptionPolicy": "PreemptLowerPriority"});
        put(server, "scheduling.k8s.io", "priorityclasses", class)?;
    }
    if let Some(provisioner) = &server.config.storage_provisioner {
        let class = json!({
            "metadata": {"name": "standard", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
            "provisioner": provisioner, "reclaimPolicy": "Delete", "volumeBindingMode": "Immediate",
        });
        put(server, "storage.k8s.io", "storageclasses", class)?;
    }
    Ok(())
}

const ROOT_CA: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters.";

fn put(server: &Server, group: &'static str, plural: &'static str, object: Value) -> Result<(), ApiServerError> {
    let failed = |why: &str| ApiServerError::Bootstrap {
        what: format!("{plural} {}", meta::text(&object, "name")),
        why: why.to_owned(),
    };
    let row = registry::find(group, "v1", plural).ok_or_else(|| failed("no such resource"))?;
    let mut object = object.clone();
    fill(row, &mut object);
    let key = Key::new(meta::text(&object, "namespace"), meta::text(&object, "name"));
    server
        .store
        .commit(row.id(), key, None, Write::Put(&mut object))
        .map(drop)
        .map_err(|error| failed(&error.to_string()))
}

fn fill(row: &'static Row, object: &mut Value) {
    convert::name_kind(row, object);
    let metadata = meta::metadata(object);
    metadata.insert("uid".to_owned(), Value::String(meta::new_uid()));
    metadata.insert("creationTimestamp".to_owned(), Value::String(meta::now()));
    if row.has_generation() {
        metadata.insert("generation".to_owned(), 1.into());
    }
    if row.group != "rbac.authorization.k8s.io" {
        schemas::default(row, object);
        strategy::prepare_for_create(row, object);
    }
}
