//! What is below objects, and resources that are computed rather than kept.

use axum::body::Body;
use http::{Request, Response};

use super::context::Context;
use super::request::{Query, RequestInfo};
use super::status::Status;
use super::write::Part;
use super::{Server, patch, read, write};

/// Answers a request to a subresource.
pub fn dispatch(context: &mut Context<'_>) -> Result<Response<Body>, Status> {
    let subresource = context.row.subresource(&context.info.subresource).ok_or_else(Status::no_such_resource)?;
    if !subresource.verbs.contains(&context.info.verb) {
        return Err(Status::method_not_allowed());
    }
    match (context.info.subresource.as_str(), context.info.verb) {
        ("status", "get") => read::get(context),
        ("status", "update") => write::put(context, Part::Status),
        ("status", "patch") => patch::patch(context, Part::Status),
        _ => Err(Status::no_such_resource()),
    }
}

/// Answers a request to a resource that isn't kept.
pub fn virtual_resource(context: &mut Context<'_>) -> Result<Response<Body>, Status> {
    let _ = context;
    Err(Status::no_such_resource())
}

/// What of a node a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeRequest {
    /// A container's log.
    Log,
}

/// Whether a request is answered by the node.
pub fn node_request(info: &RequestInfo) -> Option<NodeRequest> {
    let _ = info;
    None
}

/// Hands a request to the node.
pub async fn proxy(
    server: &Server,
    info: &RequestInfo,
    query: &Query,
    node: NodeRequest,
    request: Request<Body>,
) -> Result<Response<Body>, Status> {
    let _ = (server, info, query, node, request);
    Err(Status::unavailable("no node"))
}
