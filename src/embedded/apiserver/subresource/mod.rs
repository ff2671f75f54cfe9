//! What is below objects, and resources that are computed rather than kept.

mod access_review;
mod binding;
mod node_api;
mod scale;
mod token;

use axum::body::Body;
use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::context::Context;
use super::status::Status;
use super::write::Part;
use super::{meta, patch, read, schemas, write};

pub use node_api::{node_request, proxy};

/// Answers a request to a subresource.
pub fn dispatch(context: &mut Context<'_>) -> Result<Response<Body>, Status> {
    let subresource = context.row.subresource(&context.info.subresource).ok_or_else(Status::no_such_resource)?;
    if !subresource.verbs.contains(&context.info.verb) {
        return Err(Status::method_not_allowed());
    }
    match (context.row.plural, context.info.subresource.as_str(), context.info.verb) {
        (_, "scale", "get") => scale::get(context),
        (_, "scale", "update" | "patch") => scale::update(context),
        (_, "status" | "approval", "get") | ("pods", "ephemeralcontainers" | "resize", "get") => read::get(context),
        (_, "status", "update") => write::put(context, Part::Status),
        (_, "status", "patch") => patch::patch(context, Part::Status),
        ("namespaces", "finalize", "update") => write::put(context, Part::Subresource),
        ("certificatesigningrequests", "approval", "update") => write::put(context, Part::Status),
        ("certificatesigningrequests", "approval", "patch") => patch::patch(context, Part::Status),
        ("pods", "binding", "create") => binding::bind(context),
        ("pods", "eviction", "create") => binding::evict(context),
        ("serviceaccounts", "token", "create") => token::request(context),
        _ => Err(Status::new(
            StatusCode::NOT_IMPLEMENTED,
            "NotImplemented",
            format!("{} is not supported by this cluster", context.info.full_resource()),
        )),
    }
}

/// Answers a request to a resource that isn't kept.
pub fn virtual_resource(context: &mut Context<'_>) -> Result<Response<Body>, Status> {
    if context.row.plural == "componentstatuses" {
        return Ok(read::json_value(
            StatusCode::OK,
            &json!({
                "kind": "ComponentStatusList", "apiVersion": "v1",
                "metadata": {"resourceVersion": context.server.store.revision().to_string()}, "items": [],
            }),
        ));
    }
    if context.info.verb != "create" {
        return Err(Status::method_not_allowed());
    }
    match context.row.plural {
        "bindings" => binding::bind(context),
        "tokenreviews" => token::review(context),
        "selfsubjectreviews" => access_review::who_am_i(context),
        "selfsubjectaccessreviews" | "subjectaccessreviews" | "localsubjectaccessreviews" => {
            access_review::may(context)
        }
        "selfsubjectrulesreviews" => access_review::rules(context),
        _ => Err(Status::no_such_resource()),
    }
}

/// The body of a create as an object of the given kind: a review, a binding, an eviction.
fn body(context: &mut Context<'_>, group: &str, version: &str, kind: &str) -> Result<Value, Status> {
    let options = context.write_options()?;
    let content_type = context.header(http::header::CONTENT_TYPE).to_owned();
    let mut warnings = Vec::new();
    let mut object =
        schemas::decode_kind((group, version, kind), &content_type, context.body, options.validation, &mut warnings)?;
    context.warnings.append(&mut warnings);
    object["kind"] = kind.into();
    object["apiVersion"] = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }.into();
    meta::metadata(&mut object);
    Ok(object)
}

fn created(object: &Value) -> Response<Body> {
    read::json_value(StatusCode::CREATED, object)
}
