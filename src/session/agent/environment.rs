//! What an agent owns: the cluster it was given access to, and what is provisioned there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::future::join_all;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::cluster::refusal::{Refusal, in_words};
use crate::cluster::tenancy::record::Lodged;
use crate::cluster::tenancy::{LEASE, LEASE_VARIABLE, Lodging};
use crate::cluster::{Access, ClusterError, Provider, Removal, Setting, Tenancy, kubeconfig};
use crate::envfile::TimeSpan;
use crate::keys::Keyring;
use crate::plan::{Cluster, Plan, Viewpoint};
use crate::provision::{Cause, Event, EventSink, Failure, GiveUp, Making, Options, Provisioner, Revoke, Session};
use crate::session::launch;
use crate::session::record::Record;
use crate::session::state::StateDirectory;
use crate::teardown::abandoned::{self, Found};
use crate::teardown::{self, Removed};

/// How long what another session left may take to be gone before it is left to the next.
const SWEEPING: Duration = Duration::from_secs(60);

/// How long what has no readiness check must run on others' nodes: their kubelet looks at its containers once a second
/// (`pkg/kubelet/kubelet.go`, `genericPlegRelistPeriod`), so a program that has ended is called running for as long.
const STEADY: Duration = Duration::from_millis(1500);

/// A cluster, and the session's things in it.
pub struct Environment {
    provider: Arc<dyn Provider>,
    access: Access,
    provisioner: Provisioner,
    /// Where the cluster isn't the session's own.
    lodging: Option<Arc<Lodging>>,
    cluster: Cluster,
    needs: teardown::Needs,
    /// Removes what others left on the same cluster, once this session is ready.
    sweeping: JoinSet<()>,
    state: StateDirectory,
}

