//! What the cluster reports about one namespace, indexed by the object that a node of the graph applied.
//!
//! Pure: fed with [`Change`]s by [`super::watches`], asked for [`Verdict`]s by `provision`; tested as plain data.
//!
//! ```text
//! Deployment ──newest revision──▶ ReplicaSet ──▶ Pods ──▶ findings
//! Job, StatefulSet, DaemonSet ─────────────────▶ Pods ──▶ findings
//! ```
//!
//! Invariants: an object is judged only in the state in which it was applied ([`Expected`]), never in an older one that
//! the watch still shows; pods of a Deployment's older revisions are never held against it.

mod judge;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use k8s_openapi::api::core::v1::{Event, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::Value;

use super::pods;
use super::status::{self, Status};
use super::{Limits, Role, Verdict, words};

/// How many events are kept about one object.
const KEPT_EVENTS: usize = 24;

/// The annotation by which a Deployment and its newest ReplicaSet name each other (`k8s.io/kubectl/pkg/util/deployment`).
const REVISION: &str = "deployment.kubernetes.io/revision";

/// Who makes the EndpointSlices of a Service that selects pods (`k8s.io/kubernetes/pkg/controller/endpointslice`).
const SLICE_CONTROLLER: &str = "endpointslice-controller.k8s.io";

/// An object's identity, whatever its API version.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct ObjectKey {
    /// The API group; empty for the core.
    pub group: String,
    /// CamelCase.
    pub kind: String,
    /// Empty for what has none.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
}

impl ObjectKey {
    /// Of an object as it was rendered or reported.
    pub fn of(object: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Self {
            group: group_of(object["apiVersion"].as_str().unwrap_or_default()).to_owned(),
            kind: text(&object["kind"]),
            namespace: text(&object["metadata"]["namespace"]),
            name: text(&object["metadata"]["name"]),
        }
    }
}

impl std::fmt::Display for ObjectKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}/{}", self.kind, self.name)
    }
}

/// `apps` of `apps/v1`; empty for `v1`.
pub fn group_of(api_version: &str) -> &str {
    api_version.split_once('/').map_or("", |(group, _)| group)
}

/// Something that a watch reported.
#[derive(Debug, Clone)]
pub enum Change {
    /// An object other than a Pod or Event is there, or changed.
    Object(Value),
    /// It is gone.
    ObjectGone(ObjectKey),
    /// A pod is there, or changed.
    Pod(Box<Pod>),
    /// It is gone, by name.
    PodGone(String),
    /// An event was written or counted up.
    Event(Box<Event>),
    /// A watch begins anew: everything of this group and kind will be reported again.
    Reset {
        /// API group.
        group: String,
        /// Kind.
        kind: String,
    },
    /// Everything that existed of this group and kind has been reported.
    Synced {
        /// API group.
        group: String,
        /// Kind.
        kind: String,
    },
    /// The API refuses to have this kind watched; it is asked again, and may answer otherwise.
    Refused {
        /// Kind.
        kind: String,
        /// The HTTP status code.
        code: u16,
        /// The API's own words.
        message: String,
    },
}

