//! What may not be stored, in the words of upstream's `field.Error`s.
//!
//! Follows `apimachinery/pkg/api/validation/objectmeta.go`, `apimachinery/pkg/util/validation/validation.go` and
//! `k8s.io/kubernetes/pkg/apis/{core,apps,batch,rbac}/validation/validation.go`, for what people get wrong: metadata,
//! pod templates, services, selectors, config maps and secrets, and fields that may not change. What isn't checked here
//! is accepted; it is a subset, not another rule.

mod meta;
mod names;
mod pod;

use serde_json::{Value, json};

use super::super::status::{FieldError, FieldErrorKind};
use super::gvk::Gvk;

fn error(
    kind: FieldErrorKind,
    field: impl Into<String>,
    value: Option<Value>,
    detail: impl Into<String>,
) -> FieldError {
    FieldError { kind, field: field.into(), value, detail: detail.into() }
}

fn required(field: impl Into<String>, detail: &str) -> FieldError {
    error(FieldErrorKind::Required, field, None, detail)
}

fn invalid(field: impl Into<String>, value: Value, detail: impl Into<String>) -> FieldError {
    error(FieldErrorKind::Invalid, field, Some(value), detail)
}

fn forbidden(field: impl Into<String>, detail: &str) -> FieldError {
    error(FieldErrorKind::Forbidden, field, None, detail)
}

fn unsupported(field: impl Into<String>, value: Value, supported: &[&str]) -> FieldError {
    let mut names: Vec<String> = supported.iter().map(|name| format!("{name:?}")).collect();
    names.sort();
    error(FieldErrorKind::NotSupported, field, Some(value), format!("supported values: {}", names.join(", ")))
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

const IMMUTABLE: &str = "field is immutable";
const NEGATIVE: &str = "must be greater than or equal to 0";

/// What is wrong with a new object, which is already defaulted.
pub fn validate_create(gvk: Gvk<'_>, value: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    meta::validate(gvk, value, &mut errors);
    match (gvk.group, gvk.kind) {
        ("", "Pod") => pod::spec(&value["spec"], "spec", &mut errors),
        ("", "Service") => service(value, &mut errors),
        ("", "ConfigMap") => data(value, &["data", "binaryData"], &mut errors),
        ("", "Secret") => data(value, &["data"], &mut errors),
        ("apps", "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet") => workload(gvk.kind, value, &mut errors),
        ("batch", "Job") => job(value, &mut errors),
        _ => {}
    }
    errors
}

/// What is wrong with `new` as the successor of `old`.
pub fn validate_update(gvk: Gvk<'_>, new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    meta::validate_update(new, old, &mut errors);
    match (gvk.group, gvk.kind) {
        // A pod's spec may change in so few ways that this says what is wrong with it.
        ("", "Pod") => {
            pod::update(new, old, &mut errors);
            return errors;
        }
        ("", "ConfigMap" | "Secret") => frozen(gvk.kind, new, old, &mut errors),
        ("apps", kind @ ("Deployment" | "ReplicaSet" | "DaemonSet")) => {
            let (now, before) = (&new["spec"]["selector"], &old["spec"]["selector"]);
            if now != before && !(kind == "ReplicaSet" && before.is_null()) {
                errors.push(invalid("spec.selector", now.clone(), IMMUTABLE));
            }
        }
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") if new["roleRef"] != old["roleRef"] => {
            errors.push(invalid("roleRef", new["roleRef"].clone(), "cannot change roleRef"));
        }
        ("batch", "Job") => {
            job_update(&new["spec"], &old["spec"], &mut errors);
        }
        _ => {}
    }
    errors.extend(validate_create(gvk, new));
    errors
}

/// `ValidateJobSpecUpdate` of `pkg/apis/batch/validation`.
fn job_update(new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    let indexed = new["completionMode"] == "Indexed";
    if indexed && new["completions"] != old["completions"] && new["completions"] != new["parallelism"] {
        let detail = "can only be modified in tandem with spec.parallelism";
        errors.push(invalid("spec.completions", new["completions"].clone(), detail));
    }
    let fields = [
        "completions",
        "selector",
        "template",
        "completionMode",
        "podFailurePolicy",
        "backoffLimitPerIndex",
        "managedBy",
        "successPolicy",
    ];
    for field in fields {
        let may = field == "template" && old["suspend"] == true || field == "completions" && indexed;
        if new[field] != old[field] && !may {
            errors.push(invalid(format!("spec.{field}"), new[field].clone(), IMMUTABLE));
        }
    }
}

