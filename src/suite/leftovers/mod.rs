//! What a suite left behind in the cluster: objects that were not there at a [`Mark`] and still are.
//!
//! [`fold`] decides (pure); here the cluster is asked, all of it where it is the session's own, else the session's namespace. A
//! mark is one request: an object is younger by its time of creation, and in the one second where that cannot tell, by not
//! being in a list as of the mark's revision. So nothing needs to be listed before a suite runs.

pub mod fold;

use std::collections::{BTreeMap, HashSet};

use futures::{StreamExt as _, TryStreamExt as _};
use http_body_util::BodyExt as _;
use kube::api::{Api, DynamicObject, ListParams, PartialObjectMeta, VersionMatch};
use kube::client::Body;
use kube::core::ApiResource;
use kube::discovery::{Discovery, Scope, verbs};

use crate::session::record::Mark;
pub use fold::{Leftover, Object};

/// Lists under way at once.
const AT_ONCE: usize = 4;
/// Kinds that only tell of others: they come and go with what they are about.
const TELLS: [&str; 3] = ["Event", "Endpoints", "ComponentStatus"];

/// Why the cluster could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum LeftoverError {
    /// It refused or did not answer.
    #[error("{what}: {source}")]
    Refused {
        /// What was asked.
        what: String,
        /// The answer.
        source: kube::Error,
    },
    /// Its answer had no revision.
    #[error("the cluster's list of configmaps has no resourceVersion")]
    NoRevision,
}

fn refused(what: impl Into<String>) -> impl FnOnce(kube::Error) -> LeftoverError {
    let what = what.into();
    move |source| LeftoverError::Refused { what, source }
}

/// This moment, as the cluster knows it.
///
/// # Errors
/// When the cluster cannot be asked.
pub async fn mark(client: &kube::Client, namespace: &str) -> Result<Mark, LeftoverError> {
    let asked = "ask the cluster for its revision";
    let request = http::Request::get(format!("/api/v1/namespaces/{namespace}/configmaps?limit=1"))
        .body(Body::empty())
        .map_err(|error| refused(asked)(kube::Error::HttpError(error)))?;
    let response = client.send(request).await.map_err(refused(asked))?;
    // The cluster's clock, not this machine's: times of creation are by that one.
    let date = response.headers().get(http::header::DATE).and_then(|date| date.to_str().ok());
    let at = date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok()).map(|date| date.timestamp().as_second());
    let at = at.unwrap_or_else(|| jiff::Timestamp::now().as_second());
    let bytes = response
        .into_body()
        .collect()
        .await
        .map_err(|error| refused(asked)(kube::Error::Service(Box::new(error))))?
        .to_bytes();
    let list: serde_json::Value =
        serde_json::from_slice(&bytes).map_err(|error| refused(asked)(kube::Error::SerdeError(error)))?;
    let revision = list["metadata"]["resourceVersion"].as_str().ok_or(LeftoverError::NoRevision)?;
    Ok(Mark { at, revision: revision.to_owned() })
}

/// Where to look.
#[derive(Debug, Clone, Copy)]
pub struct Where<'a> {
    /// The session's namespace.
    pub namespace: &'a str,
    /// Whether the whole cluster is the session's.
    pub whole_cluster: bool,
    /// The session's id.
    pub session: &'a str,
}

/// What is there now and was not at the mark, by namespace, kind and name.
///
/// # Errors
/// When the cluster cannot be asked.
pub async fn since(client: &kube::Client, mark: &Mark, place: Where<'_>) -> Result<Vec<Leftover>, LeftoverError> {
    let discovery =
        Discovery::new(client.clone()).run_aggregated().await.map_err(refused("ask what kinds there are"))?;
    let kinds: Vec<(ApiResource, bool)> = discovery
        .groups()
        .flat_map(|group| group.recommended_resources())
        .filter(|(kind, can)| {
            let kept = [verbs::LIST, verbs::CREATE, verbs::DELETE].iter().all(|verb| can.supports_operation(verb));
            kept && !TELLS.contains(&kind.kind.as_str())
        })
        .map(|(kind, can)| (kind, can.scope == Scope::Namespaced))
        .filter(|(_, namespaced)| *namespaced || place.whole_cluster)
        .collect();
    let lists =
        futures::stream::iter(kinds.iter().map(|(kind, namespaced)| list(client, kind, *namespaced, place, None)));
    let objects: Vec<Object> = lists.buffer_unordered(AT_ONCE).try_concat().await?;
    let was_there = there_at(client, mark, place, &kinds, &objects).await?;
    Ok(fold::left(&objects, &was_there, place.session))
}

