//! Does a cluster run on this machine? Only then a process here can stand in for a service there.
//!
//! Names and addresses prove nothing (a tunnel ends on loopback, every Docker has a 172.17.0.1). What does: each node's
//! `nodeInfo.bootID` is the kernel's own random number, so a node that tells ours runs on this kernel, in whatever containers
//! and namespaces. And this machine must have the node's address itself or a direct route to it, without a gateway: then our
//! address on that link is one that the node reaches. Virtual machines here have other kernels and are refused.

use std::net::{IpAddr, Ipv4Addr};

use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, ListParams};
use nix::ifaddrs::getifaddrs;

use super::ClusterError;

/// Where the kernel keeps the random number of this boot.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// The kernel's IPv4 routes.
const ROUTES: &str = "/proc/net/route";

/// How a cluster of this machine reaches it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// This machine's address on the way to the nodes.
    pub address: Ipv4Addr,
    nodes: Vec<Ipv4Addr>,
    pods: Vec<Network>,
    own: Vec<Ipv4Addr>,
}

/// An IPv4 network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Network {
    address: u32,
    mask: u32,
}

impl Network {
    fn parse(cidr: &str) -> Option<Self> {
        let (address, length) = cidr.split_once('/')?;
        let mask = u32::MAX.checked_shl(32 - length.parse::<u32>().ok().filter(|length| *length <= 32)?).unwrap_or(0);
        Some(Self { address: u32::from(address.parse::<Ipv4Addr>().ok()?) & mask, mask })
    }

    fn contains(self, address: Ipv4Addr) -> bool {
        u32::from(address) & self.mask == self.address
    }
}

impl Place {
    /// Whether a connection comes from the cluster: from a node, one of its pods, or this machine itself.
    pub fn is_of_the_cluster(&self, peer: IpAddr) -> bool {
        let IpAddr::V4(peer) = peer.to_canonical() else { return false };
        self.nodes.contains(&peer) || self.own.contains(&peer) || self.pods.iter().any(|pods| pods.contains(peer))
    }
}

/// What is known of this machine.
struct Machine<'a> {
    boot_id: &'a str,
    own: Vec<Ipv4Addr>,
    /// The networks of its links, with its address there.
    links: Vec<(Network, Ipv4Addr)>,
}

/// Proves that the cluster runs on this machine.
///
/// # Errors
/// When that can't be proven, with what was found instead; when the cluster doesn't answer.
pub async fn prove(client: &kube::Client) -> Result<Place, ClusterError> {
    let nodes: Api<Node> = Api::all(client.clone());
    let nodes = nodes.list(&ListParams::default()).await;
    let nodes = nodes.map_err(|source| ClusterError::unavailable("listing the cluster's nodes", source))?.items;
    let read = |path: &str| {
        std::fs::read_to_string(path).map_err(|source| ClusterError::unavailable(format!("reading {path}"), source))
    };
    let (boot_id, routes) = (read(BOOT_ID)?, read(ROUTES)?);
    let addresses =
        addresses().map_err(|source| ClusterError::unavailable("listing this machine's addresses", source))?;
    let machine = Machine {
        boot_id: boot_id.trim(),
        own: addresses.iter().map(|(_, address)| *address).collect(),
        links: links(&routes, &addresses),
    };
    judge(&nodes, &machine).map_err(|why| ClusterError::Unsupported {
        what: format!(
            "a process on this machine cannot stand in for a service of this cluster: {why}, so pods there could not reach it"
        ),
        cure: "swap on the embedded cluster, or on a cluster of this machine; `envctl port SERVICE` reaches a remote service from here"
            .to_owned(),
    })
}

/// This machine's IPv4 addresses, each with its interface.
fn addresses() -> nix::Result<Vec<(String, Ipv4Addr)>> {
    let of = |interface: nix::ifaddrs::InterfaceAddress| {
        Some((interface.interface_name.clone(), interface.address?.as_sockaddr_in()?.ip()))
    };
    Ok(getifaddrs()?.filter_map(of).collect())
}

/// Direct routes of `/proc/net/route`: interface, destination, gateway, flags, …, mask (the eighth), in hexadecimal, as the machine
/// has them in memory.
fn links(routes: &str, addresses: &[(String, Ipv4Addr)]) -> Vec<(Network, Ipv4Addr)> {
    let number = |text: &str| u32::from_str_radix(text, 16).ok().map(u32::from_be);
    let mut links = Vec::new();
    for line in routes.lines().skip(1) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [interface, destination, gateway, _, _, _, _, mask, ..] = fields.as_slice() else { continue };
        let (Some(address), Some(0), Some(mask)) = (number(destination), number(gateway), number(mask)) else {
            continue;
        };
        let ours = addresses.iter().find(|(name, _)| name == interface);
        // A default route without a gateway (a tunnel) leads anywhere.
        if let (Some((_, ours)), true) = (ours, mask != 0) {
            links.push((Network { address, mask }, *ours));
        }
    }
    links
}