fn service(value: &Value, errors: &mut Vec<FieldError>) {
    let kind = text(value, "/spec/type");
    let kinds = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
    if !kinds.contains(&kind) {
        errors.push(unsupported("spec.type", json!(kind), &kinds));
    }
    let ports = list(value, "/spec/ports");
    if ports.is_empty() && kind != "ExternalName" && text(value, "/spec/clusterIP") != "None" {
        errors.push(required("spec.ports", ""));
    }
    for (index, port) in ports.iter().enumerate() {
        let at = |field: &str| format!("spec.ports[{index}].{field}");
        let name = text(port, "/name");
        if name.is_empty() && ports.len() > 1 {
            errors.push(required(at("name"), ""));
        } else if !name.is_empty() {
            errors.extend(names::dns_label(name).map(|detail| invalid(at("name"), json!(name), detail)));
            if ports[..index].iter().any(|other| text(other, "/name") == name) {
                errors.push(error(FieldErrorKind::Duplicate, at("name"), Some(json!(name)), ""));
            }
        }
        names::port(&port["port"], at("port"), errors);
        if port["targetPort"].is_i64() {
            names::port(&port["targetPort"], at("targetPort"), errors);
        }
        let protocols = ["SCTP", "TCP", "UDP"];
        if !protocols.contains(&text(port, "/protocol")) {
            errors.push(unsupported(at("protocol"), port["protocol"].clone(), &protocols));
        }
    }
}

fn data(value: &Value, fields: &[&str], errors: &mut Vec<FieldError>) {
    let mut total = 0;
    for field in fields {
        for (key, item) in value[*field].as_object().into_iter().flatten() {
            let at = format!("{field}[{key}]");
            errors.extend(names::config_key(key).map(|detail| invalid(at.clone(), json!(key), detail)));
            let len = item.as_str().map_or(0, str::len);
            // Base64 in JSON, bytes in the limit.
            total += if *field == "data" && text(value, "/kind") != "Secret" { len } else { len / 4 * 3 };
        }
    }
    // `core.MaxSecretSize` and the config map's limit are both 1 MiB.
    if total > 1 << 20 {
        let field = if text(value, "/kind") == "Secret" { "data" } else { "" };
        errors.push(error(FieldErrorKind::TooLong, field, None, "may not be more than 1048576 bytes"));
    }
}

fn frozen(kind: &str, new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    if kind == "Secret" && new["type"] != old["type"] {
        errors.push(invalid("type", new["type"].clone(), IMMUTABLE));
    }
    if old["immutable"] != true {
        return;
    }
    if new["immutable"] != true {
        errors.push(forbidden("immutable", "field is immutable when `immutable` is set"));
    }
    for field in ["data", "binaryData"] {
        if new[field] != old[field] {
            errors.push(forbidden(field, "field is immutable when `immutable` is set"));
        }
    }
}

fn workload(kind: &str, value: &Value, errors: &mut Vec<FieldError>) {
    let spec = &value["spec"];
    if let Some(replicas) = spec["replicas"].as_i64().filter(|count| *count < 0) {
        errors.push(invalid("spec.replicas", json!(replicas), NEGATIVE));
    }
    let labels = &spec["template"]["metadata"]["labels"];
    let selector = &spec["selector"];
    let wanted = selector["matchLabels"].as_object();
    let is_empty = wanted.is_none_or(serde_json::Map::is_empty) && list(selector, "/matchExpressions").is_empty();
    if selector.is_null() {
        errors.push(required("spec.selector", ""));
    } else if is_empty {
        // Upstream says "deployment" of replica sets too.
        let what = if kind == "ReplicaSet" { "deployment".to_owned() } else { kind.to_ascii_lowercase() };
        errors.push(invalid("spec.selector", selector.clone(), format!("empty selector is invalid for {what}")));
    } else if wanted.into_iter().flatten().any(|(key, value)| labels.get(key) != Some(value)) {
        errors.push(invalid(
            "spec.template.metadata.labels",
            labels.clone(),
            "`selector` does not match template `labels`",
        ));
    }
    meta::labels(labels, "spec.template.labels", errors);
    pod::spec(&spec["template"]["spec"], "spec.template.spec", errors);
    let policy = text(spec, "/template/spec/restartPolicy");
    if policy != "Always" {
        errors.push(unsupported("spec.template.spec.restartPolicy", json!(policy), &["Always"]));
    }
    if kind == "Deployment" {
        deployment_strategy(&spec["strategy"], errors);
    }
}

