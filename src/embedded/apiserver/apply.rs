//! Server-side apply: the write pipeline's side. The merging is `schema`'s.
//!
//! Follows `apiserver/pkg/endpoints/handlers/patch.go` (`applyPatcher`).

use axum::body::Body;
use http::{Response, StatusCode, header};

use super::context::{Context, WriteOptions};
use super::schema::managed_fields::{self, ApplyError};
use super::schemas::{self, FieldValidation};
use super::status::{FieldError, GroupResource, Status};
use super::write::{self, Part};
use super::{meta, read};

/// Answers an apply patch.
pub fn apply(context: &mut Context<'_>, part: Part, options: &WriteOptions) -> Result<Response<Body>, Status> {
    if context.query.get("fieldManager").is_none() {
        let error = FieldError::required("fieldManager", "is required for apply patch");
        let kind = GroupResource { group: "meta.k8s.io", resource: "PatchOptions" };
        return Err(Status::invalid(kind, "", vec![error]));
    }
    // The typed conversion refuses what the schema doesn't declare, whatever `fieldValidation` says.
    let strict = WriteOptions { validation: FieldValidation::Strict, ..options.clone() };
    let applied = match write::decode_body(context, &strict) {
        Ok(applied) => applied,
        Err(refused) => {
            let sent = schemas::sent(context.header(header::CONTENT_TYPE), context.body)?;
            managed_fields::check_fit(context.row.gvk(), &sent).map_err(refusal)?;
            if options.validation == FieldValidation::Strict {
                return Err(refused);
            }
            write::decode_body(context, options)?
        }
    };
    let name = meta::text(&applied, "name");
    if !name.is_empty() && name != context.info.name {
        return Err(Status::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            context.info.name
        )));
    }
    let row = context.row;
    let subresource = context.info.subresource.clone();
    let outcome = write::update(context, part, options, "Apply", |_, old| {
        if old.is_none() && part != Part::Main {
            return Err(None);
        }
        let now = meta::now();
        managed_fields::apply(row.gvk(), old, &applied, &options.field_manager, options.force, &subresource, &now)
            .map_err(|error| Some(refusal(error)))
    })?;
    let code = if outcome.created { StatusCode::CREATED } else { StatusCode::OK };
    read::object(context, code, &outcome.stored)
}

fn refusal(error: ApplyError) -> Status {
    let message = error.to_string();
    match error {
        ApplyError::Conflicts(conflicts) => {
            conflicts.into_iter().fold(Status::new(StatusCode::CONFLICT, "Conflict", message), |status, conflict| {
                status.because("FieldManagerConflict", conflict.message, &conflict.field)
            })
        }
        ApplyError::ManagedFieldsGiven => Status::bad_request(message),
        // Upstream's error has no type of its own, so `ErrorToAPIStatus` adds neither a reason nor words to it.
        ApplyError::Untyped { .. } => Status::new(StatusCode::INTERNAL_SERVER_ERROR, "", message),
    }
}
