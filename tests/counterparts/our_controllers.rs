//! Our controllers under the real API server: the cases of `tests/controllers.rs`, one after the other, each in a namespace
//! of its own.

use envctl::embedded::apiserver::User;
use envctl::embedded::controllers::{self, Controllers};
use k8s_openapi::api::core::v1::ServiceAccount;
use tokio_util::sync::CancellationToken;

use crate::cluster::{Cluster, PATIENCE};
use crate::real;

#[path = "../controllers/cases.rs"]
mod cases;

async fn start() -> Option<Cluster> {
    let api = real::api()?;
    let mut turn = real::ONE_AT_A_TIME.lock().await;
    *turn += 1;
    let namespace = format!("ours-{}", *turn);
    let volumes = tempfile::tempdir().expect("a directory");
    let config = controllers::Config { ca_pem: api.authority().to_owned(), volumes_dir: volumes.path().to_owned() };
    let clients = |name: &'static str| match name {
        controllers::SHARED_INFORMERS => api.client_as(&User::new("system:kube-controller-manager", &[])),
        _ => api.client_as(&User::controller(name)),
    };
    let controllers = Controllers::start(clients, config, CancellationToken::new());
    let ending = async move {
        controllers.stop().await;
        drop(turn);
    };
    let mut cluster = Cluster::of(api.client(), volumes, |_| true, ending);
    (cluster.namespace, cluster.patience) = (namespace, 6 * PATIENCE);
    cluster.namespace("default").await;
    cluster.until::<ServiceAccount>("default", "default", "there", |account| account.is_some()).await;
    Some(cluster)
}
