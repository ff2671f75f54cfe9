//! Pod specs, wherever they are (`pkg/apis/core/v1/defaults.go`).

use serde_json::{Value, json};

use super::{Object, is_unset, made, object, objects, set, set_number, text};

/// What only pods get, and templates don't (`SetDefaults_Pod`).
pub(super) fn pod(spec: &mut Object) {
    for key in ["containers", "initContainers"] {
        for container in objects(spec, key) {
            let Some(resources) = object(container, "resources") else { continue };
            let Some(limits) = resources.get("limits").and_then(Value::as_object).cloned() else { continue };
            let Some(requests) = made(resources, "requests") else { continue };
            for (name, limit) in limits {
                requests.entry(name).or_insert(limit);
            }
        }
    }
    set(spec, "enableServiceLinks", true);
    if spec.get("hostNetwork") == Some(&Value::Bool(true)) {
        for key in ["containers", "initContainers"] {
            for container in objects(spec, key) {
                for port in objects(container, "ports") {
                    let number = port.get("containerPort").and_then(Value::as_i64).unwrap_or_default();
                    set_number(port, "hostPort", number);
                }
            }
        }
    }
}

/// `spec` of a pod or of a template.
pub(super) fn spec(spec: &mut Object) {
    set(spec, "dnsPolicy", "ClusterFirst");
    set(spec, "restartPolicy", "Always");
    made(spec, "securityContext");
    set(spec, "terminationGracePeriodSeconds", 30);
    set(spec, "schedulerName", "default-scheduler");
    // The old name mirrors the new one (`pkg/apis/core/v1/conversion.go`, `Convert_core_PodSpec_To_v1_PodSpec`).
    let (new, old) = (text(spec, "serviceAccountName").to_owned(), text(spec, "serviceAccount").to_owned());
    let account = if new.is_empty() { old } else { new };
    if !account.is_empty() {
        for key in ["serviceAccountName", "serviceAccount"] {
            spec.insert(key.into(), account.clone().into());
        }
    }
    for key in ["initContainers", "containers", "ephemeralContainers"] {
        objects(spec, key).for_each(container);
    }
    objects(spec, "volumes").for_each(volume);
}

/// `spec` of the pod template in `owner`.
pub(super) fn template(owner: &mut Object) {
    if let Some(found) = object(owner, "template").and_then(|template| made(template, "spec")) {
        spec(found);
    }
}

fn container(container: &mut Object) {
    if is_unset(container.get("imagePullPolicy")) {
        let policy = if is_latest(text(container, "image")) { "Always" } else { "IfNotPresent" };
        container.insert("imagePullPolicy".into(), policy.into());
    }
    set(container, "terminationMessagePath", "/dev/termination-log");
    set(container, "terminationMessagePolicy", "File");
    for port in objects(container, "ports") {
        set(port, "protocol", "TCP");
    }
    for env in objects(container, "env") {
        if let Some(field) = object(env, "valueFrom").and_then(|from| object(from, "fieldRef")) {
            set(field, "apiVersion", "v1");
        }
        if let Some(key) = object(env, "valueFrom").and_then(|from| object(from, "fileKeyRef")) {
            set(key, "optional", false);
        }
        if let Some(resource) = object(env, "valueFrom").and_then(|from| object(from, "resourceFieldRef")) {
            set(resource, "divisor", "0");
        }
    }
    for key in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = object(container, key) {
            for (key, value) in
                [("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)]
            {
                set_number(probe, key, value);
            }
            http_get(probe);
            if let Some(grpc) = object(probe, "grpc") {
                grpc.entry("service").or_insert_with(|| json!(""));
            }
        }
    }
    if let Some(lifecycle) = object(container, "lifecycle") {
        for key in ["postStart", "preStop"] {
            if let Some(handler) = object(lifecycle, key) {
                http_get(handler);
            }
        }
    }
}

fn http_get(handler: &mut Object) {
    if let Some(http) = object(handler, "httpGet") {
        set(http, "path", "/");
        set(http, "scheme", "HTTP");
    }
}

/// `parsers.ParseImageName`: no tag and no digest means `latest`.
fn is_latest(image: &str) -> bool {
    let name = image.rsplit('/').next().unwrap_or(image);
    match image.split_once('@') {
        // With both, the tag still counts (a digest alone has none).
        Some((before, _)) => before.rsplit('/').next().is_some_and(|name| name.ends_with(":latest")),
        None => name.split_once(':').is_none_or(|(_, tag)| tag == "latest"),
    }
}

fn volume(volume: &mut Object) {
    if volume.iter().all(|(key, value)| key == "name" || value.is_null()) {
        volume.insert("emptyDir".into(), json!({}));
    }
    for key in ["secret", "configMap"] {
        if let Some(source) = object(volume, key) {
            set(source, "defaultMode", 420);
        }
    }
    if let Some(source) = object(volume, "downwardAPI") {
        set(source, "defaultMode", 420);
        downward_items(source);
    }
    if let Some(projected) = object(volume, "projected") {
        set(projected, "defaultMode", 420);
        for source in objects(projected, "sources") {
            if let Some(token) = object(source, "serviceAccountToken") {
                set(token, "expirationSeconds", 3600);
            }
            if let Some(source) = object(source, "downwardAPI") {
                downward_items(source);
            }
        }
    }
    if let Some(path) = object(volume, "hostPath") {
        path.entry("type").or_insert_with(|| json!(""));
    }
    if let Some(image) = object(volume, "image") {
        let policy = if is_latest(text(image, "reference")) { "Always" } else { "IfNotPresent" };
        set(image, "pullPolicy", policy);
    }
    network_disks(volume);
    let claim = object(volume, "ephemeral").and_then(|ephemeral| object(ephemeral, "volumeClaimTemplate"));
    if let Some(spec) = claim.and_then(|claim| object(claim, "spec")) {
        set(spec, "volumeMode", "Filesystem");
    }
}

/// Sources that volumes and persistent volumes share.
pub(super) fn network_disks(volume: &mut Object) {
    if let Some(iscsi) = object(volume, "iscsi") {
        set(iscsi, "iscsiInterface", "default");
    }
    if let Some(rbd) = object(volume, "rbd") {
        for (key, value) in [("pool", "rbd"), ("user", "admin"), ("keyring", "/etc/ceph/keyring")] {
            set(rbd, key, value);
        }
    }
    if let Some(disk) = object(volume, "azureDisk") {
        for (key, value) in [("cachingMode", "ReadWrite"), ("kind", "Shared"), ("fsType", "ext4")] {
            set(disk, key, value);
        }
        set(disk, "readOnly", false);
    }
    if let Some(scale) = object(volume, "scaleIO") {
        set(scale, "storageMode", "ThinProvisioned");
        set(scale, "fsType", "xfs");
    }
}

fn downward_items(source: &mut Object) {
    for item in objects(source, "items") {
        if let Some(field) = object(item, "fieldRef") {
            set(field, "apiVersion", "v1");
        }
        if let Some(resource) = object(item, "resourceFieldRef") {
            set(resource, "divisor", "0");
        }
    }
}
