//! The door to what is known of each kind's shape: decoding, defaults, validation, merging.
//!
//! The tables and algorithms are `schema`'s; this file only fits them to the write pipeline's words.

use axum::body::Body;
use bytes::Bytes;
use http::Response;
use serde_json::Value;

use super::registry::Row;
use super::status::{FieldError, Status};

/// What to do with unknown and duplicate fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldValidation {
    /// Drop them.
    Ignore,
    /// Drop them and say so.
    Warn,
    /// Refuse the request.
    Strict,
}

/// A body as an object of the row's kind.
///
/// # Errors
/// 400 for what can't be read or has unknown fields in strict mode, 415 for an unknown form.
pub fn decode(
    row: &Row,
    content_type: &str,
    body: &Bytes,
    validation: FieldValidation,
    warnings: &mut Vec<String>,
) -> Result<Value, Status> {
    let _ = (row, validation, warnings);
    match media_type(content_type) {
        "" | "application/json" => serde_json::from_slice(body).map_err(|error| {
            Status::bad_request(format!(
                "{} in version {} cannot be handled as a {}: {error}",
                row.kind,
                super::status::quote(row.version),
                row.kind
            ))
        }),
        _ => Err(Status::unsupported_media_type(
            "application/json, application/yaml, application/vnd.kubernetes.protobuf",
        )),
    }
}

/// A media type without its parameters.
pub fn media_type(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

/// Fills in what Kubernetes fills in.
pub fn default(row: &Row, object: &mut Value) {
    let _ = (row, object);
}

/// What is wrong with an object, alone or as the successor of another.
pub fn validate(row: &Row, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let _ = (row, object, old);
    Vec::new()
}

/// The options of a request, from its body.
///
/// # Errors
/// 400 for what can't be read, 415 for an unknown form.
pub fn decode_options(content_type: &str, body: &Bytes) -> Result<Value, Status> {
    match media_type(content_type) {
        "" | "application/json" => serde_json::from_slice(body).map_err(|error| Status::bad_request(error.to_string())),
        _ => Err(Status::unsupported_media_type(
            "application/json, application/yaml, application/vnd.kubernetes.protobuf",
        )),
    }
}

/// A strategic merge patch applied.
///
/// # Errors
/// 400 for what the patch can't mean.
pub fn strategic_merge(row: &Row, mut object: Value, patch: &Value) -> Result<Value, Status> {
    let _ = row;
    json_patch::merge(&mut object, patch);
    Ok(object)
}

/// Checks a patched object's fields against its schema.
///
/// # Errors
/// 400 for unknown fields in strict mode.
pub fn check_fields(
    row: &Row,
    object: Value,
    validation: FieldValidation,
    warnings: &mut Vec<String>,
) -> Result<Value, Status> {
    let _ = (row, validation, warnings);
    Ok(object)
}

/// A body as an object of some kind that has no row: a review, a scale.
///
/// # Errors
/// As [`decode`].
pub fn decode_kind(
    (_group, version, kind): (&str, &str, &str),
    content_type: &str,
    body: &Bytes,
    validation: FieldValidation,
    warnings: &mut Vec<String>,
) -> Result<Value, Status> {
    let _ = (validation, warnings);
    match media_type(content_type) {
        "" | "application/json" => serde_json::from_slice(body).map_err(|error| {
            Status::bad_request(format!(
                "{kind} in version {} cannot be handled as a {kind}: {error}",
                super::status::quote(version)
            ))
        }),
        _ => Err(Status::unsupported_media_type(
            "application/json, application/yaml, application/vnd.kubernetes.protobuf",
        )),
    }
}

/// A label selector as text, as `metav1.LabelSelectorAsSelector(...).String()` prints it.
pub fn selector_text(selector: &Value) -> String {
    let plain = selector["matchLabels"].is_null() && selector["matchExpressions"].is_null();
    let labels = if plain { selector.as_object() } else { selector["matchLabels"].as_object() };
    let mut parts: Vec<(String, String)> = labels
        .into_iter()
        .flatten()
        .map(|(key, value)| (key.clone(), format!("{key}={}", value.as_str().unwrap_or_default())))
        .collect();
    for expression in selector["matchExpressions"].as_array().into_iter().flatten() {
        let key = expression["key"].as_str().unwrap_or_default();
        let mut values: Vec<&str> =
            expression["values"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        values.sort_unstable();
        let values = values.join(",");
        let text = match expression["operator"].as_str() {
            Some("In") => format!("{key} in ({values})"),
            Some("NotIn") => format!("{key} notin ({values})"),
            Some("DoesNotExist") => format!("!{key}"),
            _ => key.to_owned(),
        };
        parts.push((key.to_owned(), text));
    }
    parts.sort();
    parts.into_iter().map(|(_, text)| text).collect::<Vec<_>>().join(",")
}

/// The list of OpenAPI documents.
///
/// # Errors
/// 404 while there are none.
pub fn openapi_root() -> Result<Response<Body>, Status> {
    Err(Status::no_such_resource())
}

/// The OpenAPI document of one group and version.
///
/// # Errors
/// 404 for a group that isn't served.
pub fn openapi_group(path: &str) -> Result<Response<Body>, Status> {
    let _ = path;
    Err(Status::no_such_resource())
}