impl Environment {
    /// Makes the plan's kind of cluster reachable.
    ///
    /// # Errors
    /// When it is not available (exit code 4), or `cancel` came first; then nothing is left of what was begun.
    pub async fn start(
        plan: &Plan,
        record: &Record,
        variables: &BTreeMap<String, String>,
        keys: Keyring,
        events: &EventSink,
        cancel: &CancellationToken,
    ) -> Result<Self, Box<Failure>> {
        let unavailable = |error: ClusterError| {
            let cause = match error {
                ClusterError::Credentials { .. } => Cause::CredentialsRefused,
                _ => Cause::ClusterUnavailable,
            };
            let mut failure = Failure::new(None, cause, format!("the cluster is not available: {error}"));
            failure.hint = error.hint();
            Box::new(failure)
        };
        let directory = record.kubeconfig.parent().unwrap_or(std::path::Path::new("/"));
        // sessions/<id>, so the state directory is two up.
        let state = StateDirectory::at(directory.ancestors().nth(2).unwrap_or(directory).to_owned());
        let setting = Setting { namespace: &record.namespace, directory, variables, state: state.path(), events };
        let provider = crate::cluster::provider(plan, setting).map_err(unavailable)?;
        let mut making = Making::begin(plan, variables, &provider, events);
        let reached = async {
            let access = provider.start().await?;
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
                    let client = access.client(&record.namespace).await?;
                    let lease = variables.get(LEASE_VARIABLE).and_then(|lease| lease.parse::<TimeSpan>().ok());
                    let lease = lease.map_or(LEASE, |lease| lease.0);
                    Some(Arc::new(Lodging::new(client, lodged, directory, lease)))
                }
            };
            let provisioner = Provisioner::new(provider.clone(), &access, session, lodging.clone(), keys).await?;
            Ok((access, lodging, provisioner))
        };
        // What takes seconds to make. One that others will use is finished although a build has failed.
        let (is_made, is_own) = match plan.cluster {
            Cluster::Kind { fresh } | Cluster::Minikube { fresh } => (true, fresh),
            Cluster::Embedded | Cluster::Context(_) => (false, false),
        };
        let reached = async {
            tokio::pin!(reached);
            tokio::select! {
                reached = &mut reached => return reached.map_err(unavailable),
                () = cancel.cancelled() => return Err(interrupted()),
                image = making.failed(), if is_made => {
                    if is_own {
                        return Err(making.failure(plan));
                    }
                    let message = format!("{image} could not be made runnable; more about it when the cluster is there");
                    events.send(Event::Warning { node: None, message, at: 0 });
                }
            }
            tokio::select! {
                reached = &mut reached => reached.map_err(unavailable),
                () = cancel.cancelled() => Err(interrupted()),
            }
        };
        let reached = reached.await;
        match reached {
            Ok((access, lodging, provisioner)) => Ok(Self {
                provider,
                access,
                provisioner: provisioner.with(making),
                lodging,
                cluster: plan.cluster.clone(),
                needs: teardown::needs(plan),
                sweeping: JoinSet::new(),
                state,
            }),
            Err(mut failure) => {
                making.end().await;
                // What it had begun to make is nobody else's.
                if let Err(error) = provider.remove(Duration::ZERO).await {
                    failure.message = format!("{}; what was begun is still there: {error}", failure.message);
                }
                Err(failure)
            }
        }
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

    /// The provider, to be asked what only it knows.
    pub fn provider(&self) -> Arc<dyn Provider> {
        self.provider.clone()
    }

    /// Resolves with the reason when the session can no longer be; pending for ever while it can.
    pub fn lost(&self) -> impl Future<Output = String> + Send + 'static {
        let (provider, lodging) = (self.provider.clone(), self.lodging.clone());
        async move {
            let evicted = async {
                match &lodging {
                    Some(lodging) => lodging.lost().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                error = provider.lost() => format!("its cluster was lost: {error}"),
                why = evicted => format!("its place on the cluster was lost: {why}"),
            }
        }
    }

    /// Applies a plan, or a part of it, and waits until that is ready.
    ///
    /// # Errors
    /// The first failure that waiting cannot help.
    pub async fn up(
        &mut self,
        plan: &Plan,
        mut options: Options,
        events: &EventSink,
        give_up: impl Future<Output = GiveUp> + Send,
    ) -> Result<(), Box<Failure>> {
        if self.lodging.is_some() {
            options.limits.steady = STEADY;
        }
        // Also when it fails: what was applied is stopped in this order.
        self.needs = teardown::needs(plan);
        self.provisioner.up(plan, &options, events, give_up).await?;
        if let Some(lodging) = self.lodging.as_ref().filter(|_| self.sweeping.is_empty()) {
            let (client, own, state) = (self.provisioner.client(), lodging.lodged(), self.state.clone());
            self.sweeping.spawn(async move { sweep(&client, &own, &state).await });
        }
        Ok(())
    }

    /// Ends what an `up` that came to nothing left of images being made.
    pub async fn end_making(&mut self) {
        self.provisioner.end_making().await;
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

    /// The variables handed to tests: the plan's as the host sees them, and the session's own. Unless `all` of the plan came up, one
    /// that refers to what is not there is as the record has it, or left out.
    ///
    /// # Errors
    /// When one refers to what is not there although `all` came up.
    pub fn exports(&self, plan: &Plan, record: &Record, all: bool) -> Result<BTreeMap<String, String>, Box<Failure>> {
        let host = Viewpoint::Host(self.provisioner.addresses());
        let keys = self.provisioner.keys().values();
        let mut exports = BTreeMap::from([
            ("KUBECONFIG".to_owned(), record.kubeconfig.display().to_string()),
            ("ENVCTL_SESSION".to_owned(), record.id.clone()),
            ("ENVCTL_SESSION_NAMESPACE".to_owned(), record.namespace.clone()),
        ]);
        for export in &plan.exports {
            let value = match (export.value.resolve(plan, host, &keys), record.exports.get(&export.name)) {
                (Ok(value), _) => value,
                (Err(_), Some(former)) if !all => former.clone(),
                (Err(_), None) if !all => continue,
                (Err(error), _) => {
                    let message = format!("export {}: {error}", export.name);
                    return Err(Box::new(Failure::new(None, Cause::MissingConfig, message)));
                }
            };
            exports.insert(export.name.clone(), value);
        }
        Ok(exports)
    }

    /// Takes everything away; first, while their services are there, the keys that the file says how to revoke.
    /// What is on a cluster of others is waited for as long as `patience`.
    pub async fn remove(mut self, plan: Option<&Plan>, grace: Duration, patience: Duration) -> Removal {
        self.sweeping.shutdown().await;
        // Without grace there is nobody to ask: the cluster was lost, or it is to be over at once.
        let unrevoked = match plan.filter(|_| !grace.is_zero()) {
            Some(plan) => tokio::time::timeout(grace, self.provisioner.revoke(plan, Revoke::All)).await,
            None => Ok(Vec::new()),
        };
        let mut left = unrevoked.unwrap_or_else(|_| vec![format!("keys that were not revoked within {grace:?}")]);
        if let Some(lodging) = &self.lodging {
            left.append(&mut self.move_out(lodging, patience).await);
        }
        let mut removal = self.provider.remove(grace).await.unwrap_or_else(|error| Removal {
            killed: Vec::new(),
            left: vec![format!("the cluster of namespace {}: {error}", self.provisioner.namespace())],
        });
        removal.left.append(&mut left);
        removal
    }

    async fn move_out(&self, lodging: &Lodging, patience: Duration) -> Vec<String> {
        lodging.rest().await;
        if !lodging.is_asked_for() {
            return Vec::new();
        }
        let lodged = lodging.lodged();
        let (client, ledger) = (self.provisioner.client(), self.provisioner.ledger());
        match teardown::move_out(&client, &lodged, ledger, &self.needs, patience).await {
            Ok(Removed::Gone | Removed::NotOurs) => match lodging.moved_out() {
                Ok(()) => Vec::new(),
                Err(error) => vec![format!("the record of namespace {}: {error}", lodged.namespace)],
            },
            Ok(Removed::Held(by)) => by,
            Err(error) => {
                let why = in_words(&error);
                let hint = match &error {
                    kube::Error::Api(status) => Refusal::of(status.code, &status.message).hint(),
                    _ => None,
                };
                let hint = hint.map(|hint| format!(" ({hint})")).unwrap_or_default();
                vec![format!(
                    "namespace {} on {}: {why}{hint}; `envctl gc` tries again",
                    lodged.namespace, lodged.server
                )]
            }
        }
    }
}

