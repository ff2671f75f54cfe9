//! A request to a service, over the address at which its port is reached from the host.

use std::net::SocketAddr;

use bytes::Bytes;
use http::StatusCode;
use http::header::{CONTENT_TYPE, HOST};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::call::{CallError, last_lines, one_line};
use crate::tls;

/// A longer answer is not read.
const LONGEST: usize = 1024 * 1024;

/// A request, resolved.
#[derive(Clone)]
pub struct Request {
    /// Which service it goes to.
    pub service: String,
    /// Where that is on the host.
    pub address: SocketAddr,
    /// Whether it speaks TLS; nobody vouches for its certificate.
    pub tls: bool,
    /// Upper case.
    pub method: String,
    /// With its leading slash.
    pub path: String,
    /// By name.
    pub headers: Vec<(String, String)>,
    /// JSON, if it looks so.
    pub body: Option<String>,
    /// Where the key is in a JSON answer; `None`: the whole answer is it.
    pub pointer: Option<String>,
}

impl Request {
    pub(super) async fn issue(&self) -> Result<String, CallError> {
        let body = self.send().await?;
        match &self.pointer {
            None => one_line(body.to_vec(), Vec::new()),
            Some(pointer) => field(&body, pointer),
        }
    }

    pub(super) async fn revoke(&self) -> Result<(), CallError> {
        self.send().await.map(drop)
    }

    /// The body of a successful answer.
    async fn send(&self) -> Result<Bytes, CallError> {
        let body = self.body.clone().unwrap_or_default();
        let mut request = http::Request::builder().method(self.method.as_str()).uri(&self.path);
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let mut request = request.body(Full::new(Bytes::from(body.clone())))?;
        let headers = request.headers_mut();
        if !headers.contains_key(HOST) {
            headers.insert(HOST, http::HeaderValue::try_from(self.address.to_string()).map_err(http::Error::from)?);
        }
        if self.body.is_some() && !headers.contains_key(CONTENT_TYPE) {
            let json = serde_json::from_str::<serde::de::IgnoredAny>(&body).is_ok();
            let kind = if json { "application/json" } else { "text/plain; charset=utf-8" };
            headers.insert(CONTENT_TYPE, http::HeaderValue::from_static(kind));
        }
        let stream = TcpStream::connect(self.address).await.map_err(|error| self.unanswered(&error))?;
        let (status, body) = if self.tls {
            let stream = tls::connect_unverified(self.address.ip(), stream).await;
            self.exchange(stream.map_err(|error| self.unanswered(&error))?, request).await?
        } else {
            self.exchange(stream, request).await?
        };
        if status.is_success() {
            return Ok(body);
        }
        Err(CallError::Refused { status, output: last_lines(&body, b"") })
    }

    async fn exchange(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin,
        request: http::Request<Full<Bytes>>,
    ) -> Result<(StatusCode, Bytes), CallError> {
        let shaken = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = shaken.map_err(|error| self.unanswered(&error))?;
        let exchange = async {
            let answer = sender.send_request(request).await.map_err(|error| self.unanswered(&error))?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), LONGEST).collect().await.map_err(|error| {
                if error.is::<http_body_util::LengthLimitError>() {
                    CallError::TooLong(LONGEST)
                } else {
                    CallError::Unanswered { address: self.address, message: error.to_string() }
                }
            })?;
            Ok((status, body.to_bytes()))
        };
        // The connection only carries: how it ended is told to the exchange.
        let carry = async {
            let _told = connection.await;
            std::future::pending::<std::convert::Infallible>().await
        };
        tokio::select! {
            exchanged = exchange => exchanged,
            never = carry => match never {},
        }
    }

    fn unanswered(&self, error: &dyn std::error::Error) -> CallError {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            message = format!("{message}: {cause}");
            source = cause.source();
        }
        CallError::Unanswered { address: self.address, message }
    }
}

/// The key in a JSON answer: a text, or a number as it is written. It may have several lines.
fn field(body: &[u8], pointer: &str) -> Result<String, CallError> {
    let answer: Value = serde_json::from_slice(body).map_err(CallError::NotJson)?;
    let no_field = |there: String| CallError::NoField { pointer: pointer.to_owned(), there };
    match answer.pointer(pointer) {
        Some(Value::String(text)) if text.contains('\0') => Err(CallError::NotText),
        Some(Value::String(text)) if text.is_empty() => Err(CallError::Nothing { output: Vec::new() }),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Number(number)) => Ok(number.to_string()),
        Some(Value::Null) => Err(no_field(" but null".to_owned())),
        Some(Value::Bool(_)) => Err(no_field(" but true or false".to_owned())),
        Some(Value::Array(_)) => Err(no_field(" but a list".to_owned())),
        Some(Value::Object(_)) => Err(no_field(" but an object".to_owned())),
        None => Err(no_field(match &answer {
            Value::Object(fields) if !fields.is_empty() => {
                format!("; its fields are {}", fields.keys().take(8).cloned().collect::<Vec<_>>().join(", "))
            }
            _ => String::new(),
        })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_of_the_answer_is_the_key() {
        let of = |body: &str, pointer: &str| field(body.as_bytes(), pointer).map_err(|error| error.to_string());
        assert_eq!(of(r#"{"data": {"token": "a\nb"}}"#, "/data/token").as_deref(), Ok("a\nb"));
        assert_eq!(of(r#"{"pin": 1234}"#, "/pin").as_deref(), Ok("1234"));
        let none = "was answered with JSON that has no text at `/token`";
        assert_eq!(of(r#"{"key": "x", "id": 1}"#, "/token"), Err(format!("{none}; its fields are id, key")));
        assert_eq!(of(r#"{"token": null}"#, "/token"), Err(format!("{none} but null")));
        assert!(of("<html>", "/token").is_err_and(|error| error.starts_with("was not answered with JSON")));
    }
}
