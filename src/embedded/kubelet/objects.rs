//! ConfigMaps and Secrets by name: one shared watch for each that some pod needs.
//!
//! Upstream's `pkg/kubelet/util/manager/watch_based_manager.go` does the same. A watch lives as long as someone
//! holds its receiver; two hundred pods with one `kube-root-ca.crt` share one.

use std::collections::HashMap;
use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::runtime::watcher::{Config, Event};
use serde::de::DeserializeOwned;
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::reading::{self, Events};

/// What is known of an object.
#[derive(Debug)]
pub enum Seen<K> {
    /// The first list isn't back yet.
    Unknown,
    /// It doesn't exist.
    Absent,
    /// The latest version.
    Present(Arc<K>),
}

impl<K> Clone for Seen<K> {
    fn clone(&self) -> Self {
        match self {
            Self::Unknown => Self::Unknown,
            Self::Absent => Self::Absent,
            Self::Present(object) => Self::Present(Arc::clone(object)),
        }
    }
}

/// A held watch on one object.
pub type Watched<K> = watch::Receiver<Seen<K>>;

/// Waits for the first answer and gives the object, if it exists.
pub async fn current<K: Send + Sync>(watched: &mut Watched<K>) -> Option<Arc<K>> {
    match watched.wait_for(|seen| !matches!(seen, Seen::Unknown)).await.as_deref() {
        Ok(Seen::Present(object)) => Some(Arc::clone(object)),
        _ => None,
    }
}

/// All watches by name of one kind.
struct Kind<K> {
    held: Arc<Held<K>>,
}

/// The watches that run, by namespace and name. A watch leaves it, under its lock, when its last receiver is gone.
type Held<K> = Mutex<HashMap<(String, String), Arc<watch::Sender<Seen<K>>>>>;

impl<K> Default for Kind<K> {
    fn default() -> Self {
        Self { held: Arc::default() }
    }
}

impl<K> Kind<K>
where
    K: kube::Resource<DynamicType = ()> + DeserializeOwned + Send + Sync + 'static,
{
    async fn watch(&self, shared: &Shared, namespace: &str, name: &str) -> Watched<K> {
        let mut held = self.held.lock().await;
        let key = (namespace.to_owned(), name.to_owned());
        if let Some(sender) = held.get(&key) {
            return sender.subscribe();
        }
        let (sender, receiver) = watch::channel(Seen::Unknown);
        let sender = Arc::new(sender);
        held.insert(key.clone(), Arc::clone(&sender));
        let config = Config::default().streaming_lists().fields(&format!("metadata.name={name}"));
        let events = reading::watch(shared.client.clone(), Some(namespace), config);
        shared.tasks.spawn(follow(events, key, sender, Arc::clone(&self.held), shared.stop.clone()));
        receiver
    }
}

struct Shared {
    client: kube::Client,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// The kinds that pods refer to by name.
pub struct Objects {
    shared: Shared,
    config_maps: Kind<ConfigMap>,
    secrets: Kind<Secret>,
}

impl Objects {
    /// `tasks` owns the watches; they end with `stop`.
    pub fn new(client: kube::Client, tasks: TaskTracker, stop: CancellationToken) -> Self {
        Self { shared: Shared { client, tasks, stop }, config_maps: Kind::default(), secrets: Kind::default() }
    }

    /// A ConfigMap.
    pub async fn config_map(&self, namespace: &str, name: &str) -> Watched<ConfigMap> {
        self.config_maps.watch(&self.shared, namespace, name).await
    }

    /// A Secret.
    pub async fn secret(&self, namespace: &str, name: &str) -> Watched<Secret> {
        self.secrets.watch(&self.shared, namespace, name).await
    }
}

/// Follows one object until nobody wants it.
async fn follow<K: Send + Sync + 'static>(
    mut events: Events<K>,
    key: (String, String),
    sender: Arc<watch::Sender<Seen<K>>>,
    held: Arc<Held<K>>,
    stop: CancellationToken,
) {
    let name = &key.1;
    let mut listed = None;
    loop {
        let event = tokio::select! {
            () = stop.cancelled() => return,
            () = sender.closed() => {
                let mut held = held.lock().await;
                if sender.receiver_count() == 0 {
                    held.remove(&key);
                    return;
                }
                continue;
            }
            event = events.next() => event,
        };
        match event {
            Some(Ok(Event::Init)) => listed = None,
            Some(Ok(Event::InitApply(object))) => listed = Some(object),
            Some(Ok(Event::InitDone)) => {
                sender.send_replace(listed.take().map_or(Seen::Absent, |object| Seen::Present(Arc::new(object))));
            }
            Some(Ok(Event::Apply(object))) => {
                sender.send_replace(Seen::Present(Arc::new(object)));
            }
            Some(Ok(Event::Delete(_))) => {
                sender.send_replace(Seen::Absent);
            }
            Some(Err(error)) => tracing::debug!(%error, name, "watching an object a pod needs"),
            None => return,
        }
    }
}
