//! An API server on a loopback port, for one test.

use envctl::embedded::apiserver::{ApiServer, Config, User};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A served API server. Must be stopped.
pub struct Served {
    /// The server.
    pub api: ApiServer,
    /// Its URL.
    pub url: String,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Served {
    /// Starts one on a free port.
    pub async fn start() -> Self {
        let api = ApiServer::new(Config::default()).expect("an API server");
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("https://{}", listener.local_addr().expect("an address"));
        let shutdown = CancellationToken::new();
        let task = tokio::spawn({
            let (api, shutdown) = (api.clone(), shutdown.clone());
            async move { api.serve(listener, shutdown).await.expect("served") }
        });
        Self { api, url, shutdown, task }
    }

    /// A kubeconfig for a user.
    pub fn kubeconfig(&self, user: User) -> String {
        self.api.kubeconfig(&self.url, &self.api.mint_token(user), "default")
    }

    /// A client over TLS for a user.
    pub async fn client_as(&self, user: User) -> kube::Client {
        let config = kube::config::Kubeconfig::from_yaml(&self.kubeconfig(user)).expect("a kubeconfig");
        let config = kube::Config::from_custom_kubeconfig(config, &Default::default()).await.expect("a configuration");
        kube::Client::try_from(config).expect("a client")
    }

    /// The administrator's client over TLS.
    pub async fn client(&self) -> kube::Client {
        self.client_as(User::admin()).await
    }

    /// Stops it; every open watch ends.
    pub async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.expect("the server ends");
    }
}

/// A client from a kubeconfig's text.
pub async fn client_of(kubeconfig: &str) -> kube::Client {
    let config = kube::config::Kubeconfig::from_yaml(kubeconfig).expect("a kubeconfig");
    let config = kube::Config::from_custom_kubeconfig(config, &Default::default()).await.expect("a configuration");
    kube::Client::try_from(config).expect("a client")
}
