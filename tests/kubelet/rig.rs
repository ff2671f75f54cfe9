//! One node for one test.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use envctl::embedded::apiserver::User;
use envctl::embedded::kubelet::image::{Image, ImageTable};
use envctl::embedded::kubelet::process::{Options, ProcessRuntime};
use envctl::embedded::kubelet::proxy::PortRef;
use envctl::embedded::kubelet::{Config, Kubelet};
use futures::{AsyncBufReadExt as _, Stream, StreamExt as _};
use k8s_openapi::api::core::v1::{ContainerStatus, Event, Pod};
use kube::api::{
    Api, AttachParams, DeleteParams, DynamicObject, ListParams, LogParams, PostParams, TypeMeta, WatchEvent,
    WatchParams,
};
use kube::core::{ApiResource, GroupVersionKind};
use kube::runtime::wait::await_condition;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::served::{NODE_OF_PODS, Served};
use crate::require::require;

/// Longer than anything here takes; a kubelet's longest wait in these tests is the 10 s of a back-off.
const PATIENCE: Duration = Duration::from_secs(40);

/// The node, and the API it serves.
pub struct Rig {
    /// The administrator's, over TLS.
    pub client: kube::Client,
    /// Seen by pods at its own path.
    pub directory: tempfile::TempDir,
    pub images: watch::Sender<Arc<ImageTable>>,
    served: Served,
    kubelet: Kubelet,
    runtime: Arc<ProcessRuntime>,
}

impl Rig {
    /// `None` where this machine refuses namespaces. `host` is an image with the host's programs.
    pub async fn start() -> Option<Self> {
        crate::hello::build("hello");
        let directory = tempfile::tempdir().expect("a temporary directory");
        let options = Options {
            envctl: PathBuf::from(env!("CARGO_BIN_EXE_envctl")),
            visible: vec![directory.path().to_owned(), crate::hello::directory()],
        };
        let runtime = ProcessRuntime::start(&options).await;
        let refused = runtime.as_ref().err().map(ToString::to_string);
        if !require(refused.is_none(), &format!("a node ({refused:?})")) {
            return None;
        }
        let runtime = runtime.expect("required");
        let Some(mut served) = Served::start(&runtime).await else {
            runtime.stop().await;
            return None;
        };
        let image = Image { path: vec![crate::hello::directory()], ..Image::default() };
        let (images, table) = watch::channel(Arc::new(ImageTable::from([("host".to_owned(), image)])));
        let config = Config {
            node_name: "node".to_owned(),
            state_dir: directory.path().join("state"),
            client: served.client_as(User::node("node")),
            proxy_client: served.client_as(User::new("system:kube-proxy", &[])),
            runtime: runtime.clone(),
            network: runtime.clone(),
            images: table,
            cluster_domain: "cluster.local".to_owned(),
            dns_ip: "10.96.0.10".parse().expect("an address"),
        };
        let kubelet = Kubelet::start(config, CancellationToken::new()).await.expect("a kubelet");
        served.connect(&kubelet).await;
        let client = served.administrator().await;
        Some(Self { client, directory, images, served, kubelet, runtime })
    }

    /// Everything ends; nothing may be left of it.
    pub async fn end(self) {
        self.kubelet.stop().await;
        self.served.end().await;
        self.runtime.stop().await;
        self.runtime.ended().await;
    }

    /// A client with a token, over TLS.
    pub async fn client_with(&self, token: &str) -> kube::Client {
        self.served.client_with(token).await
    }

    fn dynamic(&self, version: &str, kind: &str) -> Api<DynamicObject> {
        let (group, version) = version.split_once('/').unwrap_or(("", version));
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        match kind {
            "PersistentVolume" => Api::all_with(self.client.clone(), &resource),
            _ => Api::namespaced_with(self.client.clone(), "default", &resource),
        }
    }

    /// Creates any object, in `default` if it has a namespace.
    pub async fn create(&self, version: &str, kind: &str, object: Value) -> DynamicObject {
        let mut object: DynamicObject = serde_json::from_value(object).expect("an object");
        object.types = Some(TypeMeta { api_version: version.to_owned(), kind: kind.to_owned() });
        let api = self.dynamic(version, kind);
        api.create(&PostParams::default(), &object).await.unwrap_or_else(|error| panic!("{kind}: {error}"))
    }

