//! The other groups (`pkg/apis/{admissionregistration,autoscaling,discovery,networking,rbac,scheduling,storage}/*/defaults.go`).

use serde_json::{Value, json};

use super::{Gvk, Object, is_empty_list, made, object, objects, set, set_number, text};

const RBAC: &str = "rbac.authorization.k8s.io";

/// A value of a kind that is neither core nor a workload.
pub(super) fn default(gvk: Gvk<'_>, root: &mut Object) {
    match gvk.kind {
        "RoleBinding" | "ClusterRoleBinding" if gvk.group == RBAC => {
            if let Some(role) = object(root, "roleRef") {
                set(role, "apiGroup", RBAC);
            }
            for subject in objects(root, "subjects") {
                match text(subject, "kind") {
                    "User" | "Group" => set(subject, "apiGroup", RBAC),
                    _ => {}
                }
            }
        }
        "NetworkPolicy" => network_policy(root),
        "IngressClass" => {
            if let Some(parameters) = object(root, "spec").and_then(|spec| object(spec, "parameters")) {
                set(parameters, "scope", "Cluster");
            }
        }
        "EndpointSlice" => {
            for port in objects(root, "ports") {
                port.entry("name").or_insert_with(|| json!(""));
                set(port, "protocol", "TCP");
            }
        }
        "StorageClass" => {
            set(root, "reclaimPolicy", "Delete");
            set(root, "volumeBindingMode", "Immediate");
        }
        "CSIDriver" => {
            let Some(spec) = made(root, "spec") else { return };
            set(spec, "attachRequired", true);
            for key in ["podInfoOnMount", "storageCapacity", "requiresRepublish", "seLinuxMount"] {
                set(spec, key, false);
            }
            set(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
            if is_empty_list(spec, "volumeLifecycleModes") {
                spec.insert("volumeLifecycleModes".into(), json!(["Persistent"]));
            }
        }
        "PriorityClass" => set(root, "preemptionPolicy", "PreemptLowerPriority"),
        "HorizontalPodAutoscaler" => autoscaler(gvk.version, root),
        "MutatingWebhookConfiguration" => webhooks(root, true),
        "ValidatingWebhookConfiguration" => webhooks(root, false),
        "ValidatingAdmissionPolicy" | "MutatingAdmissionPolicy" => {
            let Some(spec) = made(root, "spec") else { return };
            set(spec, "failurePolicy", "Fail");
            if let Some(constraints) = object(spec, "matchConstraints") {
                match_resources(constraints);
            }
        }
        "ValidatingAdmissionPolicyBinding" | "MutatingAdmissionPolicyBinding" => {
            if let Some(matched) = object(root, "spec").and_then(|spec| object(spec, "matchResources")) {
                match_resources(matched);
            }
        }
        "APIService" => {
            if let Some(service) = object(root, "spec").and_then(|spec| object(spec, "service")) {
                set(service, "port", 443);
            }
        }
        "CustomResourceDefinition" => definition(root),
        _ => {}
    }
}

fn network_policy(root: &mut Object) {
    let Some(spec) = made(root, "spec") else { return };
    for direction in ["ingress", "egress"] {
        for rule in objects(spec, direction) {
            for port in objects(rule, "ports") {
                set(port, "protocol", "TCP");
            }
        }
    }
    if is_empty_list(spec, "policyTypes") {
        let types = if is_empty_list(spec, "egress") { json!(["Ingress"]) } else { json!(["Ingress", "Egress"]) };
        spec.insert("policyTypes".into(), types);
    }
}

fn autoscaler(version: &str, root: &mut Object) {
    let Some(spec) = made(root, "spec") else { return };
    set(spec, "minReplicas", 1);
    if version == "v1" {
        return;
    }
    if is_empty_list(spec, "metrics") {
        let target = json!({"type": "Utilization", "averageUtilization": 80});
        spec.insert("metrics".into(), json!([{"type": "Resource", "resource": {"name": "cpu", "target": target}}]));
    }
    // `GenerateHPAScaleUpRules` and `GenerateHPAScaleDownRules`.
    let Some(behavior) = object(spec, "behavior") else { return };
    let percent = |value: i64| json!({"type": "Percent", "value": value, "periodSeconds": 15});
    let up = json!([{"type": "Pods", "value": 4, "periodSeconds": 15}, percent(100)]);
    for (key, policies, window) in [("scaleUp", up, Some(0)), ("scaleDown", json!([percent(100)]), None)] {
        if let Some(rules) = made(behavior, key) {
            set(rules, "selectPolicy", "Max");
            if let Some(window) = window {
                set(rules, "stabilizationWindowSeconds", window);
            }
            if is_empty_list(rules, "policies") {
                rules.insert("policies".into(), policies);
            }
        }
    }
}

fn match_resources(map: &mut Object) {
    set(map, "matchPolicy", "Equivalent");
    made(map, "namespaceSelector");
    made(map, "objectSelector");
    for key in ["resourceRules", "excludeResourceRules"] {
        for rule in objects(map, key) {
            set(rule, "scope", "*");
        }
    }
}

fn webhooks(root: &mut Object, is_mutating: bool) {
    for hook in objects(root, "webhooks") {
        set(hook, "failurePolicy", "Fail");
        set(hook, "matchPolicy", "Equivalent");
        made(hook, "namespaceSelector");
        made(hook, "objectSelector");
        set(hook, "timeoutSeconds", 10);
        if is_mutating {
            set(hook, "reinvocationPolicy", "Never");
        }
        if let Some(service) = object(hook, "clientConfig").and_then(|config| object(config, "service")) {
            set_number(service, "port", 443);
        }
        for rule in objects(hook, "rules") {
            set(rule, "scope", "*");
        }
    }
}

/// `apiextensions-apiserver/pkg/apis/apiextensions/v1/defaults.go`.
fn definition(root: &mut Object) {
    let Some(spec) = made(root, "spec") else { return };
    let names = object(spec, "names");
    if let Some(names) = names {
        let kind = text(names, "kind").to_owned();
        set(names, "singular", kind.to_lowercase());
        if !kind.is_empty() {
            set(names, "listKind", format!("{kind}List"));
        }
    }
    if let Some(conversion) = made(spec, "conversion") {
        set(conversion, "strategy", "None");
        let client = object(conversion, "webhook").and_then(|hook| object(hook, "clientConfig"));
        if let Some(service) = client.and_then(|client| object(client, "service")) {
            set(service, "port", Value::from(443));
        }
    }
}
