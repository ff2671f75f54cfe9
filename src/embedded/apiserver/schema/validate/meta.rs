//! `metadata` (`apimachinery/pkg/api/validation/objectmeta.go`).

use serde_json::{Value, json};

use super::{FieldError, FieldErrorKind, Gvk, IMMUTABLE, error, invalid, list, names, required, text};

/// `ValidateObjectMeta`.
pub(super) fn validate(gvk: Gvk<'_>, value: &Value, errors: &mut Vec<FieldError>) {
    let (name, prefix) = (text(value, "/metadata/name"), text(value, "/metadata/generateName"));
    if name.is_empty() && prefix.is_empty() {
        errors.push(required("metadata.name", "name or generateName is required"));
    } else if !name.is_empty() {
        let rule = match (gvk.group, gvk.kind) {
            ("", "Namespace" | "Service") => names::dns_label,
            ("rbac.authorization.k8s.io" | "certificates.k8s.io" | "events.k8s.io", _) | ("", "Event") => {
                names::path_segment
            }
            _ => names::dns_subdomain,
        };
        errors.extend(rule(name).map(|detail| invalid("metadata.name", json!(name), detail)));
    }
    let namespace = text(value, "/metadata/namespace");
    if !namespace.is_empty() {
        errors
            .extend(names::dns_label(namespace).map(|detail| invalid("metadata.namespace", json!(namespace), detail)));
    }
    labels(&value["metadata"]["labels"], "metadata.labels", errors);
    let mut total = 0;
    for (key, value) in value["metadata"]["annotations"].as_object().into_iter().flatten() {
        errors.extend(names::qualified(&key.to_lowercase()).map(|d| invalid("metadata.annotations", json!(key), d)));
        total += key.len() + value.as_str().map_or(0, str::len);
    }
    // `TotalAnnotationSizeLimitB`.
    if total > 256 << 10 {
        errors.push(error(FieldErrorKind::TooLong, "metadata.annotations", None, "may not be more than 262144 bytes"));
    }
    for (index, finalizer) in list(value, "/metadata/finalizers").iter().enumerate() {
        let finalizer = finalizer.as_str().unwrap_or_default();
        let at = format!("metadata.finalizers[{index}]");
        errors.extend(names::qualified(finalizer).map(|detail| invalid(at, json!(finalizer), detail)));
    }
}

/// `ValidateLabels`.
pub(super) fn labels(labels: &Value, field: &str, errors: &mut Vec<FieldError>) {
    for (key, value) in labels.as_object().into_iter().flatten() {
        errors.extend(names::qualified(key).map(|detail| invalid(field, json!(key), detail)));
        let value = value.as_str().unwrap_or_default();
        errors.extend(names::label_value(value).map(|detail| invalid(field, json!(value), detail)));
    }
}

/// `ValidateObjectMetaUpdate`.
pub(super) fn validate_update(new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    for field in ["name", "namespace", "uid", "creationTimestamp"] {
        if new["metadata"][field] != old["metadata"][field] {
            errors.push(invalid(format!("metadata.{field}"), new["metadata"][field].clone(), IMMUTABLE));
        }
    }
}
