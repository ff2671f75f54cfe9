//! Pod specs (`ValidatePodSpec`, `ValidatePodUpdate` of `pkg/apis/core/validation/validation.go`).

use serde_json::{Value, json};

use super::{FieldError, FieldErrorKind, error, forbidden, invalid, list, names, required, text, unsupported};

/// The spec at `path`.
pub(super) fn spec(spec: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let mut volumes = Vec::new();
    for (index, volume) in list(spec, "/volumes").iter().enumerate() {
        let (at, name) = (format!("{path}.volumes[{index}].name"), text(volume, "/name"));
        if name.is_empty() {
            errors.push(required(at, ""));
        } else if let Some(detail) = names::dns_label(name) {
            errors.push(invalid(at, json!(name), detail));
        } else if volumes.contains(&name) {
            errors.push(error(FieldErrorKind::Duplicate, at, Some(json!(name)), ""));
        }
        volumes.push(name);
    }
    if list(spec, "/containers").is_empty() {
        errors.push(required(format!("{path}.containers"), ""));
    }
    let mut seen = Vec::new();
    for kind in ["initContainers", "containers"] {
        for (index, item) in list(spec, &format!("/{kind}")).iter().enumerate() {
            container(item, &format!("{path}.{kind}[{index}]"), &volumes, &mut seen, errors);
        }
    }
    let policies = ["Always", "Never", "OnFailure"];
    let policy = text(spec, "/restartPolicy");
    if policy.is_empty() {
        errors.push(required(format!("{path}.restartPolicy"), ""));
    } else if !policies.contains(&policy) {
        errors.push(unsupported(format!("{path}.restartPolicy"), json!(policy), &policies));
    }
    let dns = ["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"];
    let policy = text(spec, "/dnsPolicy");
    if !policy.is_empty() && !dns.contains(&policy) {
        errors.push(unsupported(format!("{path}.dnsPolicy"), json!(policy), &dns));
    }
    for (field, least, detail) in [
        ("terminationGracePeriodSeconds", 0, "must be greater than or equal to 0"),
        ("activeDeadlineSeconds", 1, "must be between 1 and 2147483647, inclusive"),
    ] {
        if let Some(number) = spec[field].as_i64().filter(|number| *number < least) {
            errors.push(invalid(format!("{path}.{field}"), json!(number), detail));
        }
    }
}

fn container<'a>(
    container: &'a Value,
    path: &str,
    volumes: &[&str],
    seen: &mut Vec<&'a str>,
    errors: &mut Vec<FieldError>,
) {
    let name = text(container, "/name");
    if name.is_empty() {
        errors.push(required(format!("{path}.name"), ""));
    } else if let Some(detail) = names::dns_label(name) {
        errors.push(invalid(format!("{path}.name"), json!(name), detail));
    } else if seen.contains(&name) {
        errors.push(error(FieldErrorKind::Duplicate, format!("{path}.name"), Some(json!(name)), ""));
    }
    seen.push(name);
    let image = text(container, "/image");
    if image.is_empty() {
        errors.push(required(format!("{path}.image"), ""));
    } else if image.trim() != image {
        errors.push(invalid(format!("{path}.image"), json!(image), "must not have leading or trailing whitespace"));
    }
    let pulls = ["Always", "IfNotPresent", "Never"];
    let pull = text(container, "/imagePullPolicy");
    if !pull.is_empty() && !pulls.contains(&pull) {
        errors.push(unsupported(format!("{path}.imagePullPolicy"), json!(pull), &pulls));
    }
    for (index, port) in list(container, "/ports").iter().enumerate() {
        let at = |field: &str| format!("{path}.ports[{index}].{field}");
        if port["containerPort"].as_i64().unwrap_or_default() == 0 {
            errors.push(required(at("containerPort"), ""));
        } else {
            names::port(&port["containerPort"], at("containerPort"), errors);
        }
        let protocols = ["SCTP", "TCP", "UDP"];
        if !protocols.contains(&text(port, "/protocol")) {
            errors.push(unsupported(at("protocol"), port["protocol"].clone(), &protocols));
        }
    }
    for (index, env) in list(container, "/env").iter().enumerate() {
        if text(env, "/name").is_empty() {
            errors.push(required(format!("{path}.env[{index}].name"), ""));
        }
    }
    for (index, mount) in list(container, "/volumeMounts").iter().enumerate() {
        let at = |field: &str| format!("{path}.volumeMounts[{index}].{field}");
        let name = text(mount, "/name");
        if name.is_empty() {
            errors.push(required(at("name"), ""));
        } else if !volumes.contains(&name) {
            errors.push(error(FieldErrorKind::NotFound, at("name"), Some(json!(name)), ""));
        }
        if text(mount, "/mountPath").is_empty() {
            errors.push(required(at("mountPath"), ""));
        }
    }
}

const MAY_CHANGE: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// Only images, the deadline, tolerations, scheduling gates and the binding may change.
pub(super) fn update(new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    let (now, before) = (&new["spec"], &old["spec"]);
    for kind in ["containers", "initContainers"] {
        if list(now, &format!("/{kind}")).len() != list(before, &format!("/{kind}")).len() {
            errors.push(forbidden(format!("spec.{kind}"), "pod updates may not add or remove containers"));
            return;
        }
        for (index, item) in list(now, &format!("/{kind}")).iter().enumerate() {
            if text(item, "/image").is_empty() {
                errors.push(required(format!("spec.{kind}[{index}].image"), ""));
            }
        }
    }
    if fixed(now, before) != fixed(before, before) {
        errors.push(forbidden("spec", MAY_CHANGE));
    }
}

/// The spec with what may change set to what it was.
fn fixed(spec: &Value, before: &Value) -> Value {
    let mut spec = spec.clone();
    for kind in ["containers", "initContainers"] {
        for item in spec.get_mut(kind).and_then(Value::as_array_mut).into_iter().flatten() {
            for field in ["image", "resources", "resizePolicy"] {
                item.as_object_mut().map(|map| map.remove(field));
            }
        }
    }
    if let Some(map) = spec.as_object_mut() {
        for field in ["activeDeadlineSeconds", "tolerations", "schedulingGates", "ephemeralContainers"] {
            map.remove(field);
        }
        // Binding sets the node, once.
        if text(before, "/nodeName").is_empty() {
            map.remove("nodeName");
        }
    }
    spec
}
