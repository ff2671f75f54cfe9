//! Which slices a service needs, and the smallest set of writes that gets there.
//!
//! Ports `reconciler.go` and `utils.go` of `staging/src/k8s.io/endpointslice`, and `FindPort` of `pkg/api/v1/pod/util.go`. Pure.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ObjectReference, Service, ServicePort};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::super::shared::meta;
use super::super::shared::view::Pod;

/// The label that names the service.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// The label that names who manages a slice.
pub const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// Us.
pub const MANAGER: &str = "endpointslice-controller.k8s.io";
const HEADLESS: &str = "service.kubernetes.io/headless";
/// `--max-endpoints-per-slice`.
const MOST: usize = 100;

/// What the caches show.
pub struct Observed<'a> {
    /// The service.
    pub service: &'a Service,
    /// Its slices that are ours and not going.
    pub slices: Vec<Arc<EndpointSlice>>,
    /// The pods that it selects.
    pub pods: Vec<Arc<Pod>>,
}

/// One write.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Create a slice.
    Create(Box<EndpointSlice>),
    /// Replace a slice.
    Update(Box<EndpointSlice>),
    /// Delete a slice.
    Delete(Box<ObjectMeta>),
}

/// Decides.
pub fn decide(observed: &Observed<'_>) -> Vec<Action> {
    let spec = observed.service.spec.clone().unwrap_or_default();
    let going = observed.service.metadata.deletion_timestamp.is_some();
    let selects = spec.selector.as_ref().is_some_and(|selector| !selector.is_empty());
    if going || !selects || spec.type_.as_deref() == Some("ExternalName") {
        return Vec::new();
    }
    let families = families(observed.service);
    let mut actions: Vec<Action> = Vec::new();
    for slice in &observed.slices {
        if !families.contains(&slice.address_type.as_str()) {
            actions.push(Action::Delete(Box::new(slice.metadata.clone())));
        }
    }
    for family in families {
        let mut own = Vec::new();
        of_family(observed, family, &mut own);
        actions.extend(recycled(observed.service, own));
    }
    actions
}

/// Of one family: what would be deleted becomes what would be created (upstream's `endpointslice/reconciler.go`, `finalize`). A
/// slice of an older service of this name is not taken: it is being collected.
fn recycled(service: &Service, actions: Vec<Action>) -> Vec<Action> {
    let is_own = |meta: &ObjectMeta| meta::is_controlled_by(meta, meta::uid(&service.metadata));
    let (spare, mut actions): (Vec<_>, Vec<_>) =
        actions.into_iter().partition(|action| matches!(action, Action::Delete(meta) if is_own(meta)));
    let mut spare = spare.into_iter();
    for action in &mut actions {
        if let Action::Create(slice) = action
            && let Some(Action::Delete(old)) = spare.next()
        {
            let mut slice = std::mem::take(slice);
            slice.metadata.name = old.name;
            slice.metadata.resource_version = old.resource_version;
            *action = Action::Update(slice);
        }
    }
    actions.extend(spare);
    actions
}

/// The address types a service wants; a headless service without any gets those of its pods.
fn families(service: &Service) -> Vec<&'static str> {
    let named = service.spec.as_ref().and_then(|spec| spec.ip_families.clone()).unwrap_or_default();
    if named.is_empty() {
        return vec!["IPv4"];
    }
    named.iter().map(|family| if family == "IPv6" { "IPv6" } else { "IPv4" }).collect()
}

fn of_family(observed: &Observed<'_>, family: &'static str, actions: &mut Vec<Action>) {
    let mut wanted: BTreeMap<String, (Vec<EndpointPort>, Vec<Endpoint>)> = BTreeMap::new();
    let mut pods = observed.pods.clone();
    pods.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
    for pod in &pods {
        let Some(endpoint) = endpoint(observed.service, pod, family) else { continue };
        let ports = ports(observed.service, pod);
        wanted.entry(ports_key(&ports)).or_insert_with(|| (ports, Vec::new())).1.push(endpoint);
    }
    let mut existing: HashMap<String, Vec<&Arc<EndpointSlice>>> = HashMap::new();
    for slice in observed.slices.iter().filter(|slice| slice.address_type == family) {
        existing.entry(ports_key(slice.ports.as_deref().unwrap_or_default())).or_default().push(slice);
    }
    if wanted.is_empty() {
        // So that consumers can tell "no endpoints" from "not looked at yet".
        wanted.insert(String::new(), (Vec::new(), Vec::new()));
    }
    for (key, (ports, endpoints)) in wanted {
        let slices = existing.remove(&key).unwrap_or_default();
        of_ports(observed.service, family, &ports, endpoints, &slices, actions);
    }
    let left = existing.into_values().flatten();
    actions.extend(left.map(|slice| Action::Delete(Box::new(slice.metadata.clone()))));
}

