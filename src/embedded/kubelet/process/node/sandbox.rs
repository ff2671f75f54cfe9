//! A pod's own namespaces and network: made by a short-lived child, so that pods are made in parallel.

use std::net::Ipv4Addr;
use std::os::fd::AsFd;

use nix::sched::{CloneFlags, unshare};
use nix::unistd::sethostname;

use super::super::super::runtime::SandboxConfig;
use super::super::wire::{Channel, During, Failure, Progress};
use super::namespaces::own;
use super::netlink::Netlink;

/// What a pod's network starts with, before its interface exists.
const SYSCTLS: [(&str, &str); 3] = [
    // A program without privileges may listen on port 80, as in other container runtimes.
    ("net/ipv4/ip_unprivileged_port_start", "0"),
    // And use ping sockets.
    ("net/ipv4/ping_group_range", "0 2147483647"),
    // No IPv6 link-local address: nothing routes it, and its detection would make noise.
    ("net/ipv6/conf/default/addr_gen_mode", "1"),
];

/// The child's whole life: makes the namespaces, sends them, returns its exit code.
pub fn run(channel: &Channel, config: &SandboxConfig, ip: Ipv4Addr) -> i32 {
    let sent = match make(channel, config, ip) {
        Ok(()) => return 0,
        Err(failure) => channel.send(&Progress::Failed(failure), &[]),
    };
    if sent.is_ok() { 1 } else { 2 }
}

fn make(channel: &Channel, config: &SandboxConfig, ip: Ipv4Addr) -> Result<(), Failure> {
    let mut node = Netlink::open().during(|| "opening rtnetlink on the node".to_owned())?;
    let mut flags = CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS;
    if !config.host_network {
        flags |= CloneFlags::CLONE_NEWNET;
    }
    unshare(flags).during(|| "making the pod's namespaces".to_owned())?;
    sethostname(&config.hostname).during(|| format!("setting the host name {}", config.hostname))?;
    let net = own(c"net")?;
    if !config.host_network {
        prepare_network();
        node.add_pod_link(net.as_fd(), ip).during(|| "making the pod's interface".to_owned())?;
        Netlink::open().and_then(|mut pod| pod.set_up_pod(ip)).during(|| format!("giving the pod its address {ip}"))?;
    }
    for (name, value) in &config.sysctls {
        let path = format!("/proc/sys/{}", name.replace('.', "/"));
        std::fs::write(&path, value).during(|| format!("setting sysctl {name}={value}"))?;
    }
    let (ipc, uts) = (own(c"ipc")?, own(c"uts")?);
    channel.send(&Progress::Made, &[net.as_fd(), ipc.as_fd(), uts.as_fd()]).during(|| "handing over the pod".to_owned())
}

/// Applies [`SYSCTLS`] to the caller's network namespace. A kernel without one of them (no IPv6) is no error.
pub fn prepare_network() {
    for (name, value) in SYSCTLS {
        let _absent = std::fs::write(format!("/proc/sys/{name}"), value);
    }
}
