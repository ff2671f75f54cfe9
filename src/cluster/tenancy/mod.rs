//! A session as a guest on someone else's cluster: its namespace, and what keeps that from outliving the session.
//!
//! Neighbours: a provider says by [`super::Tenancy`] whether the session is a guest; `provision` moves in before it applies
//! anything; `teardown` moves out. The same for every kind of cluster that isn't the session's own.
//!
//! Invariants: the namespace is made, never adopted, and known by its UID from then on. That something may be on the cluster is
//! on disk ([`record`]) before the first write there, and stays on disk until all of it is gone.

mod keeper;
pub mod objects;
pub mod record;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::apply::{Applied, Applier, ApplyError};
use super::contact::Contact;
use keeper::{Keeper, State};
use record::Lodged;

/// How long a session outlives its agent's last sign of life, unless `up --lease` says otherwise.
pub const LEASE: Duration = Duration::from_secs(600);
/// The caller's variable that says otherwise.
pub const LEASE_VARIABLE: &str = "ENVCTL_LEASE";

/// Why a session could not move in.
#[derive(Debug, thiserror::Error)]
pub enum MoveInError {
    /// The cluster refused the namespace.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// There is such a namespace, of somebody else.
    #[error("namespace {0} exists and was not made by this session; nothing in it was touched")]
    Taken(String),
    /// What is on the cluster could not be recorded, so nothing was made there.
    #[error("cannot record what the session has on the cluster: {0}")]
    Record(#[from] std::io::Error),
}

/// What one session has on a cluster that isn't its own. Dropping it ends the renewals.
pub struct Lodging {
    contact: Arc<Contact>,
    lodged: Mutex<Lodged>,
    asked_for: AtomicBool,
    directory: PathBuf,
    lease: Duration,
    state: watch::Sender<State>,
    tasks: TaskTracker,
    stop: CancellationToken,
    _stop_on_drop: DropGuard,
}

impl Lodging {
    /// Nothing is on the cluster yet. `directory` is the session's own.
    pub fn new(client: kube::Client, lodged: Lodged, directory: &Path, lease: Duration) -> Self {
        let stop = CancellationToken::new();
        Self {
            contact: Arc::new(Contact::new(client)),
            lodged: Mutex::new(lodged),
            asked_for: AtomicBool::new(false),
            directory: directory.to_owned(),
            lease,
            state: watch::Sender::new(State::default()),
            tasks: TaskTracker::new(),
            _stop_on_drop: stop.clone().drop_guard(),
            stop,
        }
    }

    /// The contact with its cluster.
    pub fn contact(&self) -> Arc<Contact> {
        self.contact.clone()
    }

    /// What is recorded of it.
    pub fn lodged(&self) -> Lodged {
        self.lodged.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the namespace was asked for, and may therefore be there.
    pub fn is_asked_for(&self) -> bool {
        self.asked_for.load(Ordering::Relaxed)
    }

    /// Makes the namespace, and begins to say that the session is alive.
    ///
    /// # Errors
    /// [`MoveInError`]; then nothing was made, or it is on record that something may have been.
    pub async fn move_in(&self, applier: &Applier, namespace: &Value) -> Result<Applied, MoveInError> {
        self.lodged().write(&self.directory)?;
        self.asked_for.store(true, Ordering::Relaxed);
        let created = applier.create(namespace).await;
        if let Err(ApplyError::Refused { code: code @ 400..500, .. }) = &created {
            // There is nothing of ours to take away.
            self.asked_for.store(false, Ordering::Relaxed);
            Lodged::remove(&self.directory)?;
            if *code == 409 {
                return Err(MoveInError::Taken(self.lodged().namespace));
            }
        }
        let applied = created?;
        let lodged = {
            let mut lodged = self.lodged.lock().unwrap_or_else(PoisonError::into_inner);
            lodged.uid = Some(applied.expected.uid.clone());
            lodged.clone()
        };
        lodged.write(&self.directory)?;
        let labels = namespace["metadata"]["labels"].clone();
        let keeper = Keeper::new(self.contact.clone(), &lodged.namespace, &applied.expected.uid, labels, self.lease);
        let (stop, state) = (self.stop.clone(), self.state.clone());
        self.tasks.spawn(async move { _ = stop.run_until_cancelled(keeper.keep(state)).await });
        Ok(applied)
    }

    /// Resolves when lease and dead-man switch are there, with what could not be done about them, for people.
    pub async fn settled(&self) -> Vec<String> {
        let mut state = self.state.subscribe();
        match state.wait_for(|state| state.settled.is_some()).await {
            Ok(state) => state.settled.clone().unwrap_or_default(),
            Err(_ended) => Vec::new(),
        }
    }

    /// Resolves when the namespace is no longer the session's, with the reason; pending for ever while it is.
    pub async fn lost(&self) -> String {
        let mut state = self.state.subscribe();
        let lost = state.wait_for(|state| state.lost.is_some()).await.ok().and_then(|state| state.lost.clone());
        match lost {
            Some(why) => why,
            None => std::future::pending().await,
        }
    }

    /// Renews nothing any more.
    pub async fn rest(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Nothing of the session is on the cluster any more: its directory need not be kept.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn moved_out(&self) -> std::io::Result<()> {
        Lodged::remove(&self.directory)
    }
}
