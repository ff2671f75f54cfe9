//! What there is: discovery, version, health.

use axum::body::Body;
use http::{HeaderMap, Method, Response, StatusCode};
use serde_json::json;

use super::Server;
use super::read;
use super::request::RequestInfo;
use super::status::Status;

/// Answers a request that isn't for a resource.
pub fn non_resource(
    server: &Server,
    info: &RequestInfo,
    headers: &HeaderMap,
    method: &Method,
) -> Result<Response<Body>, Status> {
    let _ = (server, headers, method);
    match info.path.trim_end_matches('/') {
        "/healthz" | "/livez" | "/readyz" => Ok(Response::new(Body::from("ok"))),
        "/version" => {
            Ok(read::json_value(StatusCode::OK, &json!({"major": "1", "minor": "36", "gitVersion": "v1.36.0"})))
        }
        _ => Err(Status::no_such_resource()),
    }
}
