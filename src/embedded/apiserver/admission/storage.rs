//! Claims without a class get the default one (`plugin/pkg/admission/storage/storageclass/setdefault`).

use serde_json::Value;

use super::super::Server;
use super::super::meta;
use super::super::store::ResourceId;

const CLASSES: ResourceId = ResourceId::new("storage.k8s.io", "storageclasses");

/// Fills in a new claim's class: the newest of the defaults, then by name.
pub fn admit(server: &Server, claim: &mut Value) {
    if !claim["spec"]["storageClassName"].is_null() {
        return;
    }
    let classes = server.store.all(CLASSES, "").into_iter().map(|class| class.value());
    let default = classes
        .filter(|class| class["metadata"]["annotations"]["storageclass.kubernetes.io/is-default-class"] == "true")
        .max_by_key(|class| {
            (meta::text(class, "creationTimestamp").to_owned(), std::cmp::Reverse(meta::text(class, "name").to_owned()))
        });
    if let Some(class) = default {
        meta::child(claim, "spec").insert("storageClassName".to_owned(), class["metadata"]["name"].clone());
    }
}
