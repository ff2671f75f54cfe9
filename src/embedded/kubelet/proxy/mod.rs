//! The service proxy: service addresses in the node's network, and the agent's way to services.
//!
//! One task follows the service table and keeps one listener for every address, port and protocol that has a ready
//! endpoint; without one there is no listener, and the kernel refuses, as upstream's REJECT rule does
//! (`pkg/proxy/iptables/proxier.go`). Connections are copied in user space: pods see the node's address.

pub mod dialer;
mod tcp;
mod udp;

use std::collections::{HashMap, HashSet};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::runtime::NodeNetwork;
use super::services::{Key, Table};

pub use self::dialer::{DialError, PortRef, ServiceDialer};

/// One service port at an address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Front {
    key: Key,
    address: SocketAddrV4,
    port_name: String,
    udp: bool,
}

/// `sessionAffinity: ClientIP`, with its time; upstream's default is three hours.
fn affinity(table: &Table, key: &Key) -> Option<Duration> {
    let spec = table.entries.get(key)?.service.as_ref()?.spec.as_ref()?;
    if spec.session_affinity.as_deref() != Some("ClientIP") {
        return None;
    }
    let seconds = spec
        .session_affinity_config
        .as_ref()
        .and_then(|config| config.client_ip.as_ref())
        .and_then(|client| client.timeout_seconds);
    Some(Duration::from_secs(seconds.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(10_800)))
}

/// `default/kubernetes`: the API server's own service, whose endpoint is outside of the node's network.
fn is_api(key: &Key) -> bool {
    key.0 == "default" && key.1 == "kubernetes"
}

/// Which fronts should be listened on.
fn wanted(table: &Table) -> HashSet<Front> {
    let mut fronts = HashSet::new();
    for (key, entry) in &table.entries {
        // The API server listens there by itself.
        if is_api(key) {
            continue;
        }
        let Some(spec) = entry.service.as_ref().and_then(|service| service.spec.as_ref()) else { continue };
        let external = spec.external_ips.iter().flatten().filter_map(|ip| ip.parse().ok());
        let addresses: Vec<Ipv4Addr> = entry.cluster_ip().into_iter().chain(external).collect();
        for port in spec.ports.iter().flatten() {
            let protocol = port.protocol.as_deref().unwrap_or("TCP");
            let port_name = port.name.clone().unwrap_or_default();
            let Ok(number) = u16::try_from(port.port) else { continue };
            if !matches!(protocol, "TCP" | "UDP") || entry.ready(&port_name, protocol).is_empty() {
                continue;
            }
            for address in &addresses {
                fronts.insert(Front {
                    key: key.clone(),
                    address: SocketAddrV4::new(*address, number),
                    port_name: port_name.clone(),
                    udp: protocol == "UDP",
                });
            }
        }
    }
    fronts
}

/// Waits between tries to listen: the listener before may only just be closing.
const LISTEN_AGAIN: [Duration; 3] = [Duration::from_millis(1), Duration::from_millis(10), Duration::from_millis(100)];

/// Makes a listener or socket; one that stays in use is given up, until the service goes and comes again.
async fn insist<T, F: Future<Output = std::io::Result<T>>>(make: impl Fn() -> F) -> std::io::Result<T> {
    for wait in LISTEN_AGAIN {
        match make().await {
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => tokio::time::sleep(wait).await,
            result => return result,
        }
    }
    make().await
}

/// Serves until `stop`, except at `own`, which somebody else serves (cluster DNS).
pub async fn run(
    mut table: watch::Receiver<Arc<Table>>,
    dialer: ServiceDialer,
    network: Arc<dyn NodeNetwork>,
    own: Ipv4Addr,
    stop: CancellationToken,
) {
    let mut open: HashMap<Front, CancellationToken> = HashMap::new();
    let mut tasks = JoinSet::new();
    loop {
        let version = Arc::clone(&table.borrow_and_update());
        let wanted = wanted(&version);
        open.retain(|front, token| {
            let keep = wanted.contains(front);
            if !keep {
                token.cancel();
            }
            keep
        });
        for front in wanted {
            if *front.address.ip() == own || open.contains_key(&front) {
                continue;
            }
            let token = stop.child_token();
            open.insert(front.clone(), token.clone());
            let (table, dialer, network) = (table.clone(), dialer.clone(), Arc::clone(&network));
            tasks.spawn(async move {
                let served = if front.udp {
                    udp::serve(&front, table, &*network, token.clone()).await
                } else {
                    tcp::serve(&front, table, dialer, &*network, token.clone()).await
                };
                if let Err(error) = served {
                    tracing::warn!(%error, address = %front.address, service = ?front.key, "a service address cannot be listened on");
                }
            });
        }
        tokio::select! {
            () = stop.cancelled() => break,
            changed = table.changed() => if changed.is_err() { break },
            Some(_) = tasks.join_next(), if !tasks.is_empty() => {}
        }
    }
    tasks.shutdown().await;
}

#[cfg(test)]
mod tests {
    use super::super::services::{Endpoint, Entry, Slice};
    use super::*;
    use serde_json::json;

    #[test]
    fn only_ports_with_ready_endpoints() {
        let mut table = Table::default();
        let service = json!({"metadata": {"name": "s", "namespace": "ns"}, "spec": {"clusterIP": "10.96.0.9", "sessionAffinity": "ClientIP",
            "ports": [{"name": "a", "port": 80}, {"name": "b", "port": 81}, {"name": "u", "port": 53, "protocol": "UDP"}]}});
        let endpoint = |ready| Endpoint { ip: Ipv4Addr::new(10, 244, 0, 2), ready, hostname: None };
        let slices = [
            (
                "s-1".to_owned(),
                Slice {
                    ports: vec![("a".into(), 8080, "TCP".into()), ("u".into(), 53, "UDP".into())],
                    endpoints: vec![endpoint(true)],
                },
            ),
            (
                "s-2".to_owned(),
                Slice { ports: vec![("b".into(), 8081, "TCP".into())], endpoints: vec![endpoint(false)] },
            ),
        ];
        let entry = Entry {
            service: Some(Arc::new(serde_json::from_value(service).unwrap())),
            slices: slices.into_iter().collect(),
        };
        let key = ("ns".to_owned(), "s".to_owned());
        table.entries.insert(("default".to_owned(), "kubernetes".to_owned()), Arc::new(entry.clone()));
        table.entries.insert(key.clone(), Arc::new(entry));
        let mut got: Vec<(String, bool)> =
            wanted(&table).into_iter().map(|front| (front.address.to_string(), front.udp)).collect();
        got.sort();
        assert_eq!(got, [("10.96.0.9:53".to_owned(), true), ("10.96.0.9:80".to_owned(), false)]);
        assert_eq!(affinity(&table, &key), Some(Duration::from_secs(10_800)));
    }
}
