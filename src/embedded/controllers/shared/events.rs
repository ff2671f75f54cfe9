//! Records what a controller did as Events, off the path of the work itself.
//!
//! Follows client-go's `tools/record`: the same event again counts up instead of a new object, and one source may report
//! at most [`BURST`] events on one object at once (then one per five minutes). Events are best effort: a refused one is logged.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, Resource};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// client-go's `defaultSpamBurst`.
const BURST: f64 = 25.0;
/// client-go's `defaultSpamQPS`: one per this time.
const REFILL: Duration = Duration::from_secs(300);
/// How many objects and events are remembered; client-go's `maxLruCacheEntries` is 4096.
const REMEMBERED: usize = 1024;

/// `Normal` or `Warning`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// All is well.
    Normal,
    /// Something is wrong.
    Warning,
}

/// What happened to an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// How bad.
    pub severity: Severity,
    /// CamelCase.
    pub reason: &'static str,
    /// A sentence.
    pub message: String,
}

impl Note {
    /// A `Normal` event.
    pub fn normal(reason: &'static str, message: String) -> Self {
        Self { severity: Severity::Normal, reason, message }
    }

    /// A `Warning` event.
    pub fn warning(reason: &'static str, message: String) -> Self {
        Self { severity: Severity::Warning, reason, message }
    }
}

/// Hands notes to the recorder's task.
#[derive(Clone)]
pub struct Recorder(mpsc::UnboundedSender<(ObjectReference, Note)>);

impl Recorder {
    /// A recorder, and the task that must be run for it.
    pub fn new(client: Client, component: &'static str) -> (Self, RecorderTask) {
        let (sender, notes) = mpsc::unbounded_channel();
        let task = RecorderTask { client, component, notes, known: HashMap::new(), buckets: HashMap::new() };
        (Self(sender), task)
    }

    /// Records `note` about `object`.
    pub fn note<K: Resource<DynamicType = ()>>(&self, object: &K, note: Note) {
        // Fails only when the recorder has been shut down, and then nobody reads events.
        let _ = self.0.send((object.object_ref(&()), note));
    }
}

/// The recorder's own task.
pub struct RecorderTask {
    client: Client,
    component: &'static str,
    notes: mpsc::UnboundedReceiver<(ObjectReference, Note)>,
    known: HashMap<(String, &'static str, String), (String, i32)>,
    buckets: HashMap<String, (f64, Instant)>,
}

impl RecorderTask {
    /// Records until `shutdown` or until every recorder is gone.
    pub async fn run(mut self, shutdown: CancellationToken) {
        loop {
            let (object, note) = tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                note = self.notes.recv() => match note {
                    Some(note) => note,
                    None => return,
                },
            };
            if !self.may_report(object.uid.as_deref().unwrap_or_default()) {
                continue;
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                result = self.record(object, note) => if let Err(error) = result {
                    tracing::debug!(component = self.component, %error, "an event was not recorded");
                },
            }
        }
    }

    fn may_report(&mut self, uid: &str) -> bool {
        if self.buckets.len() > REMEMBERED {
            self.buckets.clear();
        }
        let now = Instant::now();
        let (tokens, at) = self.buckets.entry(uid.to_owned()).or_insert((BURST, now));
        *tokens = (*tokens + (now - *at).as_secs_f64() / REFILL.as_secs_f64()).min(BURST);
        *at = now;
        if *tokens < 1.0 {
            return false;
        }
        *tokens -= 1.0;
        true
    }

    async fn record(&mut self, object: ObjectReference, note: Note) -> Result<(), kube::Error> {
        if self.known.len() > REMEMBERED {
            self.known.clear();
        }
        let namespace = object.namespace.clone().unwrap_or_else(|| "default".to_owned());
        let api: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
        let now = super::meta::now();
        let key = (object.uid.clone().unwrap_or_default(), note.reason, note.message.clone());
        if let Some((name, count)) = self.known.get_mut(&key) {
            *count += 1;
            let patch = serde_json::json!({ "count": *count, "lastTimestamp": now });
            match api.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await {
                Err(error) if super::worker::code(&error) == 404 => {}
                other => return other.map(|_| ()),
            }
        }
        let name = format!("{}.{:x}", object.name.as_deref().unwrap_or_default(), Timestamp::now().as_nanosecond());
        let event = Event {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                namespace: Some(namespace.clone()),
                ..ObjectMeta::default()
            },
            involved_object: object,
            reason: Some(note.reason.to_owned()),
            message: Some(note.message),
            type_: Some(format!("{:?}", note.severity)),
            count: Some(1),
            first_timestamp: Some(now.clone()),
            last_timestamp: Some(now),
            source: Some(EventSource { component: Some(self.component.to_owned()), host: None }),
            reporting_component: Some(self.component.to_owned()),
            ..Event::default()
        };
        super::requests::create(&self.client, &namespace, &event).await?;
        self.known.insert(key, (name, 1));
        Ok(())
    }
}
