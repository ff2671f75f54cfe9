//! Get and list, and the forms in which objects are answered.
//!
//! Follows `apiserver/pkg/endpoints/handlers/{get,response}.go` and, for
//! `resourceVersion`, `resourceVersionMatch`, `limit` and `continue`,
//! `apiserver/pkg/storage/{continue.go,etcd3/store.go}`.

use std::sync::Arc;

use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::{Bytes, BytesMut};
use http::{Response, StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::context::Context;
use super::negotiate::{self, Form};
use super::registry::Row;
use super::selector::Selector;
use super::status::Status;
use super::store::{Key, Stored};
use super::{convert, tables};

/// Lists below this size are one piece; longer ones are sent piece by piece, without a copy.
const ONE_PIECE: usize = 128 << 10;

/// A JSON answer.
pub fn json(code: StatusCode, body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() = code;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}

/// A JSON answer from a value.
pub fn json_value(code: StatusCode, value: &Value) -> Response<Body> {
    json(code, serde_json::to_vec(value).unwrap_or_default())
}

/// One object in the form that was asked for.
pub fn object(context: &Context<'_>, code: StatusCode, stored: &Stored) -> Result<Response<Body>, Status> {
    let accept = context.headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    Ok(match negotiate::form(accept)? {
        Form::Object => json(code, convert::bytes(context.row, stored)),
        Form::Metadata => json(code, partial(stored)?),
        Form::Table => {
            let table = table(context, std::slice::from_ref(&stored), &stored.index.revision.to_string(), None, true)?;
            json_value(code, &table)
        }
    })
}

/// Answers a get.
pub fn get(context: &Context<'_>) -> Result<Response<Body>, Status> {
    let stored = find(context)?;
    object(context, StatusCode::OK, &stored)
}

/// The object that the request names.
pub fn find(context: &Context<'_>) -> Result<Arc<Stored>, Status> {
    context
        .server
        .store
        .get(context.row.id(), context.namespace(), &context.info.name)
        .ok_or_else(|| Status::not_found(context.row.resource(), &context.info.name))
}

/// The selectors of a request.
pub fn selector(context: &Context<'_>) -> Result<Selector, Status> {
    Selector::parse(
        context.row.id(),
        context.row.kind,
        &context.row.api_version(),
        context.query.get("labelSelector"),
        context.query.get("fieldSelector"),
    )
}

#[derive(Serialize, Deserialize)]
struct ContinueToken {
    v: String,
    rv: u64,
    start: String,
}

fn encode_continue(revision: u64, key: &Key) -> String {
    let token = ContinueToken {
        v: "meta.k8s.io/v1".to_owned(),
        rv: revision,
        start: format!("{}/{}", key.namespace, key.name),
    };
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(&token).unwrap_or_default())
}

fn decode_continue(text: &str) -> Result<(u64, Key), Status> {
    let bad = |why: &str| Status::bad_request(format!("continue key is not valid: {why}"));
    let bytes = URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).map_err(|error| bad(&error.to_string()))?;
    let token: ContinueToken = serde_json::from_slice(&bytes).map_err(|error| bad(&error.to_string()))?;
    let (namespace, name) = token.start.split_once('/').ok_or_else(|| bad("encoded start is not a key"))?;
    Ok((token.rv, Key::new(namespace, name)))
}

