//! The task that says that a session is alive: takes the lease, arms the dead-man switch, then renews both.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace, Service};
use k8s_openapi::api::networking::v1::IPAddress;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::objects::{self, LEASE, SWITCH};
use crate::cluster::apply::FIELD_MANAGER;
use crate::cluster::contact::Contact;
use crate::cluster::refusal::in_words;

/// How many times a lease is renewed in its length: a renewal may fail, and a laptop sleep for most of it.
const RENEWALS: u32 = 4;

/// How long a renewal may take although the lease is over by then: whoever was stopped for long (by a debugger, a busy machine) asks
/// once whether the session is still there before calling it lost.
const ATTEMPT: Duration = Duration::from_secs(5);

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
    contact: Arc<Contact>,
    namespace: String,
    uid: String,
    labels: Value,
    length: Duration,
    began: SystemTime,
}

impl Keeper {
    /// For the namespace of this UID.
    pub fn new(contact: Arc<Contact>, namespace: &str, uid: &str, labels: Value, length: Duration) -> Self {
        Self { contact, namespace: namespace.to_owned(), uid: uid.to_owned(), labels, length, began: SystemTime::now() }
    }

    /// Keeps the lease until dropped, or until there is nothing to keep it for.
    pub async fn keep(self, state: watch::Sender<State>) {
        let (lease, switch) = tokio::join!(self.take_lease(), self.arm());
        let words = |error: &kube::Error| in_words(error).into_owned();
        let mut warnings = Vec::new();
        if let Err(error) = lease {
            warnings.push(format!(
                "no lease says that the session is alive, so others may not know when it is dead: {}",
                words(&error)
            ));
        }
        if let Err(error) = &switch {
            warnings.push(format!(
                "the cluster will not remove the session by itself should this machine never come back: {}",
                words(error)
            ));
        }
        state.send_modify(|state| state.settled = Some(warnings));
        // By a clock that stands still while the machine sleeps: nobody could have renewed then.
        let mut renewed = Instant::now();
        let lost = loop {
            tokio::time::sleep(self.length / RENEWALS).await;
            let enough = (renewed + self.length).max(Instant::now() + ATTEMPT);
            let error = match timeout_at(enough, self.contact.patiently(|| self.renew(switch.is_ok()))).await {
                Ok(Ok(None)) => {
                    renewed = Instant::now();
                    continue;
                }
                Ok(Ok(Some(lost))) => break lost,
                Ok(Err(error)) => {
                    // Who may not renew it was told so at the beginning, and the cluster is there: that is no end.
                    if matches!(&error, kube::Error::Api(status) if status.code != 401) {
                        renewed = Instant::now();
                    }
                    in_words(&error).into_owned()
                }
                Err(_late) => self
                    .contact
                    .silence()
                    .borrow()
                    .as_ref()
                    .map_or_else(|| "no answer".to_owned(), |silence| silence.why.clone()),
            };
            tracing::warn!(error, "the session's lease could not be renewed");
            // Until then the next one may succeed; from then on the cluster takes the session for dead.
            if Instant::now() >= renewed + self.length {
                let length = self.length.as_secs();
                break format!(
                    "its lease could not be renewed for {length} s, as long as it is: {error}; `envctl gc` removes what is left"
                );
            }
        };
        state.send_modify(|state| state.lost = Some(lost));
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
        let addresses: Api<IPAddress> = Api::all(self.contact.client().clone());
        let owner = self.contact.patiently(|| addresses.get(&address)).await?.metadata.uid.unwrap_or_default();
        let patch = Patch::Merge(objects::owned_by_address(&self.uid, &address, &owner));
        let (namespaces, parameters) = (Api::<Namespace>::all(self.contact.client().clone()), parameters());
        self.contact.patiently(|| namespaces.patch(&self.namespace, &parameters, &patch)).await?;
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
        let found = Api::<Namespace>::all(self.contact.client().clone()).get_opt(&self.namespace).await?;
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
        Api::namespaced(self.contact.client().clone(), &self.namespace)
    }

