//! Patches: JSON, merge, strategic merge, and server-side apply.
//!
//! Follows `apiserver/pkg/endpoints/handlers/patch.go`.

use axum::body::Body;
use http::{Response, StatusCode};
use serde_json::Value;

use super::context::Context;
use super::schema::Gvk;
use super::status::Status;
use super::write::{self, Part};
use super::{read, schemas};

const ACCEPTED: &str = "application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json, application/apply-patch+yaml";

/// A change to an object, read from a request's body.
pub enum Patch {
    /// RFC 6902.
    Json(json_patch::Patch),
    /// RFC 7386.
    Merge(Value),
    /// Kubernetes' own, guided by the kind's schema.
    Strategic(Value),
}

impl Patch {
    /// Reads a patch.
    ///
    /// # Errors
    /// 415 for an unknown form, 400 for what can't be read.
    pub fn parse(content_type: &str, body: &[u8]) -> Result<Self, Status> {
        let bad = |error: serde_json::Error| Status::bad_request(format!("error decoding patch: {error}"));
        match schemas::media_type(content_type) {
            "application/json-patch+json" => serde_json::from_slice(body).map(Self::Json).map_err(bad),
            "application/merge-patch+json" => serde_json::from_slice(body).map(Self::Merge).map_err(bad),
            "application/strategic-merge-patch+json" => serde_json::from_slice(body).map(Self::Strategic).map_err(bad),
            _ => Err(Status::unsupported_media_type(ACCEPTED)),
        }
    }

    /// The object with this patch applied.
    ///
    /// # Errors
    /// 422 for a JSON patch that doesn't fit, 400 for what strategic merge refuses.
    pub fn apply(&self, kind: Gvk<'_>, object: &Value) -> Result<Value, Status> {
        let mut patched = object.clone();
        match self {
            Self::Json(patch) => json_patch::patch(&mut patched, patch).map_err(|error| {
                Status::new(
                    StatusCode::UNPROCESSABLE_ENTITY,
                    "Invalid",
                    format!("the server rejected our request due to an error in our request: {error}"),
                )
            })?,
            Self::Merge(patch) => json_patch::merge(&mut patched, patch),
            Self::Strategic(patch) => patched = schemas::strategic_merge(kind, patched, patch)?,
        }
        Ok(patched)
    }
}

/// Answers a patch.
pub fn patch(context: &mut Context<'_>, part: Part) -> Result<Response<Body>, Status> {
    let options = context.write_options()?;
    let content_type = context.header(http::header::CONTENT_TYPE).to_owned();
    if matches!(schemas::media_type(&content_type), "application/apply-patch+yaml") {
        return super::apply::apply(context, part, &options);
    }
    let patch = Patch::parse(&content_type, context.body)?;
    let row = context.row;
    let validation = options.validation;
    let outcome = write::update(context, part, &options, "Patch", |warnings, old| {
        let Some(old) = old else { return Err(None) };
        let patched = patch.apply(row.gvk(), old).map_err(Some)?;
        schemas::check_fields(row, patched, validation, warnings).map_err(Some)
    })?;
    read::object(context, StatusCode::OK, &outcome.stored)
}