/// The state in which an object was applied: older ones are not judged.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Expected {
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.generation`; 0 for kinds without.
    pub generation: i64,
}

/// What is known about the namespace.
#[derive(Debug, Default)]
pub struct Observed {
    objects: HashMap<ObjectKey, Value>,
    pods: BTreeMap<String, Pod>,
    events: HashMap<String, Vec<Event>>,
    /// Whether all EndpointSlices are known: where there is one to be missed, none says nothing.
    slices_known: bool,
}

impl Observed {
    /// Takes in a change; returns the applied object it concerns, as far as that is known.
    pub fn apply(&mut self, change: Change) -> Option<ObjectKey> {
        match change {
            Change::Object(object) => {
                let key = ObjectKey::of(&object);
                let root = self.root(key.clone(), &object);
                self.objects.insert(key, object);
                Some(root)
            }
            Change::ObjectGone(key) => {
                let gone = self.objects.remove(&key);
                Some(gone.map_or_else(|| key.clone(), |object| self.root(key.clone(), &object)))
            }
            Change::Pod(pod) => {
                let root = self.root_of_pod(&pod);
                self.pods.insert(pod.metadata.name.clone().unwrap_or_default(), *pod);
                root
            }
            Change::PodGone(name) => self.pods.remove(&name).and_then(|pod| self.root_of_pod(&pod)),
            Change::Event(event) => self.add_event(*event),
            Change::Reset { group, kind } => {
                self.slices_known &= kind != "EndpointSlice";
                match (group.as_str(), kind.as_str()) {
                    ("", "Pod") => self.pods.clear(),
                    ("", "Event") => self.events.clear(),
                    _ => self.objects.retain(|key, _| key.group != group || key.kind != kind),
                }
                None
            }
            Change::Synced { kind, .. } => {
                self.slices_known |= kind == "EndpointSlice";
                None
            }
            Change::Refused { .. } => None,
        }
    }

    /// An object as last reported.
    pub fn object(&self, key: &ObjectKey) -> Option<&Value> {
        self.objects.get(key)
    }

    /// How things stand with an object that was applied.
    pub fn verdict(&self, key: &ObjectKey, expected: &Expected, role: Role, limits: &Limits) -> Verdict {
        if key.group.is_empty() && key.kind == "Pod" {
            return self.pod_verdict(key, expected, role, limits);
        }
        let Some(object) = self.objects.get(key) else { return Verdict::Waiting("applied".to_owned()) };
        let generation = object["metadata"]["generation"].as_i64().unwrap_or(0);
        if object["metadata"]["uid"] != expected.uid.as_str() || generation < expected.generation {
            return Verdict::Waiting("applied".to_owned());
        }
        match status::of(object) {
            Status::Current => Verdict::Ready,
            Status::Failed { reason, message } => {
                Verdict::Failing(Box::new(self.failed(key, object, reason, &message, limits)))
            }
            Status::InProgress(detail) => self.in_progress(object, role, limits, detail),
        }
    }

    /// Whether every pod of the object has been started (ready or not): the weaker condition that `needs` can ask for.
    pub fn is_started(&self, key: &ObjectKey, expected: &Expected) -> bool {
        let Some(object) = self.objects.get(key) else { return false };
        let current = object["metadata"]["uid"] == expected.uid.as_str()
            && object["metadata"]["generation"].as_i64().unwrap_or(0) >= expected.generation
            && object["status"]["observedGeneration"].as_i64().is_none_or(|observed| observed >= expected.generation);
        let want = match key.kind.as_str() {
            "Job" => 1,
            _ => usize::try_from(object["spec"]["replicas"].as_i64().unwrap_or(1)).unwrap_or(0),
        };
        current && self.current_pods(object).filter(|pod| pods::is_started(pod)).count() >= want
    }

    /// Whether whoever goes by the EndpointSlices of the Service of that name is led to the object's ready pods, to all of them and to no
    /// others. A Deployment is as it should be a moment before: its controller and that of the slices know nothing of each other, and its
    /// watch may be ahead of both theirs and the pods'.
    pub fn is_led_to(&self, service: &str, key: &ObjectKey) -> bool {
        let Some(object) = self.objects.get(key).filter(|_| self.slices_known) else { return false };
        let ready =
            self.current_pods(object).filter(|pod| pods::is_ready(pod) && pod.metadata.deletion_timestamp.is_none());
        let pods: BTreeSet<&str> = ready.filter_map(|pod| pod.metadata.name.as_deref()).collect();
        let slices = self.objects.iter().filter(|(slice, object)| {
            slice.namespace == key.namespace && service_of(object).is_some_and(|of| of == service)
        });
        let endpoints = slices.flat_map(|(_, slice)| slice["endpoints"].as_array().into_iter().flatten());
        let named = endpoints.filter(|endpoint| endpoint["conditions"]["ready"] != false);
        let wanted = object["spec"]["replicas"].as_u64().unwrap_or(1);
        pods.len() as u64 == wanted
            && pods == named.filter_map(|endpoint| endpoint["targetRef"]["name"].as_str()).collect()
    }

    /// The pods that now stand for the object: of a Deployment, those of its newest revision.
    pub fn current_pods<'a>(&'a self, object: &'a Value) -> Box<dyn Iterator<Item = &'a Pod> + 'a> {
        let owner = match object["kind"].as_str() {
            Some("Deployment") => self.newest_replica_set(object).and_then(|set| set["metadata"]["uid"].as_str()),
            _ => object["metadata"]["uid"].as_str(),
        };
        let Some(owner) = owner else { return Box::new(std::iter::empty()) };
        Box::new(self.pods.values().filter(move |pod| controller(pod).is_some_and(|reference| reference.uid == owner)))
    }

    /// The events about an object, its newest ReplicaSet and its current pods, oldest first.
    pub fn events(&self, key: &ObjectKey) -> Vec<&Event> {
        let mut uids: Vec<&str> = Vec::new();
        if let Some(object) = self.objects.get(key) {
            uids.extend(object["metadata"]["uid"].as_str());
            uids.extend(self.newest_replica_set(object).and_then(|set| set["metadata"]["uid"].as_str()));
            uids.extend(self.current_pods(object).filter_map(|pod| pod.metadata.uid.as_deref()));
        } else if let Some(pod) = self.pods.get(&key.name).filter(|_| key.kind == "Pod") {
            uids.extend(pod.metadata.uid.as_deref());
        }
        let mut events: Vec<&Event> = uids.into_iter().filter_map(|uid| self.events.get(uid)).flatten().collect();
        events.sort_by_key(|event| event.last_timestamp.as_ref().map(|time| time.0));
        events
    }

    /// The pods whose logs and probes say most about the object: the one named by a finding first.
    pub fn pods_of(&self, key: &ObjectKey) -> Vec<&Pod> {
        match self.objects.get(key) {
            Some(object) => self.current_pods(object).collect(),
            None => self.pods.get(&key.name).into_iter().filter(|_| key.kind == "Pod").collect(),
        }
    }

    fn events_of(&self, pod: &Pod) -> impl DoubleEndedIterator<Item = &Event> {
        pod.metadata.uid.as_ref().and_then(|uid| self.events.get(uid)).into_iter().flatten()
    }

    /// Only when the Deployment and the set agree on the revision: a watch that lags shows neither too early.
    fn newest_replica_set(&self, deployment: &Value) -> Option<&Value> {
        if deployment["kind"] != "Deployment" {
            return None;
        }
        let revision = &deployment["metadata"]["annotations"][REVISION];
        self.objects.values().find(|object| {
            object["kind"] == "ReplicaSet"
                && object["metadata"]["annotations"][REVISION] == *revision
                && controller_uid(object) == deployment["metadata"]["uid"].as_str()
        })
    }

    fn add_event(&mut self, event: Event) -> Option<ObjectKey> {
        let about = &event.involved_object;
        let uid = about.uid.clone()?;
        let key = ObjectKey {
            group: group_of(about.api_version.as_deref().unwrap_or_default()).to_owned(),
            kind: about.kind.clone().unwrap_or_default(),
            namespace: about.namespace.clone().unwrap_or_default(),
            name: about.name.clone().unwrap_or_default(),
        };
        let known = self.events.entry(uid).or_default();
        // The same event counted up, moves to the end.
        known.retain(|other| other.metadata.name != event.metadata.name);
        if known.len() == KEPT_EVENTS {
            known.remove(0);
        }
        known.push(event);
        match self.objects.get(&key) {
            Some(object) => Some(self.root(key, object)),
            None if key.kind == "Pod" => self.pods.get(&key.name).and_then(|pod| self.root_of_pod(pod)),
            None => Some(key),
        }
    }

    /// A ReplicaSet stands for its Deployment, an EndpointSlice for its Service; everything else for itself.
    fn root(&self, key: ObjectKey, object: &Value) -> ObjectKey {
        if let Some(service) = service_of(object) {
            return ObjectKey { group: String::new(), kind: "Service".to_owned(), name: service.to_owned(), ..key };
        }
        if key.kind != "ReplicaSet" {
            return key;
        }
        let references = object["metadata"]["ownerReferences"].as_array();
        let owner = references.and_then(|list| list.iter().find(|reference| reference["controller"] == true));
        match owner {
            Some(owner) => ObjectKey {
                group: group_of(owner["apiVersion"].as_str().unwrap_or_default()).to_owned(),
                kind: owner["kind"].as_str().unwrap_or_default().to_owned(),
                namespace: key.namespace,
                name: owner["name"].as_str().unwrap_or_default().to_owned(),
            },
            None => key,
        }
    }

    fn root_of_pod(&self, pod: &Pod) -> Option<ObjectKey> {
        let namespace = pod.metadata.namespace.clone().unwrap_or_default();
        let Some(owner) = controller(pod) else {
            let name = pod.metadata.name.clone()?;
            return Some(ObjectKey { group: String::new(), kind: "Pod".to_owned(), namespace, name });
        };
        let key = ObjectKey {
            group: group_of(&owner.api_version).to_owned(),
            kind: owner.kind.clone(),
            namespace,
            name: owner.name.clone(),
        };
        match self.objects.get(&key) {
            Some(object) => Some(self.root(key, object)),
            None => Some(key),
        }
    }
}

/// The Service whose pods an EndpointSlice lists.
fn service_of(object: &Value) -> Option<&str> {
    let labels = &object["metadata"]["labels"];
    let is_slice =
        object["kind"] == "EndpointSlice" && labels["endpointslice.kubernetes.io/managed-by"] == SLICE_CONTROLLER;
    labels["kubernetes.io/service-name"].as_str().filter(|_| is_slice)
}

fn controller(pod: &Pod) -> Option<&OwnerReference> {
    pod.metadata.owner_references.as_ref()?.iter().find(|reference| reference.controller == Some(true))
}

fn controller_uid(object: &Value) -> Option<&str> {
    let references = object["metadata"]["ownerReferences"].as_array()?;
    references.iter().find(|reference| reference["controller"] == true)?["uid"].as_str()
}

/// Messages may span lines (a probe's whole output): the first says enough in a list.
pub fn one_line(message: &str) -> String {
    let message = words::plain(message.trim());
    let mut lines = message.lines();
    let first = lines.next().unwrap_or_default().trim_end();
    if lines.next().is_some() { format!("{first} …") } else { first.to_owned() }
}

#[cfg(test)]
mod tests;
