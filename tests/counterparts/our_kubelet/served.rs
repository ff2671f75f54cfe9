//! The API that the node of [`super::rig`] uses: the real one, which asks the kubelet's server for logs and streams over TLS.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use envctl::embedded::apiserver::User;
use envctl::embedded::kubelet::Kubelet;
use envctl::embedded::kubelet::process::ProcessRuntime;
use envctl::embedded::kubelet::runtime::NodeNetwork as _;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use k8s_openapi::api::core::v1::{
    ConfigMap, Node, PersistentVolume, PersistentVolumeClaim, Pod, Secret, Service, ServiceAccount,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::MutexGuard;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use crate::real::{self, RealApi};

/// There is no scheduler: pods name their node.
pub const NODE_OF_PODS: Option<&str> = Some("node");

pub struct Served {
    api: &'static RealApi,
    stop: CancellationToken,
    tasks: TaskTracker,
    _turn: MutexGuard<'static, u32>,
}

impl Served {
    /// Pods reach the API server at its service's address.
    pub async fn start(runtime: &Arc<ProcessRuntime>) -> Option<Self> {
        let turn = real::ONE_AT_A_TIME.lock().await;
        // Starting it takes seconds in which this thread must not be missed by the runtime.
        let api = tokio::task::block_in_place(real::api)?;
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let inside = runtime.listen("10.96.0.1:443".parse().expect("an address")).await.expect("the service's address");
        tasks.spawn(relay(inside, api.address(), stop.clone(), tasks.clone()));
        let served = Self { api, stop, tasks, _turn: turn };
        served.clear().await;
        Some(served)
    }

    /// A client with a user's rights.
    pub fn client_as(&self, user: User) -> kube::Client {
        self.api.client_as(&user)
    }

    /// The administrator's.
    pub async fn administrator(&self) -> kube::Client {
        self.api.client()
    }

    /// A client with a token and nothing else.
    pub async fn client_with(&self, token: &str) -> kube::Client {
        self.api.client_with(token)
    }

    /// Serves the kubelet's API where the API server reaches it, and says so in the node's status.
    pub async fn connect(&mut self, kubelet: &Kubelet) {
        let certificate = rcgen::generate_simple_self_signed(["node".to_owned()]).expect("a certificate");
        let key = rustls::pki_types::PrivateKeyDer::try_from(certificate.signing_key.serialize_der()).expect("a key");
        let config = rustls::ServerConfig::builder().with_no_client_auth();
        let config = config.with_single_cert(vec![certificate.cert.der().clone()], key).expect("TLS");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind((self.api.host(), 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        self.tasks.spawn(serve(listener, acceptor, kubelet.router(), self.stop.clone(), self.tasks.clone()));
        let nodes: Api<Node> = Api::all(self.api.client());
        let status = json!({"status": {
            "addresses": [{"type": "InternalIP", "address": address.ip().to_string()}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": address.port()}},
            "declaredFeatures": ["ExtendWebSocketsToKubelet"],
        }});
        nodes.patch_status("node", &PatchParams::default(), &Patch::Merge(status)).await.expect("patched");
    }

    pub async fn end(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// What the tests before this one left, and what no controller makes here.
    async fn clear(&self) {
        let client = self.api.client();
        let now = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
        let all = ListParams::default();
        macro_rules! clear {
            ($($kind:ty),+) => {$(
                let api: Api<$kind> = Api::default_namespaced(client.clone());
                for object in api.list(&all).await.expect("listed") {
                    let name = object.metadata.name.expect("it was stored");
                    if name == "kubernetes" || name == "default" {
                        continue;
                    }
                    let free = Patch::Merge(json!({"metadata": {"finalizers": null}}));
                    api.patch(&name, &PatchParams::default(), &free).await.expect("freed");
                    api.delete(&name, &now).await.expect("deleted");
                }
            )+};
        }
        clear!(Pod, Service, EndpointSlice, ConfigMap, Secret, PersistentVolumeClaim);
        let volumes: Api<PersistentVolume> = Api::all(client.clone());
        for volume in volumes.list(&all).await.expect("listed") {
            let name = volume.metadata.name.expect("it was stored");
            let free = Patch::Merge(json!({"metadata": {"finalizers": null}}));
            volumes.patch(&name, &PatchParams::default(), &free).await.expect("freed");
            volumes.delete(&name, &now).await.expect("deleted");
        }
        let nodes: Api<Node> = Api::all(client.clone());
        let _ = nodes.delete("node", &now).await;
        let account = serde_json::from_value(json!({"metadata": {"name": "default"}})).expect("an account");
        let _ =
            Api::<ServiceAccount>::default_namespaced(client.clone()).create(&PostParams::default(), &account).await;
        let authority = json!({"metadata": {"name": "kube-root-ca.crt"}, "data": {"ca.crt": self.api.authority()}});
        let authority = serde_json::from_value(authority).expect("a map");
        let maps: Api<ConfigMap> = Api::default_namespaced(client);
        maps.create(&PostParams::default(), &authority).await.expect("created");
    }
}

/// Copies connections to the API server.
async fn relay(listener: TcpListener, to: SocketAddr, stop: CancellationToken, tasks: TaskTracker) {
    while let Some(Ok((mut from, _))) = stop.run_until_cancelled(listener.accept()).await {
        let stop = stop.clone();
        tasks.spawn(async move {
            let copy = async {
                let mut to = TcpStream::connect(to).await?;
                tokio::io::copy_bidirectional(&mut from, &mut to).await
            };
            let _ = stop.run_until_cancelled(copy).await;
        });
    }
}

async fn serve(
    listener: TcpListener,
    tls: TlsAcceptor,
    router: axum::Router,
    stop: CancellationToken,
    tasks: TaskTracker,
) {
    while let Some(Ok((stream, _))) = stop.run_until_cancelled(listener.accept()).await {
        let (tls, router, stop) = (tls.clone(), router.clone(), stop.clone());
        tasks.spawn(async move {
            let connection = async {
                let Ok(stream) = tls.accept(stream).await else { return };
                let service = hyper::service::service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
                    let router = router.clone();
                    async move {
                        Ok::<_, Infallible>(
                            router
                                .oneshot(request.map(axum::body::Body::new))
                                .await
                                .unwrap_or_else(|never| match never {}),
                        )
                    }
                });
                let builder = Builder::new(TokioExecutor::new());
                let _ = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
            };
            let _ = stop.run_until_cancelled(connection).await;
        });
    }
}