fn interrupted() -> Box<Failure> {
    Box::new(Failure::new(None, Cause::Interrupted, "interrupted"))
}

/// Removes what other sessions left on this cluster whose agent is gone: those of this machine, and those whose lease has expired.
/// Nobody waits for it: what fails is left to the next one and to `envctl gc`.
async fn sweep(client: &kube::Client, own: &Lodged, state: &StateDirectory) {
    let directories = launch::left(state).unwrap_or_default();
    join_all(directories.iter().map(async |directory| {
        let Ok(lodged) = abandoned::on_disk(directory.path()) else { return };
        if lodged.cluster != own.cluster {
            return;
        }
        match abandoned::remove(directory.path(), &lodged, SWEEPING).await {
            Ok(Removed::Gone | Removed::NotOurs) => {
                info!(namespace = lodged.namespace, "removed what a dead session left");
                if let Err(error) = launch::forget_left(state, directory) {
                    warn!(%error, "its files could not be removed");
                }
            }
            other => warn!(namespace = lodged.namespace, ?other, "what a dead session left is still there"),
        }
    }))
    .await;
    let found = match abandoned::on_cluster(client, &own.cluster, &own.server).await {
        Ok(found) => found,
        Err(error) => return warn!(%error, "other sessions on this cluster cannot be seen"),
    };
    let live: Vec<String> = state.live().unwrap_or_default().into_iter().map(|record| record.namespace).collect();
    let expired = found.iter().filter(|found| found.expired && !live.contains(&found.lodged.namespace));
    join_all(expired.map(async |Found { lodged, holder, silent, .. }| {
        let removed = teardown::remove_namespace(client, lodged, SWEEPING).await;
        info!(namespace = lodged.namespace, holder, silent, ?removed, "removed an expired session");
    }))
    .await;
}
