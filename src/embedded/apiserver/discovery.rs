//! What there is: discovery, version, health, OpenAPI.
//!
//! Follows `apiserver/pkg/endpoints/discovery/*` and `apiserver/pkg/server/{healthz,routes}`. The documents are
//! made from the registry's rows when they are asked for.

use axum::body::Body;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use serde_json::{Value, json};

use super::Server;
use super::negotiate;
use super::read;
use super::registry::{ROWS, Row, Subresource};
use super::request::RequestInfo;
use super::schemas;
use super::status::Status;

/// Answers a request that isn't for a resource.
pub fn non_resource(
    server: &Server,
    info: &RequestInfo,
    headers: &HeaderMap,
    method: &Method,
) -> Result<Response<Body>, Status> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return Err(Status::no_such_resource());
    }
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    let path = info.path.trim_end_matches('/');
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    let ok = |value: Value| Ok(read::json_value(StatusCode::OK, &value));
    match parts.as_slice() {
        ["api"] if negotiate::wants_aggregated_discovery(accept) => Ok(aggregated(&[""])),
        ["apis"] if negotiate::wants_aggregated_discovery(accept) => Ok(aggregated(&groups())),
        ["api"] => ok(json!({
            "kind": "APIVersions", "versions": ["v1"],
            "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": host(headers)}],
        })),
        ["apis"] => {
            let groups: Vec<Value> = groups().into_iter().map(group).collect();
            ok(json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}))
        }
        ["apis", name] if groups().contains(name) => {
            let mut group = group(name);
            group["kind"] = "APIGroup".into();
            group["apiVersion"] = "v1".into();
            ok(group)
        }
        ["api", version] => resources("", version).map(|list| read::json_value(StatusCode::OK, &list)),
        ["apis", group, version] => resources(group, version).map(|list| read::json_value(StatusCode::OK, &list)),
        ["version"] => ok(version()),
        ["healthz" | "livez" | "readyz", ..] => Ok(text("ok")),
        ["openapi", "v3"] => Ok(schemas::openapi_root()),
        ["openapi", "v3", rest @ ..] => schemas::openapi_group(&rest.join("/")),
        ["openid", "v1", "jwks"] => ok(server.authenticator.signer.key_set()),
        [".well-known", "openid-configuration"] => ok(json!({
            "issuer": super::authn::jwt::ISSUER,
            "jwks_uri": format!("https://{}/openid/v1/jwks", host(headers)),
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        })),
        [""] => ok(json!({"paths": paths()})),
        _ => Err(Status::no_such_resource()),
    }
}

fn text(text: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn host(headers: &HeaderMap) -> &str {
    headers.get(header::HOST).and_then(|value| value.to_str().ok()).unwrap_or("kubernetes.default.svc")
}

/// What this claims to be: Kubernetes' version whose API it serves.
fn version() -> Value {
    json!({
        "major": "1", "minor": "36", "gitVersion": "v1.36.0", "gitCommit": "", "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z", "goVersion": "", "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, architecture()),
        "emulationMajor": "1", "emulationMinor": "36", "minCompatibilityMajor": "1", "minCompatibilityMinor": "35",
    })
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn groups() -> Vec<&'static str> {
    let mut groups: Vec<&'static str> = Vec::new();
    for row in ROWS.iter().filter(|row| !row.group.is_empty()) {
        if !groups.contains(&row.group) {
            groups.push(row.group);
        }
    }
    groups
}

fn versions(group: &str) -> Vec<&'static str> {
    let mut versions: Vec<&'static str> = Vec::new();
    for row in ROWS.iter().filter(|row| row.group == group) {
        if !versions.contains(&row.version) {
            versions.push(row.version);
        }
    }
    versions
}

fn group(name: &str) -> Value {
    let versions: Vec<Value> = versions(name)
        .into_iter()
        .map(|version| json!({"groupVersion": format!("{name}/{version}"), "version": version}))
        .collect();
    json!({"name": name, "preferredVersion": versions.first(), "versions": versions})
}

fn paths() -> Vec<String> {
    let mut paths: Vec<String> =
        ["/api", "/api/v1", "/apis", "/healthz", "/livez", "/openapi/v3", "/readyz", "/version"]
            .map(str::to_owned)
            .into();
    for group in groups() {
        paths.push(format!("/apis/{group}"));
        paths.extend(versions(group).into_iter().map(|version| format!("/apis/{group}/{version}")));
    }
    paths.sort();
    paths
}

/// Plain discovery of one version: an `APIResourceList`.
fn resources(group: &str, version: &str) -> Result<Value, Status> {
    let rows: Vec<&Row> = ROWS.iter().filter(|row| row.group == group && row.version == version).collect();
    let first = rows.first().ok_or_else(Status::no_such_resource)?;
    let mut list = Vec::new();
    for row in &rows {
        let mut resource = json!({
            "name": row.plural, "singularName": row.singular, "namespaced": row.namespaced,
            "kind": row.kind, "verbs": row.verbs,
        });
        if !row.short_names.is_empty() {
            resource["shortNames"] = json!(row.short_names);
        }
        if !row.categories.is_empty() {
            resource["categories"] = json!(row.categories);
        }
        list.push(resource);
        for subresource in row.subresources {
            let mut entry = json!({
                "name": format!("{}/{}", row.plural, subresource.name), "singularName": "",
                "namespaced": row.namespaced, "kind": subresource.kind, "verbs": subresource.verbs,
            });
            if (subresource.group, subresource.version) != (row.group, row.version) {
                entry["group"] = subresource.group.into();
                entry["version"] = subresource.version.into();
            }
            list.push(entry);
        }
    }
    Ok(json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": first.api_version(), "resources": list}))
}

/// `apidiscovery.k8s.io/v2`: everything in one document.
fn aggregated(groups: &[&str]) -> Response<Body> {
    let items: Vec<Value> = groups
        .iter()
        .map(|group| {
            let versions: Vec<Value> = versions(group)
                .into_iter()
                .map(|version| {
                    let rows = ROWS.iter().filter(|row| row.group == *group && row.version == version);
                    let resources: Vec<Value> = rows.map(aggregated_resource).collect();
                    json!({"version": version, "freshness": "Current", "resources": resources})
                })
                .collect();
            let metadata = if group.is_empty() { json!({}) } else { json!({"name": group}) };
            json!({"metadata": metadata, "versions": versions})
        })
        .collect();
    let document = json!({
        "kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items,
    });
    let mut response = read::json_value(StatusCode::OK, &document);
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"),
    );
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept"));
    response
}

fn aggregated_resource(row: &Row) -> Value {
    let mut resource = json!({
        "resource": row.plural,
        "responseKind": {"group": row.group, "version": row.version, "kind": row.kind},
        "scope": if row.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": row.singular,
        "verbs": row.verbs,
    });
    if !row.short_names.is_empty() {
        resource["shortNames"] = json!(row.short_names);
    }
    if !row.categories.is_empty() {
        resource["categories"] = json!(row.categories);
    }
    if !row.subresources.is_empty() {
        resource["subresources"] = row.subresources.iter().map(aggregated_subresource).collect();
    }
    resource
}

fn aggregated_subresource(subresource: &Subresource) -> Value {
    json!({
        "subresource": subresource.name,
        "responseKind": {"group": subresource.group, "version": subresource.version, "kind": subresource.kind},
        "verbs": subresource.verbs,
    })
}