    /// Merges a patch into any object.
    pub async fn patch(&self, version: &str, kind: &str, name: &str, patch: Value) {
        let patch = kube::api::Patch::Merge(patch);
        self.dynamic(version, kind).patch(name, &Default::default(), &patch).await.expect("patched");
    }

    pub fn pods(&self) -> Api<Pod> {
        Api::default_namespaced(self.client.clone())
    }

    /// Creates a pod. Unless the spec says otherwise: no token, ended soon, and containers of the host's image.
    pub async fn pod(&self, name: &str, spec: Value) {
        self.labelled_pod(name, json!({}), spec).await;
    }

    pub async fn labelled_pod(&self, name: &str, labels: Value, spec: Value) {
        let mut whole = json!({"automountServiceAccountToken": false, "terminationGracePeriodSeconds": 2});
        if let Some(node) = NODE_OF_PODS {
            whole["nodeName"] = json!(node);
        }
        for (key, value) in spec.as_object().expect("a map") {
            whole[key] = value.clone();
        }
        for list in ["containers", "initContainers"] {
            for container in whole.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
                let container = container.as_object_mut().expect("a map");
                container.entry("image").or_insert_with(|| json!("host"));
            }
        }
        let pod = json!({"metadata": {"name": name, "labels": labels}, "spec": whole});
        let pod: Pod = serde_json::from_value(pod).expect("a pod");
        self.pods().create(&PostParams::default(), &pod).await.expect("created");
    }

    /// The pod as soon as it is so.
    pub async fn until(&self, name: &str, what: &str, met: impl Fn(&Pod) -> bool) -> Pod {
        let condition = |pod: Option<&Pod>| pod.is_some_and(&met);
        match tokio::time::timeout(PATIENCE, await_condition(self.pods(), name, condition)).await {
            Ok(pod) => pod.expect("the watch works").expect("it is there"),
            Err(_) => {
                let status = self.pods().get_opt(name).await.map(|pod| pod.and_then(|pod| pod.status));
                panic!("{name}: not {what} in time: {status:#?}\n{:#?}", self.events(name).await)
            }
        }
    }

    pub async fn until_ready(&self, name: &str) -> Pod {
        self.until(name, "ready", is_ready).await
    }

    /// When the first container's state is the reason given.
    pub async fn until_waiting(&self, name: &str, reason: &str) -> String {
        let waiting = |pod: &Pod| main(pod).and_then(|status| status.state.as_ref()?.waiting.clone());
        let is = |pod: &Pod| waiting(pod).is_some_and(|waiting| waiting.reason.as_deref() == Some(reason));
        let pod = self.until(name, reason, is).await;
        waiting(&pod).and_then(|waiting| waiting.message).unwrap_or_default()
    }

    /// The pod when it has ended, and what its container said.
    pub async fn finished(&self, name: &str) -> (Pod, String) {
        let pod = self.until(name, "over", |pod| matches!(phase(pod), "Succeeded" | "Failed")).await;
        (pod, self.log(name).await)
    }

    /// What its container says first, when it has: one that runs may not have got so far.
    pub async fn first_line(&self, name: &str) -> String {
        let parameters = LogParams { follow: true, ..LogParams::default() };
        let mut lines = self.pods().log_stream(name, &parameters).await.expect("a log").lines();
        let line = tokio::time::timeout(PATIENCE, lines.next()).await.expect("a line in time");
        line.expect("a line").expect("read")
    }

    pub async fn log(&self, name: &str) -> String {
        self.pods().logs(name, &LogParams::default()).await.expect("a log")
    }

    /// Runs a shell script in the pod: its output and exit code.
    pub async fn exec(&self, name: &str, script: &str) -> (String, i32) {
        let parameters = AttachParams { stdin: false, stdout: true, stderr: false, ..AttachParams::default() };
        let run = async {
            let mut process = self.pods().exec(name, ["sh", "-c", script], &parameters).await.expect("it runs");
            let (mut output, status) = (String::new(), process.take_status().expect("asked for once"));
            process.stdout().expect("asked for").read_to_string(&mut output).await.expect("read");
            (output, exit_code(&status.await.expect("a status")))
        };
        tokio::time::timeout(PATIENCE, run).await.expect("an exec that ends")
    }

    /// Deletes the pod; its last version, when it is gone.
    pub async fn delete(&self, name: &str) -> Pod {
        let mut versions = std::pin::pin!(self.versions(name).await);
        self.pods().delete(name, &DeleteParams::default()).await.expect("deleted");
        let gone = async {
            loop {
                if let WatchEvent::Deleted(pod) = versions.next().await.expect("the watch goes on") {
                    return pod;
                }
            }
        };
        tokio::time::timeout(PATIENCE, gone).await.expect("gone in time")
    }

    /// When the node knows the service and reaches a ready endpoint of it.
    pub async fn reach(&self, service: &str, port: u16) {
        let connected = self.kubelet.dialer().connect("default", service, PortRef::Number(port)).await;
        connected.expect("a ready endpoint takes it");
    }

    async fn versions(&self, name: &str) -> impl Stream<Item = WatchEvent<Pod>> + use<> {
        let parameters = WatchParams::default().fields(&format!("metadata.name={name}"));
        let version = self.pods().list(&ListParams::default()).await.expect("listed").metadata.resource_version;
        let watch = self.pods().watch(&parameters, &version.expect("a version")).await.expect("watched");
        watch.map(|event| event.expect("the watch works"))
    }

    /// When an event about the pod holds all the words.
    pub async fn until_event(&self, name: &str, words: &[&str]) {
        let api: Api<Event> = Api::default_namespaced(self.client.clone());
        let about = |event: &Event| {
            let text = format!("{} {}", event.reason.as_deref().unwrap_or(""), event.message.as_deref().unwrap_or(""));
            event.involved_object.name.as_deref() == Some(name) && words.iter().all(|word| text.contains(word))
        };
        let list = api.list(&ListParams::default()).await.expect("listed");
        if list.items.iter().any(about) {
            return;
        }
        let version = list.metadata.resource_version.expect("a version");
        let mut events = std::pin::pin!(api.watch(&WatchParams::default(), &version).await.expect("watched"));
        let seen = async {
            loop {
                let event = events.next().await.expect("the watch goes on").expect("the watch works");
                if let WatchEvent::Added(event) | WatchEvent::Modified(event) = event
                    && about(&event)
                {
                    return;
                }
            }
        };
        if tokio::time::timeout(PATIENCE, seen).await.is_err() {
            panic!("no event {words:?} about {name}: {:#?}", self.events(name).await);
        }
    }

    async fn events(&self, name: &str) -> Vec<String> {
        let api: Api<Event> = Api::default_namespaced(self.client.clone());
        let list = api.list(&ListParams::default()).await.expect("listed").items.into_iter();
        let about = list.filter(|event| event.involved_object.name.as_deref() == Some(name));
        about
            .map(|event| format!("{}: {}", event.reason.unwrap_or_default(), event.message.unwrap_or_default()))
            .collect()
    }
}

