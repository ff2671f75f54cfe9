//! An existing cluster, by a context of the user's kubeconfig, as a [`Provider`].
//!
//! Refused unless the user allows sessions on it ([`super::allowed`]) or one of the local CLIs claims it
//! ([`super::claims`]). The session is a guest there: what it makes and how that is taken away is [`super::tenancy`]'s and `teardown`'s.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::sync::SetOnce;

use super::lend::{HostPort, Lent};
use super::reached::{Reached, identified};
use super::renewing::Renewal;
use super::{Access, ClusterError, Provider, Removal, ServicePort, Setting, Tenancy, allowed, claims, kubeconfig};
use crate::images::docker::Images;
use crate::images::{Builds, ImageError};
use crate::objects::Content;
use crate::plan;

/// The session's own kubeconfig, in its directory.
const KUBECONFIG: &str = "kubeconfig";

/// An existing cluster.
pub struct Context {
    name: String,
    namespace: String,
    directory: PathBuf,
    variables: BTreeMap<String, String>,
    images: Images,
    reached: Reached,
    /// The cluster may be used.
    allowed: SetOnce<()>,
}

impl Context {
    /// Nothing is asked yet. The setting's variables say where the kubeconfig, the user's configuration and a Docker engine are.
    pub fn new(name: &str, setting: Setting<'_>) -> Self {
        let Setting { namespace, directory, variables, state, .. } = setting;
        Self {
            name: name.to_owned(),
            namespace: namespace.to_owned(),
            directory: directory.to_owned(),
            images: Images::of_engine(variables.clone(), state),
            variables: variables.clone(),
            reached: Reached::default(),
            allowed: SetOnce::new(),
        }
    }
}

/// A cluster that sessions may be started on: how to reach it, and which it is. `copy` is the session's own kubeconfig, which gets
/// credentials that are renewed.
///
/// # Errors
/// When there is no such context, the cluster doesn't answer, or sessions are not allowed there.
pub async fn reach(
    name: &str,
    namespace: &str,
    variables: &BTreeMap<String, String>,
    copy: Option<PathBuf>,
) -> Result<(Access, kube::Client), ClusterError> {
    let began = Instant::now();
    let kubeconfig = kubeconfig::of_context(name, variables, namespace)?;
    let renewal = Renewal::new(variables.clone(), copy);
    let (client, identity) = identified(&kubeconfig, namespace, Some(renewal)).await?;
    let server = kubeconfig::server(&kubeconfig).to_owned();
    if let Err(refused) = allowed::check(&identity, name, &server, variables)
        && !claims::claimed(name, &kubeconfig, variables).await
    {
        return Err(refused);
    }
    let tenancy = Tenancy::Guest { cluster: identity };
    let access = Access { kubeconfig, ready_after: began.elapsed(), tenancy, client: Some(client.clone()) };
    Ok((access, client))
}

/// How an image is built that is to be pushed.
fn to_push(image: &plan::Image) -> Option<&plan::DockerImage> {
    image.docker.as_ref().filter(|recipe| recipe.push)
}

#[async_trait]
impl Provider for Context {
    async fn start(&self) -> Result<Access, ClusterError> {
        let copy = Some(self.directory.join(KUBECONFIG));
        let (access, client) = reach(&self.name, &self.namespace, &self.variables, copy).await?;
        self.reached.by(client, &self.namespace).await;
        // Whoever started before knows it too.
        _ = self.allowed.set(());
        Ok(access)
    }

    /// Images are there or can be pulled by their names: this cluster's nodes are not ours to load anything into. What the file says to
    /// push is built and pushed before.
    async fn make_runnable(&self, name: &str, image: Option<&plan::Image>, builds: &Builds) -> Result<(), ImageError> {
        match image.and_then(to_push) {
            // Nothing is pushed for a cluster that sessions are not allowed on.
            Some(recipe) => {
                self.allowed.wait().await;
                self.images.push(name, recipe, builds).await
            }
            None => Ok(()),
        }
    }

    fn content(&self, name: &str, image: Option<&plan::Image>, _: &[String], _: &[String]) -> Option<Content> {
        to_push(image?)?;
        self.images.pushed(name).map(Content::Reference)
    }

    async fn expose(&self, target: &ServicePort) -> Result<SocketAddr, ClusterError> {
        self.reached.expose(target).await
    }

    async fn lend(&self, ports: &[HostPort]) -> Result<Lent, ClusterError> {
        self.reached.lend(ports).await
    }

    async fn remove(&self, _grace: Duration) -> Result<Removal, ClusterError> {
        self.reached.stop().await;
        Ok(Removal::default())
    }

    async fn lost(&self) -> ClusterError {
        // Restarts of the API are lived through; that the session's own things are gone is noticed by whoever renews its lease.
        std::future::pending().await
    }
}
