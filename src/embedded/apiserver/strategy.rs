//! How kinds differ in what a write may change: upstream's strategies
//! (`pkg/registry/*/*/strategy.go`, `PrepareForCreate` and `PrepareForUpdate`). Pure.

use serde_json::{Value, json};

use super::meta;
use super::registry::Row;
use super::write::Part;

/// Resets what the creator may not set.
pub fn prepare_for_create(row: &Row, object: &mut Value) {
    // Nodes come with their status; every other kind's is the cluster's to say.
    if row.has_status()
        && row.plural != "nodes"
        && let Some(map) = object.as_object_mut()
    {
        map.remove("status");
    }
    match (row.group, row.plural) {
        ("", "namespaces") => {
            object["status"] = json!({"phase": "Active"});
            let spec = meta::child(object, "spec");
            let finalizers = spec.entry("finalizers").or_insert_with(|| json!([]));
            if let Some(list) = finalizers.as_array_mut()
                && !list.iter().any(|item| item == "kubernetes")
            {
                list.push("kubernetes".into());
            }
            let name = meta::text(object, "name").to_owned();
            let labels = meta::metadata(object).entry("labels").or_insert_with(|| json!({}));
            labels["kubernetes.io/metadata.name"] = Value::String(name);
        }
        ("", "persistentvolumes" | "persistentvolumeclaims") => object["status"] = json!({"phase": "Pending"}),
        ("", "pods") => {
            object["status"] = json!({"phase": "Pending", "qosClass": qos_class(&object["spec"])});
            if object["spec"]["schedulingGates"].as_array().is_some_and(|gates| !gates.is_empty()) {
                object["status"]["conditions"] = json!([{
                    "type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
                    "message": "Scheduling is blocked due to non-empty scheduling gates", "lastProbeTime": null,
                    "lastTransitionTime": meta::now(),
                }]);
            }
        }
        ("", "services") => object["status"] = json!({"loadBalancer": {}}),
        ("apps" | "batch", _) if row.has_status() => object["status"] = json!({}),
        _ => {}
    }
    if (row.group, row.plural) == ("batch", "jobs") {
        generate_job_selector(object);
    }
}

/// A job's selector and the labels of its pods, from its uid (`pkg/registry/batch/job/strategy.go`, `generateSelector`).
fn generate_job_selector(job: &mut Value) {
    if job["spec"]["manualSelector"] == true {
        return;
    }
    let (uid, name) = (meta::text(job, "uid").to_owned(), meta::text(job, "name").to_owned());
    let spec = meta::child(job, "spec");
    let template = spec.entry("template").or_insert_with(|| json!({}));
    let labels = meta::metadata(template).entry("labels").or_insert_with(|| json!({}));
    if !labels.is_object() {
        *labels = json!({});
    }
    // Labels that are there already stay: validation refuses them where they are in the way.
    for (key, value) in [
        ("controller-uid", &uid),
        ("batch.kubernetes.io/controller-uid", &uid),
        ("job-name", &name),
        ("batch.kubernetes.io/job-name", &name),
    ] {
        if labels[key].is_null() {
            labels[key] = Value::String(value.clone());
        }
    }
    if let Some(selector) = spec.entry("selector").or_insert_with(|| json!({})).as_object_mut() {
        let labels = selector.entry("matchLabels").or_insert_with(|| json!({}));
        if labels["batch.kubernetes.io/controller-uid"].is_null() {
            labels["batch.kubernetes.io/controller-uid"] = Value::String(uid);
        }
    }
}

/// Keeps what this part of the object doesn't cover, and counts the generation.
pub fn prepare_for_update(row: &Row, subresource: &str, part: Part, new: &mut Value, old: &Value) {
    match part {
        Part::Main => {
            if row.has_status() {
                keep(new, old, "status");
            }
            if row.plural == "namespaces" {
                // Finalizers of the namespace itself are changed at its `finalize` subresource only.
                meta::child(new, "spec").insert("finalizers".to_owned(), old["spec"]["finalizers"].clone());
            }
        }
        Part::Status => keep_all_but_status(row, new, old),
        Part::Subresource => {}
    }
    let counts = row.has_generation() && part != Part::Status && subresource != "binding";
    if counts && !same_desired(new, old) {
        let generation = old["metadata"]["generation"].as_i64().unwrap_or(0) + 1;
        meta::metadata(new).insert("generation".to_owned(), generation.into());
    }
}

fn keep(new: &mut Value, old: &Value, field: &str) {
    let Some(map) = new.as_object_mut() else {
        return;
    };
    match old.get(field) {
        Some(value) => map.insert(field.to_owned(), value.clone()),
        None => map.remove(field),
    };
}

