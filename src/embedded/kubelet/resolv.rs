//! A pod's host name and the content of its `/etc/resolv.conf`. Pure.
//!
//! Follows upstream's `pkg/kubelet/network/dns/dns.go` and `GeneratePodHostNameAndDomain`. One difference:
//! pods cannot reach the host's resolvers (other network), so `dnsPolicy: Default` also asks the
//! cluster's DNS, which forwards there, but without the cluster's search domains.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::Pod;

/// Upstream's `hostnameMaxLen`.
const HOSTNAME_MAX: usize = 63;

/// The pod's host name: `hostnameOverride`, `hostname` or its name, cut to 63 bytes.
pub fn hostname(pod: &Pod) -> String {
    let spec = pod.spec.as_ref();
    let given = spec.and_then(|spec| {
        spec.hostname_override.clone().or_else(|| spec.hostname.clone()).filter(|hostname| !hostname.is_empty())
    });
    let mut hostname = given.or_else(|| pod.metadata.name.clone()).unwrap_or_default();
    if hostname.len() > HOSTNAME_MAX {
        hostname.truncate(HOSTNAME_MAX);
        hostname.truncate(hostname.trim_end_matches(['-', '.']).len());
    }
    hostname
}

/// The whole `/etc/resolv.conf`.
pub fn resolv_conf(pod: &Pod, cluster_domain: &str, dns_ip: Ipv4Addr) -> String {
    let spec = pod.spec.as_ref();
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    let host_network = spec.and_then(|spec| spec.host_network).unwrap_or(false);
    let policy = spec.and_then(|spec| spec.dns_policy.as_deref()).unwrap_or("ClusterFirst");
    let mut servers = Vec::new();
    let mut searches = Vec::new();
    let mut options: Vec<(String, Option<String>)> = Vec::new();
    match policy {
        "None" => {}
        "Default" => servers.push(dns_ip.to_string()),
        "ClusterFirst" if host_network => servers.push(dns_ip.to_string()),
        _ => {
            servers.push(dns_ip.to_string());
            searches.push(format!("{namespace}.svc.{cluster_domain}"));
            searches.push(format!("svc.{cluster_domain}"));
            searches.push(cluster_domain.to_owned());
            options.push(("ndots".to_owned(), Some("5".to_owned())));
        }
    }
    if let Some(config) = spec.and_then(|spec| spec.dns_config.as_ref()) {
        for (list, more) in [(&mut servers, &config.nameservers), (&mut searches, &config.searches)] {
            for entry in more.iter().flatten() {
                if !list.contains(entry) {
                    list.push(entry.clone());
                }
            }
        }
        for option in config.options.iter().flatten() {
            let Some(name) = option.name.clone() else { continue };
            match options.iter_mut().find(|(known, _)| *known == name) {
                Some((_, value)) => value.clone_from(&option.value),
                None => options.push((name, option.value.clone())),
            }
        }
    }
    let mut text = String::new();
    if !searches.is_empty() {
        let _ = writeln!(text, "search {}", searches.join(" "));
    }
    for server in servers {
        let _ = writeln!(text, "nameserver {server}");
    }
    if !options.is_empty() {
        let words: Vec<String> = options
            .into_iter()
            .map(|(name, value)| match value {
                Some(value) if !value.is_empty() => format!("{name}:{value}"),
                _ => name,
            })
            .collect();
        let _ = writeln!(text, "options {}", words.join(" "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn conf(spec: Value) -> String {
        let pod = serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "ns"}, "spec": spec})).unwrap();
        resolv_conf(&pod, "cluster.local", Ipv4Addr::new(10, 96, 0, 10))
    }

    #[test]
    fn policies() {
        let cluster =
            "search ns.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n";
        assert_eq!(conf(json!({"containers": []})), cluster);
        assert_eq!(
            conf(json!({"containers": [], "hostNetwork": true, "dnsPolicy": "ClusterFirstWithHostNet"})),
            cluster
        );
        assert_eq!(conf(json!({"containers": [], "dnsPolicy": "Default"})), "nameserver 10.96.0.10\n");
        assert_eq!(
            conf(json!({"containers": [], "dnsPolicy": "None", "dnsConfig": {
                "nameservers": ["1.1.1.1"], "searches": ["my.local"], "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}]}})),
            "search my.local\nnameserver 1.1.1.1\noptions ndots:2 edns0\n"
        );
        assert_eq!(
            conf(json!({"containers": [], "dnsConfig": {"options": [{"name": "ndots", "value": "1"}]}})),
            "search ns.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.96.0.10\noptions ndots:1\n"
        );
    }

    #[test]
    fn hostnames() {
        let named = |name: &str, hostname_given: Value| {
            let pod = serde_json::from_value(
                json!({"metadata": {"name": name}, "spec": {"containers": [], "hostname": hostname_given}}),
            );
            hostname(&pod.unwrap())
        };
        assert_eq!(named("web-0", json!(null)), "web-0");
        assert_eq!(named("web-0", json!("other")), "other");
        assert_eq!(named(&format!("{}-{}", "a".repeat(62), "b".repeat(9)), json!(null)), "a".repeat(62));
    }
}
