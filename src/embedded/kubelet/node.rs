//! The Node object and its lease: registered Ready, then renewed.
//!
//! Follows upstream's `kubelet_node_status.go` and `component-helpers/apimachinery/lease`: the lease (40 s) is renewed
//! every quarter of its time, the status written once. A node of one session doesn't change its mind.

use std::net::Ipv4Addr;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::downward::Allocatable;

/// `nodeLeaseDurationSeconds`.
const LEASE: Duration = Duration::from_secs(40);
/// Upstream's default `maxPods` is 110; one session may run more.
const MAX_PODS: u32 = 500;
/// What the node says of its kubelet.
const VERSION: &str = "v1.36.0";

/// What this machine has.
pub fn allocatable() -> Allocatable {
    let cpus = std::thread::available_parallelism().map_or(1, |count| u32::try_from(count.get()).unwrap_or(u32::MAX));
    let memory = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
    });
    Allocatable { cpus, memory: memory.unwrap_or(0) * 1024 }
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default()
}

fn status(name: &str, ip: Ipv4Addr, allocatable: Allocatable) -> Value {
    let now = Timestamp::now().to_string();
    let condition = |kind: &str, status: &str, reason: &str, message: &str| json!({"type": kind, "status": status, "reason": reason, "message": message, "lastHeartbeatTime": now, "lastTransitionTime": now});
    let resources = json!({
        "cpu": allocatable.cpus.to_string(), "memory": format!("{}Ki", allocatable.memory / 1024),
        "pods": MAX_PODS.to_string(), "ephemeral-storage": "100Gi", "hugepages-2Mi": "0",
    });
    let os = read("/etc/os-release");
    let pretty =
        os.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=")).map_or("Linux", |name| name.trim_matches('"'));
    json!({
        "addresses": [{"type": "InternalIP", "address": ip.to_string()}, {"type": "Hostname", "address": name}],
        "capacity": resources, "allocatable": resources,
        "conditions": [
            condition("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
            condition("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
            condition("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
            condition("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
        ],
        "nodeInfo": {
            "architecture": architecture(), "operatingSystem": "linux", "osImage": pretty,
            "bootID": read("/proc/sys/kernel/random/boot_id"), "machineID": read("/etc/machine-id"), "systemUUID": "",
            "kernelVersion": read("/proc/sys/kernel/osrelease"),
            "containerRuntimeVersion": concat!("envctl://", env!("CARGO_PKG_VERSION")),
            "kubeletVersion": VERSION, "kubeProxyVersion": "",
        },
        "images": [], "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
    })
}

/// As Go names it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Makes the Node, Ready, and its lease.
pub async fn register(
    client: &kube::Client,
    name: &str,
    ip: Ipv4Addr,
    allocatable: Allocatable,
) -> Result<Node, kube::Error> {
    let api: Api<Node> = Api::all(client.clone());
    let node: Node = serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": {
            "kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": architecture(),
            "beta.kubernetes.io/os": "linux", "beta.kubernetes.io/arch": architecture()}},
        "spec": {"podCIDR": "10.244.0.0/16"},
        "status": status(name, ip, allocatable),
    }))
    .map_err(kube::Error::SerdeError)?;
    let created = match api.create(&PostParams::default(), &node).await {
        Ok(node) => node,
        Err(kube::Error::Api(answer)) if answer.code == 409 => api.get(name).await?,
        Err(error) => return Err(error),
    };
    let ready = created.status.as_ref().and_then(|status| status.conditions.as_ref());
    if !ready.into_iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True") {
        // The server kept the status for its subresource.
        let patch = json!({"status": status(name, ip, allocatable)});
        api.patch_status(name, &PatchParams::default(), &Patch::Merge(patch)).await?;
    }
    let leases: Api<Lease> = Api::namespaced(client.clone(), "kube-node-lease");
    let now = Timestamp::now();
    let lease = Lease {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            owner_references: Some(vec![OwnerReference {
                api_version: "v1".to_owned(),
                kind: "Node".to_owned(),
                name: name.to_owned(),
                uid: created.metadata.uid.clone().unwrap_or_default(),
                ..OwnerReference::default()
            }]),
            ..ObjectMeta::default()
        },
        spec: Some(LeaseSpec {
            holder_identity: Some(name.to_owned()),
            lease_duration_seconds: Some(40),
            renew_time: Some(MicroTime(now)),
            ..LeaseSpec::default()
        }),
    };
    match leases.create(&PostParams::default(), &lease).await {
        Err(kube::Error::Api(answer)) if answer.code == 409 => {}
        result => drop(result?),
    }
    Ok(created)
}

/// Renews the lease until `stop`.
pub async fn renew(client: kube::Client, name: String, stop: CancellationToken) {
    let leases: Api<Lease> = Api::namespaced(client, "kube-node-lease");
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LEASE / 4) => {}
        }
        let patch = Patch::Merge(json!({"spec": {"renewTime": MicroTime(Timestamp::now())}}));
        let parameters = PatchParams::default();
        tokio::select! {
            () = stop.cancelled() => return,
            renewed = leases.patch(&name, &parameters, &patch) => if let Err(error) = renewed {
                tracing::warn!(%error, "the node's lease could not be renewed");
            }
        }
    }
}
