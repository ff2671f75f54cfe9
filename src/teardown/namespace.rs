//! The end of a session's namespace: by its UID, watched until it is gone.

use std::time::Duration;

use futures::TryStreamExt as _;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, DeleteParams, Preconditions};
use kube::runtime::watcher;

use super::held;
use crate::cluster::tenancy::record::Lodged;
use crate::{objects, reading};

/// How long the API server may take to carry out a request whose sender was killed meanwhile, or has stopped listening.
const IN_FLIGHT: Duration = Duration::from_secs(3);

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
pub async fn remove_namespace(client: &kube::Client, lodged: &Lodged, patience: Duration) -> kube::Result<Removed> {
    let api: Api<Namespace> = Api::all(client.clone());
    let mut found = api.get_opt(&lodged.namespace).await?;
    if found.is_none() && lodged.uid.is_none() {
        // It was asked for, and nobody has heard the answer. Given up too soon, it would stay for ever.
        found = tokio::time::timeout(IN_FLIGHT, appears(client, &lodged.namespace)).await.ok();
    }
    let Some(found) = found else { return Ok(Removed::Gone) };
    let Some(uid) = found.metadata.uid.clone().filter(|_| is_ours(&found, lodged)) else { return Ok(Removed::NotOurs) };
    if found.metadata.deletion_timestamp.is_none() {
        let parameters = DeleteParams {
            preconditions: Some(Preconditions { uid: Some(uid.clone()), resource_version: None }),
            ..DeleteParams::default()
        };
        match api.delete(&lodged.namespace, &parameters).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(Removed::Gone),
            // Another one has its name by now.
            Err(kube::Error::Api(status)) if status.code == 409 && status.message.contains("UID") => {
                return Ok(Removed::NotOurs);
            }
            Err(error) => return Err(error),
        }
    }
    match tokio::time::timeout(patience, gone(client, &lodged.namespace, &uid)).await {
        Ok(()) => Ok(Removed::Gone),
        Err(_late) => Ok(Removed::Held(held::by(client, &lodged.namespace).await)),
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

/// Resolves when a namespace of this name is there.
async fn appears(client: &kube::Client, name: &str) -> Namespace {
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut stream = reading::watch::<Namespace>(client.clone(), None, config);
    loop {
        match stream.try_next().await {
            Ok(Some(watcher::Event::InitApply(found) | watcher::Event::Apply(found))) => return found,
            Ok(Some(_)) => {}
            Ok(None) => std::future::pending().await,
            Err(error) => tracing::debug!(%error, "the watch of a namespace ended and will be restarted"),
        }
    }
}

/// Resolves when no namespace of this name and UID is there.
async fn gone(client: &kube::Client, name: &str, uid: &str) {
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut stream = reading::watch::<Namespace>(client.clone(), None, config);
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
            Ok(Some(watcher::Event::InitDone)) if listed => {}
            Ok(Some(watcher::Event::InitDone | watcher::Event::Delete(_)) | None) => return,
            Err(error) => tracing::debug!(%error, "the watch of a namespace ended and will be restarted"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn namespace(uid: &str, session: Option<&str>) -> Namespace {
        let labels = session.map(|session| json!({ objects::SESSION: session })).unwrap_or_default();
        serde_json::from_value(json!({"metadata": {"name": "n", "uid": uid, "labels": labels}})).expect("a namespace")
    }

    #[test]
    fn the_uid_decides_where_it_is_known_and_the_label_alone_where_not() {
        let mut lodged = Lodged::new("cluster", "https://c", "demo-1", "n");
        assert!(is_ours(&namespace("u", Some("demo-1")), &lodged));
        assert!(!is_ours(&namespace("u", None), &lodged));
        lodged.uid = Some("u".to_owned());
        assert!(is_ours(&namespace("u", None), &lodged));
        assert!(!is_ours(&namespace("v", Some("demo-1")), &lodged));
    }
}