fn keep_all_but_status(row: &Row, new: &mut Value, old: &Value) {
    let status = new["status"].take();
    let mut metadata = new["metadata"].take();
    keep_equal(new, old);
    if (row.group, row.plural) == ("apps", "deployments") {
        metadata["labels"] = old["metadata"]["labels"].clone();
    }
    if row.plural == "pods" {
        metadata["ownerReferences"] = old["metadata"]["ownerReferences"].clone();
    }
    for field in ["labels", "ownerReferences"] {
        if metadata[field].is_null()
            && let Some(map) = metadata.as_object_mut()
        {
            map.remove(field);
        }
    }
    new["metadata"] = metadata;
    new["status"] = status;
    if row.plural == "pods" && new["status"]["qosClass"].is_null() {
        new["status"]["qosClass"] = old["status"]["qosClass"].clone();
    }
    if new["status"].is_null()
        && let Some(map) = new.as_object_mut()
    {
        map.remove("status");
    }
}

/// Makes `new` what `old` is, at the cost of what differs; metadata and status are the caller's.
fn keep_equal(new: &mut Value, old: &Value) {
    let (Some(new), Some(old)) = (new.as_object_mut(), old.as_object()) else { return };
    new.retain(|key, _| old.contains_key(key));
    for (key, value) in old.iter().filter(|(key, _)| !matches!(key.as_str(), "metadata" | "status")) {
        if new.get(key) != Some(value) {
            new.insert(key.clone(), value.clone());
        }
    }
}

fn same_desired(new: &Value, old: &Value) -> bool {
    let (Some(new), Some(old)) = (new.as_object(), old.as_object()) else {
        return false;
    };
    let desired = |key: &str| !matches!(key, "metadata" | "status" | "kind" | "apiVersion");
    let keys = new.keys().chain(old.keys()).filter(|key| desired(key));
    keys.into_iter().all(|key| new.get(key).unwrap_or(&Value::Null) == old.get(key).unwrap_or(&Value::Null))
}

/// A pod's quality of service (`pkg/apis/core/v1/helper/qos/qos.go`).
pub fn qos_class(spec: &Value) -> &'static str {
    let mut any = false;
    let mut guaranteed = true;
    for container in
        ["initContainers", "containers"].iter().flat_map(|list| spec[list].as_array().into_iter().flatten())
    {
        let (requests, limits) = (&container["resources"]["requests"], &container["resources"]["limits"]);
        for resource in ["cpu", "memory"] {
            let given = |value: &Value| !matches!(value.as_str(), None | Some("0"));
            any |= given(&requests[resource]) || given(&limits[resource]);
            // Requests that are left out are defaulted from the limits.
            guaranteed &=
                given(&limits[resource]) && (requests[resource].is_null() || requests[resource] == limits[resource]);
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

#[cfg(test)]
mod tests {
    use super::super::registry;
    use super::*;

    #[test]
    fn quality_of_service() {
        let class = |resources: Value| qos_class(&json!({"containers": [{"resources": resources}]}));
        assert_eq!(class(json!({})), "BestEffort");
        assert_eq!(class(json!({"limits": {"cpu": "1", "memory": "1Gi"}})), "Guaranteed");
        assert_eq!(class(json!({"requests": {"cpu": "1"}})), "Burstable");
    }

    #[test]
    fn the_parts_are_isolated_and_only_desired_state_counts() {
        let row = registry::find("apps", "v1", "deployments").expect("a row");
        let old = json!({"metadata": {"name": "a", "generation": 1, "labels": {"a": "b"}}, "spec": {"replicas": 1}, "status": {"replicas": 1}});
        let changed =
            json!({"metadata": {"name": "a", "generation": 1}, "spec": {"replicas": 2}, "status": {"replicas": 2}});
        let mut main = changed.clone();
        prepare_for_update(row, "", Part::Main, &mut main, &old);
        assert_eq!(
            (&main["spec"]["replicas"], &main["status"]["replicas"], &main["metadata"]["generation"]),
            (&json!(2), &json!(1), &json!(2))
        );
        let mut status = changed;
        prepare_for_update(row, "status", Part::Status, &mut status, &old);
        assert_eq!(
            (&status["spec"]["replicas"], &status["status"]["replicas"], &status["metadata"]["generation"]),
            (&json!(1), &json!(2), &json!(1))
        );
        assert_eq!(status["metadata"]["labels"], json!({"a": "b"}));
    }
}
