//! The services and endpoint slices of the cluster, as one table that DNS, the proxy and service
//! variables read.
//!
//! One task feeds it from two watches and publishes whole versions; readers hold a version, never a lock.

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;
use std::sync::Arc;

use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::ListParams;
use kube::runtime::watcher::{Config, Event};
use kube::{Api, Resource, ResourceExt};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::reading;

/// The label that names a slice's service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Namespace and name.
pub type Key = (String, String);

/// One endpoint of a slice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Where it is.
    pub ip: Ipv4Addr,
    /// Takes traffic (`conditions.ready`, absent counts as true).
    pub ready: bool,
    /// Its `hostname`, for headless services.
    pub hostname: Option<String>,
}

/// One slice, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Slice {
    /// Name, port, protocol.
    pub ports: Vec<(String, u16, String)>,
    /// IPv4 only.
    pub endpoints: Vec<Endpoint>,
}

/// A service with its slices.
#[derive(Debug, Clone, Default)]
pub struct Entry {
    /// Absent while only slices are known.
    pub service: Option<Arc<Service>>,
    /// By slice name.
    pub slices: BTreeMap<String, Slice>,
}

impl Entry {
    /// Whether it has an endpoint at this address, ready or not.
    pub fn has(&self, ip: Ipv4Addr) -> bool {
        self.slices.values().flat_map(|slice| &slice.endpoints).any(|endpoint| endpoint.ip == ip)
    }

    /// Its cluster address, if it has one.
    pub fn cluster_ip(&self) -> Option<Ipv4Addr> {
        self.service.as_ref()?.spec.as_ref()?.cluster_ip.as_deref()?.parse().ok()
    }

    /// Ready addresses behind the port named `port`.
    pub fn ready(&self, port: &str, protocol: &str) -> Vec<(Ipv4Addr, u16)> {
        let mut found = Vec::new();
        for slice in self.slices.values() {
            for (_, number, _) in slice.ports.iter().filter(|(name, _, of)| name == port && of == protocol) {
                found.extend(
                    slice.endpoints.iter().filter(|endpoint| endpoint.ready).map(|endpoint| (endpoint.ip, *number)),
                );
            }
        }
        found
    }
}

/// One version of everything.
#[derive(Debug, Clone, Default)]
pub struct Table {
    /// Every service and every slice's service.
    pub entries: HashMap<Key, Arc<Entry>>,
    /// Whether services have been listed once; before, no service variable can be made
    /// (`makeEnvironmentVariables`, "services have not yet been read at least once").
    pub services_listed: bool,
    /// Whether slices have been listed once.
    pub slices_listed: bool,
}

impl Table {
    fn entry(&mut self, key: Key) -> &mut Entry {
        Arc::make_mut(self.entries.entry(key).or_default())
    }

    fn forget_if_empty(&mut self, key: &Key) {
        if self.entries.get(key).is_some_and(|entry| entry.service.is_none() && entry.slices.is_empty()) {
            self.entries.remove(key);
        }
    }

    fn set_service(&mut self, service: Service) {
        let key = (service.namespace().unwrap_or_default(), service.name_any());
        self.entry(key).service = Some(Arc::new(service));
    }

    fn remove_service(&mut self, key: &Key) {
        if self.entries.contains_key(key) {
            self.entry(key.clone()).service = None;
            self.forget_if_empty(key);
        }
    }

    fn set_slice(&mut self, slice: &EndpointSlice) {
        let Some(key) = slice_key(slice) else { return };
        self.entry(key).slices.insert(slice.name_any(), read_slice(slice));
    }

    fn remove_slice(&mut self, slice: &EndpointSlice) {
        let Some(key) = slice_key(slice) else { return };
        if self.entries.contains_key(&key) {
            self.entry(key.clone()).slices.remove(&slice.name_any());
            self.forget_if_empty(&key);
        }
    }
}

fn slice_key(slice: &EndpointSlice) -> Option<Key> {
    Some((slice.namespace().unwrap_or_default(), slice.labels().get(SERVICE_NAME)?.clone()))
}

fn read_slice(slice: &EndpointSlice) -> Slice {
    let ports = slice.ports.iter().flatten().filter_map(|port| {
        let number = u16::try_from(port.port?).ok()?;
        Some((port.name.clone().unwrap_or_default(), number, port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())))
    });
    let endpoints = slice.endpoints.iter().flatten().filter_map(|endpoint| {
        Some(Endpoint {
            ip: endpoint.addresses.first()?.parse().ok()?,
            ready: endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true),
            hostname: endpoint.hostname.clone().filter(|hostname| !hostname.is_empty()),
        })
    });
    Slice { ports: ports.collect(), endpoints: endpoints.collect() }
}

/// Events of both watches in one stream.
#[expect(clippy::large_enum_variant, reason = "a hundred at most exist at a time, each for a moment")]
enum Change {
    Service(Event<Service>),
    Slice(Event<EndpointSlice>),
}

