//! One POST of Slack's JSON (docs.slack.dev, "Sending messages using incoming webhooks"). No redirect is followed, nothing is tried twice.

use std::time::Duration;

use bytes::Bytes;
use http::Uri;
use http::header::{CONTENT_TYPE, USER_AGENT};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use super::message::Message;
use super::{NotifyError, one_line, unanswered};
use crate::proxied::Connector;
use crate::redact::Redactor;

/// A longer answer is not read.
const LONGEST: usize = 64 * 1024;
/// How long the end of a refusal is waited for: its status is told in any case.
const SAID_WITHIN: Duration = Duration::from_secs(1);

/// Posts a message.
pub(super) async fn send(
    variable: &str,
    address: &str,
    message: &Message,
    redactor: &Redactor,
) -> Result<(), NotifyError> {
    let no_address = || NotifyError::NotAnAddress(variable.to_owned());
    let uri: Uri = address.parse().map_err(|_| no_address())?;
    if uri.host().is_none() || !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(no_address());
    }
    let mut json = message.slack();
    redactor.value(&mut json);
    let request = http::Request::post(uri)
        .header(CONTENT_TYPE, "application/json")
        .header(USER_AGENT, concat!("envctl/", env!("CARGO_PKG_VERSION")))
        .body(Full::new(Bytes::from(json.to_string())))
        .map_err(|_| no_address())?;
    let tcp = Connector::new(HttpConnector::new(), request.uri(), None)?;
    let connector = HttpsConnectorBuilder::new()
        .with_provider_and_native_roots(rustls::crypto::ring::default_provider())
        .map_err(NotifyError::NoAuthorities)?
        .https_or_http()
        .enable_http1()
        .wrap_connector(tcp);
    let client = Client::builder(TokioExecutor::new()).build(connector);
    let answer = client.request(request).await.map_err(|error| unanswered(&error))?;
    let status = answer.status();
    if status.is_success() {
        return Ok(());
    }
    let body = tokio::time::timeout(SAID_WITHIN, Limited::new(answer.into_body(), LONGEST).collect()).await;
    let said = body.ok().and_then(Result::ok).map(|body| one_line(&String::from_utf8_lossy(&body.to_bytes())));
    let said = said.filter(|said| !said.is_empty()).map(|said| format!(": {said}")).unwrap_or_default();
    Err(NotifyError::Refused { status, said })
}
