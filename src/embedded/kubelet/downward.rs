//! The downward API: what `fieldRef` and `resourceFieldRef` answer, in variables and in files. Pure.
//!
//! Follows upstream's `pkg/fieldpath/fieldpath.go`, `pkg/kubelet/kubelet_pods.go`
//! (`podFieldSelectorRuntimeValue`) and `pkg/api/v1/resource/helpers.go`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::{Container, Pod, ResourceFieldSelector};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::quantity::Milli;

/// What is known of a pod besides its object.
#[derive(Debug, Clone, Copy)]
pub struct Facts {
    /// The pod's address.
    pub pod_ip: Ipv4Addr,
    /// The node's address.
    pub host_ip: Ipv4Addr,
    /// What stands in for a limit that isn't set.
    pub allocatable: Allocatable,
}

/// The node's capacity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allocatable {
    /// Whole CPUs.
    pub cpus: u32,
    /// Bytes.
    pub memory: u64,
}

/// A reference that cannot be answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DownwardError {
    /// Not a field the downward API has.
    #[error("unsupported fieldPath: {0}")]
    UnsupportedField(String),
    /// `field['key']` on a field without keys.
    #[error("fieldPath {0:?} does not support subscript")]
    Subscript(String),
    /// Not a resource it has.
    #[error("unsupported container resource : {0}")]
    UnsupportedResource(String),
    /// No such container in the pod.
    #[error("container {0} not found")]
    NoSuchContainer(String),
}

/// The value of `fieldRef.fieldPath`.
pub fn field(pod: &Pod, path: &str, facts: &Facts) -> Result<String, DownwardError> {
    let spec = pod.spec.as_ref();
    if let Some((path, key)) = path.strip_suffix("']").and_then(|inner| inner.split_once("['")) {
        let map = match path {
            "metadata.labels" => pod.metadata.labels.as_ref(),
            "metadata.annotations" => pod.metadata.annotations.as_ref(),
            other => return Err(DownwardError::Subscript(other.to_owned())),
        };
        return Ok(map.and_then(|map| map.get(key)).cloned().unwrap_or_default());
    }
    Ok(match path {
        "metadata.name" => pod.metadata.name.clone().unwrap_or_default(),
        "metadata.namespace" => pod.metadata.namespace.clone().unwrap_or_default(),
        "metadata.uid" => pod.metadata.uid.clone().unwrap_or_default(),
        "metadata.labels" => format_map(pod.metadata.labels.as_ref()),
        "metadata.annotations" => format_map(pod.metadata.annotations.as_ref()),
        "spec.nodeName" => spec.and_then(|spec| spec.node_name.clone()).unwrap_or_default(),
        "spec.serviceAccountName" => spec.and_then(|spec| spec.service_account_name.clone()).unwrap_or_default(),
        "status.hostIP" | "status.hostIPs" => facts.host_ip.to_string(),
        "status.podIP" | "status.podIPs" => facts.pod_ip.to_string(),
        other => return Err(DownwardError::UnsupportedField(other.to_owned())),
    })
}

/// The value of a `resourceFieldRef`; `own` is the container that holds it, if it is a variable.
pub fn resource(
    pod: &Pod,
    own: Option<&Container>,
    selector: &ResourceFieldSelector,
    allocatable: Allocatable,
) -> Result<String, DownwardError> {
    let container = match (&selector.container_name, own) {
        (Some(name), _) if !name.is_empty() => {
            let spec = pod.spec.as_ref();
            spec.and_then(|spec| {
                spec.containers
                    .iter()
                    .chain(spec.init_containers.iter().flatten())
                    .find(|container| &container.name == name)
            })
            .ok_or_else(|| DownwardError::NoSuchContainer(name.clone()))?
        }
        (_, Some(own)) => own,
        _ => return Err(DownwardError::NoSuchContainer(String::new())),
    };
    let resources = container.resources.as_ref();
    let get = |map: Option<&BTreeMap<String, Quantity>>, name: &str| {
        map.and_then(|map| map.get(name)).and_then(|quantity| Milli::parse(&quantity.0))
    };
    let limit = |name: &str| get(resources.and_then(|resources| resources.limits.as_ref()), name);
    let request = |name: &str| get(resources.and_then(|resources| resources.requests.as_ref()), name);
    // `pkg/kubelet/kubelet_resources.go`: limits default to what the node has, requests don't.
    let value = match selector.resource.as_str() {
        "limits.cpu" => limit("cpu").unwrap_or(Milli(i128::from(allocatable.cpus) * 1_000)),
        "limits.memory" => limit("memory").unwrap_or(Milli(i128::from(allocatable.memory) * 1_000)),
        "limits.ephemeral-storage" => limit("ephemeral-storage").unwrap_or(Milli(0)),
        "requests.cpu" => request("cpu").unwrap_or(Milli(0)),
        "requests.memory" => request("memory").unwrap_or(Milli(0)),
        "requests.ephemeral-storage" => request("ephemeral-storage").unwrap_or(Milli(0)),
        other => match other.split_once('.') {
            Some(("limits", name)) if name.starts_with("hugepages-") => limit(name).unwrap_or(Milli(0)),
            Some(("requests", name)) if name.starts_with("hugepages-") => request(name).unwrap_or(Milli(0)),
            _ => return Err(DownwardError::UnsupportedResource(other.to_owned())),
        },
    };
    let divisor =
        selector.divisor.as_ref().and_then(|divisor| Milli::parse(&divisor.0)).filter(|divisor| divisor.0 > 0);
    Ok(value.divided_by(divisor.unwrap_or(Milli(1_000))).to_string())
}

