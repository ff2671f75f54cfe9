//! From a request to its answer: who asks, may they, and which operation it is.

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, header};
use http_body_util::{BodyExt as _, Limited};
use tokio_util::sync::CancellationToken;

use super::context::Context;
use super::request::{Query, RequestInfo};
use super::status::Status;
use super::user::User;
use super::write::Part;
use super::{Shared, delete, discovery, patch, rbac, read, registry, subresource, watch, write};

/// The longest body that is read (`MaxRequestBodyBytes`).
const LONGEST_BODY: usize = 3 << 20;

/// Answers one request. `user` is given when the identity is already proved.
pub async fn handle(
    server: Shared,
    user: Option<User>,
    request: Request<Body>,
    shutdown: CancellationToken,
) -> Response<Body> {
    match answer(server, user, request, shutdown).await {
        Ok(response) => response,
        Err(status) => status.into_response(),
    }
}

async fn answer(
    server: Shared,
    user: Option<User>,
    request: Request<Body>,
    shutdown: CancellationToken,
) -> Result<Response<Body>, Status> {
    let query = Query::parse(request.uri().query());
    let info = RequestInfo::parse(request.method(), request.uri().path(), &query);
    let user = match user {
        Some(user) => user,
        None => server.authenticator.authenticate(&server.store, request.headers())?,
    };
    let user = impersonated(&server, user, request.headers())?;
    rbac::authorize(&server, &user, &info)?;
    if !info.is_resource {
        return discovery::non_resource(&server, &info, request.headers(), request.method());
    }
    let row = registry::find(&info.group, &info.version, &info.resource).ok_or_else(Status::no_such_resource)?;
    if let Some(node) = subresource::node_request(&info) {
        return subresource::proxy(&server, &info, &query, node, request).await;
    }
    let (parts, body) = request.into_parts();
    let body = collect(&parts.method, body).await?;
    let mut context = Context {
        server: &server,
        info: &info,
        row,
        query: &query,
        user: &user,
        headers: &parts.headers,
        body: &body,
        warnings: Vec::new(),
    };
    let mut result = dispatch(&mut context, &server, shutdown);
    let warnings = std::mem::take(&mut context.warnings);
    if let Ok(response) = &mut result {
        warn(response, &warnings);
        return result;
    }
    result.or_else(|status| {
        let mut response = status.into_response();
        warn(&mut response, &warnings);
        Ok(response)
    })
}

async fn collect(method: &Method, body: Body) -> Result<Bytes, Status> {
    if matches!(*method, Method::GET | Method::HEAD) {
        return Ok(Bytes::new());
    }
    match Limited::new(body, LONGEST_BODY).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => Err(Status::new(
            http::StatusCode::PAYLOAD_TOO_LARGE,
            "RequestEntityTooLarge",
            format!("Request entity too large: limit is {LONGEST_BODY}"),
        )),
        Err(error) => Err(Status::bad_request(error.to_string())),
    }
}

fn dispatch(context: &mut Context<'_>, server: &Shared, shutdown: CancellationToken) -> Result<Response<Body>, Status> {
    let info = context.info;
    if !info.subresource.is_empty() {
        return subresource::dispatch(context);
    }
    if context.row.is_virtual() {
        return subresource::virtual_resource(context);
    }
    let served = |verb: &str| context.row.verbs.contains(&verb);
    if !served(info.verb) {
        return Err(Status::method_not_allowed());
    }
    // Lists and deletions across namespaces are served, other operations need one.
    if context.row.namespaced && info.namespace.is_empty() && !matches!(info.verb, "list" | "watch") {
        return Err(match info.verb {
            "create" | "deletecollection" => Status::method_not_allowed(),
            _ => Status::no_such_resource(),
        });
    }
    if !context.row.namespaced && !info.namespace.is_empty() && context.row.plural != "namespaces" {
        return Err(Status::no_such_resource());
    }
    match info.verb {
        "get" => read::get(context),
        "list" => read::list(context),
        "watch" => watch::watch(context, server, shutdown),
        "create" => write::post(context),
        "update" => write::put(context, Part::Main),
        "patch" => patch::patch(context, Part::Main),
        "delete" => delete::delete(context),
        "deletecollection" => delete::delete_collection(context),
        _ => Err(Status::method_not_allowed()),
    }
}

/// `Impersonate-User` and `Impersonate-Group`, for those who may (`endpoints/filters/impersonation`).
fn impersonated(server: &Shared, user: User, headers: &http::HeaderMap) -> Result<User, Status> {
    let text = |value: &HeaderValue| value.to_str().unwrap_or_default().to_owned();
    let Some(name) = headers.get("impersonate-user").map(text) else {
        return Ok(user);
    };
    let groups: Vec<String> = headers.get_all("impersonate-group").iter().map(text).collect();
    let allowed = |resource: &str, name: &str| {
        let info = RequestInfo {
            is_resource: true,
            verb: "impersonate",
            resource: resource.to_owned(),
            name: name.to_owned(),
            ..RequestInfo::default()
        };
        rbac::authorize(server, &user, &info)
    };
    match name.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':')) {
        Some((namespace, account)) => {
            let info = RequestInfo {
                is_resource: true,
                verb: "impersonate",
                resource: "serviceaccounts".to_owned(),
                namespace: namespace.to_owned(),
                name: account.to_owned(),
                ..RequestInfo::default()
            };
            rbac::authorize(server, &user, &info)?;
            let mut account = User::service_account(namespace, account);
            if !groups.is_empty() {
                groups.iter().try_for_each(|group| allowed("groups", group))?;
                account.groups = groups;
            }
            Ok(account.known())
        }
        None => {
            allowed("users", &name)?;
            groups.iter().try_for_each(|group| allowed("groups", group))?;
            if name == "system:anonymous" {
                return Ok(User::anonymous());
            }
            Ok(User { name, groups, ..User::default() }.known())
        }
    }
}

/// Adds warnings as headers (`apimachinery/pkg/util/net/http.go`, `NewWarningHeader`).
fn warn(response: &mut Response<Body>, warnings: &[String]) {
    let mut seen = Vec::new();
    for warning in warnings {
        if seen.contains(&warning) {
            continue;
        }
        seen.push(warning);
        let text: String = warning.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let text = text.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{text}\"")) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
}