/// Answers a list.
pub fn list(context: &Context<'_>) -> Result<Response<Body>, Status> {
    let accept = context.headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    let form = negotiate::form(accept)?;
    let selector = selector(context)?;
    let store = &context.server.store;
    let limit = context
        .query
        .get("limit")
        .map_or(Ok(0), str::parse::<usize>)
        .map_err(|_| Status::bad_request("limit: not a number"))?;
    let limit = if limit == 0 { usize::MAX } else { limit };
    let matching = context.query.get("resourceVersionMatch");
    let wanted = context.query.get("resourceVersion");
    let (snapshot, after) = match context.query.get("continue") {
        Some(token) => {
            if wanted.is_some_and(|wanted| wanted != "0") {
                return Err(Status::bad_request("specifying resource version is not allowed when using continue"));
            }
            let (revision, key) = decode_continue(token)?;
            (Some(revision), Some(key))
        }
        None => (snapshot(wanted, matching, store.revision())?, None),
    };
    let page = store
        .page(context.row.id(), context.namespace(), after.as_ref(), limit, snapshot, |index| selector.matches(index))
        .map_err(|error| {
            if after.is_some() {
                Status::expired("The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.")
            } else {
                Status::expired(error.to_string())
            }
        })?;
    let revision = page.revision.to_string();
    // What a selector leaves out makes the number of those to come unknowable (`store.go`, `GetList`).
    let counted = selector.is_everything();
    let next = page
        .next
        .map(|(key, left)| Next { token: encode_continue(page.revision, &key), left: counted.then_some(left) });
    match form {
        Form::Table => {
            let items: Vec<&Stored> = page.items.iter().map(AsRef::as_ref).collect();
            let table = table(context, &items, &revision, next.as_ref(), true)?;
            Ok(json_value(StatusCode::OK, &table))
        }
        Form::Metadata => {
            let items = page.items.iter().map(|stored| partial(stored)).collect::<Result<Vec<_>, _>>()?;
            Ok(json(
                StatusCode::OK,
                envelope("meta.k8s.io/v1", "PartialObjectMetadata", &revision, next.as_ref(), items),
            ))
        }
        Form::Object => {
            let items = page.items.iter().map(|stored| convert::bytes(context.row, stored)).collect();
            let body = envelope(&context.row.api_version(), context.row.kind, &revision, next.as_ref(), items);
            Ok(json(StatusCode::OK, body))
        }
    }
}

/// Which past state is wanted, if any. Follows `ValidateListOptions` and `etcd3/store.go`'s `resolveGetListRev`.
fn snapshot(wanted: Option<&str>, matching: Option<&str>, current: u64) -> Result<Option<u64>, Status> {
    let parsed = wanted.map(|text| {
        text.parse::<u64>().map_err(|_| {
            Status::new(
                StatusCode::BAD_REQUEST,
                "BadRequest",
                format!(
                    "resourceVersion: Invalid value: {}: strconv.ParseUint: parsing {0}: invalid syntax",
                    super::status::quote(text)
                ),
            )
        })
    });
    let wanted = parsed.transpose()?;
    match (matching, wanted) {
        (Some("Exact"), Some(0)) => Err(invalid_list(
            "resourceVersionMatch: Forbidden: resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
        )),
        (Some(_), None) => Err(invalid_list(
            "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided",
        )),
        (Some("Exact"), Some(revision)) if revision <= current => Ok(Some(revision)),
        (None | Some("NotOlderThan" | "Exact"), Some(revision)) if revision > current => {
            let mut status = Status::timeout(&format!("Too large resource version: {revision}, current: {current}"), 1)
                .because("ResourceVersionTooLarge", "Too large resource version", "");
            status.code = StatusCode::GATEWAY_TIMEOUT.as_u16();
            Err(status)
        }
        (None | Some("NotOlderThan"), _) => Ok(None),
        (Some(other), _) => Err(invalid_list(&format!(
            "resourceVersionMatch: Unsupported value: {}: supported values: \"Exact\", \"NotOlderThan\"",
            super::status::quote(other)
        ))),
    }
}

fn invalid_list(detail: &str) -> Status {
    Status::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        "Invalid",
        format!("ListOptions.meta.k8s.io \"\" is invalid: {detail}"),
    )
}

/// Where a list goes on.
pub struct Next {
    token: String,
    /// How many are to come, if that is known.
    left: Option<usize>,
}

fn list_metadata(revision: &str, next: Option<&Next>) -> Value {
    let mut metadata = serde_json::json!({"resourceVersion": revision});
    if let Some(next) = next {
        metadata["continue"] = Value::String(next.token.clone());
        if let Some(left) = next.left {
            metadata["remainingItemCount"] = left.into();
        }
    }
    metadata
}