/// `key="value"` lines, sorted, values quoted as Go's `%q` does (`FormatMap`).
fn format_map(map: Option<&BTreeMap<String, String>>) -> String {
    let mut lines = String::new();
    for (key, value) in map.into_iter().flatten() {
        if !lines.is_empty() {
            lines.push('\n');
        }
        let _ = write!(lines, "{key}={}", go_quoted(value));
    }
    lines
}

fn go_quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for char in text.chars() {
        match char {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            char if char.is_control() => {
                let _ = write!(quoted, "\\x{:02x}", char as u32);
            }
            char => quoted.push(char),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A pod's and its node's, for the tests of whoever builds on them.
    pub const FACTS: Facts = Facts {
        pod_ip: Ipv4Addr::new(10, 244, 0, 7),
        host_ip: Ipv4Addr::new(10, 244, 0, 1),
        allocatable: Allocatable { cpus: 2, memory: 1 << 30 },
    };

    fn pod() -> Pod {
        serde_json::from_value(serde_json::json!({
            "metadata": {"name": "p", "namespace": "ns", "uid": "u-1",
                "labels": {"b": "two", "a": "one"}, "annotations": {"k": "a \"quoted\"\nline"}},
            "spec": {"nodeName": "n1", "serviceAccountName": "sa", "containers": [
                {"name": "c", "resources": {"limits": {"cpu": "1500m"}, "requests": {"memory": "64Mi"}}}]}
        }))
        .unwrap()
    }

    #[test]
    fn fields() {
        for (path, expected) in [
            ("metadata.name", "p"),
            ("metadata.namespace", "ns"),
            ("metadata.uid", "u-1"),
            ("metadata.labels", "a=\"one\"\nb=\"two\""),
            ("metadata.labels['a']", "one"),
            ("metadata.labels['none']", ""),
            ("metadata.annotations", "k=\"a \\\"quoted\\\"\\nline\""),
            ("spec.nodeName", "n1"),
            ("spec.serviceAccountName", "sa"),
            ("status.podIP", "10.244.0.7"),
            ("status.hostIP", "10.244.0.1"),
        ] {
            assert_eq!(field(&pod(), path, &FACTS).as_deref(), Ok(expected), "{path}");
        }
        assert!(matches!(field(&pod(), "spec.hostname", &FACTS), Err(DownwardError::UnsupportedField(_))));
        assert!(matches!(field(&pod(), "metadata.name['a']", &FACTS), Err(DownwardError::Subscript(_))));
    }

    #[test]
    fn resources() {
        let pod = pod();
        let own = &pod.spec.as_ref().unwrap().containers[0];
        let ask = |resource_name: &str, divisor: &str| {
            let selector = ResourceFieldSelector {
                resource: resource_name.to_owned(),
                divisor: Some(Quantity(divisor.to_owned())),
                container_name: None,
            };
            resource(&pod, Some(own), &selector, FACTS.allocatable).unwrap()
        };
        assert_eq!(ask("limits.cpu", "0"), "2");
        assert_eq!(ask("limits.cpu", "1m"), "1500");
        assert_eq!(ask("requests.memory", "1Mi"), "64");
        assert_eq!(ask("limits.memory", "1Mi"), "1024", "not set: what the node has");
        assert_eq!(ask("requests.cpu", "1"), "0");
    }
}
