//! The task that says that a session is alive: takes the lease, arms the dead-man switch, then renews both.

use std::time::{Duration, SystemTime};

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace, Service};
use k8s_openapi::api::networking::v1::IPAddress;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::objects::{self, LEASE, SWITCH};
use crate::cluster::apply::FIELD_MANAGER;

/// How many times a lease is renewed in its length: a renewal may fail, and a laptop sleep for most of it.
const RENEWALS: u32 = 4;

/// What the keeper tells.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// Once the lease and the switch were tried: what could not be done, for people.
    pub settled: Option<Vec<String>>,
    /// Why the session's namespace is no longer its own.
    pub lost: Option<String>,
}

/// One session's lease and switch.
pub struct Keeper {
    client: kube::Client,
    namespace: String,
    uid: String,
    labels: Value,
    length: Duration,
    began: SystemTime,
}

impl Keeper {
    /// For the namespace of this UID.
    pub fn new(client: kube::Client, namespace: &str, uid: &str, labels: Value, length: Duration) -> Self {
        Self { client, namespace: namespace.to_owned(), uid: uid.to_owned(), labels, length, began: SystemTime::now() }
    }

    /// Keeps the lease until dropped, or until there is nothing to keep it for.
    pub async fn keep(self, state: watch::Sender<State>) {
        let (lease, switch) = tokio::join!(self.take_lease(), self.arm());
        let mut warnings = Vec::new();
        if let Err(error) = lease {
            warnings.push(format!(
                "no lease says that the session is alive, so others may not know when it is dead: {error}"
            ));
        }
        if let Err(error) = &switch {
            warnings.push(format!(
                "the cluster will not remove the session by itself should this machine never come back: {error}"
            ));
        }
        state.send_modify(|state| state.settled = Some(warnings));
        loop {
            tokio::time::sleep(self.length / RENEWALS).await;
            match self.renew(switch.is_ok()).await {
                Ok(None) => {}
                Ok(Some(lost)) => {
                    state.send_modify(|state| state.lost = Some(lost));
                    return;
                }
                // The next one may succeed; if none does in time, the cluster takes the session for dead.
                Err(error) => tracing::warn!(%error, "the session's lease could not be renewed"),
            }
        }
    }

    async fn take_lease(&self) -> kube::Result<Lease> {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let holder = format!("envctl@{}", host.trim());
        self.create(&objects::lease(&self.labels, &self.uid, &holder, self.length, &now())).await
    }

    /// The switch, link by link. See [`objects`].
    async fn arm(&self) -> kube::Result<()> {
        let job: Job = self.create(&objects::job(&self.labels, self.length)).await?;
        let service: Service =
            self.create(&objects::service(&self.labels, job.metadata.uid.as_deref().unwrap_or_default())).await?;
        let address = service.spec.and_then(|spec| spec.cluster_ip).unwrap_or_default();
        let addresses: Api<IPAddress> = Api::all(self.client.clone());
        let owner = addresses.get(&address).await?.metadata.uid.unwrap_or_default();
        let patch = Patch::Merge(objects::owned_by_address(&self.uid, &address, &owner));
        Api::<Namespace>::all(self.client.clone()).patch(&self.namespace, &parameters(), &patch).await?;
        Ok(())
    }

    /// `Some`: why there is nothing to renew any more.
    async fn renew(&self, armed: bool) -> kube::Result<Option<String>> {
        let lease = Patch::Merge(json!({ "spec": { "renewTime": now() } }));
        match self.api::<Lease>().patch(LEASE, &parameters(), &lease).await {
            Err(error) if is_absent(&error) => match self.why_absent().await? {
                Some(why) => return Ok(Some(why)),
                None => _ = self.take_lease().await?,
            },
            other => _ = other?,
        }
        if !armed {
            return Ok(None);
        }
        // By this machine's own clock alone: no two clocks are compared.
        let lived = SystemTime::now().duration_since(self.began).unwrap_or_default();
        let deadline =
            Patch::Merge(json!({ "spec": { "activeDeadlineSeconds": objects::seconds(lived + self.length) } }));
        match self.api::<Job>().patch(SWITCH, &parameters(), &deadline).await {
            Err(error) if is_absent(&error) => self.why_absent().await,
            other => other.map(|_renewed| None),
        }
    }

    /// Whether the session's namespace is gone, going, or somebody else's by now.
    async fn why_absent(&self) -> kube::Result<Option<String>> {
        let found = Api::<Namespace>::all(self.client.clone()).get_opt(&self.namespace).await?;
        Ok(match found {
            None => Some(format!("namespace {} was deleted", self.namespace)),
            Some(found) if found.metadata.uid.as_ref() != Some(&self.uid) => {
                Some(format!("namespace {} was deleted and made anew by somebody else", self.namespace))
            }
            Some(found) if found.metadata.deletion_timestamp.is_some() => {
                Some(format!("namespace {} is being deleted", self.namespace))
            }
            Some(_) => None,
        })
    }

    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    async fn create<K>(&self, object: &Value) -> kube::Result<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope> + DeserializeOwned + Clone + std::fmt::Debug,
        K: serde::Serialize,
        K::DynamicType: Default,
    {
        let object: K = serde_json::from_value(object.clone()).map_err(kube::Error::SerdeError)?;
        let parameters = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        self.api::<K>().create(&parameters, &object).await
    }
}

fn parameters() -> PatchParams {
    PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() }
}

fn is_absent(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}
