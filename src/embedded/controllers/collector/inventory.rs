//! Watches the metadata of everything that can be deleted, whatever its kind, and follows custom resources as they come and go.
//!
//! It starts with the first deletion of anything that has a shared cache, or a moment after the cluster.
//!
//! Neighbours: the collector's graph and the namespace controller hear every change. Kinds that have a shared cache are heard through it,
//! not watched twice. Upstream re-reads discovery every 30 s; here a change of a CustomResourceDefinition or APIService is what triggers it.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::{BoxStream, SelectAll};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Client;
use kube::core::ApiResource;
use kube::discovery::{Discovery, Scope, verbs};
use kube::runtime::watcher;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::super::shared::cache::{Cache, Cached, Change};
use super::super::shared::caches::Caches;
use super::graph::Uid;
use crate::reading;

/// How long to wait after discovery failed: upstream's resync period of the collector.
const REDISCOVER: Duration = Duration::from_secs(30);

/// How long the inventory waits for something to do before it starts by itself. A watch of every kind there is costs a twentieth of what
/// bringing up an environment takes, and until something is deleted nobody needs them.
const START: Duration = Duration::from_secs(2);

/// A kind that the API serves.
#[derive(Clone, Debug)]
pub struct Kind {
    /// How to address it.
    pub resource: Arc<ApiResource>,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
    /// Whether a whole collection can be deleted at once.
    pub deletes_collections: bool,
}

/// What happened to an object of some kind.
pub enum Seen<'a> {
    /// It is there, as it is now.
    There(&'a Arc<ApiResource>, &'a ObjectMeta),
    /// It is gone.
    Gone(&'a ObjectMeta),
    /// Of this kind, only these are there.
    Listed(&'a Arc<ApiResource>, &'a HashSet<Uid>),
}

type Listener = Box<dyn Fn(&Seen<'_>) + Send + Sync>;

/// The kinds that can be listed, watched and deleted, and who hears of their objects.
pub struct Inventory {
    kinds: watch::Sender<Option<Arc<Vec<Kind>>>>,
    listeners: Mutex<Vec<Listener>>,
    synced: watch::Sender<bool>,
    /// That something is being deleted: the other kinds matter from now on.
    wanted: Notify,
}

/// Events are neither owned nor owners worth tracking (upstream's `ignoredResources`).
fn is_ignored(resource: &ApiResource) -> bool {
    resource.kind == "Event" && matches!(resource.group.as_str(), "" | "events.k8s.io")
}

fn changes_discovery(resource: &ApiResource) -> bool {
    (resource.group == "apiextensions.k8s.io" && resource.kind == "CustomResourceDefinition")
        || (resource.group == "apiregistration.k8s.io" && resource.kind == "APIService")
}

/// Of an object of any kind.
#[derive(serde::Deserialize)]
struct Metadata {
    metadata: ObjectMeta,
}

type WatchEvent = Result<watcher::Event<Metadata>, watcher::Error>;

impl Default for Inventory {
    fn default() -> Self {
        Self {
            kinds: watch::Sender::new(None),
            listeners: Mutex::default(),
            synced: watch::Sender::new(false),
            wanted: Notify::new(),
        }
    }
}

impl Inventory {
    /// Adds a listener; must happen before the watches start. It must not block.
    pub fn on_seen(&self, listener: impl Fn(&Seen<'_>) + Send + Sync + 'static) {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(listener));
    }

    /// The kinds, once discovery has answered for the first time.
    pub async fn kinds(&self) -> Arc<Vec<Kind>> {
        self.wanted.notify_one();
        let mut kinds = self.kinds.subscribe();
        // The sender lives in self, so the wait cannot fail while we hold it.
        let known = kinds.wait_for(Option::is_some).await.ok().and_then(|kinds| kinds.clone());
        known.unwrap_or_default()
    }

    /// Completes when every kind has been listed once (or refused).
    pub async fn synced(&self) {
        let mut synced = self.synced.subscribe();
        let _ = synced.wait_for(|synced| *synced).await;
    }

    /// Hears the kinds that have a shared cache.
    pub fn listen_to(self: &Arc<Self>, caches: &Caches) {
        self.listen(&caches.pods);
        self.listen(&caches.deployments);
        self.listen(&caches.replica_sets);
        self.listen(&caches.jobs);
        self.listen(&caches.services);
        self.listen(&caches.endpoint_slices);
        self.listen(&caches.namespaces);
        self.listen(&caches.volumes);
        self.listen(&caches.claims);
        self.listen(&caches.classes);
    }

    fn listen<K: Cached>(self: &Arc<Self>, cache: &Cache<K>) {
        let (this, resource) = (self.clone(), Arc::new(ApiResource::erase::<K>(&())));
        cache.on_change(move |change| match change {
            Change::Applied { new, .. } => {
                if new.meta().deletion_timestamp.is_some() {
                    this.wanted.notify_one();
                }
                this.tell(&Seen::There(&resource, new.meta()));
            }
            Change::Deleted(last) => {
                this.wanted.notify_one();
                this.tell(&Seen::Gone(last.meta()));
            }
        });
    }

    fn has_cache(resource: &ApiResource) -> bool {
        matches!(
            (resource.group.as_str(), resource.kind.as_str()),
            ("", "Pod" | "Service" | "Namespace" | "PersistentVolume" | "PersistentVolumeClaim")
                | ("apps", "Deployment" | "ReplicaSet")
                | ("batch", "Job")
                | ("discovery.k8s.io", "EndpointSlice")
                | ("storage.k8s.io", "StorageClass")
        )
    }

    fn tell(&self, seen: &Seen<'_>) {
        for listener in self.listeners.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            listener(seen);
        }
    }

    /// Discovers and watches until `shutdown`, from the first deletion on or after a while.
    pub async fn run(&self, client: Client, shutdown: CancellationToken) {
        let watching = async {
            let _either_starts_it = tokio::time::timeout(START, self.wanted.notified()).await;
            self.watch(client).await;
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = watching => {}
        }
    }

    async fn watch(&self, client: Client) {
        let mut watches = Watches { client, kinds: HashMap::new(), streams: SelectAll::new() };
        loop {
            match discover(&watches.client).await {
                Ok(kinds) => {
                    for gone in watches.update(&kinds) {
                        self.tell(&Seen::Listed(&gone, &HashSet::new()));
                    }
                    self.kinds.send_replace(Some(Arc::new(kinds)));
                }
                Err(error) => {
                    tracing::warn!(%error, "discovery failed; it is read again");
                    tokio::select! {
                        () = self.follow(&mut watches) => {}
                        () = tokio::time::sleep(REDISCOVER) => {}
                    }
                    continue;
                }
            }
            self.follow(&mut watches).await;
        }
    }

    /// Passes events on until discovery must be read again.
    async fn follow(&self, watches: &mut Watches) {
        loop {
            let Some((resource, event)) = watches.streams.next().await else {
                // No kind at all: only the end of everything can change that.
                return std::future::pending().await;
            };
            let stale = self.take_in(watches, &resource, event);
            if watches.kinds.values().all(|watch| watch.listed) {
                self.synced.send_if_modified(|synced| !std::mem::replace(synced, true));
            }
            if stale {
                return;
            }
        }
    }

    /// True if discovery must be read again.
    fn take_in(&self, watches: &mut Watches, resource: &Arc<ApiResource>, event: WatchEvent) -> bool {
        let Some(watch) = watches.kinds.get_mut(&id(resource)) else { return false };
        match event {
            Ok(watcher::Event::Init) => watch.listing.clear(),
            Ok(watcher::Event::InitApply(object)) => {
                watch.listing.extend(object.metadata.uid.as_deref().map(Uid::new));
                self.tell(&Seen::There(resource, &object.metadata));
            }
            Ok(watcher::Event::InitDone) => {
                let relisted = std::mem::replace(&mut watch.listed, true);
                let listing = std::mem::take(&mut watch.listing);
                if relisted {
                    self.tell(&Seen::Listed(resource, &listing));
                }
                return relisted && changes_discovery(resource);
            }
            Ok(watcher::Event::Apply(object)) => {
                self.tell(&Seen::There(resource, &object.metadata));
                return changes_discovery(resource);
            }
            Ok(watcher::Event::Delete(object)) => {
                self.tell(&Seen::Gone(&object.metadata));
                return changes_discovery(resource);
            }
            Err(error) => {
                tracing::debug!(kind = %resource.kind, %error, "metadata watch failed; it restarts");
                watch.listed = true;
            }
        }
        false
    }
}