/// As kubectl reads it: a failure's cause `ExitCode`.
pub fn exit_code(status: &k8s_openapi::apimachinery::pkg::apis::meta::v1::Status) -> i32 {
    if status.status.as_deref() == Some("Success") {
        return 0;
    }
    let causes = status.details.iter().flat_map(|details| details.causes.iter().flatten());
    let code = causes.into_iter().find(|cause| cause.reason.as_deref() == Some("ExitCode"));
    code.and_then(|cause| cause.message.as_ref()?.parse().ok()).unwrap_or_else(|| panic!("no exit code: {status:?}"))
}

pub fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// The status of the first container.
pub fn main(pod: &Pod) -> Option<&ContainerStatus> {
    pod.status.as_ref()?.container_statuses.as_ref()?.first()
}

/// How the first container's last run ended.
pub fn ended(pod: &Pod) -> Option<i32> {
    let status = main(pod)?;
    let terminated = |state: &Option<k8s_openapi::api::core::v1::ContainerState>| {
        state.as_ref().and_then(|state| state.terminated.as_ref()).map(|ended| ended.exit_code)
    };
    terminated(&status.state).or_else(|| terminated(&status.last_state))
}

pub fn is_running(pod: &Pod) -> bool {
    main(pod).is_some_and(|status| status.state.as_ref().is_some_and(|state| state.running.is_some()))
}

/// A container that runs a shell script.
pub fn shell(script: &str) -> Value {
    json!({"name": "main", "command": ["sh", "-c", script]})
}

/// The same with more fields.
pub fn shell_with(script: &str, fields: Value) -> Value {
    let mut container = shell(script);
    for (key, value) in fields.as_object().expect("a map") {
        container[key] = value.clone();
    }
    container
}
