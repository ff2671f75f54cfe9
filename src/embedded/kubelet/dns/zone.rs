//! The cluster's names, answered from the service table. Pure.
//!
//! Follows the specification "Kubernetes DNS-Based Service Discovery" 1.1; endpoints without a host name are
//! called by their dashed address, as CoreDNS does.

use std::net::Ipv4Addr;

use super::super::services::{Entry, Table};

/// What is asked for, as far as this zone has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An address.
    A,
    /// Ports.
    Srv,
    /// A name for an address.
    Ptr,
    /// Another name.
    Cname,
    /// Anything the zone doesn't hold.
    Other,
}

/// One record's data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    /// An address.
    A(Ipv4Addr),
    /// Another name.
    Cname(String),
    /// Port and name.
    Srv(u16, String),
    /// A name.
    Ptr(String),
}

/// The zone's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Records of the name asked for; empty if it exists without this kind.
    Records(Vec<Data>),
    /// No such name in the zone.
    NoSuchName,
    /// Not this zone's: ask elsewhere.
    Outside,
}

/// Answers for `name`: lower case, without the final dot.
pub fn answer(table: &Table, domain: &str, name: &str, kind: Kind) -> Answer {
    if let Some(reversed) = name.strip_suffix(".in-addr.arpa") {
        return reverse(table, domain, reversed, kind);
    }
    if name == domain {
        return Answer::Records(Vec::new());
    }
    let Some(inner) = name.strip_suffix(domain).and_then(|inner| inner.strip_suffix('.')) else {
        return Answer::Outside;
    };
    let labels: Vec<&str> = inner.split('.').collect();
    match labels.as_slice() {
        ["svc" | "pod"] => Answer::Records(Vec::new()),
        [namespace, "svc"] => match table.entries.keys().any(|(of, _)| of == namespace) {
            true => Answer::Records(Vec::new()),
            false => Answer::NoSuchName,
        },
        [address, _, "pod"] => match address.replace('-', ".").parse() {
            Ok(ip) => only(kind == Kind::A, Data::A(ip)),
            Err(_) => Answer::NoSuchName,
        },
        [rest @ .., service, namespace, "svc"] => {
            let Some(entry) = table.entries.get(&((*namespace).to_owned(), (*service).to_owned())) else {
                return Answer::NoSuchName;
            };
            if entry.service.is_none() {
                return Answer::NoSuchName;
            }
            let full = format!("{service}.{namespace}.svc.{domain}");
            match rest {
                [] => of_service(entry, kind, &full),
                [port, protocol] if port.starts_with('_') && protocol.starts_with('_') => {
                    let ports = srv(entry, &full, &port[1..], &protocol[1..]);
                    match (ports.is_empty(), kind) {
                        (true, _) => Answer::NoSuchName,
                        (false, Kind::Srv) => Answer::Records(ports),
                        (false, _) => Answer::Records(Vec::new()),
                    }
                }
                [host] => {
                    let found: Vec<Data> =
                        endpoints(entry).filter(|(label, _)| label == host).map(|(_, ip)| Data::A(ip)).collect();
                    match (found.is_empty(), kind) {
                        (true, _) => Answer::NoSuchName,
                        (false, Kind::A) => Answer::Records(found),
                        (false, _) => Answer::Records(Vec::new()),
                    }
                }
                _ => Answer::NoSuchName,
            }
        }
        _ => Answer::NoSuchName,
    }
}

fn only(asked: bool, data: Data) -> Answer {
    Answer::Records(if asked { vec![data] } else { Vec::new() })
}

/// Ready endpoints with the labels they are called by.
fn endpoints(entry: &Entry) -> impl Iterator<Item = (String, Ipv4Addr)> {
    let ready = entry.slices.values().flat_map(|slice| &slice.endpoints).filter(|endpoint| endpoint.ready);
    ready.map(|endpoint| {
        let label = endpoint.hostname.clone().unwrap_or_else(|| endpoint.ip.to_string().replace('.', "-"));
        (label, endpoint.ip)
    })
}

