//! Sessions whose agent is gone: what they left on clusters, found and removed.
//!
//! Found in two ways: on this machine, by what dead sessions left on disk ([`on_disk`]); on a cluster, by leases that have
//! expired, whoever's they were ([`on_cluster`]). Only what a lease says of a namespace's UID makes a namespace a session's:
//! labels alone can be copied.

use std::path::Path;
use std::time::Duration;

use http_body_util::BodyExt as _;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{ListParams, ObjectList};
use kube::client::Body;
use kube::config::Kubeconfig;
use kube::core::Request;
use serde::de::DeserializeOwned;

use super::{Removed, remove_namespace};
use crate::cluster::refusal::in_words;
use crate::cluster::renewing::{self, Renewal};
use crate::cluster::tenancy::objects::{LEASE, NAMESPACE_UID};
use crate::cluster::tenancy::record::Lodged;
use crate::cluster::{ClusterError, allowed};
use crate::objects::{MANAGED_BY, SESSION};

/// How long a cluster may take to answer at all.
const ANSWER: Duration = Duration::from_secs(15);

/// How long a session may take from its namespace to its lease, its next object.
const MOVING_IN: Duration = Duration::from_secs(60);

/// Why something abandoned could not be removed.
#[derive(Debug, thiserror::Error)]
pub enum AbandonedError {
    /// What is on disk about it cannot be understood.
    #[error("what is on disk about it cannot be used: {0}")]
    Record(String),
    /// The cluster cannot be reached.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The address leads to another cluster by now.
    #[error("{server} is another cluster by now: {found} instead of {expected}")]
    OtherCluster {
        /// The address.
        server: String,
        /// The identity it was.
        expected: String,
        /// The identity it is.
        found: String,
    },
    /// The cluster refused.
    #[error("{}", in_words(.0))]
    Refused(#[from] kube::Error),
}

/// What a dead session's directory says.
///
/// # Errors
/// When it cannot be read.
pub fn on_disk(directory: &Path) -> Result<Lodged, AbandonedError> {
    match Lodged::read(directory) {
        Ok(Some(lodged)) => Ok(lodged),
        Ok(None) => Err(AbandonedError::Record("it isn't there".to_owned())),
        Err(error) => Err(AbandonedError::Record(error.to_string())),
    }
}

/// Removes what a dead session left, by the kubeconfig that it had.
///
/// # Errors
/// [`AbandonedError`].
pub async fn remove(directory: &Path, lodged: &Lodged, patience: Duration) -> Result<Removed, AbandonedError> {
    let config = Kubeconfig::read_from(directory.join("kubeconfig"))
        .map_err(|error| AbandonedError::Record(error.to_string()))?;
    // What it had may have expired with it: the user's own will do.
    let client = renewing::client(config.clone(), Renewal::own(), &lodged.namespace).await?;
    let late = |_elapsed| {
        let silence = format!("no answer within {} s", ANSWER.as_secs());
        ClusterError::unavailable(format!("asking {} for its identity", lodged.server), silence)
    };
    let found = tokio::time::timeout(ANSWER, allowed::identity(&client, &config)).await.map_err(late)??;
    if found != lodged.cluster {
        return Err(AbandonedError::OtherCluster {
            server: lodged.server.clone(),
            expected: lodged.cluster.clone(),
            found,
        });
    }
    Ok(remove_namespace(&client, lodged, patience).await?)
}

/// A session that a cluster knows of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Which, and where.
    pub lodged: Lodged,
    /// Who held its lease.
    pub holder: String,
    /// Seconds since its last sign of life, by the cluster's clock.
    pub silent: u64,
    /// Whether that is longer than its lease.
    pub expired: bool,
}

/// Every session on a cluster that has a lease. One request.
///
/// # Errors
/// When the cluster doesn't answer or refuses.
pub async fn on_cluster(client: &kube::Client, cluster: &str, server: &str) -> kube::Result<Vec<Found>> {
    let (leases, now) = of_sessions::<Lease>(client, "/apis/coordination.k8s.io/v1/leases").await?;
    Ok(leases.iter().filter_map(|lease| found(lease, now, cluster, server)).collect())
}

/// All objects of a kind that look like sessions', and the cluster's time.
async fn of_sessions<K>(client: &kube::Client, path: &str) -> kube::Result<(Vec<K>, Timestamp)>
where
    K: Clone + DeserializeOwned,
{
    let parameters = ListParams::default().labels(&format!("{MANAGED_BY}=envctl,{SESSION}"));
    let request = Request::new(path).list(&parameters).map_err(kube::Error::BuildRequest)?;
    let response = client.send(request.map(Body::from)).await?;
    // By the cluster's own clock: another machine's session must not be judged by this machine's.
    let date = response.headers().get(http::header::DATE).and_then(|date| date.to_str().ok());
    let now = date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok()).map(|date| date.timestamp());
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    if !status.is_success() {
        let status = serde_json::from_slice(&body).map_err(kube::Error::SerdeError)?;
        return Err(kube::Error::Api(status));
    }
    let list: ObjectList<K> = serde_json::from_slice(&body).map_err(kube::Error::SerdeError)?;
    Ok((list.items, now.unwrap_or_else(Timestamp::now)))
}

