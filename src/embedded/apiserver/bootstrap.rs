//! The objects that every cluster has.

use serde_json::json;

use super::store::{Key, NAMESPACES, Write};
use super::{ApiServerError, Server, meta, registry, strategy};

/// Creates them. The store is empty, so nothing can be in the way.
pub fn create(server: &Server) -> Result<(), ApiServerError> {
    for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
        let mut object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "uid": meta::new_uid(), "creationTimestamp": meta::now()}});
        if let Some(row) = registry::find("", "v1", "namespaces") {
            strategy::prepare_for_create(row, &mut object);
        }
        server
            .store
            .commit(NAMESPACES, Key::new("", name), None, Write::Put(&mut object))
            .map_err(|error| ApiServerError::Bootstrap { what: format!("namespace {name}"), why: error.to_string() })?;
    }
    Ok(())
}
