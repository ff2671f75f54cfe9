//! Clusters that a tool makes on this machine, kind's or minikube's own program, as a [`Provider`].
//!
//! By default one cluster that all sessions of this state directory share, each a guest in it ([`super::tenancy`]) as on any other cluster;
//! `fresh: true` makes one for the session alone, which goes with it. [`place`] is where a cluster is known on disk and under which name,
//! `lifecycle` makes it, finds it or removes it, the same for every tool; `maker` is what a tool answers for itself (`kind`, `minikube`),
//! `tool` runs its program. Images are [`crate::images::docker`]'s.
//!
//! Invariants: the user's kubeconfig is neither read nor written. A cluster without the mark that its place remembers is never touched.

mod kind;
mod lifecycle;
mod maker;
mod minikube;
pub mod place;
mod tool;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::sync::Mutex;

use super::lend::{HostPort, Lent};
use super::reached::Reached;
use super::{Access, ClusterError, Provider, Removal, ServicePort, Setting, Tenancy};
use crate::images::docker::{Images, Nodes};
use crate::images::{Builds, ImageError};
use crate::objects::Content;
use crate::plan;
use crate::provision::{Event, EventSink};
pub use lifecycle::{Gone, forget_vanished, remove_shared, sweep};
pub use maker::By;
use place::{Place, Taken};

/// kind.
pub const KIND: By = &kind::Kind;
/// minikube.
pub const MINIKUBE: By = &minikube::Minikube;
/// All of them.
pub const MAKERS: [By; 2] = [KIND, MINIKUBE];

/// A cluster that a tool made, for one session.
pub struct ByTool {
    place: Place,
    /// Whether the cluster is this session's only.
    fresh: bool,
    namespace: String,
    variables: BTreeMap<String, String>,
    events: EventSink,
    images: Images,
    reached: Reached,
    /// Held while this provider makes the cluster, and for its life where it is the session's own.
    taken: Mutex<Option<Taken>>,
}

impl ByTool {
    /// Nothing is asked or made yet.
    pub fn new(by: By, fresh: bool, setting: Setting<'_>) -> Self {
        let Setting { state, directory, .. } = setting;
        let place = if fresh { Place::fresh(by, state, directory) } else { Place::shared(by, state) };
        Self {
            images: images(&place, setting.variables),
            fresh,
            namespace: setting.namespace.to_owned(),
            variables: setting.variables.clone(),
            events: setting.events.clone(),
            reached: Reached::default(),
            taken: Mutex::default(),
            place,
        }
    }
}

/// The images of a place's cluster.
fn images(place: &Place, variables: &BTreeMap<String, String>) -> Images {
    Images::new(variables.clone(), place.by().selector(&place.name), place.state())
}

#[async_trait]
impl Provider for ByTool {
    async fn start(&self) -> Result<Access, ClusterError> {
        let began = Instant::now();
        let told = |doing: &str| {
            let at = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.events.send(Event::ClusterProgress { doing: doing.to_owned(), at });
        };
        if self.fresh {
            // What a session of this machine left when it was killed is nobody else's to find.
            for gone in sweep(self.place.state(), &self.variables, false).await {
                told(&gone.to_string());
            }
        }
        let before = self.place.identity();
        let known = if self.fresh { None } else { lifecycle::known(&self.place, &self.namespace).await };
        let found = match known {
            Some(found) => found,
            None => {
                // From here on there may be something to remove: `remove` sees that by this.
                let mut taken = self.taken.lock().await;
                let lock = taken.insert(self.place.take(self.fresh).await?);
                // Somebody may have made it meanwhile.
                let is_another = self.place.identity() != before;
                let known = if is_another { lifecycle::known(&self.place, &self.namespace).await } else { None };
                let found = match known {
                    Some(found) => found,
                    None => {
                        let (namespace, variables) = (&self.namespace, &self.variables);
                        lifecycle::found_or_made(&self.place, lock, namespace, &self.images, variables, &told).await?
                    }
                };
                if !self.fresh {
                    *taken = None;
                }
                found
            }
        };
        self.images.nodes_are(Nodes::Ready);
        self.reached.by(found.client, &self.namespace).await;
        let tenancy = if self.fresh { Tenancy::Owner } else { Tenancy::Guest { cluster: found.identity } };
        Ok(Access { kubeconfig: found.kubeconfig, ready_after: began.elapsed(), tenancy, client: None })
    }

    async fn make_runnable(&self, name: &str, image: Option<&plan::Image>, builds: &Builds) -> Result<(), ImageError> {
        self.images.make_runnable(name, image, builds).await
    }

    fn content(&self, name: &str, _: Option<&plan::Image>, _: &[String], _: &[String]) -> Option<Content> {
        self.images.digest(name).map(Content::Stamp)
    }

    async fn expose(&self, target: &ServicePort) -> Result<SocketAddr, ClusterError> {
        self.reached.expose(target).await
    }

    async fn lend(&self, ports: &[HostPort]) -> Result<Lent, ClusterError> {
        self.reached.lend(ports).await
    }

    async fn remove(&self, _grace: Duration) -> Result<Removal, ClusterError> {
        self.reached.stop().await;
        let mut taken = self.taken.lock().await;
        if let Some(lock) = taken.as_ref() {
            // Its own cluster, or one that it had not finished making; never one that others use and that only failed to answer.
            if self.fresh || lock.is_making() || !self.place.exists() {
                lifecycle::remove(&self.place, lock, &self.images, &self.variables).await?;
            }
            *taken = None;
        }
        Ok(Removal::default())
    }

    async fn lost(&self) -> ClusterError {
        let Ok(engine) = self.images.engine().await else { return std::future::pending().await };
        let using = format!("using {} cluster {}", self.place.by().name(), self.place.name);
        match engine.node_ended(&self.place.by().selector(&self.place.name)).await {
            Some(node) => ClusterError::unavailable(using, format!("its node {node} has ended")),
            // The engine ended, and its containers with it unless it is set up to leave them running.
            None => match lifecycle::known(&self.place, &self.namespace).await {
                Some(_alive) => std::future::pending().await,
                None => ClusterError::unavailable(using, "the Docker engine has ended, and the cluster with it"),
            },
        }
    }
}

/// Whether `server` is the address of the tool's cluster that this state directory's sessions share.
pub fn is_shared(by: By, state: &Path, server: &str) -> bool {
    Place::shared(by, state).server().is_some_and(|shared| shared == server)
}