    async fn create<K>(&self, object: &Value) -> kube::Result<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope> + DeserializeOwned + Clone + std::fmt::Debug,
        K: serde::Serialize,
        K::DynamicType: Default,
    {
        let object: K = serde_json::from_value(object.clone()).map_err(kube::Error::SerdeError)?;
        let parameters = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        let api = self.api::<K>();
        match self.contact.patiently(|| api.create(&parameters, &object)).await {
            // The namespace is the session's alone: made by an attempt whose answer was lost.
            Err(kube::Error::Api(status)) if status.code == 409 => {
                let name = object.meta().name.as_deref().unwrap_or_default();
                self.contact.patiently(|| api.get(name)).await
            }
            other => other,
        }
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

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};

    use http::{Request, Response};
    use kube::client::Body;

    use super::*;

    const LENGTH: Duration = Duration::from_secs(8);

    /// A keeper at an API that answers everything with this status, and how often the lease was renewed there.
    fn keeper(status: &Arc<AtomicU16>) -> (Keeper, Arc<AtomicU32>) {
        let (status, renewed) = (status.clone(), Arc::new(AtomicU32::new(0)));
        let renewals = renewed.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let path = request.uri().path();
            let kinds = [
                ("/leases", "coordination.k8s.io/v1", "Lease"),
                ("/jobs", "batch/v1", "Job"),
                ("/services", "v1", "Service"),
                ("/ipaddresses", "networking.k8s.io/v1", "IPAddress"),
                ("/namespaces", "v1", "Namespace"),
            ];
            let (_, version, kind) = kinds.into_iter().find(|(part, ..)| path.contains(part)).expect("a known kind");
            renewals.fetch_add(u32::from(kind == "Lease" && request.method() == "PATCH"), Ordering::Relaxed);
            let answer = json!({"apiVersion": version, "kind": kind, "metadata": {"name": "n", "uid": "u"},
                "spec": {"clusterIP": "10.0.0.1", "template": {}}});
            let code = status.load(Ordering::Relaxed);
            let answer = if code == 200 { answer } else { json!({"kind": "Status", "code": code}) };
            let mut response = Response::new(Body::from(answer.to_string().into_bytes()));
            *response.status_mut() = code.try_into().expect("a status");
            async move { Ok::<_, Infallible>(response) }
        });
        let contact = Arc::new(Contact::new(kube::Client::new(service, "ns")));
        (Keeper::new(contact, "ns", "u", json!({}), LENGTH), renewed)
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_refused_as_a_stranger_gives_up_with_the_lease() {
        let status = Arc::new(AtomicU16::new(200));
        let (keeper, _) = keeper(&status);
        let (sender, mut state) = watch::channel(State::default());
        let keeping = tokio::spawn(keeper.keep(sender));
        let settled = state.wait_for(|state| state.settled.is_some()).await.expect("kept").settled.clone();
        assert_eq!(settled, Some(Vec::new()));
        let began = Instant::now();
        status.store(401, Ordering::Relaxed);
        let lost = state.wait_for(|state| state.lost.is_some());
        let lost = tokio::time::timeout(LENGTH * 4, lost).await.expect("not for ever").expect("kept").lost.clone();
        assert!(lost.is_some_and(|lost| lost.starts_with("its lease could not be renewed for 8 s")));
        assert!(began.elapsed() >= LENGTH && began.elapsed() <= LENGTH * 2, "{:?}", began.elapsed());
        keeping.await.expect("it ends");
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_stopped_for_longer_than_the_lease_asks_before_giving_up() {
        let status = Arc::new(AtomicU16::new(200));
        let (keeper, renewed) = keeper(&status);
        let (sender, mut state) = watch::channel(State::default());
        let keeping = tokio::spawn(keeper.keep(sender));
        state.wait_for(|state| state.settled.is_some()).await.expect("kept");
        tokio::time::advance(LENGTH * 3).await;
        let before = renewed.load(Ordering::Relaxed);
        tokio::time::sleep(LENGTH).await;
        assert_eq!(state.borrow().lost, None);
        assert!(renewed.load(Ordering::Relaxed) > before);
        keeping.abort();
    }
}
