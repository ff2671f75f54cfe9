//! A session as a guest on someone else's cluster: its namespace, and what keeps that from outliving the session.
//!
//! Neighbours: a provider says by [`super::Tenancy`] whether the session is a guest; `provision` moves in before it applies
//! anything; `teardown` moves out. The same for every kind of cluster that isn't the session's own.
//!
//! Invariants: the namespace is made, never adopted, and known by its UID from then on. That something may be on the cluster is
//! on disk ([`record`]) before the first write there, and stays on disk until all of it is gone.

pub mod record;

use std::path::Path;

use serde_json::Value;

use super::apply::{Applied, Applier, ApplyError};
use record::Lodged;

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

/// What one session has on a cluster that isn't its own.
#[derive(Debug)]
pub struct Lodging {
    lodged: std::sync::Mutex<Lodged>,
    directory: std::path::PathBuf,
}

impl Lodging {
    /// Nothing is on the cluster yet. `directory` is the session's own.
    pub fn new(lodged: Lodged, directory: &Path) -> Self {
        Self { lodged: std::sync::Mutex::new(lodged), directory: directory.to_owned() }
    }

    /// What is recorded of it.
    pub fn lodged(&self) -> Lodged {
        self.lodged.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// Makes the namespace.
    ///
    /// # Errors
    /// [`MoveInError`]; then nothing was made.
    pub async fn move_in(&self, applier: &Applier, namespace: &Value) -> Result<Applied, MoveInError> {
        self.lodged().write(&self.directory)?;
        let applied = match applier.create(namespace).await {
            Err(ApplyError::Refused { code: 409, .. }) => {
                // Not ours: there is nothing to take away.
                Lodged::remove(&self.directory)?;
                return Err(MoveInError::Taken(self.lodged().namespace));
            }
            other => other?,
        };
        let lodged = {
            let mut lodged = self.lodged.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            lodged.uid = Some(applied.expected.uid.clone());
            lodged.clone()
        };
        lodged.write(&self.directory)?;
        Ok(applied)
    }

    /// Nothing of the session is on the cluster any more: its directory need not be kept.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn moved_out(&self) -> std::io::Result<()> {
        Lodged::remove(&self.directory)
    }
}