struct Watches {
    client: Client,
    kinds: HashMap<String, Watch>,
    streams: SelectAll<BoxStream<'static, (Arc<ApiResource>, WatchEvent)>>,
}

struct Watch {
    resource: Arc<ApiResource>,
    ends: CancellationToken,
    listed: bool,
    listing: HashSet<Uid>,
}

fn id(resource: &ApiResource) -> String {
    format!("{}.{}/{}", resource.plural, resource.group, resource.version)
}

impl Watches {
    /// Starts watching new kinds and stops watching those that are no longer served, which are returned.
    fn update(&mut self, kinds: &[Kind]) -> Vec<Arc<ApiResource>> {
        let served: HashSet<String> = kinds.iter().map(|kind| id(&kind.resource)).collect();
        let (kept, gone): (HashMap<_, _>, HashMap<_, _>) =
            std::mem::take(&mut self.kinds).into_iter().partition(|(id, _)| served.contains(id));
        self.kinds = kept;
        for kind in kinds {
            let resource = &kind.resource;
            if Inventory::has_cache(resource) || self.kinds.contains_key(&id(resource)) {
                continue;
            }
            let (ends, of) = (CancellationToken::new(), resource.clone());
            let config = watcher::Config::default().streaming_lists();
            let events = reading::watch_resource(self.client.clone(), resource, None, config);
            let events = events.map(move |event| (of.clone(), event)).take_until(ends.clone().cancelled_owned());
            self.streams.push(events.boxed());
            let watch = Watch { resource: resource.clone(), ends, listed: false, listing: HashSet::new() };
            self.kinds.insert(id(resource), watch);
        }
        gone.into_values()
            .map(|watch| {
                watch.ends.cancel();
                watch.resource
            })
            .collect()
    }
}

async fn discover(client: &Client) -> Result<Vec<Kind>, kube::Error> {
    let discovery = Discovery::new(client.clone()).run_aggregated().await?;
    let all = discovery.groups().flat_map(kube::discovery::ApiGroup::recommended_resources);
    let useful = all.filter(|(resource, can)| {
        let all = [verbs::LIST, verbs::WATCH, verbs::DELETE].iter().all(|verb| can.supports_operation(verb));
        all && !is_ignored(resource)
    });
    let kind = |(resource, can): (ApiResource, kube::discovery::ApiCapabilities)| Kind {
        resource: Arc::new(resource),
        namespaced: can.scope == Scope::Namespaced,
        deletes_collections: can.supports_operation(verbs::DELETE_COLLECTION),
    };
    Ok(useful.map(kind).collect())
}
