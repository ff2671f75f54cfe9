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

use std::collections::{BTreeMap, HashMap};

use k8s_openapi::api::core::v1::{Event, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::Value;

use super::pods::{self, Ended};
use super::status::{self, Status};
use super::{Finding, Limits, Patience, Role, Verdict};
use crate::provision::failure::Cause;

/// How many events are kept about one object.
const KEPT_EVENTS: usize = 24;

/// The annotation by which a Deployment and its newest ReplicaSet name each other (`k8s.io/kubectl/pkg/util/deployment`).
const REVISION: &str = "deployment.kubernetes.io/revision";

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
                match (group.as_str(), kind.as_str()) {
                    ("", "Pod") => self.pods.clear(),
                    ("", "Event") => self.events.clear(),
                    _ => self.objects.retain(|key, _| key.group != group || key.kind != kind),
                }
                None
            }
            Change::Synced { .. } => None,
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
                Verdict::Failing(Box::new(self.failed(key, object, reason, &message)))
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

    fn pod_verdict(&self, key: &ObjectKey, expected: &Expected, role: Role, limits: &Limits) -> Verdict {
        let Some(pod) =
            self.pods.get(&key.name).filter(|pod| pod.metadata.uid.as_deref() == Some(expected.uid.as_str()))
        else {
            return Verdict::Waiting("applied".to_owned());
        };
        if let Some(finding) = self.finding(pod, role, limits) {
            return Verdict::Failing(Box::new(finding));
        }
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default();
        match (phase, role) {
            ("Succeeded", _) => Verdict::Ready,
            ("Failed", _) => Verdict::Failing(Box::new(Finding {
                cause: Cause::CrashLoop { restarts: 0, code: exit_code(pod).unwrap_or(1) },
                message: format!("the pod failed: {}", pods::progress(pod)),
                hint: None,
                patience: Patience::None,
                pod: pod.metadata.name.clone(),
            })),
            _ if pods::is_ready(pod) => Verdict::Ready,
            _ => Verdict::Waiting(self.detail(pod)),
        }
    }

    fn failed(&self, key: &ObjectKey, object: &Value, reason: String, message: &str) -> Finding {
        let worst = self.current_pods(object).find(|pod| exit_code(pod).is_some_and(|code| code != 0));
        let code = worst.and_then(exit_code);
        let pod = worst.and_then(|pod| pod.metadata.name.clone());
        let finding = |cause, message| Finding { cause, message, hint: None, patience: Patience::None, pod };
        match key.kind.as_str() {
            "Job" => {
                let ended = worst.map(|pod| format!("; its last pod {}", pods::progress(pod))).unwrap_or_default();
                finding(Cause::JobFailed { job_reason: reason.clone(), code }, format!("{reason}: {message}{ended}"))
            }
            "Deployment" => finding(Cause::ProgressDeadlineExceeded, message.to_owned()),
            _ => finding(Cause::NeverReady, format!("{key} has given up ({reason}): {message}")),
        }
    }

    fn in_progress(&self, object: &Value, role: Role, limits: &Limits, detail: String) -> Verdict {
        let observed = object["status"]["observedGeneration"].as_i64();
        if object["kind"] == "Deployment" && observed < object["metadata"]["generation"].as_i64() {
            return Verdict::Waiting(detail);
        }
        let mut findings: Vec<Finding> =
            self.current_pods(object).filter_map(|pod| self.finding(pod, role, limits)).collect();
        findings.extend(self.creation_refused(object, limits));
        // What waiting cannot help says more than what may pass.
        findings.sort_by_key(|finding| match finding.patience {
            Patience::None => 0,
            Patience::UntilGraphSettles => 1,
            Patience::For(_) => 2,
        });
        if let Some(finding) = findings.into_iter().next() {
            return Verdict::Failing(Box::new(finding));
        }
        let pod = self.current_pods(object).find(|pod| !pods::is_ready(pod));
        let said = pod.map(|pod| self.detail(pod)).filter(|said| !said.is_empty());
        Verdict::Waiting(match said {
            Some(said) if detail == "running" => said,
            Some(said) => format!("{detail}: {said}"),
            None => detail,
        })
    }

    /// What a pod is doing, and what its probe said last.
    fn detail(&self, pod: &Pod) -> String {
        let progress = pods::progress(pod);
        let probe = self.events_of(pod).rfind(|event| event.reason.as_deref() == Some("Unhealthy"));
        match probe.and_then(|event| event.message.as_deref()) {
            Some(message) if progress.starts_with("running") => one_line(message),
            _ => progress,
        }
    }

    fn finding(&self, pod: &Pod, role: Role, limits: &Limits) -> Option<Finding> {
        let by_probe = |event: &Event| {
            event.reason.as_deref() == Some("Killing")
                && event.message.as_deref().is_some_and(|message| message.contains("probe"))
        };
        let ended = if self.events_of(pod).any(by_probe) { Ended::ByProbe } else { Ended::ByItself };
        pods::finding(pod, role, limits, ended).or_else(|| self.full_disk(pod)).or_else(|| self.unmountable(pod))
    }

    /// The node's disk is full: it goes on trying, but only the user can help.
    fn full_disk(&self, pod: &Pod) -> Option<Finding> {
        if pods::is_started(pod) {
            return None;
        }
        let full = |event: &&Event| {
            event.message.as_deref().is_some_and(|message| message.contains("No space left on device"))
        };
        let event = self.events_of(pod).rfind(full)?;
        Some(Finding {
            cause: Cause::StateUnwritable,
            message: one_line(event.message.as_deref()?),
            hint: Some("free some space, or set ENVCTL_STATE_DIR to a directory on another disk".to_owned()),
            patience: Patience::None,
            pod: pod.metadata.name.clone(),
        })
    }

    /// A volume whose ConfigMap or Secret doesn't exist: only an event says so, the pod stays `ContainerCreating`.
    fn unmountable(&self, pod: &Pod) -> Option<Finding> {
        if pods::is_started(pod) {
            return None;
        }
        let event = self.events_of(pod).rfind(|event| event.reason.as_deref() == Some("FailedMount"))?;
        let message = event.message.as_deref()?;
        message.contains("not found").then(|| Finding {
            cause: Cause::MissingConfig,
            message: format!("a volume cannot be mounted: {}", one_line(message)),
            hint: None,
            patience: Patience::UntilGraphSettles,
            pod: pod.metadata.name.clone(),
        })
    }

    /// The API refused the pods themselves: quota, policy, a service account that isn't there (yet).
    fn creation_refused(&self, object: &Value, limits: &Limits) -> Option<Finding> {
        let owner = match object["kind"].as_str() {
            Some("Deployment") => self.newest_replica_set(object)?,
            _ => object,
        };
        if self.current_pods(object).next().is_some() {
            return None;
        }
        let message = status::condition(owner, "ReplicaFailure")
            .filter(|failure| failure.status == "True")
            .map(|failure| failure.message.to_owned())
            .or_else(|| {
                let events = self.events.get(owner["metadata"]["uid"].as_str()?)?;
                events.iter().rfind(|event| event.reason.as_deref() == Some("FailedCreate"))?.message.clone()
            })?;
        let (cause, patience) = if message.contains("exceeded quota") {
            (Cause::QuotaExceeded, Patience::For(limits.settling))
        } else if message.contains("error looking up service account") || !message.contains("forbidden") {
            (Cause::Forbidden, Patience::For(limits.settling))
        } else {
            (Cause::Forbidden, Patience::None)
        };
        let message = format!("its pods cannot be created: {}", one_line(&message));
        Some(Finding { cause, message, hint: None, patience, pod: None })
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

    /// A ReplicaSet stands for its Deployment; everything else for itself.
    fn root(&self, key: ObjectKey, object: &Value) -> ObjectKey {
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

fn controller(pod: &Pod) -> Option<&OwnerReference> {
    pod.metadata.owner_references.as_ref()?.iter().find(|reference| reference.controller == Some(true))
}

fn controller_uid(object: &Value) -> Option<&str> {
    let references = object["metadata"]["ownerReferences"].as_array()?;
    references.iter().find(|reference| reference["controller"] == true)?["uid"].as_str()
}

/// The last exit code of the pod's first container that ended.
fn exit_code(pod: &Pod) -> Option<i32> {
    pods::loudest_container(pod).and_then(|status| {
        let states = [&status.state, &status.last_state];
        states.into_iter().flatten().find_map(|state| state.terminated.as_ref().map(|ended| ended.exit_code))
    })
}

/// Messages may span lines (a probe's whole output): the first says enough in a list.
pub fn one_line(message: &str) -> String {
    let mut lines = message.trim().lines();
    let first = lines.next().unwrap_or_default().trim_end();
    if lines.next().is_some() { format!("{first} …") } else { first.to_owned() }
}

#[cfg(test)]
mod tests;
