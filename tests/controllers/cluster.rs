//! A cluster for the cases, and a kubelet written here that marks pods through the API.

use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt, wait, watcher};
use kube::{Client, Resource};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// The patience with parts that are in this process.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Which pods the kubelet runs: a function of the pod's node.
pub type Which = fn(Option<&str>) -> bool;

/// A cluster for one test, whoever its parts are.
pub struct Cluster {
    pub client: Client,
    pub volumes: tempfile::TempDir,
    /// What tests mean by `default`: another one on an API server that others use too.
    pub namespace: String,
    /// How long any one thing may take before the test fails.
    pub patience: Duration,
    parts: BoxFuture<'static, ()>,
    kubelet: JoinHandle<()>,
    shutdown: CancellationToken,
}

impl Cluster {
    /// `parts` stops the API server and the controllers, as far as they are this cluster's own.
    pub fn of(
        client: Client,
        volumes: tempfile::TempDir,
        which: Which,
        parts: impl Future<Output = ()> + Send + 'static,
    ) -> Self {
        let shutdown = CancellationToken::new();
        let kubelet = tokio::spawn(kubelet(client.clone(), which, shutdown.clone()));
        let (namespace, parts) = ("default".to_owned(), parts.boxed());
        Self { client, volumes, namespace, patience: PATIENCE, parts, kubelet, shutdown }
    }

    pub async fn stop(self) {
        self.shutdown.cancel();
        self.parts.await;
        self.kubelet.await.expect("the kubelet ends");
        self.volumes.close().expect("nobody holds a volume");
    }

    /// What the namespace that a test calls `name` is called really.
    fn named(&self, name: &str) -> String {
        match name {
            "" => String::new(),
            "default" => self.namespace.clone(),
            other if self.namespace == "default" => other.to_owned(),
            other => format!("{}-{other}", self.namespace),
        }
    }

    /// Creates a namespace; its real name.
    pub async fn namespace(&self, name: &str) -> String {
        let name = self.named(name);
        self.create::<Namespace>("", json!({"metadata": {"name": name}})).await;
        name
    }

    pub fn api<K>(&self, namespace: &str) -> Api<K>
    where
        K: Resource<DynamicType = ()> + DeserializeOwned,
        Api<K>: Scoped,
    {
        Scoped::of(self.client.clone(), &self.named(namespace))
    }

    pub async fn create<K>(&self, namespace: &str, object: Value) -> K
    where
        K: Resource<DynamicType = ()> + DeserializeOwned + serde::Serialize + Clone + std::fmt::Debug,
        Api<K>: Scoped,
    {
        let object: K = serde_json::from_value(object).expect("it is of the kind");
        self.api::<K>(namespace).create(&PostParams::default(), &object).await.expect("created")
    }

    /// Waits until `what` holds; the object as it is then.
    pub async fn until<K>(&self, namespace: &str, name: &str, what: &str, met: impl Fn(Option<&K>) -> bool) -> Option<K>
    where
        K: Resource<DynamicType = ()> + DeserializeOwned + Clone + std::fmt::Debug + Send + 'static,
        Api<K>: Scoped,
    {
        let api: Api<K> = self.api(namespace);
        match tokio::time::timeout(self.patience, wait::await_condition(api.clone(), name, met)).await {
            Ok(result) => result.expect("the watch works"),
            Err(_) => panic!("{name}: not {what} in time; it is {:#?}", api.get_opt(name).await),
        }
    }

    /// Waits until the list as a whole satisfies `met`.
    pub async fn until_all<K>(&self, namespace: &str, what: &str, met: impl Fn(&[K]) -> bool) -> Vec<K>
    where
        K: Resource<DynamicType = ()> + DeserializeOwned + Clone + std::fmt::Debug + Send + 'static,
        Api<K>: Scoped,
    {
        let api: Api<K> = self.api(namespace);
        let changes = watcher(api.clone(), watcher::Config::default()).default_backoff();
        futures::pin_mut!(changes);
        // Its first events, too, are a reason to list again: what went before the watch began isn't told otherwise.
        let wait = async {
            loop {
                let all = api.list(&Default::default()).await.expect("listed").items;
                if met(&all) {
                    return all;
                }
                changes.next().await.expect("watches don't end").expect("the watch works");
                // What has changed meanwhile is in the next list as well: 200 changes needn't be 200 lists of 200.
                while let Some(change) = changes.next().now_or_never() {
                    change.expect("watches don't end").expect("the watch works");
                }
            }
        };
        match tokio::time::timeout(self.patience, wait).await {
            Ok(all) => all,
            Err(_) => panic!("not {what} in time: {:#?}", api.list(&Default::default()).await),
        }
    }
}

