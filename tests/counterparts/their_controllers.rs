//! The real controller manager and scheduler over our API server: the cases of `tests/controllers.rs`, each on a server of its own. The
//! stand-in for a kubelet runs only what the scheduler has bound.

use std::path::Path;

use envctl::embedded::apiserver::{ApiServer, Config, Scheduling, User};
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use crate::cluster::{Cluster, PATIENCE};
use crate::real;

#[path = "../controllers/cases.rs"]
mod cases;

/// Each of these takes a processor for a second or two to start.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

async fn start() -> Option<Cluster> {
    let programs = real::programs()?;
    let turn = ONE_AT_A_TIME.lock().await;
    let api = ApiServer::new(Config { scheduling: Scheduling::Scheduler, ..Config::default() }).expect("an API server");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = format!("https://{}", listener.local_addr().expect("an address"));
    let stop = CancellationToken::new();
    let serving = tokio::spawn({
        let (api, stop) = (api.clone(), stop.clone());
        async move { api.serve(listener, stop).await.expect("served") }
    });
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("ca.crt"), api.certificate_authority_pem()).expect("written");
    for name in ["kube-controller-manager", "kube-scheduler"] {
        let token = api.mint_token(User::new(format!("system:{name}"), &[]));
        std::fs::write(directory.path().join(name), api.kubeconfig(&address, &token, "default")).expect("written");
    }
    let client = api.client(User::admin());
    node(&client).await;
    let component = |name: &str, flags: &[&str]| {
        let kubeconfig = directory.path().join(name).display().to_string();
        let mut all =
            vec![format!("--kubeconfig={kubeconfig}"), "--leader-elect=false".into(), "--secure-port=0".into()];
        all.extend(["--kube-api-qps=1000".into(), "--kube-api-burst=1000".into()]);
        all.extend(flags.iter().map(|&flag| flag.to_owned()));
        spawn(programs, name, &all, directory.path())
    };
    let authority = format!("--root-ca-file={}", directory.path().join("ca.crt").display());
    let children = [
        component(
            "kube-controller-manager",
            &[
                "--use-service-account-credentials=true",
                &authority,
                // Nobody renews the node's lease.
                "--node-monitor-grace-period=1h",
            ],
        ),
        component("kube-scheduler", &[]),
    ];
    let volumes = tempfile::tempdir().expect("a directory");
    let ending = async move {
        for mut child in children {
            child.kill().await.expect("it ends");
        }
        stop.cancel();
        serving.await.expect("it served to the end");
        drop((turn, directory));
    };
    let mut cluster = Cluster::of(client, volumes, |node| node.is_some(), ending);
    // Processes of their own start slower, and have the machine's load upon them.
    cluster.patience = 6 * PATIENCE;
    Some(cluster)
}

/// A component that dies with this test, in whatever way that ends; what it says goes to the directory.
fn spawn(programs: &Path, name: &str, flags: &[String], directory: &Path) -> Child {
    let log = std::fs::File::create(directory.join(format!("{name}.log"))).expect("a file");
    Command::new("setpriv")
        .args(["--pdeathsig", "KILL"])
        .arg(programs.join("kubernetes"))
        .arg(name)
        .args(flags)
        .env_clear()
        .stdin(std::process::Stdio::null())
        .stdout(log.try_clone().expect("a descriptor"))
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .expect("it starts")
}

/// A node with room for everything, Ready.
async fn node(client: &kube::Client) {
    let nodes: Api<Node> = Api::all(client.clone());
    let node = serde_json::from_value(json!({"metadata": {"name": "node"}})).expect("a node");
    nodes.create(&PostParams::default(), &node).await.expect("created");
    let room = json!({"cpu": "64", "memory": "64Gi", "pods": "1000", "ephemeral-storage": "64Gi"});
    let now = jiff::Timestamp::now().to_string();
    let ready = json!({
        "type": "Ready", "status": "True", "reason": "KubeletReady", "lastHeartbeatTime": now, "lastTransitionTime": now,
    });
    let status = json!({"status": {"capacity": room, "allocatable": room, "conditions": [ready]}});
    nodes.patch_status("node", &PatchParams::default(), &Patch::Merge(status)).await.expect("patched");
}
