//! Rows of everything that doesn't run pods: networking, configuration, access, nodes, events.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::format::{age, condition, count, first, labels, list, name, selector, since, text, text_or};
use super::{Cells, Printer, name_and_age};

const NAMED: &[&str] = &["Name", "Age"];
const BINDING: &[&str] = &["Name", "Role", "Age", "Users*", "Groups*", "ServiceAccounts*"];
const EVENT: &[&str] =
    &["Last Seen", "Type", "Reason", "Object", "Subobject*", "Source*", "Message", "First Seen*", "Count*", "Name*"];
const NODE: &[&str] = &[
    "Name",
    "Status",
    "Roles",
    "Age",
    "Version",
    "Internal-IP*",
    "External-IP*",
    "OS-Image*",
    "Kernel-Version*",
    "Container-Runtime*",
];

pub(super) fn printer(group: &str, kind: &str) -> Option<Printer> {
    let (columns, cells): (&'static [&'static str], Cells) = match (group, kind) {
        ("", "Service") => (&["Name", "Type", "Cluster-IP", "External-IP", "Port(s)", "Age", "Selector*"], service),
        ("", "Endpoints") => (&["Name", "Endpoints", "Age"], endpoints),
        ("discovery.k8s.io", "EndpointSlice") => {
            (&["Name", "AddressType", "Ports", "Endpoints", "Age"], endpoint_slice)
        }
        ("networking.k8s.io", "Ingress") => (&["Name", "Class", "Hosts", "Address", "Ports", "Age"], ingress),
        ("networking.k8s.io", "NetworkPolicy") => (&["Name", "Pod-Selector", "Age"], network_policy),
        ("networking.k8s.io", "IngressClass") => (&["Name", "Controller", "Parameters", "Age"], ingress_class),
        ("", "ConfigMap") => (&["Name", "Data", "Age"], config_map),
        ("", "Secret") => (&["Name", "Type", "Data", "Age"], secret),
        ("", "Namespace") => (&["Name", "Status", "Age"], namespace),
        ("", "Node") => (NODE, node),
        ("" | "events.k8s.io", "Event") => (EVENT, event),
        ("coordination.k8s.io", "Lease") => (&["Name", "Holder", "Age"], lease),
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => (BINDING, binding),
        ("scheduling.k8s.io", "PriorityClass") => {
            (&["Name", "Value:integer", "Global-Default:boolean", "Age", "PreemptionPolicy"], priority_class)
        }
        ("", "ServiceAccount") => (NAMED, name_and_age),
        ("admissionregistration.k8s.io", "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration") => {
            (&["Name", "Webhooks:integer", "Age"], webhooks)
        }
        _ => return None,
    };
    Some(Printer { columns, cells })
}

fn join<'a>(of: impl IntoIterator<Item = &'a Value>) -> String {
    of.into_iter().map(text).collect::<Vec<_>>().join(",")
}

fn service(object: &Value, now: Timestamp) -> Vec<Value> {
    let spec = &object["spec"];
    let port = |port: &Value| {
        let protocol = text(&port["protocol"]);
        match count(&port["nodePort"]) {
            0 => format!("{}/{protocol}", count(&port["port"])),
            node => format!("{}:{node}/{protocol}", count(&port["port"])),
        }
    };
    let ports: Vec<String> = list(&spec["ports"]).iter().map(port).collect();
    let ports = if ports.is_empty() { "<none>".to_owned() } else { ports.join(",") };
    let ip = text_or(&spec["clusterIPs"][0], "<none>");
    let cells = [
        name(object),
        text(&spec["type"]).into(),
        ip.into(),
        external_ip(object).into(),
        ports.into(),
        age(object, now),
    ];
    cells.into_iter().chain([labels(&spec["selector"]).into()]).collect()
}

fn external_ip(object: &Value) -> String {
    let spec = &object["spec"];
    let external = join(list(&spec["externalIPs"]));
    let or = |otherwise: &str| if external.is_empty() { otherwise.to_owned() } else { external.clone() };
    match spec["type"].as_str() {
        Some("ClusterIP" | "NodePort") => or("<none>"),
        Some("LoadBalancer") => {
            let balanced = balancer(object);
            match (balanced.is_empty(), external.is_empty()) {
                (true, _) => or("<pending>"),
                (_, true) => balanced,
                _ => format!("{balanced},{external}"),
            }
        }
        Some("ExternalName") => text(&spec["externalName"]),
        _ => "<unknown>".to_owned(),
    }
}