fn envelope(api_version: &str, kind: &str, revision: &str, next: Option<&Next>, items: Vec<Bytes>) -> Body {
    let head = Bytes::from(format!(
        "{{\"kind\":\"{kind}List\",\"apiVersion\":\"{api_version}\",\"metadata\":{},\"items\":[",
        list_metadata(revision, next)
    ));
    let size: usize = items.iter().map(|item| item.len() + 1).sum();
    if size <= ONE_PIECE {
        let mut whole = BytesMut::with_capacity(head.len() + size + 4);
        whole.extend_from_slice(&head);
        for (at, item) in items.iter().enumerate() {
            if at > 0 {
                whole.extend_from_slice(b",");
            }
            whole.extend_from_slice(item);
        }
        whole.extend_from_slice(b"]}\n");
        return Body::from(whole.freeze());
    }
    let pieces = std::iter::once(head)
        .chain(
            items
                .into_iter()
                .enumerate()
                .flat_map(|(at, item)| [Bytes::from_static(if at > 0 { b"," } else { b"" }), item]),
        )
        .chain(std::iter::once(Bytes::from_static(b"]}\n")))
        .filter(|piece| !piece.is_empty());
    Body::from_stream(futures::stream::iter(pieces.map(Ok::<_, std::convert::Infallible>)))
}

#[derive(Deserialize)]
struct OnlyMetadata<'a> {
    #[serde(borrow)]
    metadata: &'a RawValue,
}

/// Only an object's metadata, as a `PartialObjectMetadata`.
pub fn partial(stored: &Stored) -> Result<Bytes, Status> {
    let object: OnlyMetadata<'_> =
        serde_json::from_slice(&stored.bytes).map_err(|error| Status::internal(error.to_string()))?;
    Ok(Bytes::from(format!(
        "{{\"kind\":\"PartialObjectMetadata\",\"apiVersion\":\"meta.k8s.io/v1\",\"metadata\":{}}}",
        object.metadata.get()
    )))
}

/// Objects as a `Table`. `definitions` leaves the columns out of a watch's later events.
pub fn table(
    context: &Context<'_>,
    items: &[&Stored],
    revision: &str,
    next: Option<&Next>,
    definitions: bool,
) -> Result<Value, Status> {
    let include = include_object(context)?;
    Ok(table_of(context.row, items, revision, next, definitions, include))
}

/// What comes with each row of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IncludeObject {
    /// Nothing.
    None,
    /// The metadata.
    Metadata,
    /// The whole object.
    Object,
}

/// The request's `includeObject`.
pub fn include_object(context: &Context<'_>) -> Result<IncludeObject, Status> {
    match context.query.get("includeObject") {
        None | Some("Metadata") => Ok(IncludeObject::Metadata),
        Some("None") => Ok(IncludeObject::None),
        Some("Object") => Ok(IncludeObject::Object),
        Some(other) => {
            Err(Status::bad_request(format!("unrecognized includeObject value: {}", super::status::quote(other))))
        }
    }
}

/// Objects as a `Table`, without a request at hand.
pub fn table_of(
    row: &'static Row,
    items: &[&Stored],
    revision: &str,
    next: Option<&Next>,
    definitions: bool,
    include: IncludeObject,
) -> Value {
    let now = jiff::Timestamp::now();
    let rows: Vec<Value> = items
        .iter()
        .map(|stored| {
            let object = convert::value(row, stored);
            let mut line = serde_json::json!({"cells": tables::cells(row.group, row.kind, &object, now)});
            line["object"] = match include {
                IncludeObject::None => Value::Null,
                IncludeObject::Object => object,
                IncludeObject::Metadata => serde_json::json!({
                    "kind": "PartialObjectMetadata",
                    "apiVersion": "meta.k8s.io/v1",
                    "metadata": object["metadata"],
                }),
            };
            line
        })
        .collect();
    serde_json::json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": list_metadata(revision, next),
        "columnDefinitions": if definitions { tables::columns(row.group, row.kind) } else { Value::Array(Vec::new()) },
        "rows": rows,
    })
}
