//! Questions about rights: who am I, may I, may they, what may I.
//!
//! Follows `pkg/registry/authorization/*` and `pkg/registry/authentication/selfsubjectreview`.

use axum::body::Body;
use http::Response;
use serde_json::{Value, json};

use super::super::context::Context;
use super::super::rbac::Decision;
use super::super::request::RequestInfo;
use super::super::status::{FieldError, Status};
use super::super::user::User;
use super::token::{strings, user_info};
use crate::embedded::apiserver::meta;

/// `selfsubjectreviews`
pub fn who_am_i(context: &mut Context<'_>) -> Result<Response<Body>, Status> {
    let mut review = super::body(context, "authentication.k8s.io", "v1", "SelfSubjectReview")?;
    meta::metadata(&mut review).insert("creationTimestamp".to_owned(), meta::now().into());
    review["status"] = json!({"userInfo": user_info(context.user)});
    Ok(super::created(&review))
}

/// `selfsubjectaccessreviews`, `subjectaccessreviews`, `localsubjectaccessreviews`
pub fn may(context: &mut Context<'_>) -> Result<Response<Body>, Status> {
    let kind = context.row.kind;
    let mut review = super::body(context, "authorization.k8s.io", "v1", kind)?;
    let spec = &review["spec"];
    let user = if kind == "SelfSubjectAccessReview" {
        context.user.clone()
    } else {
        let user = User {
            name: spec["user"].as_str().unwrap_or_default().to_owned(),
            groups: strings(spec.get("groups")),
            uid: spec["uid"].as_str().unwrap_or_default().to_owned(),
            ..User::default()
        };
        if user.name.is_empty() && user.groups.is_empty() {
            let error = FieldError::invalid("spec.user", "", "at least one of user or group must be specified");
            return Err(Status::invalid(context.row.group_kind(), "", vec![error]));
        }
        user
    };
    let info = asked(context, spec)?;
    review["status"] = match context.server.authorizer.decide(&context.server.store, &user, &info) {
        Decision::Allowed => json!({"allowed": true}),
        Decision::Denied(reason) if reason.is_empty() => json!({"allowed": false}),
        Decision::Denied(reason) => json!({"allowed": false, "reason": reason}),
    };
    Ok(super::created(&review))
}

fn asked(context: &Context<'_>, spec: &Value) -> Result<RequestInfo, Status> {
    let invalid = |field: &str, detail: &str| {
        Status::invalid(context.row.group_kind(), "", vec![FieldError::invalid(field, Value::Null, detail)])
    };
    let (resource, path) = (&spec["resourceAttributes"], &spec["nonResourceAttributes"]);
    if resource.is_null() == path.is_null() {
        let detail = if resource.is_null() {
            "exactly one of nonResourceAttributes or resourceAttributes must be specified"
        } else {
            "cannot be specified in combination with resourceAttributes"
        };
        return Err(invalid("spec.nonResourceAttributes", detail));
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    if resource.is_null() {
        return Ok(RequestInfo {
            verb: verb(&text(&path["verb"])),
            path: text(&path["path"]),
            ..RequestInfo::default()
        });
    }
    let namespace = text(&resource["namespace"]);
    if context.row.namespaced && namespace != context.info.namespace {
        return Err(invalid(
            "spec.resourceAttributes.namespace",
            &format!("must match metadata.namespace {}", context.info.namespace),
        ));
    }
    Ok(RequestInfo {
        is_resource: true,
        verb: verb(&text(&resource["verb"])),
        group: text(&resource["group"]),
        version: text(&resource["version"]),
        namespace,
        resource: text(&resource["resource"]),
        subresource: text(&resource["subresource"]),
        name: text(&resource["name"]),
        ..RequestInfo::default()
    })
}

/// A verb that is asked about. Verbs that no request has are known to roles only by `*`, apart from these.
fn verb(text: &str) -> &'static str {
    const KNOWN: [&str; 23] = [
        "get",
        "list",
        "watch",
        "create",
        "update",
        "patch",
        "delete",
        "deletecollection",
        "head",
        "post",
        "put",
        "options",
        "bind",
        "escalate",
        "impersonate",
        "use",
        "approve",
        "sign",
        "attest",
        "proxy",
        "redirect",
        "*",
        "connect",
    ];
    KNOWN.into_iter().find(|known| *known == text).unwrap_or("\u{0}")
}

/// `selfsubjectrulesreviews`
pub fn rules(context: &mut Context<'_>) -> Result<Response<Body>, Status> {
    let mut review = super::body(context, "authorization.k8s.io", "v1", "SelfSubjectRulesReview")?;
    let namespace = review["spec"]["namespace"].as_str().unwrap_or_default().to_owned();
    if namespace.is_empty() {
        return Err(Status::bad_request("no namespace on request"));
    }
    let mut rules = context.server.authorizer.rules(&context.server.store, context.user, &namespace);
    rules.dedup();
    let (mut resources, mut paths) = (Vec::new(), Vec::new());
    for rule in rules {
        if !rule.resources.is_empty() {
            let mut item = json!({"verbs": rule.verbs, "apiGroups": rule.api_groups, "resources": rule.resources});
            if !rule.resource_names.is_empty() {
                item["resourceNames"] = json!(rule.resource_names);
            }
            resources.push(item);
        }
        if !rule.non_resource_urls.is_empty() {
            paths.push(json!({"verbs": rule.verbs, "nonResourceURLs": rule.non_resource_urls}));
        }
    }
    review["status"] = json!({"resourceRules": resources, "nonResourceRules": paths, "incomplete": false});
    Ok(super::created(&review))
}
