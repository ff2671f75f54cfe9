//! Pods onto nodes, and off them: `binding` and `eviction`.
//!
//! Follows `pkg/registry/core/pod/storage/{storage.go,eviction.go}`. Disruption budgets are kept but not
//! counted in this cluster, so an eviction says that it didn't weigh them.

use axum::body::Body;
use http::Response;
use serde_json::{Value, json};

use super::super::context::{Context, WriteOptions};
use super::super::delete;
use super::super::request::RequestInfo;
use super::super::schemas::FieldValidation;
use super::super::status::{GroupResource, Status};
use super::super::store::ResourceId;
use super::super::write::{self, Part};
use super::super::{meta, registry};

/// Binds a pod to a node.
pub fn bind(context: &mut Context<'_>) -> Result<Response<Body>, Status> {
    let binding = super::body(context, "", "v1", "Binding")?;
    let options = context.write_options()?;
    let name = meta::text(&binding, "name").to_owned();
    if !context.info.name.is_empty() && !name.is_empty() && name != context.info.name {
        return Err(Status::bad_request("name in URL does not match name in Binding object"));
    }
    let pod = if context.info.name.is_empty() { name } else { context.info.name.clone() };
    let node = binding["target"]["name"].as_str().unwrap_or_default().to_owned();
    if node.is_empty() {
        let error = super::super::status::FieldError::required("target.name", "");
        return Err(Status::invalid(GroupResource { group: "", resource: "Binding" }, &pod, vec![error]));
    }
    let uid = meta::text(&binding, "uid").to_owned();
    let annotations = binding["metadata"]["annotations"].clone();
    let labels = binding["metadata"]["labels"].clone();
    change_pod(context, &pod, &options, |old| {
        let refuse =
            |why: String| Some(Status::conflict(GroupResource { group: "", resource: "pods/binding" }, &pod, &why));
        if !uid.is_empty() && uid != meta::text(old, "uid") {
            return Err(refuse(format!(
                "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
                meta::text(old, "uid")
            )));
        }
        if !old["metadata"]["deletionTimestamp"].is_null() {
            return Err(refuse(format!("pod {pod} is being deleted, cannot be assigned to a host")));
        }
        if let Some(bound) = old["spec"]["nodeName"].as_str().filter(|bound| !bound.is_empty()) {
            return Err(refuse(format!(
                "pod {pod} is already assigned to node {}",
                super::super::status::quote(bound)
            )));
        }
        if old["spec"]["schedulingGates"].as_array().is_some_and(|gates| !gates.is_empty()) {
            return Err(refuse(format!("pod {pod} has non-empty .spec.schedulingGates")));
        }
        let mut new = old.clone();
        meta::child(&mut new, "spec").insert("nodeName".to_owned(), node.clone().into());
        for (field, given) in [("annotations", &annotations), ("labels", &labels)] {
            for (key, value) in given.as_object().into_iter().flatten() {
                let slot = meta::metadata(&mut new).entry(field).or_insert_with(|| json!({}));
                slot[key] = value.clone();
            }
        }
        set_condition(&mut new, json!({"type": "PodScheduled", "status": "True"}));
        Ok(new)
    })?;
    Ok(super::created(&json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201})))
}

/// Deletes a pod, with a condition that says why.
pub fn evict(context: &mut Context<'_>) -> Result<Response<Body>, Status> {
    let eviction = super::body(context, "policy", "v1", "Eviction")?;
    let name = context.info.name.clone();
    let given = meta::text(&eviction, "name");
    if given != name {
        return Err(Status::bad_request("name in URL does not match name in Eviction object"));
    }
    let mut options = context.write_options()?;
    let deletion = delete::from_parts(context, &eviction["deleteOptions"])?;
    options.dry_run |= deletion.dry_run;
    let budgets = ResourceId::new("policy", "poddisruptionbudgets");
    if !context.server.store.all(budgets, &context.info.namespace).is_empty() {
        context.warnings.push("PodDisruptionBudgets are not enforced: this eviction did not weigh them".to_owned());
    }
    if !options.dry_run {
        change_pod(context, &name, &options, |old| {
            let mut new = old.clone();
            set_condition(
                &mut new,
                json!({
                    "type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
                    "message": "Eviction API: evicting",
                }),
            );
            Ok(new)
        })?;
    }
    delete::delete_one(context, &name, &deletion)?;
    Ok(super::created(&json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201})))
}

fn change_pod(
    context: &mut Context<'_>,
    name: &str,
    options: &WriteOptions,
    mut change: impl FnMut(&Value) -> Result<Value, Option<Status>>,
) -> Result<(), Status> {
    let row = registry::find("", "v1", "pods").unwrap_or(context.row);
    let info = RequestInfo {
        resource: "pods".to_owned(),
        subresource: "binding".to_owned(),
        name: name.to_owned(),
        ..context.info.clone()
    };
    let mut inner = Context {
        server: context.server,
        info: &info,
        row,
        query: context.query,
        user: context.user,
        headers: context.headers,
        body: context.body,
        warnings: Vec::new(),
    };
    let options = WriteOptions { validation: FieldValidation::Ignore, ..options.clone() };
    write::update(&mut inner, Part::Subresource, &options, "Patch", |_, old| match old {
        Some(old) => change(old),
        None => Err(None),
    })?;
    Ok(())
}

/// `podutil.UpdatePodCondition`
fn set_condition(pod: &mut Value, mut condition: Value) {
    condition["lastProbeTime"] = Value::Null;
    condition["lastTransitionTime"] = meta::now().into();
    let conditions = meta::child(pod, "status").entry("conditions").or_insert_with(|| json!([]));
    if conditions.is_null() {
        *conditions = json!([]);
    }
    let Some(conditions) = conditions.as_array_mut() else { return };
    match conditions.iter_mut().find(|other| other["type"] == condition["type"]) {
        Some(slot) => *slot = condition,
        None => conditions.push(condition),
    }
}
