//! An existing cluster, by a context of the user's kubeconfig, as a [`Provider`].
//!
//! Refused unless the user allows sessions on it ([`super::allowed`]) or one of the local CLIs claims it
//! ([`super::claims`]). The session is a guest there: what it makes and how that is taken away is [`super::tenancy`]'s and `teardown`'s.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::sync::OnceCell;

use super::forward::Forwards;
use super::pod_forward::PodForward;
use super::{Access, ClusterError, Provider, Removal, ServicePort, Tenancy, allowed, claims, kubeconfig};
use crate::images::{Builds, ImageError};
use crate::plan;

/// How long the first answer may take: long enough for a VPN, short enough for a person.
const FIRST_ANSWER: Duration = Duration::from_secs(15);

/// An existing cluster.
pub struct Context {
    name: String,
    namespace: String,
    variables: BTreeMap<String, String>,
    carrier: OnceCell<Arc<PodForward>>,
    forwards: Arc<Forwards>,
}

impl Context {
    /// Nothing is asked yet. `variables` are the caller's: they say where the kubeconfig and the user's configuration are.
    pub fn new(name: &str, namespace: &str, variables: BTreeMap<String, String>) -> Self {
        Self {
            name: name.to_owned(),
            namespace: namespace.to_owned(),
            variables,
            carrier: OnceCell::new(),
            forwards: Arc::new(Forwards::default()),
        }
    }
}

/// A cluster that sessions may be started on: how to reach it, and which it is.
///
/// # Errors
/// When there is no such context, the cluster doesn't answer, or sessions are not allowed there.
pub async fn reach(
    name: &str,
    namespace: &str,
    variables: &BTreeMap<String, String>,
) -> Result<(Access, kube::Client), ClusterError> {
    let began = Instant::now();
    let kubeconfig = kubeconfig::of_context(name, variables, namespace)?;
    let client = kubeconfig::client(kubeconfig.clone(), namespace).await?;
    let server = kubeconfig::server(&kubeconfig).to_owned();
    let identity =
        tokio::time::timeout(FIRST_ANSWER, allowed::identity(&client, &server)).await.map_err(|_late| {
            ClusterError::unavailable(
                format!("asking {server} for its identity"),
                format!("no answer within {} s", FIRST_ANSWER.as_secs()),
            )
        })??;
    if let Err(refused) = allowed::check(&identity, name, &server, variables)
        && !claims::claimed(name, &kubeconfig, variables).await
    {
        return Err(refused);
    }
    let access = Access { kubeconfig, ready_after: began.elapsed(), tenancy: Tenancy::Guest { cluster: identity } };
    Ok((access, client))
}

#[async_trait]
impl Provider for Context {
    async fn start(&self) -> Result<Access, ClusterError> {
        let (access, client) = reach(&self.name, &self.namespace, &self.variables).await?;
        let carrier = || async { Arc::new(PodForward::new(client, &self.namespace, self.forwards.clone())) };
        self.carrier.get_or_init(carrier).await;
        Ok(access)
    }

    /// Images are there or can be pulled by their names: this cluster's nodes are not ours to load anything into.
    async fn make_runnable(&self, _: &str, _: Option<&plan::Image>, _: &Builds) -> Result<(), ImageError> {
        Ok(())
    }

    fn digest(&self, _image: &plan::Image, _command: &[String], _args: &[String]) -> Option<String> {
        None
    }

    async fn expose(&self, target: &ServicePort) -> Result<SocketAddr, ClusterError> {
        let carrier = self.carrier.get().ok_or(ClusterError::Stopped)?;
        self.forwards.expose(carrier.clone(), target).await
    }

    async fn remove(&self, _grace: Duration) -> Result<Removal, ClusterError> {
        self.forwards.stop().await;
        Ok(Removal::default())
    }

    async fn lost(&self) -> ClusterError {
        // Restarts of the API are lived through; that the session's own things are gone is noticed by whoever renews its lease.
        std::future::pending().await
    }
}
