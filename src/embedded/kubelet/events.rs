//! Events in core/v1, as upstream's kubelet words them (`pkg/kubelet/events/event.go`).
//!
//! One task writes them in order, off everyone's path; repeats raise the first one's count instead of
//! making a new one (`client-go/tools/record/events_cache.go`).

use std::collections::HashMap;

use k8s_openapi::api::core::v1::{Event, EventSource, Node, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::core::Request;
use kube::{Client, Resource};
use serde::de::IgnoredAny;
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Events known for repeats; past that, all are forgotten (upstream's cache holds 4096).
const REMEMBERED: usize = 4096;
/// Events waiting to be written; past that, new ones are dropped with a log line.
const QUEUE: usize = 4096;

/// `Normal` or `Warning`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Something as intended.
    Normal,
    /// Something a person should see.
    Warning,
}

#[derive(Debug)]
struct Entry {
    about: ObjectReference,
    kind: Kind,
    reason: &'static str,
    message: String,
    at: Timestamp,
}

/// Records events. Cheap to clone; never blocks.
#[derive(Debug, Clone)]
pub struct Recorder {
    queue: mpsc::Sender<Entry>,
}

impl Recorder {
    /// The recorder and the task that writes what it is given; the task ends when `stop` is cancelled.
    pub fn new(client: Client, node: String, stop: CancellationToken) -> (Self, impl Future<Output = ()> + Send) {
        let (queue, entries) = mpsc::channel(QUEUE);
        (Self { queue }, write(client, node, entries, stop))
    }

    /// About a pod, or one of its containers (`spec.containers{NAME}`).
    pub fn pod(&self, pod: &Pod, field: Option<String>, kind: Kind, reason: &'static str, message: impl Into<String>) {
        let about = ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            name: pod.metadata.name.clone(),
            namespace: pod.metadata.namespace.clone(),
            uid: pod.metadata.uid.clone(),
            resource_version: None,
            field_path: field,
        };
        self.send(about, kind, reason, message.into());
    }

    /// About the node.
    pub fn node(&self, node: &Node, kind: Kind, reason: &'static str, message: impl Into<String>) {
        let about = ObjectReference {
            kind: Some("Node".to_owned()),
            name: node.metadata.name.clone(),
            uid: node.metadata.uid.clone(),
            ..ObjectReference::default()
        };
        self.send(about, kind, reason, message.into());
    }

    fn send(&self, about: ObjectReference, kind: Kind, reason: &'static str, message: String) {
        let entry = Entry { about, kind, reason, message, at: Timestamp::now() };
        if let Err(error) = self.queue.try_send(entry) {
            tracing::warn!(%error, "an event was dropped");
        }
    }
}

/// What makes two entries the same event.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    uid: Option<String>,
    field: Option<String>,
    kind: Kind,
    reason: &'static str,
    message: String,
}

async fn write(client: Client, node: String, mut entries: mpsc::Receiver<Entry>, stop: CancellationToken) {
    let mut known: HashMap<Key, (String, i32)> = HashMap::new();
    let mut serial = Timestamp::now().as_nanosecond();
    loop {
        let entry = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            entry = entries.recv() => match entry { Some(entry) => entry, None => return },
        };
        let namespace = entry.about.namespace.clone().unwrap_or_else(|| "default".to_owned());
        let api: Api<Event> = Api::namespaced(client.clone(), &namespace);
        let key = Key {
            uid: entry.about.uid.clone(),
            field: entry.about.field_path.clone(),
            kind: entry.kind,
            reason: entry.reason,
            message: entry.message.clone(),
        };
        if let Some((name, count)) = known.get_mut(&key) {
            *count += 1;
            let patch = json!({"count": *count, "lastTimestamp": Time(entry.at)});
            let (parameters, patch) = (PatchParams::default(), Patch::Merge(patch));
            let written = tokio::select! {
                () = stop.cancelled() => return,
                written = api.patch(name, &parameters, &patch) => written,
            };
            match written {
                Ok(_) => continue,
                // It has expired: make it anew.
                Err(kube::Error::Api(status)) if status.code == 404 => {
                    known.remove(&key);
                }
                Err(error) => {
                    tracing::warn!(%error, reason = entry.reason, "an event's count could not be raised");
                    continue;
                }
            }
        }
        serial += 1;
        let name = format!("{}.{:x}", entry.about.name.as_deref().unwrap_or("unknown"), serial);
        let event = Event {
            metadata: ObjectMeta { name: Some(name.clone()), namespace: Some(namespace), ..ObjectMeta::default() },
            involved_object: entry.about,
            type_: Some(if entry.kind == Kind::Normal { "Normal" } else { "Warning" }.to_owned()),
            reason: Some(entry.reason.to_owned()),
            message: Some(entry.message),
            count: Some(1),
            first_timestamp: Some(Time(entry.at)),
            last_timestamp: Some(Time(entry.at)),
            source: Some(EventSource { component: Some("kubelet".to_owned()), host: Some(node.clone()) }),
            reporting_component: Some("kubelet".to_owned()),
            reporting_instance: Some(node.clone()),
            ..Event::default()
        };
        let written = tokio::select! {
            () = stop.cancelled() => return,
            written = create(&client, &event) => written,
        };
        match written {
            Ok(_) => {
                if known.len() >= REMEMBERED {
                    known.clear();
                }
                known.insert(key, (name, 1));
            }
            // As upstream: nothing can be created in a namespace that is going or gone.
            Err(kube::Error::Api(status)) if status.code == 403 || status.code == 404 => {}
            Err(error) => tracing::warn!(%error, reason = entry.reason, "an event could not be written"),
        }
    }
}

/// Nobody wants to read back what is written many times a pod.
async fn create(client: &Client, event: &Event) -> Result<(), kube::Error> {
    let body = serde_json::to_vec(event).map_err(kube::Error::SerdeError)?;
    let events = Request::new(Event::url_path(&(), event.metadata.namespace.as_deref()));
    let request = events.create(&PostParams::default(), body).map_err(kube::Error::BuildRequest)?;
    client.request::<IgnoredAny>(request).await.map(drop)
}