/// The slices of a service as they are now: what is fed by a watch is a moment behind whoever has another.
///
/// # Errors
/// When the API refuses.
pub async fn slices_now(client: &kube::Client, (namespace, service): &Key) -> kube::Result<BTreeMap<String, Slice>> {
    let parameters = ListParams::default().labels(&format!("{SERVICE_NAME}={service}"));
    let slices = Api::<EndpointSlice>::namespaced(client.clone(), namespace).list(&parameters).await?;
    Ok(slices.iter().map(|slice| (slice.name_any(), read_slice(slice))).collect())
}

/// The table's receiver, and the task that feeds it until `stop`.
pub fn follow(
    client: kube::Client,
    stop: CancellationToken,
) -> (watch::Receiver<Arc<Table>>, impl Future<Output = ()> + Send) {
    let (sender, receiver) = watch::channel(Arc::new(Table::default()));
    (receiver, feed(client, sender, stop))
}

fn events<K>(client: kube::Client) -> impl Stream<Item = Event<K>> + Send
where
    K: Resource<DynamicType = ()> + serde::de::DeserializeOwned + Send + 'static,
{
    reading::watch(client, None, Config::default().streaming_lists())
        .filter_map(async |event| event.inspect_err(|error| tracing::debug!(%error, "watching services")).ok())
}

async fn feed(client: kube::Client, sender: watch::Sender<Arc<Table>>, stop: CancellationToken) {
    let services = events::<Service>(client.clone()).map(Change::Service);
    let slices = events::<EndpointSlice>(client).map(Change::Slice);
    let changes = futures::stream::select(Box::pin(services), Box::pin(slices)).ready_chunks(128);
    futures::pin_mut!(changes);
    let mut table = Table::default();
    let mut stale_services: Vec<Key> = Vec::new();
    loop {
        let batch = tokio::select! {
            () = stop.cancelled() => return,
            batch = changes.next() => match batch { Some(batch) => batch, None => return },
        };
        for change in batch {
            match change {
                Change::Service(Event::Init) => {
                    stale_services = table
                        .entries
                        .iter()
                        .filter(|(_, entry)| entry.service.is_some())
                        .map(|(key, _)| key.clone())
                        .collect();
                }
                Change::Service(Event::InitApply(service) | Event::Apply(service)) => {
                    let key = (service.namespace().unwrap_or_default(), service.name_any());
                    stale_services.retain(|stale| *stale != key);
                    table.set_service(service);
                }
                Change::Service(Event::InitDone) => {
                    for key in stale_services.drain(..) {
                        table.remove_service(&key);
                    }
                    table.services_listed = true;
                }
                Change::Service(Event::Delete(service)) => {
                    table.remove_service(&(service.namespace().unwrap_or_default(), service.name_any()));
                }
                Change::Slice(Event::Init) => {
                    // A new list replaces what was known; nothing is published before it is complete.
                    let keys: Vec<Key> = table.entries.keys().cloned().collect();
                    for key in keys {
                        table.entry(key.clone()).slices.clear();
                        table.forget_if_empty(&key);
                    }
                    table.slices_listed = false;
                }
                Change::Slice(Event::InitApply(slice) | Event::Apply(slice)) => table.set_slice(&slice),
                Change::Slice(Event::InitDone) => table.slices_listed = true,
                Change::Slice(Event::Delete(slice)) => table.remove_slice(&slice),
            }
        }
        // In the middle of a later list of slices the last complete version stays.
        if table.slices_listed || !sender.borrow().slices_listed {
            sender.send_replace(Arc::new(table.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn joins_services_and_slices() {
        let mut table = Table::default();
        let key = ("ns".to_owned(), "web".to_owned());
        let slice: EndpointSlice = serde_json::from_value(json!({
            "metadata": {"name": "web-1", "namespace": "ns", "labels": {SERVICE_NAME: "web"}}, "addressType": "IPv4",
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
            "endpoints": [
                {"addresses": ["10.244.0.5"], "conditions": {"ready": true}},
                {"addresses": ["10.244.0.6"], "conditions": {"ready": false}},
                {"addresses": ["10.244.0.7"], "hostname": "web-0", "conditions": {}}]
        }))
        .unwrap();
        table.set_slice(&slice);
        table.set_service(
            serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "ns"}, "spec": {"clusterIP": "10.96.0.7"}}))
            .unwrap(),
        );
        let entry = &table.entries[&key];
        assert_eq!(entry.cluster_ip(), Some(Ipv4Addr::new(10, 96, 0, 7)));
        assert_eq!(
            entry.ready("http", "TCP"),
            [(Ipv4Addr::new(10, 244, 0, 5), 8080), (Ipv4Addr::new(10, 244, 0, 7), 8080)]
        );
        assert_eq!(entry.ready("http", "UDP"), []);
        table.remove_service(&key);
        table.remove_slice(&slice);
        assert!(table.entries.is_empty());
    }
}
