//! What an agent owns: the cluster it was given access to, and what is provisioned there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::cluster::{Access, ClusterError, Provider, Removal};
use crate::plan::{Plan, Viewpoint};
use crate::provision::{Cause, Event, EventSink, Failure, GiveUp, Options, Provisioner, Session};
use crate::session::record::Record;

/// A cluster, and the session's things in it.
pub struct Environment {
    provider: Arc<dyn Provider>,
    access: Access,
    provisioner: Provisioner,
}

impl Environment {
    /// Makes the plan's kind of cluster reachable.
    ///
    /// # Errors
    /// When it is not available: exit code 4.
    pub async fn start(plan: &Plan, record: &Record, events: &EventSink) -> Result<Self, Box<Failure>> {
        let unavailable = |error: ClusterError| {
            let mut failure =
                Failure::new(None, Cause::ClusterUnavailable, format!("the cluster is not available: {error}"));
            failure.hint = error.hint();
            Box::new(failure)
        };
        let directory = record.kubeconfig.parent().unwrap_or(std::path::Path::new("/"));
        let setting = crate::cluster::Setting { namespace: &record.namespace, directory };
        let provider = crate::cluster::provider(plan, setting).map_err(unavailable)?;
        let access = provider.start().await.map_err(unavailable)?;
        events.send(Event::ClusterReady {
            cluster: record.cluster.clone(),
            at: u64::try_from(access.ready_after.as_millis()).unwrap_or(u64::MAX),
        });
        let session = Session { id: record.id.clone(), namespace: record.namespace.clone() };
        let provisioner = Provisioner::new(provider.clone(), &access, session).await.map_err(unavailable)?;
        Ok(Self { provider, access, provisioner })
    }

    /// How to reach the cluster.
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// The provider, to be told when the cluster is lost.
    pub fn provider(&self) -> Arc<dyn Provider> {
        self.provider.clone()
    }

    /// Applies a plan and waits until it is ready.
    ///
    /// # Errors
    /// The first failure that waiting cannot help.
    pub async fn up(
        &mut self,
        plan: &Plan,
        variables: BTreeMap<String, String>,
        events: &EventSink,
        give_up: impl Future<Output = GiveUp> + Send,
    ) -> Result<(), Box<Failure>> {
        let options = Options { environment: variables, ..Options::default() };
        self.provisioner.up(plan, &options, events, give_up).await
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
        let mut exports = BTreeMap::from([
            ("KUBECONFIG".to_owned(), record.kubeconfig.display().to_string()),
            ("ENVCTL_SESSION".to_owned(), record.id.clone()),
            ("ENVCTL_SESSION_NAMESPACE".to_owned(), record.namespace.clone()),
        ]);
        for export in &plan.exports {
            let value = export.value.resolve(plan, host, self.provisioner.keys()).map_err(|error| {
                Box::new(Failure::new(None, Cause::MissingConfig, format!("export {}: {error}", export.name)))
            })?;
            exports.insert(export.name.clone(), value);
        }
        Ok(exports)
    }

    /// Takes everything away.
    pub async fn remove(&self, namespace: &str, grace: Duration) -> Removal {
        match self.provider.remove(namespace, grace).await {
            Ok(removal) => removal,
            Err(error) => Removal { killed: Vec::new(), left: vec![format!("namespace {namespace}: {error}")] },
        }
    }
}
