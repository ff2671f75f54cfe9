//! Built-in admission: what is filled in or refused beyond a kind's own rules.
//!
//! Each file follows one of upstream's plugins (`plugin/pkg/admission/*`,
//! `apiserver/pkg/admission/plugin/namespace/lifecycle`) or allocators. The order is upstream's
//! (`pkg/kubeapiserver/options/plugins.go`): the namespace first, then what changes objects.

mod namespace;
mod placement;
mod pod;
mod service;
mod service_account;
mod storage;

use serde_json::Value;

use super::Server;
use super::context::Context;
use super::registry::Row;
use super::status::Status;
use super::store::Stored;
use super::write::Part;

pub use namespace::{may_delete, refusal as namespace_refusal};
pub use service::ServiceNumbers;

/// What admission took for an object that isn't stored yet: given back unless kept.
#[derive(Debug, Default)]
pub struct Admitted<'a>(Option<service::Taken<'a>>);

impl Admitted<'_> {
    /// The object was stored: what was taken is its own.
    pub fn keep(mut self) {
        if let Some(taken) = self.0.take() {
            taken.keep();
        }
    }
}

/// Admits a create.
///
/// # Errors
/// 403, 404 or 422, in the plugins' words.
pub fn create<'a>(context: &mut Context<'a>, object: &mut Value) -> Result<Admitted<'a>, Status> {
    namespace::exists(context, object)?;
    let mut admitted = Admitted::default();
    match (context.row.group, context.row.plural) {
        ("", "pods") => {
            service_account::admit(context, object)?;
            pod::admit(context, object)?;
            placement::admit(context.server, object);
        }
        ("", "services") => admitted.0 = Some(service::admit_create(context, object)?),
        ("", "persistentvolumeclaims") => storage::admit(context.server, object),
        ("rbac.authorization.k8s.io", _) => context.server.authorizer.check_escalation(context, object)?,
        _ => {}
    }
    Ok(admitted)
}

/// Admits an update.
///
/// # Errors
/// 403 or 422, in the plugins' words.
pub fn update(context: &mut Context<'_>, part: Part, new: &mut Value, old: &Value) -> Result<(), Status> {
    if part != Part::Main {
        return Ok(());
    }
    match (context.row.group, context.row.plural) {
        ("", "services") => service::admit_update(context, new, old),
        ("rbac.authorization.k8s.io", _) if granting_changed(new, old) => {
            context.server.authorizer.check_escalation(context, new)
        }
        _ => Ok(()),
    }
}

/// Owners and finalizers may be changed by whoever holds less than the role grants (`IsOnlyMutatingGCFields`).
fn granting_changed(new: &Value, old: &Value) -> bool {
    ["rules", "aggregationRule", "roleRef", "subjects"].iter().any(|field| new[field] != old[field])
}

/// An object was written: pods that wait for a node may have one now.
pub fn stored(server: &Server, row: &Row, object: &std::sync::Arc<Stored>, is_new: bool) {
    placement::stored(server, row.id(), object, is_new);
}

/// Gives back what a removed object held.
pub fn removed(server: &Server, row: &Row, object: &Value) {
    if (row.group, row.plural) == ("", "services") {
        server.services.release(object);
    }
}

/// Whether an update may create what isn't there: whoever asks must be allowed to create it
/// (`patch.go` and `update.go`, `withAuthorization`).
///
/// # Errors
/// 403.
pub fn may_create_by_update(context: &Context<'_>) -> Result<(), Status> {
    let info = super::request::RequestInfo { verb: "create", ..context.info.clone() };
    super::rbac::authorize(context.server, context.user, &info)
}
