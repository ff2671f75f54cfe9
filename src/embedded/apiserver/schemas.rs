//! The door to what is known of each kind's shape: decoding, defaults, validation, merging.
//!
//! The tables and algorithms are `schema`'s; this file only fits them to the write pipeline's words.

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use serde_json::Value;

use super::read;
use super::registry::Row;
use super::schema::{self, Gvk};
use super::status::{FieldError, GroupResource, Status, quote};

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

const ACCEPTED: &str = "application/json, application/yaml, application/vnd.kubernetes.protobuf";

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
    decode_kind((row.group, row.version, row.kind), content_type, body, validation, warnings)
}

/// A body as an object of some kind, which may have no row: a review, a scale.
///
/// # Errors
/// As [`decode`].
pub fn decode_kind(
    (group, version, kind): (&str, &str, &str),
    content_type: &str,
    body: &Bytes,
    validation: FieldValidation,
    warnings: &mut Vec<String>,
) -> Result<Value, Status> {
    // `transformDecodeError` (apiserver/pkg/endpoints/handlers/rest.go)
    let bad = |why: &dyn std::fmt::Display| {
        Status::bad_request(format!("{kind} in version {} cannot be handled as a {kind}: {why}", quote(version)))
    };
    let (object, mut strict) = parse(content_type, body, &bad)?;
    if !object.is_object() {
        return Err(bad(&"json: cannot unmarshal into Go value of type struct"));
    }
    // A body may leave out its kind; one of another kind is judged by the pipeline.
    let gvk = Gvk::new(group, version, kind);
    let named =
        |field: &str, expected: &str| object[field].as_str().is_none_or(|text| text.is_empty() || text == expected);
    if !named("kind", kind) || !named("apiVersion", &gvk.api_version()) {
        return Ok(object);
    }
    strict.extend(schema::unknown_fields(gvk, &object));
    check_strict(strict, validation, warnings, |text| bad(&format!("strict decoding error: {text}")))?;
    schema::check_types(gvk, &object).map_err(|error| bad(&error))?;
    let mut object = object;
    schema::prune(gvk, &mut object);
    Ok(object)
}

fn check_strict(
    problems: Vec<String>,
    validation: FieldValidation,
    warnings: &mut Vec<String>,
    refuse: impl Fn(&str) -> Status,
) -> Result<(), Status> {
    match validation {
        FieldValidation::Ignore => Ok(()),
        FieldValidation::Warn => {
            warnings.extend(problems);
            Ok(())
        }
        FieldValidation::Strict if problems.is_empty() => Ok(()),
        FieldValidation::Strict => Err(refuse(&problems.join(", "))),
    }
}

/// A body as JSON, and which keys came twice.
fn parse(
    content_type: &str,
    body: &Bytes,
    bad: &dyn Fn(&dyn std::fmt::Display) -> Status,
) -> Result<(Value, Vec<String>), Status> {
    match media_type(content_type) {
        "" | "application/json" => schema::decode_json(body).map_err(|error| bad(&error)),
        "application/vnd.kubernetes.protobuf" => {
            schema::protobuf::decode(body).map(|object| (object, Vec::new())).map_err(|error| bad(&error))
        }
        "application/yaml" | "application/apply-patch+yaml" => yaml(body, bad).map(|object| (object, Vec::new())),
        _ => Err(Status::unsupported_media_type(ACCEPTED)),
    }
}

/// YAML as JSON: `sigs.k8s.io/yaml` converts before anything is decoded.
fn yaml(body: &Bytes, bad: &dyn Fn(&dyn std::fmt::Display) -> Status) -> Result<Value, Status> {
    // JSON is YAML, and what most clients send here.
    if let Ok(value) = serde_json::from_slice(body) {
        return Ok(value);
    }
    let text = std::str::from_utf8(body).map_err(|error| bad(&error))?;
    let options = serde_yaml::options! {
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
    };
    serde_yaml::from_str_with_options(text, options)
        .map_err(|error| bad(&format!("error converting YAML to JSON: {error}")))
}

/// A media type without its parameters.
pub fn media_type(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

/// Fills in what Kubernetes fills in.
pub fn default(row: &Row, object: &mut Value) {
    schema::default(row.gvk(), object);
}

/// What is wrong with an object, alone or as the successor of another.
pub fn validate(row: &Row, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    match old {
        Some(old) => schema::validate_update(row.gvk(), object, old),
        None => schema::validate_create(row.gvk(), object),
    }
}

/// The options of a request, from its body.
///
/// # Errors
/// 400 for what can't be read, 415 for an unknown form.
pub fn decode_options(content_type: &str, body: &Bytes) -> Result<Value, Status> {
    let bad = |why: &dyn std::fmt::Display| Status::bad_request(why.to_string());
    parse(content_type, body, &bad).map(|(options, _)| options)
}

/// A body as it was sent, of whatever kind.
///
/// # Errors
/// 400 for what isn't JSON or YAML.
pub fn sent(content_type: &str, body: &Bytes) -> Result<Value, Status> {
    decode_options(content_type, body)
}

/// A strategic merge patch applied.
///
/// # Errors
/// 400 for what the patch can't mean.
pub fn strategic_merge(kind: Gvk<'_>, object: Value, patch: &Value) -> Result<Value, Status> {
    schema::strategic_merge(kind, object, patch.clone()).map_err(|error| Status::bad_request(error.to_string()))
}

/// Checks a patched object's fields against its schema and drops what it doesn't know.
///
/// # Errors
/// 422 for unknown fields in strict mode, 400 for values of the wrong type.
pub fn check_fields(
    row: &Row,
    mut object: Value,
    validation: FieldValidation,
    warnings: &mut Vec<String>,
) -> Result<Value, Status> {
    // patch.go reports strictness as an invalid `patch` field.
    let refuse = |text: &str| {
        let error = FieldError::invalid("patch", Value::Null, &format!("strict decoding error: {text}"));
        Status::invalid(GroupResource { group: "", resource: "" }, "", vec![error])
    };
    check_strict(schema::unknown_fields(row.gvk(), &object), validation, warnings, refuse)?;
    schema::check_types(row.gvk(), &object).map_err(|error| {
        Status::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "Invalid",
            format!(" \"\" is invalid: patch: Invalid value: {}: {error}", quote("")),
        )
    })?;
    schema::prune(row.gvk(), &mut object);
    Ok(object)
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
pub fn openapi_root() -> Response<Body> {
    read::json_value(StatusCode::OK, &schema::openapi::index())
}

/// The OpenAPI document of one group and version, given as `apis/apps/v1`.
///
/// # Errors
/// 404 for a group that isn't served.
pub fn openapi_group(path: &str) -> Result<Response<Body>, Status> {
    let document = schema::openapi::document(path).ok_or_else(Status::no_such_resource)?;
    let mut response = Response::new(Body::from(document));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}
