//! Connections to a Service through the API server: each is a port-forward of its own to a pod that is ready then.
//!
//! Which pods are ready is known from one watch of the namespace's EndpointSlices, started with the first connection (an
//! `up` that nobody connects during asks nothing). While no pod is ready a connection waits, as for a server that is slow to accept.
//! A pod that is replaced ends its connections; the next ones go to another.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use futures::TryStreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::Api;
use kube::runtime::watcher;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;

use super::ServicePort;
use super::contact::{Contact, SILENCE};
use super::forward::{Carrier, Forwards};
use super::refusal::in_words;
use crate::objects::SLICE_MANAGER;
use crate::reading::{self, Events};

/// How long a pod may be silent after the client has said all it had to say. The protocol cannot carry a half-closed
/// connection, so its end is not passed on.
const LAST_WORDS: Duration = Duration::from_secs(30);

/// How long pods that are gone may still stand in the slices as they are known here: the watch may just have broken.
const SETTLE: Duration = Duration::from_secs(5);

/// The label that says whose endpoints a slice has.
const SERVICE: &str = "kubernetes.io/service-name";

/// What a connection is carried to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Endpoint {
    /// A pod, by its name.
    Pod(String, u16),
    /// A port of this machine that is lent to the cluster ([`super::lend`]).
    Lent(SocketAddr),
}

/// A connection to an endpoint.
enum Stream {
    Pod(DuplexStream),
    Lent(TcpStream),
}

/// Pods with what they listen on, by the slice that says so.
type Slices = BTreeMap<String, EndpointSlice>;

/// Carries connections to pods of one namespace.
pub struct PodForward {
    contact: Arc<Contact>,
    namespace: String,
    forwards: Arc<Forwards>,
    slices: OnceLock<watch::Receiver<Slices>>,
    turn: AtomicUsize,
}

impl PodForward {
    /// Nothing is asked of the cluster yet.
    pub fn new(client: kube::Client, namespace: &str, forwards: Arc<Forwards>) -> Self {
        Self {
            contact: Arc::new(Contact::new(client)),
            namespace: namespace.to_owned(),
            forwards,
            slices: OnceLock::new(),
            turn: AtomicUsize::new(0),
        }
    }

    /// The client that it asks with.
    pub fn client(&self) -> kube::Client {
        self.contact.client().clone()
    }

    fn slices(&self) -> watch::Receiver<Slices> {
        let start = || {
            let (sender, receiver) = watch::channel(Slices::new());
            let (client, namespace) = (self.contact.client().clone(), self.namespace.clone());
            let watch = move || reading::watch(client.clone(), Some(&namespace), watcher::Config::default());
            self.forwards.spawn(follow(watch, sender, self.contact.clone()));
            receiver
        };
        self.slices.get_or_init(start).clone()
    }

    /// A stream to a ready pod; waits while there is none. `None` when none of those that are ready can be reached, and no others come soon.
    async fn connect(&self, target: &ServicePort) -> Option<Stream> {
        let mut slices = self.slices();
        let mut tried = Vec::new();
        loop {
            let has_others = |slices: &Slices| {
                let ready = ready(slices, target);
                !ready.is_empty() && ready != tried
            };
            let others = slices.wait_for(has_others);
            let found = if tried.is_empty() { others.await } else { timeout(SETTLE, others).await.ok()? };
            let ready = ready(&*found.ok()?, target);
            if let Some(stream) = self.reach(target, &ready).await {
                return Some(stream);
            }
            tried = ready;
        }
    }

