//! Nothing is created in a namespace that isn't there or is going
//! (`apiserver/pkg/admission/plugin/namespace/lifecycle/admission.go`).

use serde_json::Value;

use super::super::context::Context;
use super::super::meta;
use super::super::status::{GroupResource, Status};
use super::super::store::NAMESPACES;

/// Namespaces that every cluster needs.
const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

/// Refuses creates where no namespace is.
pub fn exists(context: &Context<'_>, object: &Value) -> Result<(), Status> {
    if !context.row.namespaced || context.row.is_virtual() {
        return Ok(());
    }
    let name = &context.info.namespace;
    match context.server.store.get(NAMESPACES, "", name) {
        None => Err(Status::not_found(GroupResource { group: "", resource: "namespaces" }, name)),
        Some(namespace) if namespace.index.deleting => Err(refusal(context, meta::text(object, "name"))),
        Some(_) => Ok(()),
    }
}

/// The refusal of a create in a namespace that is going.
pub fn refusal(context: &Context<'_>, name: &str) -> Status {
    let namespace = &context.info.namespace;
    Status::forbidden(
        context.row.resource(),
        name,
        &format!("unable to create new content in namespace {namespace} because it is being terminated"),
    )
    .because("NamespaceTerminating", format!("namespace {namespace} is being terminated"), "metadata.namespace")
}

/// Refuses to delete namespaces that every cluster needs.
pub fn may_delete(context: &Context<'_>, name: &str) -> Result<(), Status> {
    if (context.row.group, context.row.plural) == ("", "namespaces") && IMMORTAL.contains(&name) {
        return Err(Status::forbidden(context.row.resource(), name, "this namespace may not be deleted"));
    }
    Ok(())
}