fn of_ports(
    service: &Service,
    family: &str,
    ports: &[EndpointPort],
    wanted: Vec<Endpoint>,
    slices: &[&Arc<EndpointSlice>],
    actions: &mut Vec<Action>,
) {
    let target =
        |endpoint: &Endpoint| endpoint.target_ref.as_ref().and_then(|target| target.uid.clone()).unwrap_or_default();
    let mut placed: HashMap<String, Endpoint> =
        wanted.iter().map(|endpoint| (target(endpoint), endpoint.clone())).collect();
    // Endpoints stay in the slice they are in.
    let mut after: Vec<(&Arc<EndpointSlice>, Vec<Endpoint>)> = Vec::new();
    for slice in slices {
        let kept = slice.endpoints.iter().flatten().filter_map(|endpoint| placed.remove(&target(endpoint)));
        after.push((slice, kept.collect()));
    }
    let mut new: Vec<Endpoint> = wanted.into_iter().filter(|endpoint| placed.contains_key(&target(endpoint))).collect();
    // New ones go where something is written anyway, then where there is room.
    after.sort_by_key(|(slice, kept)| slice.endpoints.as_deref().unwrap_or_default() == kept.as_slice());
    for (_, kept) in &mut after {
        let room = MOST.saturating_sub(kept.len()).min(new.len());
        kept.extend(new.drain(..room));
    }
    let nothing = new.is_empty() && after.iter().all(|(_, kept)| kept.is_empty());
    let mut placeholder_needed = nothing;
    for (slice, kept) in after {
        if kept.is_empty() && !placeholder_needed {
            actions.push(Action::Delete(Box::new(slice.metadata.clone())));
            continue;
        }
        placeholder_needed = placeholder_needed && !kept.is_empty();
        let mut changed = EndpointSlice::clone(slice);
        changed.metadata.labels = Some(labels(service));
        if kept != slice.endpoints.as_deref().unwrap_or_default() || changed.metadata.labels != slice.metadata.labels {
            changed.endpoints = Some(kept);
            actions.push(Action::Update(Box::new(changed)));
        }
    }
    if placeholder_needed {
        actions.push(Action::Create(Box::new(slice(service, family, ports, Vec::new()))));
    }
    while !new.is_empty() {
        let chunk = new.drain(..new.len().min(MOST)).collect();
        actions.push(Action::Create(Box::new(slice(service, family, ports, chunk))));
    }
}

fn slice(service: &Service, family: &str, ports: &[EndpointPort], endpoints: Vec<Endpoint>) -> EndpointSlice {
    EndpointSlice {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", meta::name(&service.metadata))),
            namespace: service.metadata.namespace.clone(),
            labels: Some(labels(service)),
            owner_references: Some(vec![meta::controller_ref(service)]),
            ..ObjectMeta::default()
        },
        address_type: family.to_owned(),
        endpoints: Some(endpoints),
        ports: (!ports.is_empty()).then(|| ports.to_vec()),
    }
}

/// The service's own labels and ours (`setEndpointSliceLabels`).
fn labels(service: &Service) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS);
    if service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()) == Some("None") {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    labels.insert(SERVICE_NAME.to_owned(), meta::name(&service.metadata).to_owned());
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    labels
}