    /// A stream to one of these.
    async fn reach(&self, target: &ServicePort, ready: &[Endpoint]) -> Option<Stream> {
        let pods: Api<Pod> = Api::namespaced(self.contact.client().clone(), &self.namespace);
        let first = self.turn.fetch_add(1, Ordering::Relaxed);
        for attempt in 0..ready.len() {
            match &ready[(first + attempt) % ready.len()] {
                Endpoint::Pod(pod, port) => {
                    let ports = [*port];
                    // The API server may be away, not the pod: the client waits, as it would for a server that is slow to accept.
                    let reached = self.contact.patiently(|| pods.portforward(pod, &ports));
                    match timeout(SILENCE, reached).await {
                        Ok(Ok(mut forwarder)) => return forwarder.take_stream(*port).map(Stream::Pod),
                        Ok(Err(error)) => {
                            tracing::warn!(%target, pod, error = %in_words(&error), "a pod could not be reached");
                        }
                        Err(_late) => return None,
                    }
                }
                Endpoint::Lent(address) => match TcpStream::connect(address).await {
                    Ok(stream) => return Some(Stream::Lent(stream)),
                    Err(error) => tracing::debug!(%target, %address, %error, "a lent port could not be reached"),
                },
            }
        }
        None
    }
}

#[async_trait]
impl Carrier for PodForward {
    async fn carry(&self, from: TcpStream, target: &ServicePort) {
        let mut from = from;
        let carried = match self.connect(target).await {
            Some(Stream::Pod(to)) => relay(from, to).await,
            Some(Stream::Lent(mut to)) => tokio::io::copy_bidirectional(&mut from, &mut to).await.map(drop),
            None => return,
        };
        if let Err(error) = carried {
            tracing::debug!(%target, %error, "a forwarded connection broke");
        }
    }
}

/// Copies both ways until the pod has ended its side, or has nothing more to say to a client that has.
async fn relay(mut from: TcpStream, to: DuplexStream) -> std::io::Result<()> {
    let (mut from_client, mut to_client) = from.split();
    let (mut from_pod, mut to_pod) = tokio::io::split(to);
    let sending = tokio::io::copy(&mut from_client, &mut to_pod);
    let mut sending = pin!(sending);
    let mut sent = false;
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let read = async {
            let reading = from_pod.read(&mut buffer);
            if !sent {
                return reading.await;
            }
            tokio::time::timeout(LAST_WORDS, reading).await.unwrap_or(Ok(0))
        };
        tokio::select! {
            ended = &mut sending, if !sent => {
                ended?;
                sent = true;
            }
            read = read => match read? {
                0 => return to_client.shutdown().await,
                count => to_client.write_all(&buffer[..count]).await?,
            },
        }
    }
}

/// The ready pods behind a Service's port, each with the port it listens on.
fn ready(slices: &Slices, target: &ServicePort) -> Vec<Endpoint> {
    let mut found = Vec::new();
    for slice in slices.values() {
        let is_lent = is_lent(slice);
        let ports = slice.ports.iter().flatten();
        let port =
            ports.filter(|port| port.name.as_deref().unwrap_or_default() == target.name).find_map(|port| port.port);
        let Some(port) = port.and_then(|port| u16::try_from(port).ok()) else { continue };
        if label(slice, SERVICE) != Some(&target.service) {
            continue;
        }
        for endpoint in slice.endpoints.iter().flatten() {
            let is_ready = endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true);
            let pod = endpoint.target_ref.as_ref().filter(|to| to.kind.as_deref() == Some("Pod"));
            if let Some(name) = pod.and_then(|pod| pod.name.clone()).filter(|_| is_ready) {
                found.push(Endpoint::Pod(name, port));
            }
            let address = endpoint.addresses.first().and_then(|address| address.parse().ok());
            found.extend(address.filter(|_| is_lent).map(|ip| Endpoint::Lent(SocketAddr::new(ip, port))));
        }
    }
    // A pod with two addresses is in two slices.
    found.sort_unstable();
    found.dedup();
    found
}

