//! The core group (`pkg/apis/core/v1/defaults.go`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{Object, is_unset, made, object, objects, pod, set, text};

/// A value of the core kind `kind`.
pub(super) fn default(kind: &str, root: &mut Object) {
    match kind {
        "Pod" => {
            if let Some(spec) = made(root, "spec") {
                pod::spec(spec);
                pod::pod(spec);
            }
        }
        "PodTemplate" => pod::template(root),
        "Service" => service(root),
        "Namespace" => {
            // `SetDefaults_Namespace`; the phase is the strategy's (`namespaceStrategy.PrepareForCreate`).
            if let Some(meta) = object(root, "metadata") {
                let name = text(meta, "name").to_owned();
                if let Some(labels) = made(meta, "labels").filter(|_| !name.is_empty()) {
                    labels.entry("kubernetes.io/metadata.name").or_insert_with(|| name.into());
                }
            }
            phase(root, "Active");
        }
        "Node" => {
            if let Some(status) = object(root, "status")
                && is_unset(status.get("allocatable"))
                && let Some(capacity) = status.get("capacity").cloned()
            {
                status.insert("allocatable".into(), capacity);
            }
        }
        "Secret" => {
            string_data(root);
            set(root, "type", "Opaque");
        }
        "PersistentVolume" => {
            phase(root, "Pending");
            if let Some(spec) = made(root, "spec") {
                set(spec, "persistentVolumeReclaimPolicy", "Retain");
                set(spec, "volumeMode", "Filesystem");
                if let Some(path) = object(spec, "hostPath") {
                    path.entry("type").or_insert_with(|| json!(""));
                }
                pod::network_disks(spec);
            }
        }
        "PersistentVolumeClaim" => claim(root),
        "Endpoints" => {
            for subset in objects(root, "subsets") {
                for port in objects(subset, "ports") {
                    set(port, "protocol", "TCP");
                }
            }
        }
        "ReplicationController" => replication_controller(root),
        "LimitRange" => {
            if let Some(spec) = object(root, "spec") {
                objects(spec, "limits").filter(|item| text(item, "type") == "Container").for_each(limit);
            }
        }
        _ => {}
    }
}

/// `stringData` goes into `data` and is never kept (`pkg/apis/core/v1/conversion.go`, `Convert_v1_Secret_To_core_Secret`).
fn string_data(root: &mut Object) {
    let Some(Value::Object(texts)) = root.remove("stringData") else { return };
    if let Some(data) = made(root, "data") {
        for (key, text) in texts {
            let bytes = STANDARD.encode(text.as_str().unwrap_or_default());
            data.insert(key, bytes.into());
        }
    }
}

fn phase(root: &mut Object, phase: &str) {
    if let Some(status) = made(root, "status") {
        set(status, "phase", phase);
    }
}

/// A claim, or a template of one.
pub(super) fn claim(root: &mut Object) {
    phase(root, "Pending");
    if let Some(spec) = made(root, "spec") {
        set(spec, "volumeMode", "Filesystem");
    }
}

fn service(root: &mut Object) {
    let Some(spec) = made(root, "spec") else { return };
    set(spec, "sessionAffinity", "None");
    match text(spec, "sessionAffinity") {
        "None" => {
            spec.remove("sessionAffinityConfig");
        }
        "ClientIP" => {
            if let Some(client) = made(spec, "sessionAffinityConfig").and_then(|config| made(config, "clientIP")) {
                set(client, "timeoutSeconds", 10800);
            }
        }
        _ => {}
    }
    set(spec, "type", "ClusterIP");
    for port in objects(spec, "ports") {
        set(port, "protocol", "TCP");
        let target = port.get("targetPort");
        if is_unset(target) || target.and_then(Value::as_i64) == Some(0) {
            let number = port.get("port").cloned().unwrap_or(json!(0));
            port.insert("targetPort".into(), number);
        }
    }
    let kind = text(spec, "type").to_owned();
    let has_external = spec.get("externalIPs").and_then(Value::as_array).is_some_and(|ips| !ips.is_empty());
    if matches!(kind.as_str(), "NodePort" | "LoadBalancer") || (kind == "ClusterIP" && has_external) {
        set(spec, "externalTrafficPolicy", "Cluster");
    }
    if kind != "ExternalName" {
        set(spec, "internalTrafficPolicy", "Cluster");
    }
    if kind == "LoadBalancer" {
        set(spec, "allocateLoadBalancerNodePorts", true);
        if let Some(balancer) = object(root, "status").and_then(|status| object(status, "loadBalancer")) {
            for ingress in objects(balancer, "ingress") {
                if !text(ingress, "ip").is_empty() {
                    set(ingress, "ipMode", "VIP");
                }
            }
        }
    }
}

fn replication_controller(root: &mut Object) {
    let Some(spec) = made(root, "spec") else { return };
    pod::template(spec);
    set(spec, "replicas", 1);
    let labels = object(spec, "template")
        .and_then(|template| object(template, "metadata"))
        .and_then(|meta| meta.get("labels").cloned());
    if let Some(labels) = labels {
        if is_unset(spec.get("selector")) {
            spec.insert("selector".into(), labels.clone());
        }
        if let Some(meta) = object(root, "metadata") {
            set(meta, "labels", labels);
        }
    }
}

/// `SetDefaults_LimitRangeItem`: max → default → defaultRequest ← min.
fn limit(item: &mut Object) {
    for (from, to) in [("max", "default"), ("default", "defaultRequest"), ("min", "defaultRequest")] {
        let source = item.get(from).and_then(Value::as_object).cloned().unwrap_or_default();
        if source.is_empty() {
            continue;
        }
        if let Some(target) = made(item, to) {
            for (name, quantity) in source {
                target.entry(name).or_insert(quantity);
            }
        }
    }
}