/// A pod's endpoint, if it has an address of the family and may get traffic (`ShouldPodBeInEndpoints`, `podToEndpoint`).
fn endpoint(service: &Service, pod: &Pod, family: &str) -> Option<Endpoint> {
    if pod.is_finished() {
        return None;
    }
    let all = pod.status.pod_ips.iter().map(|ip| ip.ip.as_str()).chain(pod.status.pod_ip.as_deref());
    let address = all.into_iter().find(|ip| match ip.parse() {
        Ok(IpAddr::V4(_)) => family == "IPv4",
        Ok(IpAddr::V6(_)) => family == "IPv6",
        Err(_) => false,
    })?;
    let spec = service.spec.as_ref();
    let serving = pod.is_ready();
    let ready = spec.and_then(|spec| spec.publish_not_ready_addresses) == Some(true) || (serving && !pod.is_going());
    let hostname = pod
        .spec
        .hostname
        .clone()
        .filter(|name| !name.is_empty() && pod.spec.subdomain.as_deref() == service.metadata.name.as_deref());
    Some(Endpoint {
        addresses: vec![address.to_owned()],
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            serving: Some(serving),
            terminating: Some(pod.is_going()),
        }),
        hostname,
        node_name: pod.spec.node_name.clone().filter(|node| !node.is_empty()),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_owned()),
            namespace: pod.metadata.namespace.clone(),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
            ..ObjectReference::default()
        }),
        ..Endpoint::default()
    })
}

/// The ports that a pod serves a service on; named ones differ from pod to pod (`getEndpointPorts`).
fn ports(service: &Service, pod: &Pod) -> Vec<EndpointPort> {
    let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
    let port = |port: &ServicePort| {
        Some(EndpointPort {
            name: Some(port.name.clone().unwrap_or_default()),
            port: Some(find_port(port, pod)?),
            protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
            app_protocol: port.app_protocol.clone(),
        })
    };
    ports.iter().filter_map(port).collect()
}

fn find_port(port: &ServicePort, pod: &Pod) -> Option<i32> {
    match &port.target_port {
        None | Some(IntOrString::Int(0)) => Some(port.port),
        Some(IntOrString::Int(number)) => Some(*number),
        Some(IntOrString::String(name)) if name.is_empty() => Some(port.port),
        Some(IntOrString::String(name)) => {
            let protocol = port.protocol.as_deref().unwrap_or("TCP");
            let sidecars = pod.spec.init_containers.iter().filter(|c| c.restart_policy.as_deref() == Some("Always"));
            let mut all = pod.spec.containers.iter().chain(sidecars).flat_map(|container| &container.ports);
            let is_it = |port: &&super::super::shared::view::ContainerPort| {
                port.name.as_deref() == Some(name) && port.protocol.as_deref().unwrap_or("TCP") == protocol
            };
            all.find(is_it).map(|port| port.container_port)
        }
    }
}

/// Slices with equal ports may hold each other's endpoints, whatever the ports' order.
fn ports_key(ports: &[EndpointPort]) -> String {
    let mut keys: Vec<String> = ports
        .iter()
        .map(|port| format!("{:?}/{:?}/{:?}/{:?}", port.name, port.protocol, port.port, port.app_protocol))
        .collect();
    keys.sort();
    keys.join(",")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_slice_that_said_there_is_nothing_becomes_the_first_one() {
        let service: Service = serde_json::from_value(json!({
            "metadata": {"name": "s", "namespace": "n", "uid": "u"},
            "spec": {"selector": {"app": "s"}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]},
        }))
        .unwrap();
        let first = decide(&Observed { service: &service, slices: vec![], pods: vec![] });
        let [Action::Create(slice)] = &first[..] else { panic!("{first:?}") };
        let mut slice = EndpointSlice::clone(slice);
        slice.metadata.name = Some("s-abcde".to_owned());
        slice.metadata.resource_version = Some("7".to_owned());
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "n", "uid": "v", "labels": {"app": "s"}},
            "spec": {"nodeName": "node", "containers": [{"name": "c"}]},
            "status": {"phase": "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}]},
        }))
        .unwrap();
        let observed = Observed { service: &service, slices: vec![Arc::new(slice)], pods: vec![Arc::new(pod)] };
        let then = decide(&observed);
        let [Action::Update(slice)] = &then[..] else { panic!("{then:?}") };
        assert_eq!(slice.metadata.name.as_deref(), Some("s-abcde"));
        assert_eq!(slice.metadata.resource_version.as_deref(), Some("7"));
        assert_eq!(slice.metadata.generate_name.as_deref(), Some("s-"));
        assert_eq!(slice.endpoints.as_ref().map(Vec::len), Some(1));
    }
}
