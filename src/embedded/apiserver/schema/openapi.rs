//! OpenAPI v3, made from the tables when asked for: one document per group and version.
//!
//! Follows `kube-openapi/pkg/handler3` (the index) and what kubectl reads: `kubectl/pkg/validation` and
//! `cli-runtime/pkg/resource/query_param_verifier_v3.go` look for a PATCH of the kind with `fieldValidation`,
//! `kubectl/pkg/cmd/apply` for `application/strategic-merge-patch+json`, `kubectl explain` for the GET of a resource's path.
//! Descriptions are left out: the tables have none.
//!
//! Nothing is kept: a document is built per request (well under a millisecond per 100 definitions, see the tests).

use std::collections::BTreeSet;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::RESOURCES;
use super::resources::Resource;
use super::tables::{self, Def, Kind, Type};

/// `/openapi/v3`: every path with the address of its document.
pub fn index() -> Value {
    let mut paths = Map::new();
    for row in RESOURCES {
        let path = prefix(row.group, row.version);
        // The tables never change while a binary runs, so its version is a good enough hash.
        let url = format!("/openapi/v3/{path}?hash={}", env!("CARGO_PKG_VERSION"));
        paths.insert(path, json!({"serverRelativeURL": url}));
    }
    json!({"paths": paths})
}

fn prefix(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}

/// The document of `path` (`apis/apps/v1`), or `None` if no resource is there.
pub fn document(path: &str) -> Option<Bytes> {
    let rows: Vec<&Resource> = RESOURCES.iter().filter(|row| prefix(row.group, row.version) == path).collect();
    let first = rows.first()?;
    let mut paths = Map::new();
    let mut schemas = Schemas::default();
    for (group, version, _, def) in tables::gvks() {
        if group == first.group && version == first.version {
            schemas.add(def);
        }
    }
    for row in rows {
        resource_paths(path, row, &mut paths);
        // A subresource's kind may be another group's (`Scale`).
        for sub in row.subresources {
            if let Some(def) = tables::lookup(sub.group, sub.version, sub.kind) {
                schemas.add(def);
            }
        }
    }
    let document = json!({"openapi": "3.0.0", "info": {"title": "Kubernetes", "version": "v1.36.0"},
        "paths": paths, "components": {"schemas": schemas.map}});
    serde_json::to_vec(&document).ok().map(Bytes::from)
}

fn resource_paths(prefix: &str, row: &Resource, paths: &mut Map<String, Value>) {
    let scope = if row.namespaced { "namespaces/{namespace}/" } else { "" };
    let base = format!("/{prefix}/{scope}{}", row.plural);
    let mut add = |path: String, gvk: Value, type_name: &str, verbs: &[&str], is_item: bool| {
        let mut item = Map::new();
        for (verb, method, action) in VERBS {
            let of_item = matches!(*verb, "get" | "update" | "patch" | "delete")
                || path.matches('{').count() > usize::from(row.namespaced) + 1;
            if verbs.contains(verb) && (of_item == is_item || path.ends_with("/status")) {
                item.insert((*method).to_owned(), operation(verb, action, &gvk, type_name));
            }
        }
        if !item.is_empty() {
            paths.insert(path, Value::Object(item));
        }
    };
    let gvk = json!({"group": row.group, "version": row.version, "kind": row.kind});
    add(base.clone(), gvk.clone(), row.type_name, row.verbs, false);
    add(format!("{base}/{{name}}"), gvk, row.type_name, row.verbs, true);
    for sub in row.subresources {
        let gvk = json!({"group": sub.group, "version": sub.version, "kind": sub.kind});
        let type_name = tables::lookup(sub.group, sub.version, sub.kind).map(Def::full_name).unwrap_or_default();
        add(format!("{base}/{{name}}/{}", sub.name), gvk, &type_name, sub.verbs, true);
    }
    if row.namespaced && row.has_verb("list") {
        let gvk = json!({"group": row.group, "version": row.version, "kind": row.kind});
        let list = operation("list", "list", &gvk, row.type_name);
        paths.insert(format!("/{prefix}/{}", row.plural), json!({"get": list}));
    }
}

/// Discovery's verb, the HTTP method, and `x-kubernetes-action`.
const VERBS: &[(&str, &str, &str)] = &[
    ("list", "get", "list"),
    ("create", "post", "post"),
    ("deletecollection", "delete", "deletecollection"),
    ("get", "get", "get"),
    ("update", "put", "put"),
    ("patch", "patch", "patch"),
    ("delete", "delete", "delete"),
];

const PATCHES: &[&str] = &[
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];

fn operation(verb: &str, action: &str, gvk: &Value, type_name: &str) -> Value {
    let query =
        |name: &str, ty: &str| json!({"name": name, "in": "query", "schema": {"type": ty, "uniqueItems": true}});
    let mut parameters = Vec::new();
    if matches!(verb, "create" | "update" | "patch") {
        parameters.extend(["dryRun", "fieldManager", "fieldValidation"].map(|name| query(name, "string")));
    }
    match verb {
        "patch" => parameters.push(query("force", "boolean")),
        "delete" | "deletecollection" => parameters.push(query("dryRun", "string")),
        "list" => parameters.extend(["fieldSelector", "labelSelector", "continue"].map(|name| query(name, "string"))),
        _ => {}
    }
    // Proxies and the like have no schema.
    let schema = if type_name.is_empty() {
        json!({"type": "string"})
    } else {
        json!({"$ref": format!("#/components/schemas/{type_name}")})
    };
    let body = json!({"schema": schema});
    let mut operation = json!({
        "parameters": parameters,
        "responses": {"200": {"description": "OK", "content": {"application/json": body}}},
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": gvk,
    });
    let content: Option<Map<String, Value>> = match verb {
        "patch" => {
            let patch = json!({"schema": {"type": "object"}});
            Some(PATCHES.iter().map(|&media| (media.to_owned(), patch.clone())).collect())
        }
        "create" | "update" => Some(std::iter::once(("*/*".to_owned(), body)).collect()),
        _ => None,
    };
    if let Some(content) = content {
        operation["requestBody"] = json!({"content": content, "required": true});
    }
    operation
}

