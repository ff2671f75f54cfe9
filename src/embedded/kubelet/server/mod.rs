//! The kubelet's own HTTP API: logs, exec, attach, port-forward, health and pods.
//!
//! Paths and parameters are upstream's `pkg/kubelet/server/server.go`; the API server's own names for the
//! parameters (`stdin` for `input`, …) are taken too, so that it can pass a request on as it came.

pub mod channels;
mod exec;
mod logs;
mod port_forward;
pub mod spdy;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use http::StatusCode;
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::manager::{Asked, Query};
use super::pod::messages::{Found, Handle, Message};
use super::runtime::{NodeNetwork, Runtime};

/// What endpoints share.
#[derive(Clone)]
pub struct Endpoints {
    pub(super) queries: mpsc::Sender<Query>,
    pub(super) runtime: Arc<dyn Runtime>,
    pub(super) network: Arc<dyn NodeNetwork>,
    /// Owns streams that outlive their request.
    pub(super) tasks: TaskTracker,
    /// Ends them.
    pub(super) stop: CancellationToken,
}

/// A refusal: a status and a sentence, as upstream's kubelet answers.
#[derive(Debug, thiserror::Error)]
#[error("{1}")]
pub struct Refusal(pub StatusCode, pub String);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, self.1).into_response()
    }
}

impl Endpoints {
    /// The router.
    pub fn router(self) -> Router {
        Router::new()
            .route("/healthz", get(async || "ok"))
            .route("/pods", get(pods))
            .route("/containerLogs/{namespace}/{pod}/{container}", get(logs::serve))
            .route("/exec/{namespace}/{pod}/{container}", any(exec::exec))
            .route("/attach/{namespace}/{pod}/{container}", any(exec::attach))
            .route("/portForward/{namespace}/{pod}", any(port_forward::serve))
            .with_state(self)
    }

    async fn pod(&self, namespace: &str, name: &str) -> Result<Asked, Refusal> {
        let (reply, answer) = oneshot::channel();
        let asked = self.queries.send(Query::Pod(namespace.to_owned(), name.to_owned(), reply)).await;
        asked.map_err(|_| stopped())?;
        let found = answer.await.map_err(|_| stopped())?;
        found.ok_or_else(|| Refusal(StatusCode::NOT_FOUND, format!("pod {name:?} not found")))
    }

    async fn container(&self, namespace: &str, pod: &str, container: &str) -> Result<Handle, Refusal> {
        let asked = self.pod(namespace, pod).await?;
        let (reply, answer) = oneshot::channel();
        asked.mailbox.send(Message::Find(container.to_owned(), reply)).await.map_err(|_| stopped())?;
        match answer.await.map_err(|_| stopped())? {
            Found::Running(handle) => Ok(handle),
            Found::NotRunning => Err(Refusal(StatusCode::NOT_FOUND, format!("container not found ({container:?})"))),
            Found::NoSuchContainer => {
                Err(Refusal(StatusCode::BAD_REQUEST, format!("container {container} is not valid for pod {pod}")))
            }
        }
    }
}

fn stopped() -> Refusal {
    Refusal(StatusCode::SERVICE_UNAVAILABLE, "the kubelet is stopping".to_owned())
}

/// A request's parameters, in order.
fn parameters(uri: &http::Uri) -> Vec<(String, String)> {
    let decode = |text: &str| {
        let text = text.replace('+', " ");
        let mut bytes = Vec::with_capacity(text.len());
        let mut rest = text.as_bytes();
        while let [first, tail @ ..] = rest {
            let hex = (*first == b'%')
                .then(|| tail.get(..2).and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()))
                .flatten();
            match hex {
                Some(byte) => {
                    bytes.push(byte);
                    rest = &tail[2..];
                }
                None => {
                    bytes.push(*first);
                    rest = tail;
                }
            }
        }
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let query = uri.query().unwrap_or_default();
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (decode(name), decode(value)))
        .collect()
}

/// Whether one of these is set to something true.
fn flag(parameters: &[(String, String)], names: &[&str]) -> bool {
    parameters.iter().any(|(name, value)| names.contains(&name.as_str()) && matches!(value.as_str(), "1" | "true" | ""))
}

async fn pods(State(endpoints): State<Endpoints>) -> Result<axum::Json<serde_json::Value>, Refusal> {
    let (reply, answer) = oneshot::channel();
    endpoints.queries.send(Query::All(reply)).await.map_err(|_| stopped())?;
    let pods: Vec<Arc<Pod>> = answer.await.map_err(|_| stopped())?;
    let items: Vec<serde_json::Value> = pods.iter().filter_map(|pod| serde_json::to_value(&**pod).ok()).collect();
    Ok(axum::Json(serde_json::json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items})))
}

/// Namespace, pod, container.
type ContainerPath = Path<(String, String, String)>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_parameters() {
        let uri = "/exec/a/b/c?command=sh&command=-c&command=echo%20a%2Bb+c&stdin=true&tty=1&x".parse().unwrap();
        let got = parameters(&uri);
        let command: Vec<_> =
            got.iter().filter(|(name, _)| name == "command").map(|(_, value)| value.as_str()).collect();
        assert_eq!(command, ["sh", "-c", "echo a+b c"]);
        assert!(flag(&got, &["input", "stdin"]) && flag(&got, &["tty"]) && !flag(&got, &["error"]));
    }
}
