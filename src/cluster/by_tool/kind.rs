//! kind: a cluster whose nodes are containers of a Docker engine.
//!
//! kind's program can set nothing of a container but its mounts: `/dev/null` mounted under the mark is how a cluster is known as ours. kind
//! writes the kubeconfig as its last act: without it the cluster isn't whole.

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::maker::{Maker, Site, Standing, Told, by_engine};
use super::place::Place;
use super::tool::Tool;
use crate::cluster::ClusterError;
use crate::images::docker::{Node, Nodes, Selector, Which};

/// The image of the nodes, instead of kind's own.
const IMAGE_VARIABLE: &str = "ENVCTL_KIND_IMAGE";

/// The step by which nodes run and containerd is set up (kind, `pkg/cluster/internal/create/actions/kubeadminit/init.go`).
const CONTROL_PLANE_STEP: &str = "Starting control-plane";

/// What a control plane of one is told, in kubeadm's words (merged into kind's own by `pkg/internal/patch`; without a version, so that
/// kind fits it to that of its kubeadm). It has nobody to elect a leader with, and waits 2 s before it tries to lead; and a namespace's
/// first objects need not queue behind each other for a share of 20 requests a second that is meant for many nodes. Its dozen keys are of
/// a kind that is made in no time; kind writes a form of configuration that has this field since Kubernetes 1.36, before that kubeadm warns of
/// it and makes RSA keys.
const CONTROL_PLANE: &str = r#"kubeadmConfigPatches:
- |
  kind: ClusterConfiguration
  encryptionAlgorithm: ECDSA-P256
  controllerManager:
    extraArgs:
      leader-elect: "false"
      kube-api-qps: "500"
      kube-api-burst: "500"
  scheduler:
    extraArgs:
      leader-elect: "false"
"#;

/// kind's half.
#[derive(Debug)]
pub struct Kind;

#[async_trait]
impl Maker for Kind {
    fn name(&self) -> &'static str {
        "kind"
    }

    fn prefix(&self) -> &'static str {
        "envctl-"
    }

    fn tool(&self, _place: &Place, variables: &BTreeMap<String, String>) -> Tool {
        Tool {
            program: "kind",
            version: &["version"],
            // Since then a kubeconfig and a configuration are given and taken as here.
            oldest: (0, 20),
            install: "install kind: https://kind.sigs.k8s.io/docs/user/quick-start/#installation",
            variables: variables.clone(),
        }
    }

    // kind, `pkg/cluster/internal/providers/docker/constants.go`.
    fn selector(&self, name: &str) -> Selector {
        Selector {
            label: format!("io.x-k8s.kind.cluster={name}"),
            which: Which::Not("io.x-k8s.kind.role", "external-load-balancer"),
        }
    }

    async fn standing(&self, site: &Site<'_>) -> Result<Standing, ClusterError> {
        let nodes = site.images.nodes().await.map_err(by_engine)?;
        let marked = site.place.mark().map(|mark| mounted(&mark));
        let ours = |node: &Node| marked.as_ref().is_some_and(|mark| node.mounts.contains(mark));
        Ok(if nodes.is_empty() {
            Standing::Nothing
        } else if !nodes.iter().all(ours) {
            Standing::Theirs
        } else if nodes.iter().all(|node| node.running) && site.place.kubeconfig_path().exists() {
            Standing::Whole
        } else {
            Standing::Broken
        })
    }

    async fn make(&self, site: &Site<'_>, told: Told<'_>) -> Result<(), ClusterError> {
        let mark = site.place.prepare(site.taken)?;
        let config = format!(
            "kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\nnodes:\n- role: control-plane\n  extraMounts:\n  \
             - {{hostPath: /dev/null, containerPath: {}, readOnly: true}}\n{CONTROL_PLANE}",
            mounted(&mark)
        );
        let config = site.place.note("config.yaml", &config)?;
        let (config, kubeconfig) = (config.to_string_lossy(), site.place.kubeconfig_path());
        let kubeconfig = kubeconfig.to_string_lossy();
        let mut arguments =
            vec!["create", "cluster", "--name", &site.place.name, "--config", &config, "--kubeconfig", &kubeconfig];
        if let Some(image) = site.tool.variables.get(IMAGE_VARIABLE).filter(|image| !image.is_empty()) {
            arguments.extend(["--image", image]);
        }
        let made = site.tool.run(&arguments, Some(site.lock()?), |line| {
            // ` • Preparing nodes 📦  ...`: what is begun; what kind says when it has ended is for its own users.
            if let Some(step) = line.trim().strip_prefix('•').filter(|step| step.ends_with("...")) {
                // Without the picture that each step ends in.
                let step = step.trim_matches(|c: char| c == '.' || c.is_whitespace() || !c.is_ascii());
                if step == CONTROL_PLANE_STEP {
                    site.images.nodes_are(Nodes::Running);
                }
                told(step);
            }
        });
        made.await.map(drop).map_err(site.tool.failed("making a kind cluster"))
    }

    async fn delete(&self, site: &Site<'_>) -> Result<(), ClusterError> {
        let kubeconfig = site.place.kubeconfig_path();
        let arguments =
            ["delete", "cluster", "--name", &site.place.name, "--kubeconfig", &kubeconfig.to_string_lossy()];
        let deleted = site.tool.run(&arguments, Some(site.lock()?), |_| ());
        deleted.await.map(drop).map_err(site.tool.failed("removing a kind cluster"))
    }

    fn unneeded(&self, name: &str) -> String {
        format!("kind delete cluster --name {name}")
    }
}

/// Where the mark is mounted in a node.
fn mounted(mark: &str) -> String {
    format!("/envctl/{mark}")
}
