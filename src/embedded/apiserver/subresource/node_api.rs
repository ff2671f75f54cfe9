//! Logs, exec, attach and port-forward: handed to the kubelet's own API.
//!
//! The request's path and query become the kubelet's (`pkg/registry/core/pod/strategy.go`:
//! `LogLocation`, `streamLocation`, `PortForwardLocation`; `pkg/kubelet/server/server.go`); the request itself
//! stays the very same, so a connection's upgrade just works.

use std::sync::PoisonError;

use axum::body::Body;
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Limited};
use serde_json::Value;
use tower::ServiceExt as _;

use super::super::Server;
use super::super::request::{Query, RequestInfo, percent_encode};
use super::super::status::{GroupResource, Status};
use super::super::store::ResourceId;

/// Bytes of a refusal that are read (`maxReadLength`).
const LONGEST_REFUSAL: usize = 50_000;
const PODS: ResourceId = ResourceId::new("", "pods");

/// What of a node a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeRequest {
    /// A container's log.
    Log,
    /// A program in a container.
    Exec,
    /// A container's own streams.
    Attach,
    /// A pod's ports.
    PortForward,
}

/// Whether a request is answered by the node.
pub fn node_request(info: &RequestInfo) -> Option<NodeRequest> {
    if !info.group.is_empty() || info.resource != "pods" || !matches!(info.verb, "get" | "create") {
        return None;
    }
    match (info.subresource.as_str(), info.verb) {
        ("log", "get") => Some(NodeRequest::Log),
        ("exec", _) => Some(NodeRequest::Exec),
        ("attach", _) => Some(NodeRequest::Attach),
        ("portforward", _) => Some(NodeRequest::PortForward),
        _ => None,
    }
}

/// Hands a request to the node.
pub async fn proxy(
    server: &Server,
    info: &RequestInfo,
    query: &Query,
    node: NodeRequest,
    mut request: Request<Body>,
) -> Result<Response<Body>, Status> {
    let pod = server
        .store
        .get(PODS, &info.namespace, &info.name)
        .ok_or_else(|| Status::not_found(GroupResource { group: "", resource: "pods" }, &info.name))?
        .value();
    let Some(location) = location(&pod, info, query, node)? else {
        // A log of a pod that runs nowhere yet is empty.
        return Ok(Response::new(Body::empty()));
    };
    let kubelet = server.kubelet.read().unwrap_or_else(PoisonError::into_inner).clone();
    let kubelet = kubelet.ok_or_else(|| {
        let name = pod["spec"]["nodeName"].as_str().unwrap_or_default();
        Status::not_found(GroupResource { group: "", resource: "nodes" }, name)
    })?;
    *request.uri_mut() = location.parse::<Uri>().map_err(|error| Status::bad_request(error.to_string()))?;
    match kubelet.oneshot(request).await {
        Ok(response) if response.status().is_client_error() || response.status().is_server_error() => {
            Err(refusal(response).await)
        }
        Ok(response) => Ok(response),
        Err(never) => match never {},
    }
}

/// The kubelet refuses in plain words, which clients only show as part of a `Status`
/// (`pkg/registry/core/rest` → `apiserver/pkg/registry/generic/rest/response_checker.go`, `GenericHttpResponseChecker`).
async fn refusal(response: Response<Body>) -> Status {
    let code = response.status();
    let words = Limited::new(response.into_body(), LONGEST_REFUSAL).collect().await.map(|body| body.to_bytes());
    let words = words.map(|words| String::from_utf8_lossy(&words).trim().to_owned()).unwrap_or_default();
    match code {
        StatusCode::INTERNAL_SERVER_ERROR => Status::internal(words),
        StatusCode::NOT_FOUND => Status::new(code, "NotFound", words),
        StatusCode::SERVICE_UNAVAILABLE => Status::new(code, "ServiceUnavailable", words),
        _ => Status::new(code, "BadRequest", words),
    }
}