/// The definitions that a document needs.
#[derive(Default)]
struct Schemas {
    map: Map<String, Value>,
    seen: BTreeSet<String>,
}

impl Schemas {
    fn add(&mut self, def: Def) {
        let name = def.full_name();
        if !self.seen.insert(name.clone()) {
            return;
        }
        let mut schema = match def.special() {
            Some(ty) => scalar(ty.kind()),
            None => json!({"type": "object"}),
        };
        let (mut properties, mut required) = (Map::new(), Vec::new());
        for field in def.fields() {
            if field.is_required() {
                required.push(Value::from(field.name()));
            }
            properties.insert(field.name().to_owned(), self.of(field.ty()));
        }
        if !properties.is_empty() {
            schema["properties"] = Value::Object(properties);
        }
        if !required.is_empty() {
            schema["required"] = Value::Array(required);
        }
        if def.is_atomic() {
            schema["x-kubernetes-map-type"] = "atomic".into();
        }
        let gvks: Vec<Value> = tables::gvks()
            .filter(|(.., other)| *other == def)
            .map(|(group, version, kind, _)| json!({"group": group, "version": version, "kind": kind}))
            .collect();
        if !gvks.is_empty() {
            schema["x-kubernetes-group-version-kind"] = Value::Array(gvks);
        }
        self.map.insert(name, schema);
    }

    fn of(&mut self, ty: Type) -> Value {
        let mut schema = match (ty.def(), ty.kind(), ty.element()) {
            (Some(def), ..) => {
                self.add(def);
                json!({"allOf": [{"$ref": format!("#/components/schemas/{}", def.full_name())}]})
            }
            (_, Kind::List, Some(element)) => json!({"type": "array", "items": self.of(element)}),
            (_, Kind::Map, Some(element)) => json!({"type": "object", "additionalProperties": self.of(element)}),
            (_, kind, _) => scalar(kind),
        };
        if ty.kind() == Kind::List {
            let keys: Vec<_> = ty.keys().collect();
            let list_type = match (ty.is_list_map(), ty.is_set()) {
                (true, _) => "map",
                (_, true) => "set",
                _ => "atomic",
            };
            schema["x-kubernetes-list-type"] = list_type.into();
            if !keys.is_empty() {
                schema["x-kubernetes-list-map-keys"] = json!(keys);
            }
        }
        let strategies: Vec<&str> =
            [(ty.patch_merge(), "merge"), (ty.retain_keys(), "retainKeys"), (ty.patch_replace(), "replace")]
                .into_iter()
                .filter_map(|(has, name)| has.then_some(name))
                .collect();
        if !strategies.is_empty() {
            schema["x-kubernetes-patch-strategy"] = strategies.join(",").into();
        }
        if let Some(key) = ty.merge_key() {
            schema["x-kubernetes-patch-merge-key"] = key.into();
        }
        schema
    }
}

fn scalar(kind: Kind) -> Value {
    match kind {
        Kind::String => json!({"type": "string"}),
        Kind::Bool => json!({"type": "boolean"}),
        Kind::Int32 => json!({"type": "integer", "format": "int32"}),
        Kind::Int64 => json!({"type": "integer", "format": "int64"}),
        Kind::Double => json!({"type": "number", "format": "double"}),
        Kind::Bytes => json!({"type": "string", "format": "byte"}),
        Kind::Quantity => json!({"oneOf": [{"type": "string"}, {"type": "number"}]}),
        Kind::IntOrString => json!({"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]}),
        Kind::Time | Kind::MicroTime => json!({"type": "string", "format": "date-time"}),
        Kind::RawExtension | Kind::FieldsV1 | Kind::Object => json!({"type": "object"}),
        _ => json!({}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_of_the_index_has_a_document_without_dangling_references() {
        let index = index();
        let paths = index["paths"].as_object().expect("paths");
        assert!(paths.contains_key("api/v1") && paths.contains_key("apis/apps/v1"));
        for path in paths.keys() {
            let text = document(path).expect("a document");
            let value: Value = serde_json::from_slice(&text).expect("JSON");
            let text = String::from_utf8_lossy(&text);
            for part in text.split("#/components/schemas/").skip(1) {
                let name = part.split('"').next().unwrap_or_default();
                assert!(value["components"]["schemas"].get(name).is_some(), "{path}: {name}");
            }
        }
        assert_eq!(document("apis/none/v1"), None);
    }

    #[test]
    fn what_kubectl_looks_for() {
        let value: Value = serde_json::from_slice(&document("apis/apps/v1").expect("apps")).expect("JSON");
        let patch = &value["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
        assert_eq!(patch["x-kubernetes-group-version-kind"]["kind"], "Deployment");
        let names: Vec<_> = patch["parameters"].as_array().into_iter().flatten().map(|p| &p["name"]).collect();
        assert!(names.contains(&&json!("fieldValidation")));
        assert!(patch["requestBody"]["content"].get("application/strategic-merge-patch+json").is_some());
        let containers = &value["components"]["schemas"]["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
        assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
        let list = &value["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments"];
        assert!(list.get("get").is_some() && list.get("post").is_some() && list.get("patch").is_none());
    }
}
