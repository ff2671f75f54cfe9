//! One session on a cluster of its own, driven as the agent drives it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use envctl::cluster::embedded::Embedded;
use envctl::cluster::{Provider, Removal};
use envctl::embedded::Config;
use envctl::keys::Keyring;
use envctl::plan::{Condition, Node, NodeId, NodeKind, Plan};
use envctl::provision::{Event, EventSink, Failure, GiveUp, NodeState, Options, Provisioner, Session};
use serde_json::{Value, json};

use crate::require::require;

/// Longer than anything here takes, shorter than a person's patience with a test that hangs.
const DEADLINE: Duration = Duration::from_secs(30);

pub struct Rig {
    pub directory: tempfile::TempDir,
    pub provider: Arc<Embedded>,
    pub provisioner: Provisioner,
    pub options: Options,
}

impl Rig {
    /// `None` where this machine refuses namespaces.
    pub async fn start() -> Option<Self> {
        crate::hello::build("hello");
        let directory = tempfile::tempdir().expect("a temporary directory");
        let config = Config {
            program: PathBuf::from(env!("CARGO_BIN_EXE_envctl")),
            state_dir: directory.path().join("node"),
            visible: vec![directory.path().to_owned(), examples()],
            docker: None,
        };
        let provider = Arc::new(Embedded::new(
            config,
            "test",
            directory.path().to_owned(),
            envctl::images::docker::Images::of_engine(Default::default(), directory.path()),
        ));
        let access = provider.start().await.expect("the API server starts anywhere");
        let session = Session { id: "test".to_owned(), namespace: "test".to_owned() };
        let shared: Arc<dyn Provider> = provider.clone();
        let provisioner = Provisioner::new(shared, &access, session, None, Keyring::default()).await.expect("a client");
        // Where namespaces are refused, the cluster is lost instead of ever having a node.
        let refused = tokio::select! {
            lost = provider.lost() => Some(lost),
            () = node_ready(access.kubeconfig) => None,
        };
        let rig = Self { directory, provider, provisioner, options: Options::default() };
        require(refused.is_none(), &format!("a node ({refused:?})")).then_some(rig)
    }

    /// An environment of these nodes.
    pub fn plan(&self, nodes: Vec<Node>) -> Plan {
        let mut nodes = nodes;
        let needs: Vec<(NodeId, Vec<NodeId>)> = nodes
            .iter()
            .map(|node| (node.id.clone(), node.needs.iter().map(|need| need.node.clone()).collect()))
            .collect();
        for node in &mut nodes {
            let dependents = needs.iter().filter(|(_, needs)| needs.contains(&node.id));
            node.dependents = dependents.map(|(id, _)| id.clone()).collect();
        }
        let image = json!({"process": {"path": [examples()], "workdir": self.directory.path()}});
        serde_json::from_value(json!({
            "environment": "test", "file": self.directory.path().join("envctl.yaml"), "projectRoot": self.directory.path(),
            "cluster": "embedded", "images": {"host": image}, "nodes": nodes, "exports": [], "suites": {},
        }))
        .expect("a plan")
    }

    /// Brings it up, within the tests' deadline.
    pub async fn up(&mut self, plan: &Plan) -> (Vec<Event>, Result<(), Box<Failure>>) {
        self.up_until(plan, |_| false).await
    }

    /// Brings it up, and is out of time at once after an event like this.
    pub async fn up_until(
        &mut self,
        plan: &Plan,
        enough: impl Fn(&Event) -> bool + Send + Sync,
    ) -> (Vec<Event>, Result<(), Box<Failure>>) {
        let (sink, mut received) = EventSink::channel();
        let mut events = Vec::new();
        let seen = async {
            while let Some(event) = received.recv().await {
                let enough = enough(&event);
                events.push(event);
                if enough {
                    return;
                }
            }
        };
        let give_up = async {
            _ = tokio::time::timeout(DEADLINE, seen).await;
            GiveUp::TimedOut(DEADLINE)
        };
        let outcome = self.provisioner.up(plan, &self.options, &sink, give_up).await;
        drop(sink);
        while let Some(event) = received.recv().await {
            events.push(event);
        }
        (events, outcome)
    }