fn found(lease: &Lease, now: Timestamp, cluster: &str, server: &str) -> Option<Found> {
    let metadata = &lease.metadata;
    if metadata.name.as_deref() != Some(LEASE) {
        return None;
    }
    let spec = lease.spec.as_ref()?;
    let session = metadata.labels.as_ref()?.get(SESSION)?;
    let mut lodged = Lodged::new(cluster, server, session, metadata.namespace.as_deref()?);
    lodged.uid = Some(metadata.annotations.as_ref()?.get(NAMESPACE_UID)?.clone());
    // Renewals carry the renewer's clock; when the API server saw them is its own.
    let seen = metadata.managed_fields.iter().flatten().filter_map(|fields| Some(fields.time.as_ref()?.0));
    let last = seen.chain(spec.renew_time.as_ref().map(|time| time.0)).max()?;
    let silent = u64::try_from(now.as_second() - last.as_second()).unwrap_or(0);
    let length = u64::try_from(spec.lease_duration_seconds?).ok()?;
    Some(Found { lodged, holder: spec.holder_identity.clone().unwrap_or_default(), silent, expired: silent > length })
}

/// Namespaces that look like sessions' but have no lease that says so: for people to judge. Those that are just coming up or on their way
/// out have none yet, or no more.
///
/// # Errors
/// When the cluster doesn't answer or refuses.
pub async fn unaccounted(client: &kube::Client, known: &[Found]) -> kube::Result<Vec<String>> {
    let (namespaces, now) = of_sessions::<Namespace>(client, "/api/v1/namespaces").await?;
    let stay = namespaces.into_iter().filter(|namespace| is_settled(&namespace.metadata, now));
    let names = stay.filter_map(|namespace| namespace.metadata.name);
    Ok(names.filter(|name| !known.iter().any(|found| found.lodged.namespace == *name)).collect())
}

fn is_settled(namespace: &ObjectMeta, now: Timestamp) -> bool {
    let is_new = namespace.creation_timestamp.as_ref().is_some_and(|made| now < made.0 + MOVING_IN);
    namespace.deletion_timestamp.is_none() && !is_new
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn lease(renewed: &str, seen: &str) -> Lease {
        let lease = json!({
            "metadata": {
                "name": LEASE, "namespace": "envctl-demo-1-abcde", "labels": {SESSION: "demo-1"},
                "annotations": {NAMESPACE_UID: "u"}, "managedFields": [{"manager": "envctl", "time": seen}],
            },
            "spec": {"holderIdentity": "envctl@h", "leaseDurationSeconds": 600, "renewTime": renewed},
        });
        serde_json::from_value(lease).expect("a lease")
    }

    fn judged(lease: &Lease) -> Option<(u64, bool)> {
        let now = "2026-01-01T12:00:00Z".parse().expect("a time");
        found(lease, now, "c", "s").map(|found| (found.silent, found.expired))
    }

    #[test]
    fn the_latest_sign_of_life_counts_whoever_s_clock_it_is() {
        let (early, late) = ("2026-01-01T11:00:00.000000Z", "2026-01-01T11:59:00Z");
        assert_eq!(judged(&lease(early, "2026-01-01T11:00:00Z")), Some((3600, true)));
        assert_eq!(judged(&lease(early, late)), Some((60, false)));
        assert_eq!(judged(&lease("2026-01-01T13:00:00.000000Z", late)), Some((0, false)));
        assert_eq!(judged(&lease("2026-01-01T11:50:00.000000Z", early)), Some((600, false)));
    }

    #[test]
    fn a_namespace_that_comes_or_goes_is_not_told_of() {
        let now = "2026-01-01T12:00:00Z".parse().expect("a time");
        let settled = |metadata| is_settled(&serde_json::from_value(metadata).expect("metadata"), now);
        assert!(settled(json!({"creationTimestamp": "2026-01-01T11:58:00Z"})));
        assert!(!settled(json!({"creationTimestamp": "2026-01-01T11:59:30Z"})));
        let going = json!({"creationTimestamp": "2026-01-01T11:58:00Z", "deletionTimestamp": "2026-01-01T11:59:00Z"});
        assert!(!settled(going));
    }

    #[test]
    fn a_lease_that_does_not_say_of_which_namespace_is_nobody_s() {
        let mut copied = lease("2026-01-01T11:00:00.000000Z", "2026-01-01T11:00:00Z");
        copied.metadata.annotations = None;
        assert_eq!(judged(&copied), None);
    }
}
