//! Deletion: at once, gracefully, or when the last finalizer is gone.
//!
//! Follows `apiserver/pkg/registry/generic/registry/store.go` (`Delete`, `deletionFinalizersForGarbageCollection`,
//! `ShouldDeleteDuringUpdate`), `registry/rest/delete.go` (`BeforeDelete`) and
//! `pkg/registry/core/{pod/strategy.go,namespace/storage/storage.go}`.

use std::sync::Arc;

use axum::body::Body;
use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::context::Context;
use super::registry::Row;
use super::status::{FieldError, Status};
use super::store::{Key, Stored, Write};
use super::{admission, convert, meta, read};

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// `metav1.DeleteOptions`, from body and query.
#[derive(Debug, Clone, Default)]
pub struct DeleteOptions {
    /// Seconds; `None` is the object's own.
    pub grace: Option<i64>,
    /// `Orphan`, `Background` or `Foreground`; `None` is the kind's own.
    pub propagation: Option<String>,
    /// Only if the object is this one.
    pub uid: Option<String>,
    /// Only if the object is at this version.
    pub resource_version: Option<String>,
    /// Everything but the commit.
    pub dry_run: bool,
}

/// What became of a deletion.
pub enum Deletion {
    /// It is gone; this was its last state.
    Gone(Arc<Stored>),
    /// It is going: something must still happen.
    Going(Arc<Stored>),
}

/// Answers a deletion.
pub fn delete(context: &mut Context<'_>) -> Result<Response<Body>, Status> {
    let options = options(context)?;
    let name = context.info.name.clone();
    match delete_one(context, &name, &options)? {
        Deletion::Gone(stored) if !context.row.returns_deleted() => {
            Ok(read::json_value(StatusCode::OK, &success(context.row, &stored)))
        }
        Deletion::Gone(stored) | Deletion::Going(stored) => read::object(context, StatusCode::OK, &stored),
    }
}

/// Answers a collection's deletion with the list of what was deleted.
pub fn delete_collection(context: &mut Context<'_>) -> Result<Response<Body>, Status> {
    let options = options(context)?;
    let selector = read::selector(context)?;
    let mut items = Vec::new();
    for stored in context.server.store.all(context.row.id(), context.namespace()) {
        if !selector.matches(&stored.index) {
            continue;
        }
        match delete_in(context, &stored.index.namespace, &stored.index.name, &options) {
            Ok(Deletion::Gone(stored) | Deletion::Going(stored)) => items.push(convert::value(context.row, &stored)),
            Err(status) if status.code == 404 => {}
            Err(status) => return Err(status),
        }
    }
    Ok(read::json_value(
        StatusCode::OK,
        &json!({
            "kind": format!("{}List", context.row.kind),
            "apiVersion": context.row.api_version(),
            "metadata": {"resourceVersion": context.server.store.revision().to_string()},
            "items": items,
        }),
    ))
}

fn success(row: &Row, stored: &Stored) -> Value {
    let mut details = json!({"name": &*stored.index.name, "kind": row.plural, "uid": &*stored.index.uid});
    if !row.group.is_empty() {
        details["group"] = row.group.into();
    }
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
}

/// Reads the options of a deletion: the body, then the query.
pub fn options(context: &Context<'_>) -> Result<DeleteOptions, Status> {
    let body = context.options_body()?;
    from_parts(context, &body)
}

/// Options from a `DeleteOptions` value, with the query's on top.
pub fn from_parts(context: &Context<'_>, body: &Value) -> Result<DeleteOptions, Status> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let query = context.query;
    let grace = match query.get("gracePeriodSeconds") {
        Some(text) => Some(text.parse().map_err(|_| Status::bad_request("gracePeriodSeconds: not a number"))?),
        None => body["gracePeriodSeconds"].as_i64(),
    };
    let propagation = query.get("propagationPolicy").map(str::to_owned).or_else(|| text(&body["propagationPolicy"]));
    let propagation =
        match (propagation, body["orphanDependents"].as_bool().or(query.optional_flag("orphanDependents"))) {
            (Some(policy), _) if !matches!(policy.as_str(), "Orphan" | "Background" | "Foreground") => {
                let error = FieldError {
                    kind: super::status::FieldErrorKind::NotSupported,
                    field: "propagationPolicy".to_owned(),
                    value: Some(policy.into()),
                    detail: "supported values: \"Background\", \"Foreground\", \"Orphan\"".to_owned(),
                };
                let kind = super::status::GroupResource { group: "meta.k8s.io", resource: "DeleteOptions" };
                return Err(Status::invalid(kind, "", vec![error]));
            }
            (Some(policy), _) => Some(policy),
            (None, Some(true)) => Some("Orphan".to_owned()),
            (None, _) => None,
        };
    let dry_run = body["dryRun"].as_array().is_some_and(|list| list.iter().any(|item| item == "All"))
        || query.all("dryRun").any(|value| value == "All");
    Ok(DeleteOptions {
        grace,
        propagation,
        uid: text(&body["preconditions"]["uid"]),
        resource_version: text(&body["preconditions"]["resourceVersion"]),
        dry_run,
    })
}

