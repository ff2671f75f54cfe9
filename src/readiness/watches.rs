//! Keeps an [`Observed`](super::Observed) current: one watch per kind and namespace, shared by all nodes of the graph.
//!
//! Each watch is one request where the cluster can stream its first list (Kubernetes 1.34 and later by default), two
//! otherwise. Watches restart by themselves, with back-off; the session's `Provider` says when the cluster is lost.

use std::collections::HashSet;
use std::pin::pin;

use futures::TryStreamExt as _;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::{Api, ApiResource, DynamicObject};
use kube::runtime::{WatchStreamExt as _, watcher};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::observed::{Change, ObjectKey};

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
    client: kube::Client,
    tasks: JoinSet<()>,
    watched: HashSet<(String, String, String)>,
    sender: mpsc::Sender<Change>,
}

impl Watches {
    /// Watches what services become in `namespace`: Deployments, ReplicaSets, Pods and Events; and Jobs, where there are any.
    pub fn start(client: kube::Client, namespace: &str, jobs: Jobs) -> (Self, mpsc::Receiver<Change>) {
        let (sender, receiver) = mpsc::channel(BUFFERED);
        let mut watches = Self { client, tasks: JoinSet::new(), watched: HashSet::new(), sender };
        watches.watch(resource("apps", "Deployment", "deployments"), Some(namespace));
        watches.watch(resource("apps", "ReplicaSet", "replicasets"), Some(namespace));
        if jobs == Jobs::Some {
            watches.watch(resource("batch", "Job", "jobs"), Some(namespace));
        }
        let pods: Api<Pod> = Api::namespaced(watches.client.clone(), namespace);
        watches.spawn(
            pods,
            "",
            "Pod",
            |pod| Change::Pod(Box::new(pod)),
            |pod| Change::PodGone(pod.metadata.name.unwrap_or_default()),
        );
        let events: Api<Event> = Api::namespaced(watches.client.clone(), namespace);
        // An event that has expired still happened.
        watches.spawn(
            events,
            "",
            "Event",
            |event| Change::Event(Box::new(event)),
            |event| Change::Event(Box::new(event)),
        );
        watches.watched.extend(["Pod", "Event"].map(|kind| (String::new(), kind.to_owned(), namespace.to_owned())));
        (watches, receiver)
    }

    /// Watches another kind too (what a manifest applied); nothing new if it is watched already.
    pub fn watch(&mut self, resource: ApiResource, namespace: Option<&str>) {
        let key = (resource.group.clone(), resource.kind.clone(), namespace.unwrap_or_default().to_owned());
        if !self.watched.insert(key) {
            return;
        }
        let api: Api<DynamicObject> = match namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        };
        let (version, kind) = (resource.api_version.clone(), resource.kind.clone());
        let to_value = move |object: DynamicObject| {
            let mut value = serde_json::to_value(object).unwrap_or_default();
            // Items of a list carry no type of their own.
            value["apiVersion"] = version.clone().into();
            value["kind"] = kind.clone().into();
            if let Some(metadata) = value["metadata"].as_object_mut() {
                metadata.remove("managedFields");
            }
            value
        };
        let gone = to_value.clone();
        self.spawn(
            api,
            &resource.group,
            &resource.kind,
            move |object| Change::Object(to_value(object)),
            move |object| Change::ObjectGone(ObjectKey::of(&gone(object))),
        );
    }

    fn spawn<K>(
        &mut self,
        api: Api<K>,
        group: &str,
        kind: &str,
        there: impl Fn(K) -> Change + Send + 'static,
        gone: impl Fn(K) -> Change + Send + 'static,
    ) where
        K: kube::Resource + Clone + serde::de::DeserializeOwned + std::fmt::Debug + Send + 'static,
    {
        let sender = self.sender.clone();
        let (group, kind) = (group.to_owned(), kind.to_owned());
        self.tasks.spawn(async move {
            let mut config = watcher::Config::default().streaming_lists();
            loop {
                let mut stream = pin!(watcher(api.clone(), config.clone()).default_backoff());
                loop {
                    let change = match stream.try_next().await {
                        Ok(Some(watcher::Event::Init)) => Change::Reset { group: group.clone(), kind: kind.clone() },
                        Ok(Some(watcher::Event::InitDone)) => {
                            Change::Synced { group: group.clone(), kind: kind.clone() }
                        }
                        Ok(Some(watcher::Event::InitApply(object) | watcher::Event::Apply(object))) => there(object),
                        Ok(Some(watcher::Event::Delete(object))) => gone(object),
                        Ok(None) => return,
                        Err(error) if refuses_streaming(&error) => {
                            config = watcher::Config::default();
                            break;
                        }
                        Err(error) => {
                            tracing::debug!(%kind, %error, "a watch ended and will be restarted");
                            continue;
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
