//! Built-in admission: what is filled in or refused beyond a kind's own rules.
//!
//! Each file follows one of upstream's plugins (`plugin/pkg/admission/*`,
//! `apiserver/pkg/admission/plugin/namespace/lifecycle`).

use serde_json::Value;

use super::Server;
use super::context::Context;
use super::registry::Row;
use super::status::{GroupResource, Status};
use super::store::NAMESPACES;
use super::write::Part;

/// What admission took for an object that isn't stored yet: given back unless kept.
#[derive(Debug, Default)]
pub struct Admitted;

impl Admitted {
    /// The object was stored: what was taken is its own.
    pub fn keep(self) {}
}

/// Admits a create.
pub fn create(context: &mut Context<'_>, object: &mut Value, dry_run: bool) -> Result<Admitted, Status> {
    let _ = (object, dry_run);
    namespace_exists(context)?;
    Ok(Admitted)
}

/// Admits an update.
pub fn update(context: &mut Context<'_>, part: Part, new: &mut Value, old: &Value) -> Result<(), Status> {
    let _ = (context, part, new, old);
    Ok(())
}

/// Gives back what a removed object held.
pub fn removed(server: &Server, row: &Row, object: &Value) {
    let _ = (server, row, object);
}

/// Whether an update may create what isn't there.
pub fn may_create_by_update(context: &Context<'_>) -> Result<(), Status> {
    let _ = context;
    Ok(())
}

/// The namespace lifecycle plugin's check of creates.
fn namespace_exists(context: &Context<'_>) -> Result<(), Status> {
    if !context.row.namespaced || context.row.is_virtual() {
        return Ok(());
    }
    match context.server.store.get(NAMESPACES, "", &context.info.namespace) {
        None => Err(Status::not_found(GroupResource { group: "", resource: "namespaces" }, &context.info.namespace)),
        Some(namespace) if namespace.index.deleting => Err(namespace_refusal(context, &context.info.name)),
        Some(_) => Ok(()),
    }
}

/// The refusal of a create in a namespace that is going (`lifecycle/admission.go`).
pub fn namespace_refusal(context: &Context<'_>, name: &str) -> Status {
    let namespace = &context.info.namespace;
    let mut status = Status::forbidden(
        context.row.resource(),
        name,
        &format!("unable to create new content in namespace {namespace} because it is being terminated"),
    );
    status = status.because(
        "NamespaceTerminating",
        format!("namespace {namespace} is being terminated"),
        "metadata.namespace",
    );
    status
}

const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

/// The namespace lifecycle plugin's check of deletions.
pub fn may_delete(context: &Context<'_>, name: &str) -> Result<(), Status> {
    if (context.row.group, context.row.plural) == ("", "namespaces") && IMMORTAL.contains(&name) {
        return Err(Status::forbidden(context.row.resource(), name, "this namespace may not be deleted"));
    }
    Ok(())
}

/// The addresses and ports of services.
#[derive(Debug)]
pub struct ServiceNumbers;

impl ServiceNumbers {
    /// For a range of addresses.
    pub fn new(range: (std::net::Ipv4Addr, u8)) -> Result<Self, super::ApiServerError> {
        if range.1 > 28 {
            return Err(super::ApiServerError::ServiceRange(range.0, range.1));
        }
        Ok(Self)
    }
}