/// Deletes one object of the request's resource and namespace.
pub fn delete_one(context: &Context<'_>, name: &str, options: &DeleteOptions) -> Result<Deletion, Status> {
    let namespace = context.namespace().to_owned();
    delete_in(context, &namespace, name, options)
}

fn delete_in(context: &Context<'_>, namespace: &str, name: &str, options: &DeleteOptions) -> Result<Deletion, Status> {
    let row = context.row;
    admission::may_delete(context, name)?;
    loop {
        let current = context
            .server
            .store
            .get(row.id(), namespace, name)
            .ok_or_else(|| Status::not_found(row.resource(), name))?;
        check_preconditions(row, name, &current, options)?;
        let mut object = current.value();
        let plan = plan(row, &mut object, options);
        if options.dry_run {
            let stored = Arc::new(Stored::new(row.id(), &object, current.index.revision));
            return Ok(if plan == Plan::Remove { Deletion::Gone(stored) } else { Deletion::Going(stored) });
        }
        let write = match plan {
            Plan::Nothing => return Ok(Deletion::Going(current)),
            Plan::Mark => Write::Put(&mut object),
            Plan::Remove => Write::Remove(&mut object),
        };
        let Ok(stored) = context.server.store.commit(row.id(), Key::new(namespace, name), Some(&current), write) else {
            continue;
        };
        if plan == Plan::Remove {
            admission::removed(context.server, row, &object);
            return Ok(Deletion::Gone(stored));
        }
        return Ok(Deletion::Going(stored));
    }
}