fn balancer(object: &Value) -> String {
    let ingress = list(&object["status"]["loadBalancer"]["ingress"]);
    let mut all: Vec<String> = ingress.iter().map(|of| text_or(&of["ip"], &text(&of["hostname"]))).collect();
    all.sort();
    all.dedup();
    all.join(",")
}

fn endpoints(object: &Value, now: Timestamp) -> Vec<Value> {
    let mut all = Vec::new();
    for subset in list(&object["subsets"]) {
        let addresses = || list(&subset["addresses"]).iter().map(|address| text(&address["ip"]));
        match list(&subset["ports"]) {
            [] => all.extend(addresses()),
            ports => {
                for port in ports {
                    all.extend(addresses().map(|ip| {
                        if ip.contains(':') {
                            format!("[{ip}]:{}", port["port"])
                        } else {
                            format!("{ip}:{}", port["port"])
                        }
                    }));
                }
            }
        }
    }
    vec![name(object), first(&all, 3, ",").into(), age(object, now)]
}

fn endpoint_slice(object: &Value, now: Timestamp) -> Vec<Value> {
    let port = |port: &Value| match (&port["port"], &port["name"]) {
        (Value::Number(port), _) => port.to_string(),
        (_, Value::String(name)) => name.clone(),
        _ => "*".to_owned(),
    };
    let ports: Vec<String> = list(&object["ports"]).iter().map(port).collect();
    let addresses: Vec<String> =
        list(&object["endpoints"]).iter().flat_map(|endpoint| list(&endpoint["addresses"])).map(text).collect();
    let (ports, addresses) = (first(&ports, 3, ","), first(&addresses, 3, ","));
    let ports = if ports == "<none>" { "<unset>".to_owned() } else { ports };
    let addresses = if addresses == "<none>" { "<unset>".to_owned() } else { addresses };
    vec![name(object), text(&object["addressType"]).into(), ports.into(), addresses.into(), age(object, now)]
}

fn ingress(object: &Value, now: Timestamp) -> Vec<Value> {
    let spec = &object["spec"];
    let hosts: Vec<String> =
        list(&spec["rules"]).iter().map(|rule| text(&rule["host"])).filter(|host| !host.is_empty()).collect();
    let hosts = if hosts.is_empty() { "*".to_owned() } else { first(&hosts, 3, ",") };
    let ports = if list(&spec["tls"]).is_empty() { "80" } else { "80, 443" };
    let class = text_or(&spec["ingressClassName"], "<none>");
    vec![name(object), class.into(), hosts.into(), balancer(object).into(), ports.into(), age(object, now)]
}

fn ingress_class(object: &Value, now: Timestamp) -> Vec<Value> {
    let parameters = &object["spec"]["parameters"];
    let shown = if parameters.is_null() {
        "<none>".to_owned()
    } else {
        let group = text(&parameters["apiGroup"]);
        let group = if group.is_empty() { group } else { format!(".{group}") };
        format!("{}{group}/{}", text(&parameters["kind"]), text(&parameters["name"]))
    };
    vec![name(object), text(&object["spec"]["controller"]).into(), shown.into(), age(object, now)]
}

fn network_policy(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(object), selector(&object["spec"]["podSelector"]).into(), age(object, now)]
}

fn entries(of: &Value) -> usize {
    of.as_object().map_or(0, serde_json::Map::len)
}

fn config_map(object: &Value, now: Timestamp) -> Vec<Value> {
    let data = entries(&object["data"]) + entries(&object["binaryData"]);
    vec![name(object), data.into(), age(object, now)]
}

fn secret(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(object), text(&object["type"]).into(), entries(&object["data"]).into(), age(object, now)]
}

fn namespace(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(object), text(&object["status"]["phase"]).into(), age(object, now)]
}