/// Pure. The refusal is a clause: "its node …".
fn judge(nodes: &[Node], machine: &Machine<'_>) -> Result<Place, String> {
    let mut place = None;
    let (mut of_nodes, mut pods) = (Vec::new(), Vec::new());
    for node in nodes {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let status = node.status.as_ref();
        let boot_id = status.and_then(|status| status.node_info.as_ref()).map(|info| info.boot_id.as_str());
        if boot_id != Some(machine.boot_id) {
            return Err(format!("its node {name} runs under another kernel than this machine's"));
        }
        let addresses = status.and_then(|status| status.addresses.as_ref()).into_iter().flatten();
        let mut internal = addresses.filter(|address| address.type_ == "InternalIP");
        let Some(address) = internal.find_map(|address| address.address.parse::<Ipv4Addr>().ok()) else {
            return Err(format!("its node {name} tells no IPv4 address"));
        };
        let own = machine.own.contains(&address).then_some(address);
        let linked = machine.links.iter().filter(|(network, _)| network.contains(address));
        let linked = linked.max_by_key(|(network, _)| network.mask).map(|(_, ours)| *ours);
        let Some(ours) = own.or(linked) else {
            return Err(format!("this machine has no direct route to its node {name} ({address})"));
        };
        place.get_or_insert(ours);
        of_nodes.push(address);
        let spec = node.spec.as_ref();
        let ranges = spec.into_iter().flat_map(|spec| spec.pod_cidrs.iter().flatten().chain(&spec.pod_cidr));
        pods.extend(ranges.filter_map(|range| Network::parse(range)));
    }
    let address = place.ok_or_else(|| "it has no nodes".to_owned())?;
    Ok(Place { address, nodes: of_nodes, pods, own: machine.own.clone() })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ROUTES: &str = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT
eth0\t00000000\t0102A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0
tun0\t00000000\t00000000\t0001\t0\t0\t9\t00000000\t0\t0\t0
eth0\t0002A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
docker0\t000012AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0
";

    fn machine() -> Machine<'static> {
        let addresses = [("eth0", [192, 168, 2, 7]), ("docker0", [172, 18, 0, 1]), ("tun0", [10, 8, 0, 2])];
        let addresses = addresses.map(|(name, address)| (name.to_owned(), Ipv4Addr::from(address)));
        Machine {
            boot_id: "ours",
            own: addresses.iter().map(|(_, address)| *address).collect(),
            links: links(ROUTES, &addresses),
        }
    }

    fn node(name: &str, boot_id: &str, address: &str) -> Node {
        let info = json!({"bootID": boot_id, "architecture": "", "containerRuntimeVersion": "", "kernelVersion": "",
            "kubeProxyVersion": "", "kubeletVersion": "", "machineID": "", "operatingSystem": "", "osImage": "", "systemUUID": ""});
        serde_json::from_value(json!({"metadata": {"name": name}, "spec": {"podCIDR": "10.244.1.0/24"},
            "status": {"nodeInfo": info, "addresses": [{"type": "InternalIP", "address": address}]}}))
        .expect("a node")
    }

    #[test]
    fn a_node_of_this_kernel_on_a_direct_link_is_here() {
        let place = judge(&[node("kind", "ours", "172.18.0.2")], &machine()).expect("here");
        assert_eq!(place.address, Ipv4Addr::new(172, 18, 0, 1));
        for (peer, welcome) in [
            ("172.18.0.2", true),
            ("10.244.1.9", true),
            ("192.168.2.7", true),
            ("192.168.2.8", false),
            ("10.244.2.9", false),
        ] {
            assert_eq!(place.is_of_the_cluster(peer.parse().expect("an address")), welcome, "{peer}");
        }
        let own = judge(&[node("k3s", "ours", "192.168.2.7")], &machine()).expect("here");
        assert_eq!(own.address, Ipv4Addr::new(192, 168, 2, 7));
    }

    #[test]
    fn what_cannot_be_proven_is_remote() {
        let refused = |nodes: &[Node]| judge(nodes, &machine()).expect_err("refused");
        // A cluster elsewhere may have the addresses of a Docker here, and a tunnel may lead to it.
        let twin = refused(&[node("kind", "theirs", "172.18.0.2")]);
        assert_eq!(twin, "its node kind runs under another kernel than this machine's");
        let beyond = refused(&[node("a", "ours", "172.18.0.2"), node("b", "ours", "10.244.0.1")]);
        assert_eq!(beyond, "this machine has no direct route to its node b (10.244.0.1)");
        assert_eq!(refused(&[node("a", "ours", "fd00::1")]), "its node a tells no IPv4 address");
        assert_eq!(refused(&[]), "it has no nodes");
    }
}
