//! Tokens of service accounts: issued (`serviceaccounts/token`) and judged (`tokenreviews`).
//!
//! Follows `pkg/registry/core/serviceaccount/storage/token.go`,
//! `pkg/apis/authentication/{v1/defaults.go,validation}` and `pkg/registry/authentication/tokenreview`.

use axum::body::Body;
use http::Response;
use serde_json::{Value, json};

use super::super::authn::jwt::{Claims, ISSUER, Kubernetes, Reference};
use super::super::context::Context;
use super::super::status::{FieldError, GroupResource, Status, quote};
use super::super::store::ResourceId;
use super::super::user::User;
use super::super::{meta, read};

const KIND: GroupResource<'static> = GroupResource { group: "authentication.k8s.io", resource: "TokenRequest" };
const DEFAULT_SECONDS: i64 = 3600;

/// Issues a token.
pub fn request(context: &mut Context<'_>) -> Result<Response<Body>, Status> {
    let mut request = super::body(context, "authentication.k8s.io", "v1", "TokenRequest")?;
    let account = read::find(context)?;
    let name = context.info.name.clone();
    let namespace = context.info.namespace.clone();
    for (field, expected) in [("name", &name), ("namespace", &namespace)] {
        let given = meta::text(&request, field);
        if !given.is_empty() && given != expected {
            let what = format!("must match the service account {field} if specified");
            let error = FieldError::invalid(&format!("metadata.{field}"), given, &what);
            return Err(Status::invalid(KIND, &name, vec![error]));
        }
    }
    let spec = meta::child(&mut request, "spec");
    let seconds = spec.get("expirationSeconds").and_then(Value::as_i64).unwrap_or(DEFAULT_SECONDS);
    spec.insert("expirationSeconds".to_owned(), seconds.into());
    let audiences = strings(spec.get("audiences"));
    let audiences = if audiences.is_empty() { vec![ISSUER.to_owned()] } else { audiences };
    spec.insert("audiences".to_owned(), json!(audiences));
    let mut errors = Vec::new();
    if seconds < 600 {
        errors.push(FieldError::invalid(
            "spec.expirationSeconds",
            seconds,
            "may not specify a duration less than 10 minutes",
        ));
    }
    if seconds > 1 << 32 {
        errors.push(FieldError::invalid(
            "spec.expirationSeconds",
            seconds,
            "may not specify a duration larger than 2^32 seconds",
        ));
    }
    if !errors.is_empty() {
        return Err(Status::invalid(KIND, "", errors));
    }
    let now = jiff::Timestamp::now();
    let mut claims = Claims {
        aud: audiences,
        exp: now.as_second() + seconds,
        iat: now.as_second(),
        iss: ISSUER.to_owned(),
        jti: meta::new_uid(),
        kubernetes: Kubernetes {
            namespace: namespace.clone(),
            serviceaccount: Reference { name: name.clone(), uid: account.index.uid.to_string() },
            ..Kubernetes::default()
        },
        nbf: now.as_second(),
        sub: format!("system:serviceaccount:{namespace}:{name}"),
    };
    let bound = spec.get("boundObjectRef").cloned().unwrap_or_default();
    if !bound.is_null() {
        bind(context, &bound, &mut claims)?;
    }
    let token = context
        .server
        .authenticator
        .signer
        .sign(&claims)
        .ok_or_else(|| Status::internal("failed to generate token"))?;
    let metadata = meta::metadata(&mut request);
    metadata.insert("name".to_owned(), name.into());
    metadata.insert("namespace".to_owned(), namespace.into());
    metadata.insert("uid".to_owned(), (*account.index.uid).into());
    metadata.insert("creationTimestamp".to_owned(), meta::timestamp(now).into());
    let expires = now + jiff::SignedDuration::from_secs(seconds);
    request["status"] = json!({"token": token, "expirationTimestamp": meta::timestamp(expires)});
    Ok(super::created(&request))
}

fn bind(context: &Context<'_>, bound: &Value, claims: &mut Claims) -> Result<(), Status> {
    let text = |field: &str| bound[field].as_str().unwrap_or_default();
    let (kind, name, uid) = (text("kind"), text("name"), text("uid"));
    let (resource, namespace): (_, &str) = match (text("apiVersion"), kind) {
        ("v1", "Pod") => ("pods", &context.info.namespace),
        ("v1", "Secret") => ("secrets", &context.info.namespace),
        ("v1", "Node") => ("nodes", ""),
        (version, kind) => {
            return Err(Status::bad_request(format!("cannot bind token to object of type {version}, Kind={kind}")));
        }
    };
    let store = &context.server.store;
    let found = store
        .get(ResourceId::new("", resource), namespace, name)
        .ok_or_else(|| Status::not_found(GroupResource { group: "", resource }, name))?;
    if !uid.is_empty() && uid != &*found.index.uid {
        return Err(Status::conflict(
            GroupResource { group: "", resource: kind },
            name,
            &format!(
                "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
            ),
        ));
    }
    let reference = Some(Reference { name: name.to_owned(), uid: found.index.uid.to_string() });
    match kind {
        "Pod" => {
            let pod = found.value();
            let account = pod["spec"]["serviceAccountName"].as_str().unwrap_or_default();
            if account != context.info.name {
                return Err(Status::bad_request(format!(
                    "cannot bind token for serviceaccount {} to pod running with different serviceaccount name.",
                    quote(&context.info.name)
                )));
            }
            claims.kubernetes.pod = reference;
            if let Some(node) = pod["spec"]["nodeName"].as_str().filter(|node| !node.is_empty()) {
                let uid = store.get(ResourceId::new("", "nodes"), "", node).map(|node| node.index.uid.to_string());
                claims.kubernetes.node = Some(Reference { name: node.to_owned(), uid: uid.unwrap_or_default() });
            }
        }
        "Secret" => claims.kubernetes.secret = reference,
        _ => claims.kubernetes.node = reference,
    }
    Ok(())
}

/// Says whose a token is.
pub fn review(context: &mut Context<'_>) -> Result<Response<Body>, Status> {
    let mut review = super::body(context, "authentication.k8s.io", "v1", "TokenReview")?;
    let token = review["spec"]["token"].as_str().unwrap_or_default().to_owned();
    if token.is_empty() {
        return Err(Status::bad_request("token is required for TokenReview in authentication"));
    }
    let audiences = strings(review["spec"].get("audiences"));
    let wanted = if audiences.is_empty() { vec![ISSUER.to_owned()] } else { audiences };
    review["status"] = match context.server.authenticator.token(&context.server.store, &token, &wanted) {
        Some((user, audiences)) => json!({"authenticated": true, "user": user_info(&user), "audiences": audiences}),
        None => json!({"user": {}, "error": "[invalid bearer token, token lookup failed]"}),
    };
    Ok(super::created(&review))
}

/// A user as the API shows it.
pub fn user_info(user: &User) -> Value {
    let mut info = json!({"username": user.name, "groups": user.groups});
    if !user.uid.is_empty() {
        info["uid"] = user.uid.clone().into();
    }
    if !user.extra.is_empty() {
        info["extra"] = json!(user.extra);
    }
    info
}

/// A list of texts.
pub fn strings(value: Option<&Value>) -> Vec<String> {
    value.and_then(Value::as_array).into_iter().flatten().filter_map(|item| item.as_str().map(str::to_owned)).collect()
}
