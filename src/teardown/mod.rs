//! Takes a session away from a cluster that outlives it: what lies outside of its namespace first, then the namespace.
//!
//! Neighbours: a `cluster` provider calls [`remove`] for its clusters (the embedded one just ends); `provision` recorded
//! what was made. Invariant: only what the session made is deleted, by recorded UID; a namespace that was replaced by another
//! of the same name is left alone. Everything in the namespace goes in whatever order the cluster likes: nothing
//! outside of it depends on it any more.

use futures::future::join_all;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::Api;
use kube::runtime::wait::{await_condition, conditions};

use crate::cluster::Removal;
use crate::cluster::apply::{Applier, ApplyError, Kind};
use crate::cluster::ledger::Ledger;
use crate::readiness::ObjectKey;

/// Deletes what the session has and waits until it is gone, or until `give_up`. Idempotent. What is still there then is
/// told, with what the cluster says about why.
///
/// # Errors
/// [`ApplyError`] when the cluster refuses to delete; what could be deleted is.
pub async fn remove(
    client: &kube::Client,
    namespace: &str,
    namespace_uid: &str,
    ledger: &Ledger,
    give_up: impl Future<Output = ()> + Send,
) -> Result<Removal, ApplyError> {
    let applier = Applier::new(client.clone(), namespace);
    let outside = ledger.cluster_scoped();
    let deleted =
        join_all(outside.iter().map(|owned| applier.delete(&owned.kind, &owned.key, &owned.expected.uid))).await;
    let key = ObjectKey {
        group: String::new(),
        kind: "Namespace".to_owned(),
        namespace: String::new(),
        name: namespace.to_owned(),
    };
    let kind = Kind {
        group: String::new(),
        version: "v1".to_owned(),
        kind: "Namespace".to_owned(),
        plural: "namespaces".to_owned(),
        namespaced: false,
    };
    applier.delete(&kind, &key, namespace_uid).await?;
    deleted.into_iter().collect::<Result<Vec<_>, _>>()?;
    let api: Api<Namespace> = Api::all(client.clone());
    let gone = await_condition(api.clone(), namespace, conditions::is_deleted(namespace_uid));
    tokio::select! {
        gone = gone => match gone {
            Ok(_) => Ok(Removal::default()),
            Err(source) => Err(ApplyError::Unanswered { object: key.to_string(), source: source.into() }),
        },
        () = give_up => Ok(Removal { killed: Vec::new(), left: vec![stuck(&api, namespace).await] }),
    }
}

/// Why a namespace is still there, in the words of its conditions
/// (`pkg/controller/namespace/deletion/status_condition_utils.go`).
async fn stuck(api: &Api<Namespace>, namespace: &str) -> String {
    let status = api.get(namespace).await.ok().and_then(|namespace| namespace.status);
    let conditions = status.and_then(|status| status.conditions).unwrap_or_default();
    let said: Vec<String> = conditions
        .into_iter()
        .filter(|condition| condition.status == "True")
        .filter_map(|condition| condition.message)
        .collect();
    match said.as_slice() {
        [] => format!("namespace {namespace} is still being deleted"),
        said => format!("namespace {namespace} is still being deleted: {}", said.join("; ")),
    }
}