/// The UIDs of what was there at the mark.
async fn there_at(
    client: &kube::Client,
    mark: &Mark,
    place: Where<'_>,
    kinds: &[(ApiResource, bool)],
    objects: &[Object],
) -> Result<HashSet<String>, LeftoverError> {
    let revision: Option<u64> = mark.revision.parse().ok();
    let mut there = HashSet::new();
    let mut unclear: BTreeMap<(&str, &str), &(ApiResource, bool)> = BTreeMap::new();
    for object in objects {
        let unchanged = revision.is_some_and(|revision| object.revision.is_some_and(|at| at <= revision));
        if object.created < mark.at || (object.created == mark.at && unchanged) {
            there.insert(object.uid.clone());
        } else if object.created == mark.at {
            let kind = kinds.iter().find(|(kind, _)| kind.kind == object.kind.kind && kind.group == object.kind.group);
            unclear.extend(kind.map(|kind| ((kind.0.group.as_str(), kind.0.kind.as_str()), kind)));
        }
    }
    for (kind, namespaced) in unclear.into_values() {
        match list(client, kind, *namespaced, place, Some(&mark.revision)).await {
            Ok(past) => there.extend(past.into_iter().map(|object| object.uid)),
            // That long ago is forgotten: what was made in the very second of the mark counts as there.
            Err(LeftoverError::Refused { source: kube::Error::Api(status), .. }) if status.code == 410 => {
                let same = |object: &&Object| object.kind.kind == kind.kind && object.created == mark.at;
                there.extend(objects.iter().filter(same).map(|object| object.uid.clone()));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(there)
}

async fn list(
    client: &kube::Client,
    kind: &ApiResource,
    namespaced: bool,
    place: Where<'_>,
    at: Option<&str>,
) -> Result<Vec<Object>, LeftoverError> {
    let api: Api<DynamicObject> = if namespaced && !place.whole_cluster {
        Api::namespaced_with(client.clone(), place.namespace, kind)
    } else {
        Api::all_with(client.clone(), kind)
    };
    let mut parameters = ListParams::default();
    if let Some(revision) = at {
        parameters.resource_version = Some(revision.to_owned());
        parameters.version_match = Some(VersionMatch::Exact);
    }
    match api.list_metadata(&parameters).await {
        Ok(found) => Ok(found.items.into_iter().filter_map(|object| object_of(object, kind, namespaced)).collect()),
        // A kind that may not be listed, or is served by something that is away, has nothing that could be named.
        Err(kube::Error::Api(status)) if matches!(status.code, 403 | 404 | 405 | 503) => Ok(Vec::new()),
        Err(error) => Err(refused(format!("list {}", kind.plural))(error)),
    }
}

fn object_of(object: PartialObjectMeta<DynamicObject>, kind: &ApiResource, namespaced: bool) -> Option<Object> {
    let metadata = object.metadata;
    let first = metadata
        .managed_fields
        .iter()
        .flatten()
        .filter(|entry| entry.subresource.as_deref().is_none_or(str::is_empty))
        .min_by_key(|entry| entry.time.as_ref().map(|time| time.0));
    Some(Object {
        kind: crate::cluster::apply::Kind {
            group: kind.group.clone(),
            version: kind.version.clone(),
            kind: kind.kind.clone(),
            plural: kind.plural.clone(),
            namespaced,
        },
        namespace: metadata.namespace.clone(),
        name: metadata.name?,
        uid: metadata.uid?,
        created: metadata.creation_timestamp?.0.as_second(),
        revision: metadata.resource_version.and_then(|revision| revision.parse().ok()),
        owners: metadata.owner_references.into_iter().flatten().map(|owner| owner.uid).collect(),
        deleting: metadata.deletion_timestamp.is_some(),
        manager: first.and_then(|entry| entry.manager.clone()),
        session: metadata.labels.and_then(|mut labels| labels.remove(crate::objects::SESSION)),
    })
}
