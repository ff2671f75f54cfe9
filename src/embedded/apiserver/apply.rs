//! Server-side apply: the write pipeline's side. The merging is `schema`'s.

use axum::body::Body;
use http::Response;

use super::context::{Context, WriteOptions};
use super::status::Status;
use super::write::Part;

/// Answers an apply patch.
pub fn apply(context: &mut Context<'_>, part: Part, options: &WriteOptions) -> Result<Response<Body>, Status> {
    let _ = (context, part, options);
    Err(Status::unsupported_media_type("application/json-patch+json, application/merge-patch+json"))
}
