//! Which fields each kind can be selected by.
//!
//! Every kind has `metadata.name` and, if namespaced, `metadata.namespace`; the others are upstream's
//! `AddFieldLabelConversionFunc` registrations (`pkg/apis/*/v1/conversion.go`), with values as the
//! kinds' strategies compute them (`ToSelectableFields`).

use serde_json::Value;

use super::ResourceId;

const POD: &[&str] = &[
    "spec.hostNetwork",
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.schedulerName",
    "spec.serviceAccountName",
    "status.nominatedNodeName",
    "status.phase",
    "status.podIP",
    "status.podIPs",
];
const EVENT: &[&str] = &[
    "involvedObject.apiVersion",
    "involvedObject.fieldPath",
    "involvedObject.kind",
    "involvedObject.name",
    "involvedObject.namespace",
    "involvedObject.resourceVersion",
    "involvedObject.uid",
    "reason",
    "reportingComponent",
    "source",
    "type",
];

/// The selectable fields of a resource beyond name and namespace.
pub fn selectable(resource: ResourceId) -> &'static [&'static str] {
    match (resource.group, resource.plural) {
        ("", "pods") => POD,
        ("", "events") => EVENT,
        ("", "nodes") => &["spec.unschedulable"],
        ("", "namespaces") => &["status.phase"],
        ("", "secrets") => &["type"],
        ("", "services") => &["spec.clusterIP", "spec.type"],
        ("", "replicationcontrollers") | ("apps", "replicasets") => &["status.replicas"],
        ("batch", "jobs") => &["status.successful"],
        ("certificates.k8s.io", "certificatesigningrequests" | "clustertrustbundles") => &["spec.signerName"],
        ("resource.k8s.io", "resourceslices") => &["spec.driver", "spec.nodeName"],
        _ => &[],
    }
}

/// The values of those fields.
pub fn values(resource: ResourceId, object: &Value) -> Box<[Box<str>]> {
    selectable(resource).iter().map(|field| value(resource, object, field)).collect()
}

fn value(resource: ResourceId, object: &Value, field: &str) -> Box<str> {
    let found = match field {
        "spec.hostNetwork" | "spec.unschedulable" if at(object, field).is_null() => {
            return "false".into();
        }
        "status.podIP" if resource.plural == "pods" => &object["status"]["podIPs"][0]["ip"],
        "status.successful" => &object["status"]["succeeded"],
        "source" if object["source"]["component"].is_null() => &object["reportingComponent"],
        "source" => &object["source"]["component"],
        "status.replicas" | "status.succeeded" if at(object, field).is_null() => return "0".into(),
        _ => at(object, field),
    };
    match found {
        Value::String(text) => text.as_str().into(),
        Value::Null => "".into(),
        other => other.to_string().into(),
    }
}

fn at<'a>(object: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(object, |value, part| &value[part])
}
