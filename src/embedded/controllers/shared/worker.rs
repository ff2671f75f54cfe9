//! Takes keys from a queue and syncs them: one task per controller, several keys at once, each key alone.
//!
//! Neighbours: [`super::queue`], and each controller's [`Sync`]. A failed sync is retried with the queue's back-off.

use std::future::Future;
use std::hash::Hash;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use tokio_util::sync::CancellationToken;

use super::queue::Queue;

/// When a key that synced well must be looked at again without an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Only when something changes.
    OnEvent,
    /// After this time.
    After(Duration),
}

impl Next {
    /// `OnEvent` for `None`.
    pub fn after(delay: Option<Duration>) -> Self {
        delay.map_or(Next::OnEvent, Next::After)
    }
}

/// Why a sync failed.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// The API refused or could not be reached.
    #[error("{doing}: {source}")]
    Api {
        /// What was being attempted.
        doing: &'static str,
        /// What the client said.
        #[source]
        source: kube::Error,
    },
    /// A selector of the object cannot be understood.
    #[error("its selector: {0}")]
    Selector(#[from] kube::core::ParseExpressionError),
    /// A directory on this machine could not be made or removed.
    #[error("{doing} {}: {source}", path.display())]
    Directory {
        /// What was being attempted.
        doing: &'static str,
        /// Where.
        path: std::path::PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A bug; the message and where it happened are in the log.
    #[error("the controller panicked")]
    Panicked,
    /// The object still has content or dependents that could not be dealt with.
    #[error("{0}")]
    Incomplete(String),
}

/// Says what was being done when the API failed.
pub trait Doing<T> {
    /// Adds what was being attempted.
    fn doing(self, doing: &'static str) -> Result<T, SyncError>;
}

impl<T> Doing<T> for Result<T, kube::Error> {
    fn doing(self, doing: &'static str) -> Result<T, SyncError> {
        self.map_err(|source| SyncError::Api { doing, source })
    }
}

/// What the API said, as upstream's controllers quote it.
pub fn words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

/// The HTTP code of an API error; 0 for anything else.
pub fn code(error: &kube::Error) -> u16 {
    match error {
        kube::Error::Api(status) => status.code,
        _ => 0,
    }
}

/// One controller's reaction to a key.
pub trait Syncer: Send + std::marker::Sync + 'static {
    /// What it is keyed by.
    type Key: Clone + Eq + Hash + std::fmt::Display + Send + std::marker::Sync + 'static;

    /// Brings the world closer to what the object under `key` says; called for one key at a time.
    fn sync(&self, key: &Self::Key) -> impl Future<Output = Result<Next, SyncError>> + Send;
}

/// Runs `syncer` over `queue` until `shutdown`, at most `width` keys at once.
pub async fn run<S: Syncer>(
    name: &'static str,
    queue: Arc<Queue<S::Key>>,
    syncer: Arc<S>,
    width: usize,
    shutdown: CancellationToken,
) {
    let mut running = FuturesUnordered::new();
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            Some((key, result)) = running.next(), if !running.is_empty() => finish(name, &queue, key, result),
            key = queue.next(), if running.len() < width => {
                let syncer = &syncer;
                running.push(async move {
                    // As upstream's `HandleCrash` without its re-panic: one object's bad luck must not end the controller.
                    let result = AssertUnwindSafe(syncer.sync(&key)).catch_unwind().await;
                    (key, result.unwrap_or(Err(SyncError::Panicked)))
                });
            }
        }
    }
}

fn finish<K: Clone + Eq + Hash + std::fmt::Display>(
    name: &'static str,
    queue: &Queue<K>,
    key: K,
    result: Result<Next, SyncError>,
) {
    match result {
        Ok(next) => {
            queue.forget(&key);
            if let Next::After(delay) = next {
                queue.add_after(key.clone(), delay);
            }
        }
        Err(error) => {
            // A conflict or a vanished object only says that our cache was behind: the retry reads fresh state.
            match &error {
                SyncError::Api { source, .. } if matches!(code(source), 404 | 409) => {
                    tracing::debug!(controller = name, %key, %error, "sync was overtaken");
                }
                _ => tracing::warn!(controller = name, %key, %error, "sync failed; it is retried"),
            }
            queue.add_backed_off(key.clone());
        }
    }
    queue.done(&key);
}