/// Everything in `namespace`, or cluster-wide for the empty one.
pub trait Scoped {
    fn of(client: Client, namespace: &str) -> Self;
}

macro_rules! scoped {
    ($constructor:ident: $($kind:ty),+) => {$(
        impl Scoped for Api<$kind> {
            fn of(client: Client, namespace: &str) -> Self {
                scoped!(@ $constructor client, namespace)
            }
        }
    )+};
    (@ namespaced $client:expr, $namespace:expr) => { Api::namespaced($client, $namespace) };
    (@ all $client:expr, $namespace:expr) => {{ assert!($namespace.is_empty()); Api::all($client) }};
}

scoped!(namespaced: Pod, k8s_openapi::api::apps::v1::Deployment, k8s_openapi::api::apps::v1::ReplicaSet,
    k8s_openapi::api::batch::v1::Job, k8s_openapi::api::core::v1::ConfigMap, k8s_openapi::api::core::v1::Service,
    k8s_openapi::api::core::v1::ServiceAccount, k8s_openapi::api::core::v1::PersistentVolumeClaim,
    k8s_openapi::api::discovery::v1::EndpointSlice, k8s_openapi::api::core::v1::Event);
scoped!(all: Namespace, k8s_openapi::api::core::v1::PersistentVolume, k8s_openapi::api::storage::v1::StorageClass);

/// Makes every pod Ready at once, or ends it as its `exit` label says; deletes what is marked for deletion. Pods labelled
/// `stuck` stay Pending.
async fn kubelet(client: Client, which: Which, shutdown: CancellationToken) {
    let events =
        watcher(Api::<Pod>::all(client.clone()), watcher::Config::default()).default_backoff().applied_objects();
    futures::pin_mut!(events);
    let mut address = 0u32;
    loop {
        let pod = tokio::select! {
            () = shutdown.cancelled() => return,
            pod = events.next() => pod.expect("watches don't end"),
        };
        let Ok(pod) = pod else { continue };
        let api: Api<Pod> = Api::namespaced(client.clone(), pod.metadata.namespace.as_deref().expect("pods have one"));
        let name = pod.metadata.name.as_deref().expect("it was created");
        let label = |key: &str| pod.metadata.labels.as_ref().and_then(|labels| labels.get(key)).map(String::as_str);
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        if pod.metadata.deletion_timestamp.is_some() {
            let _ = api.delete(name, &DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() }).await;
            continue;
        }
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
        if phase.is_some_and(|phase| phase != "Pending") || label("stuck").is_some() || !which(node) {
            continue;
        }
        address += 1;
        let ip = format!("10.244.{}.{}", address >> 8, address & 255);
        let now = jiff::Timestamp::now().to_string();
        let status = match label("exit") {
            Some(code) => json!({
                "phase": if code == "0" { "Succeeded" } else { "Failed" },
                "containerStatuses": [{
                    "name": "c", "image": "i", "imageID": "i", "ready": false, "restartCount": 0,
                    "state": {"terminated": {"exitCode": code.parse::<i32>().expect("a number"), "finishedAt": now}},
                }],
            }),
            None => json!({
                "phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
                "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": now}],
            }),
        };
        let _ = api.patch_status(name, &PatchParams::default(), &Patch::Merge(json!({ "status": status }))).await;
    }
}

/// A pod template with labels and one container.
pub fn template(labels: Value, image: &str) -> Value {
    json!({"metadata": {"labels": labels}, "spec": {"containers": [{
        "name": "c", "image": image, "ports": [{"name": "web", "containerPort": 8080}],
    }]}})
}
