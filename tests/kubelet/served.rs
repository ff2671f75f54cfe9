//! The API that the node of [`super::rig`] uses: our own, over TLS.

use std::sync::Arc;

use envctl::embedded::apiserver::{ApiServer, Config, User};
use envctl::embedded::kubelet::Kubelet;
use envctl::embedded::kubelet::process::ProcessRuntime;
use envctl::embedded::kubelet::runtime::NodeNetwork as _;
use kube::config::Kubeconfig;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// The node that the tests' pods name: none, they are placed.
pub const NODE_OF_PODS: Option<&str> = None;

pub struct Served {
    address: String,
    api: ApiServer,
    stop: CancellationToken,
    serving: JoinSet<()>,
}

impl Served {
    /// Serves, to pods too.
    pub async fn start(runtime: &Arc<ProcessRuntime>) -> Option<Self> {
        let api = ApiServer::new(Config::default()).expect("an API server");
        let outside = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = format!("https://{}", outside.local_addr().expect("an address"));
        let inside = runtime.listen("10.96.0.1:443".parse().expect("an address")).await.expect("the service's address");
        let (stop, mut serving) = (CancellationToken::new(), JoinSet::new());
        for listener in [outside, inside] {
            let (api, stop) = (api.clone(), stop.clone());
            serving.spawn(async move { api.serve(listener, stop).await.expect("served") });
        }
        Some(Self { address, api, stop, serving })
    }

    /// A client with a user's rights.
    pub fn client_as(&self, user: User) -> kube::Client {
        self.api.client(user)
    }

    /// The administrator's, over TLS.
    pub async fn administrator(&self) -> kube::Client {
        self.client_with(&self.api.mint_token(User::admin())).await
    }

    /// A client with a token, over TLS.
    pub async fn client_with(&self, token: &str) -> kube::Client {
        let config = Kubeconfig::from_yaml(&self.api.kubeconfig(&self.address, token, "default"));
        let config = kube::Config::from_custom_kubeconfig(config.expect("a kubeconfig"), &Default::default()).await;
        kube::Client::try_from(config.expect("a configuration")).expect("a client")
    }

    /// Sends requests for pods' streams to the kubelet.
    pub async fn connect(&mut self, kubelet: &Kubelet) {
        self.api.connect_node(kubelet.router());
    }

    pub async fn end(mut self) {
        self.stop.cancel();
        while let Some(served) = self.serving.join_next().await {
            served.expect("it served to the end");
        }
    }
}