fn check_preconditions(row: &Row, name: &str, current: &Stored, options: &DeleteOptions) -> Result<(), Status> {
    if let Some(uid) = options.uid.as_deref().filter(|uid| *uid != &*current.index.uid) {
        return Err(Status::conflict(
            row.resource(),
            name,
            &format!(
                "the UID in the precondition ({uid}) does not match the UID in record ({}). The object might have been deleted and then recreated",
                current.index.uid
            ),
        ));
    }
    let revision = current.index.revision.to_string();
    if let Some(wanted) = options.resource_version.as_deref().filter(|wanted| *wanted != revision) {
        return Err(Status::conflict(
            row.resource(),
            name,
            &format!(
                "the ResourceVersion in the precondition ({wanted}) does not match the ResourceVersion in record ({revision}). The object might have been modified"
            ),
        ));
    }
    Ok(())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plan {
    /// It is going already, and not faster for this.
    Nothing,
    /// It is marked as going.
    Mark,
    /// It goes now.
    Remove,
}

/// Decides what a deletion does, and does it to the object.
fn plan(row: &Row, object: &mut Value, options: &DeleteOptions) -> Plan {
    let before = object.clone();
    set_gc_finalizers(row, object, options);
    let graceful = if (row.group, row.plural) == ("", "pods") { Some(pod_grace(object, options)) } else { None };
    let already = object["metadata"]["deletionTimestamp"].is_string();
    if (row.group, row.plural) == ("", "namespaces") {
        object["status"]["phase"] = "Terminating".into();
        let held = object["spec"]["finalizers"].as_array().is_some_and(|list| !list.is_empty())
            || meta::has_finalizers(object);
        mark(object, 0, already);
        return if !held {
            Plan::Remove
        } else if *object == before {
            Plan::Nothing
        } else {
            Plan::Mark
        };
    }
    match graceful {
        Some(grace) if already => {
            // A second deletion may only shorten the time (`BeforeDelete`).
            let remaining = object["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0);
            if options.grace.is_none() || grace >= remaining {
                if remaining == 0 && !meta::has_finalizers(object) {
                    return Plan::Remove;
                }
                return if *object == before { Plan::Nothing } else { Plan::Mark };
            }
            shorten(object, grace, remaining);
            if grace == 0 && !meta::has_finalizers(object) { Plan::Remove } else { Plan::Mark }
        }
        Some(grace) if grace > 0 || meta::has_finalizers(object) => {
            mark(object, grace, false);
            Plan::Mark
        }
        _ if meta::has_finalizers(object) => {
            mark(object, 0, already);
            if *object == before { Plan::Nothing } else { Plan::Mark }
        }
        _ => Plan::Remove,
    }
}

/// `podStrategy.CheckGracefulDelete`
fn pod_grace(pod: &Value, options: &DeleteOptions) -> i64 {
    let asked = options.grace.or_else(|| pod["spec"]["terminationGracePeriodSeconds"].as_i64()).unwrap_or(0);
    let unscheduled = pod["spec"]["nodeName"].as_str().unwrap_or_default().is_empty();
    let ended = matches!(pod["status"]["phase"].as_str(), Some("Failed" | "Succeeded"));
    if unscheduled || ended {
        0
    } else if asked < 0 {
        1
    } else {
        asked
    }
}

fn mark(object: &mut Value, grace: i64, already: bool) {
    if already {
        return;
    }
    let at = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(grace);
    let metadata = meta::metadata(object);
    metadata.insert("deletionTimestamp".to_owned(), Value::String(meta::timestamp(at)));
    metadata.insert("deletionGracePeriodSeconds".to_owned(), grace.into());
    if let Some(generation) = metadata.get("generation").and_then(Value::as_i64).filter(|&generation| generation > 0) {
        metadata.insert("generation".to_owned(), (generation + 1).into());
    }
}

fn shorten(object: &mut Value, grace: i64, remaining: i64) {
    let metadata = meta::metadata(object);
    let at = metadata
        .get("deletionTimestamp")
        .and_then(Value::as_str)
        .and_then(|text| text.parse::<jiff::Timestamp>().ok())
        .unwrap_or_else(jiff::Timestamp::now);
    let at = at - jiff::SignedDuration::from_secs(remaining - grace);
    metadata.insert("deletionTimestamp".to_owned(), Value::String(meta::timestamp(at)));
    metadata.insert("deletionGracePeriodSeconds".to_owned(), grace.into());
}

/// `deletionFinalizersForGarbageCollection`: the policy becomes finalizers for the garbage collector.
fn set_gc_finalizers(row: &Row, object: &mut Value, options: &DeleteOptions) {
    let finalizers: Vec<String> = object["metadata"]["finalizers"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect();
    let has = |name: &str| finalizers.iter().any(|finalizer| finalizer == name);
    // Only jobs and replication controllers once defaulted to orphaning, and only in versions that are gone.
    let (orphan, foreground) = match options.propagation.as_deref() {
        Some("Orphan") => (true, false),
        Some("Foreground") => (false, true),
        Some(_) => (false, false),
        None => (has(ORPHAN), !has(ORPHAN) && has(FOREGROUND)),
    };
    // Events are never owners.
    if row.plural == "events" || (orphan == has(ORPHAN) && foreground == has(FOREGROUND)) {
        return;
    }
    let mut wanted: Vec<Value> =
        finalizers.into_iter().filter(|name| name != ORPHAN && name != FOREGROUND).map(Value::String).collect();
    if orphan {
        wanted.push(ORPHAN.into());
    }
    if foreground {
        wanted.push(FOREGROUND.into());
    }
    let metadata = meta::metadata(object);
    if wanted.is_empty() {
        metadata.remove("finalizers");
    } else {
        metadata.insert("finalizers".to_owned(), Value::Array(wanted));
    }
}

/// Whether an update took the last reason to keep an object that is being deleted (`ShouldDeleteDuringUpdate`).
pub fn finished(row: &Row, new: &Value, old: &Value) -> bool {
    if new["metadata"]["deletionTimestamp"].is_null() || meta::has_finalizers(new) {
        return false;
    }
    if (row.group, row.plural) == ("", "namespaces") {
        // namespace/storage.go, ShouldDeleteNamespaceDuringUpdate
        return new["spec"]["finalizers"].as_array().is_none_or(Vec::is_empty);
    }
    meta::has_finalizers(old) && new["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0) == 0
}

#[cfg(test)]
mod tests {
    use super::super::registry;
    use super::*;

    fn pod(node: &str) -> Value {
        json!({"metadata": {"name": "a", "generation": 1}, "spec": {"nodeName": node, "terminationGracePeriodSeconds": 30}})
    }

    #[test]
    fn a_running_pod_gets_its_grace_and_a_second_deletion_only_shortens_it() {
        let row = registry::find("", "v1", "pods").expect("a row");
        let mut object = pod("node");
        assert_eq!(plan(row, &mut object, &DeleteOptions::default()), Plan::Mark);
        assert_eq!(object["metadata"]["deletionGracePeriodSeconds"], 30);
        assert_eq!(object["metadata"]["generation"], 2);
        assert_eq!(plan(row, &mut object, &DeleteOptions { grace: Some(60), ..Default::default() }), Plan::Nothing);
        assert_eq!(plan(row, &mut object, &DeleteOptions { grace: Some(5), ..Default::default() }), Plan::Mark);
        assert_eq!(object["metadata"]["deletionGracePeriodSeconds"], 5);
        assert_eq!(plan(row, &mut object, &DeleteOptions { grace: Some(0), ..Default::default() }), Plan::Remove);
        assert_eq!(plan(row, &mut pod(""), &DeleteOptions::default()), Plan::Remove);
    }

    #[test]
    fn policies_become_finalizers() {
        let row = registry::find("apps", "v1", "deployments").expect("a row");
        let foreground = DeleteOptions { propagation: Some("Foreground".to_owned()), ..Default::default() };
        let mut object = json!({"metadata": {"name": "a", "generation": 1}});
        assert_eq!(plan(row, &mut object, &foreground), Plan::Mark);
        assert_eq!(object["metadata"]["finalizers"], json!(["foregroundDeletion"]));
        let old = object.clone();
        assert_eq!(plan(row, &mut object, &foreground), Plan::Nothing);
        meta::metadata(&mut object).remove("finalizers");
        assert!(finished(row, &object, &old));
        assert_eq!(plan(row, &mut json!({"metadata": {"name": "a"}}), &DeleteOptions::default()), Plan::Remove);
    }
}
