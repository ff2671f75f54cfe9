//! The little HTTP that all parts share: serving until SIGTERM, and asking another service for JSON.

use std::io::Write as _;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::Error;

/// Serves on 0.0.0.0 until SIGTERM, then lets open requests finish.
pub async fn serve(part: &str, port: u16, router: Router) -> Result<(), Error> {
    let mut terminate = signal(SignalKind::terminate())?;
    let listener = TcpListener::bind(("0.0.0.0", port)).await?;
    log(&format!("{part} listens on {port}"));
    axum::serve(listener, router)
        .with_graceful_shutdown(async move {
            terminate.recv().await;
        })
        .await?;
    Ok(())
}

/// Asks another service, with an API key where it wants one; an answer that isn't JSON is `null`. Given up after 35 seconds.
pub async fn request(
    method: Method,
    url: &str,
    key: Option<&str>,
    body: Option<&Value>,
) -> Result<(StatusCode, Value), Error> {
    let client: Client<HttpConnector, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let bytes = body.map(serde_json::to_vec).transpose()?.unwrap_or_default();
    let mut request = Request::builder().method(method).uri(url).header("content-type", "application/json");
    if let Some(key) = key {
        request = request.header("authorization", format!("Bearer {key}"));
    }
    let request = request.body(Full::from(bytes))?;
    let answer = tokio::time::timeout(Duration::from_secs(35), client.request(request)).await??;
    let status = answer.status();
    let bytes = answer.into_body().collect().await?.to_bytes();
    Ok((status, serde_json::from_slice(&bytes).unwrap_or(Value::Null)))
}

/// An answer with a JSON body.
pub fn json(status: StatusCode, body: &Value) -> axum::http::Response<Body> {
    axum::http::Response::builder()
        .status(status)
        .header("content-type", "application/json")
        .body(Body::from(body.to_string()))
        .expect("a status and a fixed header make a response")
}

/// One line on standard error.
pub fn log(line: &str) {
    // A log line that can't be written has nowhere else to go.
    let _ = writeln!(std::io::stderr(), "{line}");
}