fn of_service(entry: &Entry, kind: Kind, full: &str) -> Answer {
    let spec = entry.service.as_ref().and_then(|service| service.spec.as_ref());
    if spec.and_then(|spec| spec.type_.as_deref()) == Some("ExternalName") {
        let name = spec.and_then(|spec| spec.external_name.clone()).unwrap_or_default();
        return only(matches!(kind, Kind::A | Kind::Cname), Data::Cname(name.trim_end_matches('.').to_owned()));
    }
    if let Some(ip) = entry.cluster_ip() {
        return match kind {
            Kind::Srv => Answer::Records(srv(entry, full, "", "")),
            _ => only(kind == Kind::A, Data::A(ip)),
        };
    }
    let mut ips: Vec<Ipv4Addr> = endpoints(entry).map(|(_, ip)| ip).collect();
    ips.sort_unstable();
    ips.dedup();
    match kind {
        // The specification: a headless service without ready endpoints has no records.
        _ if ips.is_empty() => Answer::NoSuchName,
        Kind::A => Answer::Records(ips.into_iter().map(Data::A).collect()),
        Kind::Srv => Answer::Records(srv(entry, full, "", "")),
        _ => Answer::Records(Vec::new()),
    }
}

/// SRV records of named ports; of all ports if `port` is empty.
fn srv(entry: &Entry, full: &str, port: &str, protocol: &str) -> Vec<Data> {
    let matches = |name: &str, of: &str| {
        if port.is_empty() { !name.is_empty() } else { name == port && of.eq_ignore_ascii_case(protocol) }
    };
    if entry.cluster_ip().is_some() {
        let spec = entry.service.as_ref().and_then(|service| service.spec.as_ref());
        let ports = spec.and_then(|spec| spec.ports.as_ref()).into_iter().flatten();
        return ports
            .filter(|candidate| {
                matches(candidate.name.as_deref().unwrap_or_default(), candidate.protocol.as_deref().unwrap_or("TCP"))
            })
            .filter_map(|candidate| Some(Data::Srv(u16::try_from(candidate.port).ok()?, full.to_owned())))
            .collect();
    }
    let mut records = Vec::new();
    for slice in entry.slices.values() {
        for (_, number, _) in slice.ports.iter().filter(|(name, _, of)| matches(name, of)) {
            for endpoint in slice.endpoints.iter().filter(|endpoint| endpoint.ready) {
                let label = endpoint.hostname.clone().unwrap_or_else(|| endpoint.ip.to_string().replace('.', "-"));
                records.push(Data::Srv(*number, format!("{label}.{full}")));
            }
        }
    }
    records
}

fn reverse(table: &Table, domain: &str, reversed: &str, kind: Kind) -> Answer {
    let forward: Vec<&str> = reversed.split('.').rev().collect();
    let Ok(ip) = forward.join(".").parse::<Ipv4Addr>() else { return Answer::Outside };
    for ((namespace, name), entry) in &table.entries {
        if entry.service.is_none() {
            continue;
        }
        let full = format!("{name}.{namespace}.svc.{domain}");
        if entry.cluster_ip() == Some(ip) {
            return only(kind == Kind::Ptr, Data::Ptr(full));
        }
        if entry.cluster_ip().is_none()
            && let Some((label, _)) = endpoints(entry).find(|(_, of)| *of == ip)
        {
            return only(kind == Kind::Ptr, Data::Ptr(format!("{label}.{full}")));
        }
    }
    // Nobody outside knows private addresses of this cluster.
    if ip.is_private() { Answer::NoSuchName } else { Answer::Outside }
}

#[cfg(test)]
mod tests {
    use super::super::super::services::{Endpoint, Slice};
    use super::*;
    use serde_json::json;
    use std::sync::Arc;