fn location(pod: &Value, info: &RequestInfo, query: &Query, node: NodeRequest) -> Result<Option<String>, Status> {
    let container = match node {
        NodeRequest::PortForward => None,
        _ => Some(container(pod, &info.name, query.get("container").unwrap_or_default())?),
    };
    if pod["spec"]["nodeName"].as_str().unwrap_or_default().is_empty() {
        if node == NodeRequest::Log {
            return Ok(None);
        }
        return Err(Status::bad_request(format!("pod {} does not have a host assigned", info.name)));
    }
    let mut parameters: Vec<(&str, String)> = Vec::new();
    let base = match node {
        NodeRequest::Log => {
            for flag in ["follow", "previous", "timestamps"] {
                if query.flag(flag) {
                    parameters.push((flag, "true".to_owned()));
                }
            }
            for value in ["sinceSeconds", "sinceTime", "tailLines", "limitBytes", "stream"] {
                if let Some(text) = query.get(value) {
                    check_log_option(value, text)?;
                    parameters.push((value, text.to_owned()));
                }
            }
            "containerLogs"
        }
        NodeRequest::Exec | NodeRequest::Attach => {
            // stdout and stderr default to true only where none is asked for at all: the kubelet then refuses.
            for (asked, told) in [("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty")] {
                if query.flag(asked) {
                    parameters.push((told, "1".to_owned()));
                }
            }
            if node == NodeRequest::Exec {
                parameters.extend(query.all("command").map(|word| ("command", word.to_owned())));
                "exec"
            } else {
                "attach"
            }
        }
        NodeRequest::PortForward => {
            let ports: Vec<&str> = query.all("ports").collect();
            if !ports.is_empty() {
                parameters.push(("port", ports.join(",")));
            }
            "portForward"
        }
    };
    let mut location = format!("/{base}/{}/{}", percent_encode(&info.namespace), percent_encode(&info.name));
    if let Some(container) = container {
        location.push('/');
        location.push_str(&percent_encode(&container));
    }
    let query: Vec<String> = parameters.iter().map(|(key, value)| format!("{key}={}", percent_encode(value))).collect();
    if !query.is_empty() {
        location.push('?');
        location.push_str(&query.join("&"));
    }
    Ok(Some(location))
}

fn check_log_option(name: &str, text: &str) -> Result<(), Status> {
    let number = matches!(name, "sinceSeconds" | "tailLines" | "limitBytes");
    if number && text.parse::<i64>().is_err() {
        return Err(Status::bad_request(format!(
            "strconv.ParseInt: parsing {}: invalid syntax",
            super::super::status::quote(text)
        )));
    }
    Ok(())
}

/// `validateContainer`
fn container(pod: &Value, pod_name: &str, asked: &str) -> Result<String, Status> {
    let names = |lists: &[&str]| -> Vec<String> {
        lists
            .iter()
            .flat_map(|list| pod["spec"][list].as_array().into_iter().flatten())
            .filter_map(|container| container["name"].as_str().map(str::to_owned))
            .collect()
    };
    let all = names(&["initContainers", "containers", "ephemeralContainers"]);
    if !asked.is_empty() {
        if all.iter().any(|name| name == asked) {
            return Ok(asked.to_owned());
        }
        return Err(Status::bad_request(format!("container {asked} is not valid for pod {pod_name}")));
    }
    match names(&["containers"]).as_slice() {
        [only] => Ok(only.clone()),
        [] => Err(Status::bad_request(format!("a container name must be specified for pod {pod_name}"))),
        _ => Err(Status::bad_request(format!(
            "a container name must be specified for pod {pod_name}, choose one of: [{}]",
            all.join(" ")
        ))),
    }
}

#[cfg(test)]
mod tests {
    use http::Method;
    use serde_json::json;

    use super::*;

    fn locate(path: &str, query: &str, pod: &Value) -> Result<Option<String>, Status> {
        let query = Query::parse(Some(query));
        let info = RequestInfo::parse(&Method::GET, path, &query);
        location(pod, &info, &query, node_request(&info).expect("a node's"))
    }

    #[test]
    fn requests_become_the_kubelets_own() {
        let pod = json!({"spec": {"nodeName": "n", "containers": [{"name": "c"}]}});
        let base = "/api/v1/namespaces/default/pods/a";
        for (sub, query, expected) in [
            ("log", "follow=true&tailLines=5&container=c", "/containerLogs/default/a/c?follow=true&tailLines=5"),
            (
                "exec",
                "command=sh&command=-c&command=echo+1&stdin=true&stdout=1&tty=false",
                "/exec/default/a/c?input=1&output=1&command=sh&command=-c&command=echo%201",
            ),
            ("attach", "stdout=true", "/attach/default/a/c?output=1"),
            ("portforward", "ports=80&ports=81", "/portForward/default/a?port=80%2C81"),
        ] {
            assert_eq!(locate(&format!("{base}/{sub}"), query, &pod).ok().flatten().as_deref(), Some(expected));
        }
    }

    #[test]
    fn the_container_must_be_known() {
        let pod = json!({"spec": {"containers": [{"name": "c"}, {"name": "d"}], "initContainers": [{"name": "i"}]}});
        let path = "/api/v1/namespaces/default/pods/a/log";
        let several = locate(path, "", &pod).expect_err("several");
        assert_eq!(several.message, "a container name must be specified for pod a, choose one of: [i c d]");
        let unknown = locate(path, "container=x", &pod).expect_err("unknown");
        assert_eq!(unknown.message, "container x is not valid for pod a");
        assert_eq!(locate(path, "container=i", &pod).ok(), Some(None));
    }
}
