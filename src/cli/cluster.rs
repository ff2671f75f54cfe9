//! The session's cluster, for the verbs that ask it directly: the same on every kind of cluster.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, ListParams};
use kube::config::Kubeconfig;

use super::exit::Exit;
use crate::cluster::refusal::{Refusal, in_words};
use crate::cluster::renewing::{self, Renewal};
use crate::error::Error;
use crate::objects;
use crate::session::record::{Phase, Record};

/// A client by the session's own kubeconfig, in its namespace.
///
/// # Errors
/// When the session has none yet, or it cannot be used.
pub async fn client(record: &Record) -> Result<kube::Client, Error> {
    if !record.kubeconfig.exists() {
        let starting = record.phase == Phase::Starting;
        return Err(Error::Failed {
            what: format!("session {} has no cluster yet", record.id),
            hint: starting.then(|| "`envctl wait` waits until it is ready".to_owned()),
            exit: Exit::NoCluster,
        });
    }
    let unusable = |cause: String| Error::Failed {
        what: format!("{} cannot be used: {cause}", record.kubeconfig.display()),
        hint: None,
        exit: Exit::NoCluster,
    };
    let kubeconfig = Kubeconfig::read_from(&record.kubeconfig).map_err(|error| unusable(error.to_string()))?;
    renewing::client(kubeconfig, Renewal::own(), &record.namespace).await.map_err(|error| Error::Failed {
        what: format!("the cluster is not available: {error}"),
        hint: error.hint(),
        exit: Exit::NoCluster,
    })
}

/// For `map_err`: a request that the cluster refused or did not answer.
pub fn refused(what: impl Into<String>) -> impl FnOnce(kube::Error) -> Error {
    let what = what.into();
    move |error| {
        let refusal = match &error {
            kube::Error::Api(status) => Refusal::of(status.code, &status.message),
            _ => Refusal::Other,
        };
        let answered = matches!(error, kube::Error::Api(_)) && refusal != Refusal::NotAuthenticated;
        Error::Failed {
            what: format!("{what}: {}", in_words(&error)),
            hint: refusal.hint(),
            exit: if answered { Exit::Failed } else { Exit::NoCluster },
        }
    }
}

/// The pods of the environment's nodes, all or of the named ones, oldest first.
///
/// # Errors
/// When the cluster cannot be asked, or a named node has no pods.
pub async fn pods(client: &kube::Client, nodes: &[String]) -> Result<Vec<Pod>, Error> {
    let api: Api<Pod> = Api::default_namespaced(client.clone());
    let parameters = ListParams::default().labels(&selector(nodes));
    let mut pods = api.list(&parameters).await.map_err(refused("list pods"))?.items;
    pods.sort_by(|one, other| one.metadata.creation_timestamp.cmp(&other.metadata.creation_timestamp));
    for node in nodes {
        if !pods.iter().any(|pod| node_of(pod) == Some(node)) {
            return Err(unknown(client, node).await);
        }
    }
    Ok(pods)
}

/// Selects the pods of nodes by their label.
pub fn selector(nodes: &[String]) -> String {
    if nodes.is_empty() { objects::NODE.to_owned() } else { format!("{} in ({})", objects::NODE, nodes.join(",")) }
}

/// The node that a pod belongs to.
pub fn node_of(pod: &Pod) -> Option<&String> {
    pod.metadata.labels.as_ref()?.get(objects::NODE)
}

/// The services in whose place a process on this machine is: their slices say so.
///
/// # Errors
/// When the cluster cannot be asked.
pub async fn swapped(client: &kube::Client) -> Result<BTreeSet<String>, Error> {
    let ours =
        ListParams::default().labels(&format!("endpointslice.kubernetes.io/managed-by={}", objects::SLICE_MANAGER));
    let slices = Api::<EndpointSlice>::default_namespaced(client.clone()).list(&ours).await;
    let slices = slices.map_err(refused("list endpoint slices"))?;
    Ok(slices
        .items
        .into_iter()
        .filter_map(|slice| slice.metadata.labels?.remove("kubernetes.io/service-name"))
        .collect())
}

/// What was to be done with pods that have stepped aside.
pub fn has_no_pods(service: &str) -> Error {
    Error::Failed {
        what: format!("{service} is swapped: it runs on this machine, and has no pods"),
        hint: Some("what runs it here can do that; its pods come back when `envctl swap` ends, or with an `envctl up` without `--swap`".to_owned()),
        exit: Exit::Failed,
    }
}

async fn unknown(client: &kube::Client, node: &str) -> Error {
    if swapped(client).await.is_ok_and(|swapped| swapped.contains(node)) {
        return has_no_pods(node);
    }
    let api: Api<Pod> = Api::default_namespaced(client.clone());
    let known = api.list(&ListParams::default().labels(objects::NODE)).await.map(|list| list.items).unwrap_or_default();
    let mut names: Vec<&str> = known.iter().filter_map(|pod| node_of(pod).map(String::as_str)).collect();
    names.sort_unstable();
    names.dedup();
    Error::Usage {
        what: format!("no pod of {node:?} in this session"),
        hint: (!names.is_empty()).then(|| format!("there are pods of: {}", names.join(", "))),
    }
}