    fn table() -> Table {
        let mut table = Table::default();
        let mut add = |name: &str, spec: serde_json::Value, endpoints: &[(&str, Option<&str>)]| {
            let service = json!({"metadata": {"name": name, "namespace": "ns"}, "spec": spec});
            let endpoints = endpoints.iter().map(|(ip, hostname)| Endpoint {
                ip: ip.parse().unwrap(),
                ready: true,
                hostname: hostname.map(str::to_owned),
            });
            let slice = Slice { ports: vec![("http".into(), 8080, "TCP".into())], endpoints: endpoints.collect() };
            let entry = Entry {
                service: Some(Arc::new(serde_json::from_value(service).unwrap())),
                slices: [("s".to_owned(), slice)].into(),
            };
            table.entries.insert(("ns".to_owned(), name.to_owned()), Arc::new(entry));
        };
        add("web", json!({"clusterIP": "10.96.0.7", "ports": [{"name": "http", "port": 80}]}), &[("10.244.0.5", None)]);
        add(
            "db",
            json!({"clusterIP": "None", "ports": [{"name": "http", "port": 80}]}),
            &[("10.244.0.6", Some("db-0")), ("10.244.0.7", None)],
        );
        add("ext", json!({"type": "ExternalName", "externalName": "example.com"}), &[]);
        add("idle", json!({"clusterIP": "None"}), &[]);
        table
    }

    #[test]
    fn the_specifications_records() {
        let table = table();
        let a = |ip: &str| Data::A(ip.parse().unwrap());
        for (name, kind, expected) in [
            ("web.ns.svc.cluster.local", Kind::A, Answer::Records(vec![a("10.96.0.7")])),
            ("web.ns.svc.cluster.local", Kind::Other, Answer::Records(vec![])),
            (
                "_http._tcp.web.ns.svc.cluster.local",
                Kind::Srv,
                Answer::Records(vec![Data::Srv(80, "web.ns.svc.cluster.local".into())]),
            ),
            ("_nope._tcp.web.ns.svc.cluster.local", Kind::Srv, Answer::NoSuchName),
            ("db.ns.svc.cluster.local", Kind::A, Answer::Records(vec![a("10.244.0.6"), a("10.244.0.7")])),
            ("db-0.db.ns.svc.cluster.local", Kind::A, Answer::Records(vec![a("10.244.0.6")])),
            ("10-244-0-7.db.ns.svc.cluster.local", Kind::A, Answer::Records(vec![a("10.244.0.7")])),
            ("db-1.db.ns.svc.cluster.local", Kind::A, Answer::NoSuchName),
            (
                "_http._tcp.db.ns.svc.cluster.local",
                Kind::Srv,
                Answer::Records(vec![
                    Data::Srv(8080, "db-0.db.ns.svc.cluster.local".into()),
                    Data::Srv(8080, "10-244-0-7.db.ns.svc.cluster.local".into()),
                ]),
            ),
            ("ext.ns.svc.cluster.local", Kind::A, Answer::Records(vec![Data::Cname("example.com".into())])),
            ("idle.ns.svc.cluster.local", Kind::A, Answer::NoSuchName),
            ("none.ns.svc.cluster.local", Kind::A, Answer::NoSuchName),
            ("10-244-0-9.ns.pod.cluster.local", Kind::A, Answer::Records(vec![a("10.244.0.9")])),
            ("ns.svc.cluster.local", Kind::A, Answer::Records(vec![])),
            ("other.svc.cluster.local", Kind::A, Answer::NoSuchName),
            ("7.0.96.10.in-addr.arpa", Kind::Ptr, Answer::Records(vec![Data::Ptr("web.ns.svc.cluster.local".into())])),
            (
                "6.0.244.10.in-addr.arpa",
                Kind::Ptr,
                Answer::Records(vec![Data::Ptr("db-0.db.ns.svc.cluster.local".into())]),
            ),
            ("9.9.244.10.in-addr.arpa", Kind::Ptr, Answer::NoSuchName),
            ("8.8.8.8.in-addr.arpa", Kind::Ptr, Answer::Outside),
            ("example.com", Kind::A, Answer::Outside),
            ("notcluster.local", Kind::A, Answer::Outside),
        ] {
            assert_eq!(answer(&table, "cluster.local", name, kind), expected, "{name} {kind:?}");
        }
    }
}