fn node(object: &Value, now: Timestamp) -> Vec<Value> {
    let (info, addresses) = (&object["status"]["nodeInfo"], list(&object["status"]["addresses"]));
    let mut status = match condition(object, "Ready") {
        Some(ready) if ready["status"] == "True" => "Ready".to_owned(),
        Some(_) => "NotReady".to_owned(),
        None => "Unknown".to_owned(),
    };
    if object["spec"]["unschedulable"] == true {
        status.push_str(",SchedulingDisabled");
    }
    let mut roles = Vec::new();
    for (key, value) in object["metadata"]["labels"].as_object().into_iter().flatten() {
        if let Some(role) = key.strip_prefix("node-role.kubernetes.io/").filter(|role| !role.is_empty()) {
            roles.push(role.to_owned());
        } else if key == "kubernetes.io/role" && value != "" {
            roles.push(text(value));
        }
    }
    roles.sort();
    roles.dedup();
    let roles = if roles.is_empty() { "<none>".to_owned() } else { roles.join(",") };
    let address = |type_: &str| {
        addresses
            .iter()
            .find(|address| address["type"] == type_)
            .map_or_else(|| json!("<none>"), |of| of["address"].clone())
    };
    let mut kernel = text_or(&info["kernelVersion"], "<unknown>");
    let architecture = text(&info["architecture"]);
    if !architecture.is_empty() {
        kernel.push_str(&format!(" ({architecture})"));
    }
    vec![
        name(object),
        status.into(),
        roles.into(),
        age(object, now),
        text(&info["kubeletVersion"]).into(),
        address("InternalIP"),
        address("ExternalIP"),
        text_or(&info["osImage"], "<unknown>").into(),
        kernel.into(),
        text_or(&info["containerRuntimeVersion"], "<unknown>").into(),
    ]
}

/// Both groups' fields: one store serves both.
fn event(object: &Value, now: Timestamp) -> Vec<Value> {
    let either = |core: &str, events: &str| if object[core].is_null() { &object[events] } else { &object[core] };
    let (start, end) =
        (either("firstTimestamp", "deprecatedFirstTimestamp"), either("lastTimestamp", "deprecatedLastTimestamp"));
    let first_seen = since(if start.is_null() { &object["eventTime"] } else { start }, now);
    let mut last_seen = if end.is_null() { first_seen.clone() } else { since(end, now) };
    let mut times = count(either("count", "deprecatedCount"));
    if object["series"].is_object() {
        last_seen = since(&object["series"]["lastObservedTime"], now);
        times = count(&object["series"]["count"]);
    } else if times == 0 {
        times = 1;
    }
    let about = either("involvedObject", "regarding");
    let kind = text(&about["kind"]).to_lowercase();
    let target = match text(&about["name"]) {
        of if of.is_empty() => kind,
        of => format!("{kind}/{of}"),
    };
    let source = either("source", "deprecatedSource");
    let reporter = text(either("reportingComponent", "reportingController"));
    let (component, host) =
        (text_or(&source["component"], &reporter), text_or(&source["host"], &text(&object["reportingInstance"])));
    let source = if host.is_empty() { component } else { format!("{component}, {host}") };
    vec![
        last_seen.into(),
        text(&object["type"]).into(),
        text(&object["reason"]).into(),
        target.into(),
        text(&about["fieldPath"]).into(),
        source.into(),
        text(either("message", "note")).trim().into(),
        first_seen.into(),
        times.into(),
        name(object),
    ]
}

fn lease(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(object), text(&object["spec"]["holderIdentity"]).into(), age(object, now)]
}

fn binding(object: &Value, now: Timestamp) -> Vec<Value> {
    let role = format!("{}/{}", text(&object["roleRef"]["kind"]), text(&object["roleRef"]["name"]));
    let of = |kind: &str| {
        let subjects = list(&object["subjects"]).iter().filter(|subject| subject["kind"] == kind);
        let name = |subject: &Value| match text(&subject["namespace"]) {
            namespace if kind == "ServiceAccount" => format!("{namespace}/{}", text(&subject["name"])),
            _ => text(&subject["name"]),
        };
        Value::from(subjects.map(name).collect::<Vec<_>>().join(", "))
    };
    vec![name(object), role.into(), age(object, now), of("User"), of("Group"), of("ServiceAccount")]
}

fn priority_class(object: &Value, now: Timestamp) -> Vec<Value> {
    let policy = text_or(&object["preemptionPolicy"], "<unset>");
    vec![
        name(object),
        count(&object["value"]).into(),
        (object["globalDefault"] == true).into(),
        age(object, now),
        policy.into(),
    ]
}

fn webhooks(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(object), list(&object["webhooks"]).len().into(), age(object, now)]
}