/// `ValidateDeploymentStrategy` and `ValidateRollingUpdateDeployment` of `pkg/apis/apps/validation/validation.go`.
fn deployment_strategy(strategy: &Value, errors: &mut Vec<FieldError>) {
    let rolling = &strategy["rollingUpdate"];
    match text(strategy, "/type") {
        "Recreate" if rolling.is_null() => {}
        "Recreate" => {
            let detail = "may not be specified when strategy `type` is 'Recreate'";
            errors.push(forbidden("spec.strategy.rollingUpdate", detail));
        }
        "RollingUpdate" if rolling.is_null() => {
            errors.push(required("spec.strategy.rollingUpdate", "this should be defaulted and never be nil"));
        }
        "RollingUpdate" => {
            let at = |field: &str| format!("spec.strategy.rollingUpdate.{field}");
            for field in ["maxUnavailable", "maxSurge"] {
                let wrong = match &rolling[field] {
                    Value::String(percent) => names::percent(percent),
                    count => count.as_i64().filter(|count| *count < 0).map(|_| NEGATIVE.to_owned()),
                };
                errors.extend(wrong.map(|detail| invalid(at(field), rolling[field].clone(), detail)));
            }
            // A number that cannot be read is 0 upstream as well.
            let amount = |field: &str| match &rolling[field] {
                Value::String(percent) => percent.trim_end_matches('%').parse().unwrap_or(0),
                count => count.as_i64().unwrap_or(0),
            };
            let unavailable = rolling["maxUnavailable"].clone();
            if amount("maxUnavailable") == 0 && amount("maxSurge") == 0 {
                let detail = "may not be 0 when `maxSurge` is 0";
                errors.push(invalid(at("maxUnavailable"), unavailable.clone(), detail));
            }
            if unavailable.is_string() && amount("maxUnavailable") > 100 {
                errors.push(invalid(at("maxUnavailable"), unavailable, "must not be greater than 100%"));
            }
        }
        _ => errors.push(unsupported("spec.strategy", strategy.clone(), &["Recreate", "RollingUpdate"])),
    }
}

/// `validateGeneratedSelector` of `pkg/apis/batch/validation/validation.go`.
fn generated_labels(job: &Value, errors: &mut Vec<FieldError>) {
    let (name, uid) = (text(job, "/metadata/name"), text(job, "/metadata/uid"));
    let labels = &job["spec"]["template"]["metadata"]["labels"];
    for (key, expected) in [
        ("controller-uid", uid),
        ("job-name", name),
        ("batch.kubernetes.io/controller-uid", uid),
        ("batch.kubernetes.io/job-name", name),
    ] {
        let (at, detail) = (format!("spec.template.metadata.labels[{key}]"), format!("must be '{expected}'"));
        match labels[key].as_str() {
            Some(value) if value == expected => {}
            Some(_) => errors.push(invalid(at, labels.clone(), detail)),
            None => errors.push(required(at, &detail)),
        }
    }
}

fn job(value: &Value, errors: &mut Vec<FieldError>) {
    let spec = &value["spec"];
    if spec["manualSelector"] != true {
        generated_labels(value, errors);
    }
    for field in ["parallelism", "completions", "backoffLimit", "activeDeadlineSeconds", "ttlSecondsAfterFinished"] {
        if let Some(number) = spec[field].as_i64().filter(|number| *number < 0) {
            errors.push(invalid(format!("spec.{field}"), json!(number), NEGATIVE));
        }
    }
    pod::spec(&spec["template"]["spec"], "spec.template.spec", errors);
    let policy = text(spec, "/template/spec/restartPolicy");
    if !matches!(policy, "OnFailure" | "Never") {
        let at = "spec.template.spec.restartPolicy";
        errors.push(if policy == "Always" || policy.is_empty() {
            error(FieldErrorKind::Required, at, None, "valid values: \"OnFailure\", \"Never\"")
        } else {
            unsupported(at, json!(policy), &["OnFailure", "Never"])
        });
    }
}

#[cfg(test)]
mod tests;
