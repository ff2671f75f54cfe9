//! A service's process on the host: what it needs to be the same there as in a pod.
//!
//! Neighbours: `provision::walk` puts it in the place of the pods, `cluster::lend` lets pods reach it, `cli::swap` starts it.
//! [`mod@environment`] resolves the service's variables as the host sees them; [`listening`] waits until it listens.

pub mod environment;
pub mod listening;

use std::path::PathBuf;

pub use environment::{Environment, Sources, environment};

use crate::cluster::ClusterError;
use crate::plan::ResolveError;

/// Why a service cannot run on the host.
#[derive(Debug, thiserror::Error)]
pub enum OnHostError {
    /// No such service in the plan.
    #[error("there is no service {0}")]
    NoSuchService(String),
    /// One of its variables says nothing yet.
    #[error("its variable {name}: {source}")]
    Unresolved {
        /// The variable.
        name: String,
        /// Why.
        source: ResolveError,
    },
    /// The cluster did not tell what a variable refers to, or gave no token.
    #[error("{attempt}: {source}")]
    Asking {
        /// What was asked for.
        attempt: String,
        /// The answer.
        source: Box<kube::Error>,
    },
    /// Which ports are listened on cannot be told.
    #[error("reading {path}: {source}", path = path.display())]
    Listening {
        /// The kernel's file.
        path: PathBuf,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// Its variables could not be written.
    #[error(transparent)]
    Unwritable(#[from] crate::session::SessionError),
    /// Pods cannot reach this machine.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
}

impl OnHostError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Cluster(error) => error.hint(),
            Self::Unwritable(error) => error.hint(),
            _ => None,
        }
    }
}
