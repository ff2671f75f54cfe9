//! The controllers: each a pure `decide(observed) → actions` with a thin `act`, over a `kube::Client`.
//!
//! ```text
//! watches ─▶ caches ─▶ handlers ─▶ queues (one per controller) ─▶ workers ─▶ decide ─▶ act ─▶ API
//!                                    ▲                                                  │
//!                                    └── not before the caches show what was written ◀──┘
//! ```
//!
//! Neighbours: none but the API; the real API server would do as well. Invariants: everything is a reaction to a watch
//! event or to a delay that Kubernetes itself defines; a controller reads the shared caches and writes through a client
//! of its own identity; every task ends on the shutdown token and is awaited by [`Controllers::stop`].

pub mod collector;
pub mod deployment;
pub mod endpoint_slice;
pub mod job;
pub mod namespace;
pub mod replica_set;
pub mod service_account;
pub mod shared;
pub mod volume;

use std::hash::Hash;
use std::path::PathBuf;
use std::sync::Arc;

use kube::Client;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::collector::inventory::Inventory;
use self::shared::caches::Caches;
use self::shared::events::Recorder;
use self::shared::queue::Queue;
use self::shared::worker::{self, Syncer};

/// The name under which the shared watches ask for their client; the others are the controllers' own (those of upstream's
/// service accounts in `kube-system`).
pub const SHARED_INFORMERS: &str = "shared-informers";

/// How many keys a controller syncs at once; upstream's `concurrent-*-syncs` are 5 and more.
const WIDTH: usize = 8;

/// The same of the garbage collector; upstream's `concurrent-gc-syncs`.
const COLLECTOR_WIDTH: usize = 20;

/// What controllers need to know beside the API.
#[derive(Clone, Debug)]
pub struct Config {
    /// The cluster's certificate authority, in PEM: published in every namespace.
    pub ca_pem: String,
    /// Where directories for dynamically provisioned volumes are made.
    pub volumes_dir: PathBuf,
}

/// The running controllers.
pub struct Controllers {
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

impl Controllers {
    /// Starts all controllers. `clients` gives a client with the identity of the controller named.
    ///
    /// Returns at once; work starts as soon as the caches hold what is there.
    pub fn start(clients: impl Fn(&'static str) -> Client, config: Config, shutdown: CancellationToken) -> Self {
        let shutdown = shutdown.child_token();
        let start = Start { caches: Caches::default(), tasks: TaskTracker::new(), shutdown, clients };

        start.controller("deployment-controller", |client, caches, events, queue| {
            deployment::Deployments::new(client, caches, events, queue)
        });
        start.controller("replicaset-controller", |client, caches, events, queue| {
            replica_set::ReplicaSets::new(client, caches, events, queue)
        });
        start.controller("endpointslice-controller", |client, caches, events, queue| {
            endpoint_slice::EndpointSlices::new(client, caches, events, queue)
        });
        start.controller("job-controller", |client, caches, events, queue| {
            job::Jobs::new(client, caches, events, queue)
        });
        start.controller("ttl-after-finished-controller", |client, caches, _, queue| {
            job::ttl::Ttl::new(client, caches, queue)
        });
        start.controller("service-account-controller", |client, caches, _, queue| {
            service_account::ServiceAccounts::new(client, caches, queue)
        });
        start.controller("root-ca-cert-publisher", |client, caches, _, queue| {
            service_account::RootCa::new(client, caches, config.ca_pem.clone(), queue)
        });

        start.controller("persistent-volume-binder", |client, caches, events, queue| {
            volume::Volumes::new(client, caches, events, config.volumes_dir.clone(), queue)
        });
        let inventory = Arc::new(Inventory::default());
        inventory.listen_to(&start.caches);
        start.controller("namespace-controller", |client, caches, _, queue| {
            namespace::Namespaces::new(client, caches, inventory.clone(), queue)
        });
        start.collector(&inventory);

        // Last: handlers only hear what comes after them.
        start.caches.start(&(start.clients)(SHARED_INFORMERS), &start.tasks, &start.shutdown);
        start.tasks.close();
        Self { tasks: start.tasks, shutdown: start.shutdown }
    }

    /// Stops all of them and waits; requests under way are dropped.
    pub async fn stop(self) {
        self.shutdown.cancel();
        self.tasks.wait().await;
    }
}

struct Start<F> {
    caches: Caches,
    tasks: TaskTracker,
    shutdown: CancellationToken,
    clients: F,
}

impl<F: Fn(&'static str) -> Client> Start<F> {
    /// The collector waits for the inventory too: before that it would ask the API about every owner.
    fn collector(&self, inventory: &Arc<Inventory>) {
        let name = "generic-garbage-collector";
        let (client, queue) = ((self.clients)(name), Arc::new(Queue::default()));
        let syncer = Arc::new(collector::Collector::new(client.clone(), inventory.clone(), &queue));
        let (of, shutdown) = (inventory.clone(), self.shutdown.clone());
        self.tasks.spawn(async move { of.run(client, shutdown).await });
        let (caches, of, shutdown) = (self.caches.clone(), inventory.clone(), self.shutdown.clone());
        self.tasks.spawn(async move {
            let ready = async { tokio::join!(caches.synced(), of.synced()) };
            tokio::select! {
                _ = ready => worker::run(name, queue, syncer, COLLECTOR_WIDTH, shutdown).await,
                () = shutdown.cancelled() => {}
            }
        });
    }

    /// Builds one controller (which registers its handlers) and starts its worker and event recorder.
    fn controller<S: Syncer>(
        &self,
        name: &'static str,
        build: impl FnOnce(Client, Caches, Recorder, &Arc<Queue<S::Key>>) -> S,
    ) where
        S::Key: Clone + Eq + Hash,
    {
        let client = (self.clients)(name);
        let queue = Arc::new(Queue::default());
        let (recorder, recording) = Recorder::new(client.clone(), name);
        let syncer = Arc::new(build(client, self.caches.clone(), recorder, &queue));
        self.tasks.spawn(recording.run(self.shutdown.clone()));
        let (caches, shutdown) = (self.caches.clone(), self.shutdown.clone());
        self.tasks.spawn(async move {
            tokio::select! {
                () = caches.synced() => worker::run(name, queue, syncer, WIDTH, shutdown).await,
                () = shutdown.cancelled() => {}
            }
        });
    }
}