/// Keeps `sender` current until nobody listens. A watch that breaks goes on with back-off; where the API was silent, all pods may be
/// others since: none is known then until all are listed anew. What is lent is of this machine, and stays.
async fn follow(watch: impl Fn() -> Events<EndpointSlice>, sender: watch::Sender<Slices>, contact: Arc<Contact>) {
    let name = |slice: &EndpointSlice| slice.metadata.name.clone().unwrap_or_default();
    let mut stream = watch();
    let mut first = Slices::new();
    loop {
        match stream.try_next().await {
            Ok(Some(watcher::Event::Init)) => first.clear(),
            Ok(Some(watcher::Event::InitApply(slice))) => _ = first.insert(name(&slice), slice),
            Ok(Some(watcher::Event::InitDone)) => _ = sender.send_replace(std::mem::take(&mut first)),
            Ok(Some(watcher::Event::Apply(slice))) => {
                sender.send_modify(|slices| _ = slices.insert(name(&slice), slice))
            }
            Ok(Some(watcher::Event::Delete(slice))) => sender.send_modify(|slices| _ = slices.remove(&name(&slice))),
            Ok(None) => return,
            Err(error) => {
                tracing::debug!(%error, "the watch of endpoints ended and will be restarted");
                let (watcher::Error::InitialListFailed(error)
                | watcher::Error::WatchStartFailed(error)
                | watcher::Error::WatchFailed(error)) = error
                else {
                    continue;
                };
                if contact.heard(&error) {
                    sender.send_modify(|slices| slices.retain(|_, slice| is_lent(slice)));
                    // Asked again when there is someone to ask, or the watch's back-off would keep connections waiting.
                    contact.answers().await;
                    stream = watch();
                }
            }
        }
    }
}

/// Whether a slice's endpoints are ports of this machine.
fn is_lent(slice: &EndpointSlice) -> bool {
    label(slice, "endpointslice.kubernetes.io/managed-by") == Some(SLICE_MANAGER)
}

fn label<'a>(slice: &'a EndpointSlice, name: &str) -> Option<&'a str> {
    slice.metadata.labels.as_ref()?.get(name).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn slice(name: &str, service: &str, port: Option<&str>, endpoints: serde_json::Value) -> (String, EndpointSlice) {
        let slice = serde_json::from_value(json!({
            "metadata": {"name": name, "labels": {SERVICE: service}}, "addressType": "IPv4",
            "ports": [{"name": port.unwrap_or_default(), "port": 8080}], "endpoints": endpoints,
        }));
        (name.to_owned(), slice.expect("a slice"))
    }

    #[test]
    fn only_ready_pods_of_that_service_and_port_count() {
        let pod = |name: &str, ready: Option<bool>| json!({"addresses": ["10.0.0.1"], "conditions": {"ready": ready}, "targetRef": {"kind": "Pod", "name": name}});
        let slices = Slices::from([
            slice("web-1", "web", Some("http"), json!([pod("a", Some(true)), pod("b", Some(false)), pod("c", None)])),
            slice("web-2", "web", Some("http"), json!([pod("a", Some(true)), {"addresses": ["10.0.0.9"]}])),
            slice("web-3", "web", Some("metrics"), json!([pod("d", Some(true))])),
            slice("db-1", "db", Some("http"), json!([pod("e", Some(true))])),
        ]);
        let target = ServicePort { namespace: "n".into(), service: "web".into(), port: 80, name: "http".into() };
        let pod = |name: &str| Endpoint::Pod(name.to_owned(), 8080);
        assert_eq!(ready(&slices, &target), [pod("a"), pod("c")]);
        let (name, mut lent) = slice("web-on-host", "web", Some("http"), json!([{"addresses": ["10.0.0.9"]}]));
        let labels = lent.metadata.labels.get_or_insert_default();
        labels.insert("endpointslice.kubernetes.io/managed-by".into(), SLICE_MANAGER.into());
        let slices = Slices::from([(name, lent)]);
        assert_eq!(ready(&slices, &target), [Endpoint::Lent(([10, 0, 0, 9], 8080).into())]);
    }
}
