//! What the handlers of one request share.

use bytes::Bytes;
use http::HeaderMap;
use serde_json::Value;

use super::Server;
use super::registry::Row;
use super::request::{Query, RequestInfo};
use super::schemas::FieldValidation;
use super::status::Status;
use super::user::User;

/// One request to a resource: who asks, for what, and what to tell besides the answer.
pub struct Context<'a> {
    /// Everything.
    pub server: &'a Server,
    /// What is asked for.
    pub info: &'a RequestInfo,
    /// The resource.
    pub row: &'static Row,
    /// The parameters.
    pub query: &'a Query,
    /// Who asks.
    pub user: &'a User,
    /// The request's headers.
    pub headers: &'a HeaderMap,
    /// The request's body; empty for reads.
    pub body: &'a Bytes,
    /// What becomes `Warning:` headers.
    pub warnings: Vec<String>,
}

/// How a write is to be done.
#[derive(Debug, Clone)]
pub struct WriteOptions {
    /// Everything but the commit.
    pub dry_run: bool,
    /// Who answers for the fields.
    pub field_manager: String,
    /// What to do with unknown fields.
    pub validation: FieldValidation,
    /// Take fields from other managers (server-side apply).
    pub force: bool,
}

impl Context<'_> {
    /// A header as text, `""` if absent or not text.
    pub fn header(&self, name: http::HeaderName) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The namespace in which objects of this request are kept: none for cluster-wide resources,
    /// also where the path has one (`/api/v1/namespaces/NAME`).
    pub fn namespace(&self) -> &str {
        if self.row.namespaced { &self.info.namespace } else { "" }
    }

    /// The query's options for writes.
    ///
    /// # Errors
    /// 400 for values that they can't have (`apimachinery/pkg/apis/meta/v1/validation`).
    pub fn write_options(&self) -> Result<WriteOptions, Status> {
        let dry_run = self.query.all("dryRun").any(|value| value == "All");
        if let Some(other) = self.query.all("dryRun").find(|value| *value != "All" && !value.is_empty()) {
            return Err(invalid_option(&format!(
                "dryRun: Unsupported value: {}: supported values: \"All\"",
                super::status::quote(other)
            )));
        }
        let validation = match self.query.get("fieldValidation") {
            None | Some("Warn") => FieldValidation::Warn,
            Some("Ignore") => FieldValidation::Ignore,
            Some("Strict") => FieldValidation::Strict,
            Some(other) => {
                return Err(invalid_option(&format!(
                    "fieldValidation: Unsupported value: {}: supported values: \"Ignore\", \"Strict\", \"Warn\"",
                    super::status::quote(other)
                )));
            }
        };
        let field_manager = match self.query.get("fieldManager") {
            Some(manager) if manager.len() > 128 => {
                return Err(invalid_option("fieldManager: Too long: may not be more than 128 bytes"));
            }
            Some(manager) => manager.to_owned(),
            // apiserver/pkg/endpoints/handlers/create.go, managerOrUserAgent
            None => {
                self.header(http::header::USER_AGENT).split('/').next().unwrap_or_default().chars().take(128).collect()
            }
        };
        Ok(WriteOptions { dry_run, field_manager, validation, force: self.query.flag("force") })
    }

    /// `DeleteOptions` or such from the body; null if it is empty.
    pub fn options_body(&self) -> Result<Value, Status> {
        if self.body.is_empty() {
            return Ok(Value::Null);
        }
        super::schemas::decode_options(self.header(http::header::CONTENT_TYPE), self.body)
    }
}

fn invalid_option(detail: &str) -> Status {
    Status::new(http::StatusCode::UNPROCESSABLE_ENTITY, "Invalid", format!(" \"\" is invalid: {detail}"))
}