    /// What the failure's screen says; panics when it came up.
    pub async fn failure(&mut self, nodes: Vec<Node>) -> Failure {
        let plan = self.plan(nodes);
        let (events, outcome) = self.up(&plan).await;
        *outcome.map(|()| events).expect_err("it must not come up")
    }

    pub async fn end(self) -> Removal {
        self.provider.remove(Duration::from_secs(5)).await.expect("removed")
    }
}

pub use crate::hello::directory as examples;

fn node(kind: NodeKind, name: &str, spec: Value, needs: &[(NodeKind, &str)]) -> Node {
    let need = |(kind, name): &(NodeKind, &str)| {
        let condition = if *kind == NodeKind::Job { Condition::Completed } else { Condition::Ready };
        json!({"node": NodeId::new(*kind, *name), "condition": condition, "reason": "needs"})
    };
    let needs: Vec<Value> = needs.iter().map(need).collect();
    serde_json::from_value(json!({"id": NodeId::new(kind, name), "needs": needs, "spec": spec})).expect("a node")
}

/// A service: `command` on the host's programs, listening on 8080, ready when it answers.
pub fn service(name: &str, command: &[&str], needs: &[(NodeKind, &str)]) -> Node {
    let ready = json!({"check": {"http": {"path": "/", "port": "http", "scheme": "HTTP"}},
        "interval": "1s", "timeout": "1s", "failures": 3});
    service_with(name, json!({"image": "host", "command": command, "ready": ready}), needs)
}

/// A service with its fields given.
pub fn service_with(name: &str, fields: Value, needs: &[(NodeKind, &str)]) -> Node {
    let port = json!({"name": "http", "port": 8080, "targetPort": 8080, "protocol": "TCP", "scheme": "http"});
    let mut service = json!({"ports": [port], "replicas": 1, "grace": "2s"});
    for (key, value) in fields.as_object().expect("fields") {
        service[key] = value.clone();
    }
    node(NodeKind::Service, name, json!({"service": service}), needs)
}

/// A job: a shell script.
pub fn job(name: &str, script: &str, needs: &[(NodeKind, &str)]) -> Node {
    let fields = json!({"image": "host", "command": ["sh", "-c", script], "retries": 0, "restart": "Never"});
    node(NodeKind::Job, name, json!({"job": fields}), needs)
}

/// A manifest.
pub fn manifest(name: &str, objects: Value, needs: &[(NodeKind, &str)]) -> Node {
    node(NodeKind::Manifest, name, json!({"manifest": {"files": [], "objects": objects}}), needs)
}

/// When the node became ready, counted in events; and whether it was left as it was.
pub fn ready(events: &[Event], name: &str) -> Option<(usize, bool)> {
    events.iter().enumerate().find_map(|(at, event)| match event {
        Event::Node { node, state: NodeState::Ready { unchanged }, .. } if node.name == name => Some((at, *unchanged)),
        _ => None,
    })
}

/// Returns when the cluster's only node is Ready.
async fn node_ready(kubeconfig: kube::config::Kubeconfig) {
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await.expect("a kubeconfig");
    let nodes: kube::Api<k8s_openapi::api::core::v1::Node> =
        kube::Api::all(kube::Client::try_from(config).expect("a client"));
    let ready = |node: Option<&k8s_openapi::api::core::v1::Node>| {
        let conditions = node.and_then(|node| node.status.as_ref()?.conditions.as_deref()).unwrap_or_default();
        conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
    };
    kube::runtime::wait::await_condition(nodes, envctl::embedded::NODE_NAME, ready).await.expect("a watch");
}
