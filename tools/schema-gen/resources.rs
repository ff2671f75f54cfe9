//! Resources and subresources: the discovery document, and for the core group, which it leaves out, the paths.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::Input;

/// Group, version, kind.
pub type Gvk = (String, String, String);

#[derive(Default)]
pub struct Subresource {
    pub gvk: Gvk,
    pub verbs: Vec<String>,
}

#[derive(Default)]
pub struct Resource {
    pub gvk: Gvk,
    pub plural: String,
    pub singular: String,
    pub short_names: Vec<String>,
    pub categories: Vec<String>,
    pub namespaced: bool,
    pub verbs: Vec<String>,
    pub subresources: BTreeMap<String, Subresource>,
}

/// What discovery says of core resources and the paths don't (`pkg/registry/core/*/storage`, `ShortNames`, `Categories`).
const CORE: &[(&str, &[&str], &[&str])] = &[
    ("componentstatuses", &["cs"], &[]),
    ("configmaps", &["cm"], &[]),
    ("endpoints", &["ep"], &[]),
    ("events", &["ev"], &[]),
    ("limitranges", &["limits"], &[]),
    ("namespaces", &["ns"], &[]),
    ("nodes", &["no"], &[]),
    ("persistentvolumeclaims", &["pvc"], &[]),
    ("persistentvolumes", &["pv"], &[]),
    ("pods", &["po"], &["all"]),
    ("replicationcontrollers", &["rc"], &["all"]),
    ("resourcequotas", &["quota"], &[]),
    ("serviceaccounts", &["sa"], &[]),
    ("services", &["svc"], &["all"]),
];

fn strings(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn gvk_of(value: &Value, group: &str, version: &str) -> Gvk {
    let text = |key: &str| value[key].as_str().unwrap_or_default();
    let inherits = text("version").is_empty();
    let pick = |own: &str, outer: &str| if inherits { outer.to_owned() } else { own.to_owned() };
    (pick(text("group"), group), pick(text("version"), version), text("kind").to_owned())
}

/// The verb of discovery for a path's method and action.
fn verb(method: &str, action: &str) -> Option<&'static str> {
    Some(match (action, method) {
        ("connect", "get") => "get",
        ("connect" | "post", "post") => "create",
        ("connect" | "put", "put") => "update",
        ("connect" | "patch", "patch") => "patch",
        ("connect" | "delete", "delete") => "delete",
        ("get", _) => "get",
        ("list", _) => "list",
        ("deletecollection", _) => "deletecollection",
        ("watch" | "watchlist", _) => "watch",
        _ => return None,
    })
}

fn add(verbs: &mut Vec<String>, verb: &str) {
    if let Err(position) = verbs.binary_search_by(|v| v.as_str().cmp(verb)) {
        verbs.insert(position, verb.to_owned());
    }
}

fn core(input: &Input) -> Vec<Resource> {
    let mut all: BTreeMap<String, Resource> = BTreeMap::new();
    for row in input.paths.as_array().into_iter().flatten() {
        let text = |i: usize| row[i].as_str().unwrap_or_default();
        let Some(rest) = text(0).strip_prefix("/api/v1/") else { continue };
        let (Some(verb), Some(kind)) = (verb(text(1), text(2)), row[3].as_array()) else { continue };
        let rest = rest.strip_prefix("watch/").unwrap_or(rest);
        let (namespaced, rest) = match rest.strip_prefix("namespaces/{namespace}/") {
            Some(rest) => (true, rest),
            None => (false, rest),
        };
        let mut parts = rest.split('/');
        let (plural, name, sub, more) = (parts.next(), parts.next(), parts.next(), parts.next());
        let (Some(plural), None) = (plural, more) else { continue };
        let part = |i: usize| kind[i].as_str().unwrap_or_default().to_owned();
        let gvk = (part(0), part(1), part(2));
        // `POST /namespaces/NS/bindings` and friends have no name.
        let resource = all.entry(plural.to_owned()).or_default();
        resource.plural = plural.to_owned();
        resource.namespaced |= namespaced;
        match (name, sub) {
            (Some(_), Some(sub)) => {
                let entry = resource.subresources.entry(sub.to_owned()).or_default();
                entry.gvk = gvk;
                add(&mut entry.verbs, verb);
            }
            _ => {
                resource.singular = gvk.2.to_lowercase();
                resource.gvk = gvk;
                add(&mut resource.verbs, verb);
            }
        }
    }
    for (plural, short, categories) in CORE {
        if let Some(resource) = all.get_mut(*plural) {
            resource.short_names = short.iter().map(|&s| s.to_owned()).collect();
            resource.categories = categories.iter().map(|&s| s.to_owned()).collect();
        }
    }
    all.into_values().filter(|r| !r.gvk.2.is_empty()).collect()
}

/// Every resource, core first, the rest in the order of discovery.
pub fn resources(input: &Input) -> Vec<Resource> {
    let mut all = core(input);
    for group in input.discovery["items"].as_array().into_iter().flatten() {
        let name = group["metadata"]["name"].as_str().unwrap_or_default();
        for version in group["versions"].as_array().into_iter().flatten() {
            let number = version["version"].as_str().unwrap_or_default();
            for row in version["resources"].as_array().into_iter().flatten() {
                let subresources = row["subresources"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .map(|sub| {
                        let gvk = gvk_of(&sub["responseKind"], name, number);
                        let verbs = strings(&sub["verbs"]);
                        (sub["subresource"].as_str().unwrap_or_default().to_owned(), Subresource { gvk, verbs })
                    })
                    .collect();
                all.push(Resource {
                    gvk: gvk_of(&row["responseKind"], name, number),
                    plural: row["resource"].as_str().unwrap_or_default().to_owned(),
                    singular: row["singularResource"].as_str().unwrap_or_default().to_owned(),
                    short_names: strings(&row["shortNames"]),
                    categories: strings(&row["categories"]),
                    namespaced: row["scope"] == "Namespaced",
                    verbs: strings(&row["verbs"]),
                    subresources,
                });
            }
        }
    }
    all
}
