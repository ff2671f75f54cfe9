//! A manifest's documents, with the session's labels and the digests of the images that the file maps.

use serde_json::{Map, Value, json};

use super::{Content, IMAGE_DIGEST, Scope};
use crate::plan::Manifest;

/// Where each built-in kind keeps its pod template; a Pod is its own.
const TEMPLATES: [(&str, &str); 7] = [
    ("Pod", ""),
    ("Deployment", "/spec/template"),
    ("ReplicaSet", "/spec/template"),
    ("StatefulSet", "/spec/template"),
    ("DaemonSet", "/spec/template"),
    ("Job", "/spec/template"),
    ("CronJob", "/spec/jobTemplate/spec/template"),
];

/// What the author wrote is not changed, but for the names of images that were pushed: labels are added to the object itself (not to its
/// pod template: selectors stay as they are), to its pod template the digest, and a pull policy where images were put on the nodes.
pub(super) fn objects(scope: &Scope<'_>, manifest: &Manifest) -> Vec<Value> {
    manifest
        .objects
        .iter()
        .cloned()
        .map(|mut object| {
            merge(&mut object, "labels", scope.labels());
            stamp(scope, &mut object);
            object
        })
        .collect()
}

fn stamp(scope: &Scope<'_>, object: &mut Value) {
    let kind = object["kind"].as_str().unwrap_or_default();
    let Some((_, path)) = TEMPLATES.iter().find(|(name, _)| *name == kind) else { return };
    let Some(template) = object.pointer_mut(path) else { return };
    let mut digests: Vec<&str> = Vec::new();
    for list in ["/spec/initContainers", "/spec/containers"] {
        for container in template.pointer_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            let Some(Value::String(image)) = container.get_mut("image") else { continue };
            match scope.context.images.get(image) {
                Some(Content::Stamp(digest)) => {
                    digests.push(digest);
                    // As of what services run.
                    if let Some(container) = container.as_object_mut() {
                        container.entry("imagePullPolicy").or_insert_with(|| "IfNotPresent".into());
                    }
                }
                Some(Content::Reference(reference)) => reference.clone_into(image),
                None => {}
            }
        }
    }
    digests.sort_unstable();
    digests.dedup();
    if !digests.is_empty() {
        merge(template, "annotations", [(IMAGE_DIGEST.to_owned(), digests.join(","))]);
    }
}

/// Adds entries to `metadata.FIELD`, keeping those that are there.
fn merge(object: &mut Value, field: &str, entries: impl IntoIterator<Item = (String, String)>) {
    let target = member(object, "metadata").and_then(|metadata| member(metadata, field));
    let Some(Value::Object(target)) = target else { return };
    for (key, value) in entries {
        target.insert(key, json!(value));
    }
}

/// A member that is an object, made if absent or null; `None` where the author wrote something else.
fn member<'a>(object: &'a mut Value, key: &str) -> Option<&'a mut Value> {
    let member = object.as_object_mut()?.entry(key).or_insert_with(|| Value::Object(Map::new()));
    if member.is_null() {
        *member = Value::Object(Map::new());
    }
    member.is_object().then_some(member)
}
