//! Takes away what a session has on a cluster that isn't its own.
//!
//! Neighbours: `cluster::tenancy` says what that is, the agent calls this at the session's end, `gc` for sessions whose agent
//! is gone. On the session's own cluster there is nothing to do here: all of it goes with the cluster.
//!
//! Invariant: nothing is deleted but by the UID under which this session (or the one it is done for) made it.

use std::pin::pin;
use std::time::Duration;

use futures::TryStreamExt as _;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, DeleteParams, Preconditions};
use kube::runtime::{WatchStreamExt as _, watcher};

use crate::cluster::tenancy::record::Lodged;
use crate::objects;

/// What became of a namespace that was to be removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removed {
    /// It is gone, or never was.
    Gone,
    /// What is there by that name was not made by the session: it stays, and nothing is left of the session.
    NotOurs,
    /// It is being deleted but not gone within the time given: what holds it, one sentence each.
    Held(Vec<String>),
}

/// Removes a session's namespace with all that is in it, and waits until it is gone.
///
/// # Errors
/// When the cluster doesn't answer or refuses.
pub async fn remove_namespace(
    client: &kube::Client,
    lodged: &Lodged,
    patience: Duration,
) -> Result<Removed, kube::Error> {
    let api: Api<Namespace> = Api::all(client.clone());
    let Some(found) = api.get_opt(&lodged.namespace).await? else { return Ok(Removed::Gone) };
    let Some(uid) = found.metadata.uid.clone().filter(|_| is_ours(&found, lodged)) else { return Ok(Removed::NotOurs) };
    let parameters = DeleteParams {
        preconditions: Some(Preconditions { uid: Some(uid.clone()), resource_version: None }),
        ..DeleteParams::default()
    };
    match api.delete(&lodged.namespace, &parameters).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.code == 404 => return Ok(Removed::Gone),
        // Its name was taken by another one meanwhile.
        Err(kube::Error::Api(status)) if status.code == 409 && status.message.contains("UID") => {
            return Ok(Removed::NotOurs);
        }
        Err(error) => return Err(error),
    }
    match tokio::time::timeout(patience, gone(api, &lodged.namespace, &uid)).await {
        Ok(()) => Ok(Removed::Gone),
        Err(_late) => Ok(Removed::Held(vec![format!("namespace {} is still being deleted", lodged.namespace)])),
    }
}

/// Whether a namespace is the one that the session made: by its UID; if the agent was killed before that was recorded, by its
/// label and its name, which nobody could guess.
fn is_ours(found: &Namespace, lodged: &Lodged) -> bool {
    match &lodged.uid {
        Some(uid) => found.metadata.uid.as_ref() == Some(uid),
        None => found.metadata.labels.as_ref().and_then(|labels| labels.get(objects::SESSION)) == Some(&lodged.session),
    }
}

/// Resolves when no namespace of this name and UID is there.
async fn gone(api: Api<Namespace>, name: &str, uid: &str) {
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut stream = pin!(watcher(api, config).default_backoff());
    let mut listed = false;
    loop {
        match stream.try_next().await {
            Ok(Some(watcher::Event::Init)) => listed = false,
            Ok(Some(watcher::Event::InitApply(found) | watcher::Event::Apply(found))) => {
                if found.metadata.uid.as_deref() != Some(uid) {
                    return;
                }
                listed = true;
            }
            Ok(Some(watcher::Event::InitDone)) if !listed => return,
            Ok(Some(watcher::Event::InitDone)) => {}
            Ok(Some(watcher::Event::Delete(_)) | None) => return,
            Err(error) => tracing::debug!(%error, "the watch of a namespace ended and will be restarted"),
        }
    }
}
