//! How many: the `scale` subresource of deployments, replica sets, stateful sets and replication controllers.
//!
//! Follows `pkg/registry/apps/deployment/storage/storage.go` (`ScaleREST`).

use axum::body::Body;
use http::{Response, StatusCode, header};
use serde_json::{Value, json};

use super::super::context::Context;
use super::super::patch::Patch;
use super::super::schema::Gvk;
use super::super::status::{FieldError, GroupResource, Status};
use super::super::write::{self, Part};
use super::super::{convert, meta, read, schemas};

/// Answers how many there are.
pub fn get(context: &Context<'_>) -> Result<Response<Body>, Status> {
    let object = convert::value(context.row, &*read::find(context)?);
    Ok(read::json_value(StatusCode::OK, &scale_of(&object)))
}

/// Changes how many there should be.
pub fn update(context: &mut Context<'_>) -> Result<Response<Body>, Status> {
    let options = context.write_options()?;
    let content_type = context.header(header::CONTENT_TYPE).to_owned();
    let change = if context.info.verb == "patch" {
        Change::Patch(Patch::parse(&content_type, context.body)?)
    } else {
        Change::Replace(super::body(context, "autoscaling", "v1", "Scale")?)
    };
    let row = context.row;
    let outcome = write::update(context, Part::Subresource, &options, "Scale", |_, old| {
        let Some(old) = old else { return Err(None) };
        let current = scale_of(old);
        let scale = match &change {
            Change::Replace(scale) => scale.clone(),
            Change::Patch(patch) => patch.apply(Gvk::new("autoscaling", "v1", "Scale"), &current).map_err(Some)?,
        };
        let name = meta::text(old, "name");
        let given = meta::text(&scale, "resourceVersion");
        if !given.is_empty() && given != meta::text(old, "resourceVersion") {
            return Err(Some(Status::modified(row.resource(), name)));
        }
        let replicas = match &scale["spec"]["replicas"] {
            Value::Null => 0,
            value => value.as_i64().ok_or_else(|| Some(Status::bad_request("spec.replicas: not a number")))?,
        };
        if replicas < 0 {
            let error = FieldError::invalid("spec.replicas", replicas, "must be greater than or equal to 0");
            let kind = GroupResource { group: "autoscaling", resource: "Scale" };
            return Err(Some(Status::invalid(kind, name, vec![error])));
        }
        let mut new = old.clone();
        meta::child(&mut new, "spec").insert("replicas".to_owned(), replicas.into());
        meta::metadata(&mut new).remove("resourceVersion");
        Ok(new)
    })?;
    let object = convert::value(context.row, &outcome.stored);
    Ok(read::json_value(StatusCode::OK, &scale_of(&object)))
}

enum Change {
    Replace(Value),
    Patch(Patch),
}

fn scale_of(object: &Value) -> Value {
    let metadata = &object["metadata"];
    json!({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {
            "name": metadata["name"], "namespace": metadata["namespace"], "uid": metadata["uid"],
            "resourceVersion": metadata["resourceVersion"], "creationTimestamp": metadata["creationTimestamp"],
        },
        "spec": {"replicas": object["spec"]["replicas"].as_i64().unwrap_or(0)},
        "status": {
            "replicas": object["status"]["replicas"].as_i64().unwrap_or(0),
            "selector": schemas::selector_text(&object["spec"]["selector"]),
        },
    })
}
