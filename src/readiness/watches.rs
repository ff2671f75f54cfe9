//! Keeps an [`Observed`](super::Observed) current: one watch per kind and namespace, shared by all nodes of the graph.
//!
//! Each watch is one request where the cluster can stream its first list (Kubernetes 1.34 and later by default), two
//! otherwise. Watches restart by themselves, with back-off, and wait while the API doesn't answer
//! (`cluster::contact`); the session's `Provider` says when the cluster is lost.

use std::collections::HashSet;
use std::sync::Arc;

use futures::TryStreamExt as _;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::ApiResource;
use kube::runtime::watcher;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::observed::{Change, ObjectKey};
use crate::cluster::contact::Contact;
use crate::reading;

/// How many changes may wait to be looked at: a burst of a few hundred pods, no more memory than that.
const BUFFERED: usize = 256;

/// Whether an environment has jobs of its own; without, their watch is a request too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Jobs {
    /// It has.
    Some,
    /// It hasn't.
    None,
}

/// The watches of one `up`; dropping it ends them.
pub struct Watches {
    contact: Arc<Contact>,
    tasks: JoinSet<()>,
    watched: HashSet<(String, String, String)>,
    sender: mpsc::Sender<Change>,
}

impl Watches {
    /// Watches what services become in `namespace`: Deployments, ReplicaSets, Pods and Events; and Jobs, where there are any.
    pub fn start(contact: Arc<Contact>, namespace: &str, jobs: Jobs) -> (Self, mpsc::Receiver<Change>) {
        let (sender, receiver) = mpsc::channel(BUFFERED);
        let mut watches = Self { contact, tasks: JoinSet::new(), watched: HashSet::new(), sender };
        watches.watch(resource("apps", "Deployment", "deployments"), Some(namespace));
        watches.watch(resource("apps", "ReplicaSet", "replicasets"), Some(namespace));
        if jobs == Jobs::Some {
            watches.watch(resource("batch", "Job", "jobs"), Some(namespace));
        }
        watches.spawn(
            ApiResource::erase::<Pod>(&()),
            Some(namespace),
            |pod: Pod| Change::Pod(Box::new(pod)),
            |pod| Change::PodGone(pod.metadata.name.unwrap_or_default()),
        );
        // An event that has expired still happened.
        watches.spawn(
            ApiResource::erase::<Event>(&()),
            Some(namespace),
            |event| Change::Event(Box::new(event)),
            |event| Change::Event(Box::new(event)),
        );
        watches.watched.extend(["Pod", "Event"].map(|kind| (String::new(), kind.to_owned(), namespace.to_owned())));
        (watches, receiver)
    }

    /// Watches to which pods Services lead; only told of where pods were replaced.
    pub fn watch_endpoints(&mut self, namespace: &str) {
        self.watch(resource("discovery.k8s.io", "EndpointSlice", "endpointslices"), Some(namespace));
    }

    /// Watches another kind too (what a manifest applied); nothing new if it is watched already.
    pub fn watch(&mut self, resource: ApiResource, namespace: Option<&str>) {
        let key = (resource.group.clone(), resource.kind.clone(), namespace.unwrap_or_default().to_owned());
        if !self.watched.insert(key) {
            return;
        }
        let (version, kind) = (resource.api_version.clone(), resource.kind.clone());
        let complete = move |mut value: Value| {
            // Items of a list carry no type of their own.
            value["apiVersion"] = version.clone().into();
            value["kind"] = kind.clone().into();
            value
        };
        let gone = complete.clone();
        self.spawn(
            resource,
            namespace,
            move |object| Change::Object(complete(object)),
            move |object| Change::ObjectGone(ObjectKey::of(&gone(object))),
        );
    }

    fn spawn<K>(
        &mut self,
        resource: ApiResource,
        namespace: Option<&str>,
        there: impl Fn(K) -> Change + Send + 'static,
        gone: impl Fn(K) -> Change + Send + 'static,
    ) where
        K: DeserializeOwned + Send + 'static,
    {
        let (sender, contact) = (self.sender.clone(), self.contact.clone());
        let namespace = namespace.map(str::to_owned);
        self.tasks.spawn(async move {
            let mut config = watcher::Config::default().streaming_lists();
            loop {
                let mut events =
                    reading::watch_resource(contact.client().clone(), &resource, namespace.as_deref(), config.clone());
                loop {
                    let change = match events.try_next().await {
                        Ok(Some(watcher::Event::Init)) => {
                            Change::Reset { group: resource.group.clone(), kind: resource.kind.clone() }
                        }
                        Ok(Some(watcher::Event::InitDone)) => {
                            Change::Synced { group: resource.group.clone(), kind: resource.kind.clone() }
                        }
                        Ok(Some(watcher::Event::InitApply(object) | watcher::Event::Apply(object))) => there(object),
                        Ok(Some(watcher::Event::Delete(object))) => gone(object),
                        Ok(None) => return,
                        Err(error) if refuses_streaming(&error) => {
                            config = watcher::Config::default();
                            break;
                        }
                        Err(error) => {
                            tracing::debug!(kind = %resource.kind, %error, "a watch ended and will be restarted");
                            match refusal(&error) {
                                Some((code, message)) => Change::Refused { kind: resource.kind.clone(), code, message },
                                None => {
                                    // Asked again when there is someone to ask; the watch's own back-off stays short so.
                                    if broken(&error).is_some_and(|error| contact.heard(error)) {
                                        contact.answers().await;
                                    }
                                    continue;
                                }
                            }
                        }
                    };
                    if sender.send(change).await.is_err() {
                        return;
                    }
                }
            }
        });
    }
}

/// Clusters before 1.32 answer a streamed first list with 422.
fn refuses_streaming(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::WatchStartFailed(kube::Error::Api(status)) if status.code == 422)
}

/// The API's words where it doesn't let itself be asked: what is asked for is right, so that is about who asks.
fn refusal(error: &watcher::Error) -> Option<(u16, String)> {
    let (watcher::Error::InitialListFailed(kube::Error::Api(status))
    | watcher::Error::WatchStartFailed(kube::Error::Api(status))) = error
    else {
        return None;
    };
    matches!(status.code, 401 | 403).then(|| (status.code, status.message.clone()))
}

/// What went wrong between here and the API, if anything did.
fn broken(error: &watcher::Error) -> Option<&kube::Error> {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => Some(error),
        _ => None,
    }
}

/// A built-in kind, without asking the cluster.
pub fn resource(group: &str, kind: &str, plural: &str) -> ApiResource {
    ApiResource {
        group: group.to_owned(),
        version: "v1".to_owned(),
        api_version: if group.is_empty() { "v1".to_owned() } else { format!("{group}/v1") },
        kind: kind.to_owned(),
        plural: plural.to_owned(),
    }
}
