//! What an agent owns: the cluster it was given access to, and what is provisioned there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::cluster::tenancy::{Lodging, record::Lodged};
use crate::cluster::{Access, ClusterError, Provider, Removal, Setting, Tenancy, kubeconfig};
use crate::keys::Keyring;
use crate::plan::{Cluster, Plan, Viewpoint};
use crate::provision::{Cause, Event, EventSink, Failure, GiveUp, Options, Provisioner, Revoke, Scope, Session};
use crate::session::record::Record;
use crate::teardown::{self, Removed};

/// How long a session's things on a cluster may take to be gone before what holds them is reported.
const PATIENCE: Duration = Duration::from_secs(60);

/// A cluster, and the session's things in it.
pub struct Environment {
    provider: Arc<dyn Provider>,
    access: Access,
    provisioner: Provisioner,
    /// Where the cluster isn't the session's own.
    lodging: Option<Arc<Lodging>>,
    cluster: Cluster,
}

impl Environment {
    /// Makes the plan's kind of cluster reachable.
    ///
    /// # Errors
    /// When it is not available: exit code 4.
    pub async fn start(
        plan: &Plan,
        record: &Record,
        variables: &BTreeMap<String, String>,
        keys: Keyring,
        events: &EventSink,
    ) -> Result<Self, Box<Failure>> {
        let unavailable = |error: ClusterError| {
            let mut failure =
                Failure::new(None, Cause::ClusterUnavailable, format!("the cluster is not available: {error}"));
            failure.hint = error.hint();
            Box::new(failure)
        };
        let directory = record.kubeconfig.parent().unwrap_or(std::path::Path::new("/"));
        let setting = Setting { namespace: &record.namespace, directory, variables };
        let provider = crate::cluster::provider(plan, setting).map_err(unavailable)?;
        let access = provider.start().await.map_err(unavailable)?;
        events.send(Event::ClusterReady {
            cluster: record.cluster.clone(),
            at: u64::try_from(access.ready_after.as_millis()).unwrap_or(u64::MAX),
        });
        let session = Session { id: record.id.clone(), namespace: record.namespace.clone() };
        let lodging = match &access.tenancy {
            Tenancy::Owner => None,
            Tenancy::Guest { cluster } => {
                let lodged =
                    Lodged::new(cluster, kubeconfig::server(&access.kubeconfig), &record.id, &record.namespace);
                Some(Arc::new(Lodging::new(lodged, directory)))
            }
        };
        let provisioner =
            Provisioner::new(provider.clone(), &access, session, lodging.clone(), keys).await.map_err(unavailable)?;
        Ok(Self { provider, access, provisioner, lodging, cluster: plan.cluster.clone() })
    }

    /// Where it runs.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// How to reach the cluster.
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// The session's client.
    pub fn client(&self) -> kube::Client {
        self.provisioner.client()
    }

    /// The provider, to be told when the cluster is lost.
    pub fn provider(&self) -> Arc<dyn Provider> {
        self.provider.clone()
    }

    /// Applies a plan, or a part of it, and waits until that is ready.
    ///
    /// # Errors
    /// The first failure that waiting cannot help.
    pub async fn up(
        &mut self,
        plan: &Plan,
        variables: BTreeMap<String, String>,
        scope: Scope,
        events: &EventSink,
        give_up: impl Future<Output = GiveUp> + Send,
    ) -> Result<(), Box<Failure>> {
        let options = Options { environment: variables, scope, ..Options::default() };
        self.provisioner.up(plan, &options, events, give_up).await
    }

    /// The session's keys.
    pub fn keys(&mut self) -> &mut Keyring {
        self.provisioner.keys_mut()
    }

    /// When the first key is to be issued anew, if ever.
    pub fn next_due(&self) -> Option<SystemTime> {
        self.provisioner.keys().next_due()
    }

    /// Where each service's ports are on the host, as the record has it.
    pub fn addresses(&self) -> BTreeMap<String, String> {
        let addresses = self.provisioner.addresses().iter();
        addresses.map(|(port, address)| (format!("{}.{}", port.service, port.port), address.to_string())).collect()
    }

    /// The variables handed to tests: the plan's as the host sees them, and the session's own.
    ///
    /// # Errors
    /// When one refers to what is not there.
    pub fn exports(&self, plan: &Plan, record: &Record) -> Result<BTreeMap<String, String>, Box<Failure>> {
        let host = Viewpoint::Host(self.provisioner.addresses());
        let keys = self.provisioner.keys().values();
        let mut exports = BTreeMap::from([
            ("KUBECONFIG".to_owned(), record.kubeconfig.display().to_string()),
            ("ENVCTL_SESSION".to_owned(), record.id.clone()),
            ("ENVCTL_SESSION_NAMESPACE".to_owned(), record.namespace.clone()),
        ]);
        for export in &plan.exports {
            let value = export.value.resolve(plan, host, &keys).map_err(|error| {
                Box::new(Failure::new(None, Cause::MissingConfig, format!("export {}: {error}", export.name)))
            })?;
            exports.insert(export.name.clone(), value);
        }
        Ok(exports)
    }

    /// Takes everything away; first, while their services are there, the keys that the file says how to revoke.
    pub async fn remove(&mut self, plan: Option<&Plan>, grace: Duration) -> Removal {
        // Without grace there is nobody to ask: the cluster was lost, or it is to be over at once.
        let unrevoked = match plan.filter(|_| !grace.is_zero()) {
            Some(plan) => tokio::time::timeout(grace, self.provisioner.revoke(plan, Revoke::All)).await,
            None => Ok(Vec::new()),
        };
        let mut left = unrevoked.unwrap_or_else(|_| vec![format!("keys that were not revoked within {grace:?}")]);
        if let Some(lodging) = &self.lodging {
            left.append(&mut self.move_out(lodging).await);
        }
        let mut removal = self.provider.remove(grace).await.unwrap_or_else(|error| Removal {
            killed: Vec::new(),
            left: vec![format!("the cluster of namespace {}: {error}", self.provisioner.namespace())],
        });
        removal.left.append(&mut left);
        removal
    }

    async fn move_out(&self, lodging: &Lodging) -> Vec<String> {
        let lodged = lodging.lodged();
        match teardown::remove_namespace(&self.provisioner.client(), &lodged, PATIENCE).await {
            Ok(Removed::Gone | Removed::NotOurs) => match lodging.moved_out() {
                Ok(()) => Vec::new(),
                Err(error) => vec![format!("the record of namespace {}: {error}", lodged.namespace)],
            },
            Ok(Removed::Held(by)) => by,
            Err(error) => vec![format!("namespace {} on {}: {error}", lodged.namespace, lodged.server)],
        }
    }
}
