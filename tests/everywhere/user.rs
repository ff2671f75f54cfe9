//! A user of one cluster, in this project's directory, with a state directory and a configuration of their own.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use envctl::cluster::by_tool::KIND;
use envctl::cluster::by_tool::place::Place as Made;
use serde_json::Value;
use tempfile::TempDir;

use crate::engine::engine;
use crate::images::{Archive, BASE};
use crate::place::{Place, place};

const PROJECT: &str = env!("CARGO_MANIFEST_DIR");

pub struct User {
    home: TempDir,
    cluster: Cluster,
    /// What leads there.
    variables: Vec<(String, String)>,
    /// One at a time: a session takes most of a small machine, and the project's directory is one.
    _alone: MutexGuard<'static, ()>,
}

/// Where sessions run.
enum Cluster {
    /// The program puts images on its node; a cluster without it has them.
    Real {
        run: Option<fn() -> Command>,
    },
    Kind,
}

impl User {
    /// On `make cluster-up`'s cluster; `None` where there is none.
    pub fn of_real() -> Option<Self> {
        let Place { kubeconfig, run } = place()?;
        let variables = vec![("KUBECONFIG".to_owned(), kubeconfig.display().to_string())];
        let mut user = Self::new(Cluster::Real { run }, variables);
        let identity = user.in_cluster(&["get", "namespace", "kube-system", "-o", "jsonpath={.metadata.uid}"]);
        let context = user.in_cluster(&["config", "current-context"]);
        let configuration = user.home.path().join("envctl");
        std::fs::create_dir(&configuration).expect("a directory");
        std::fs::write(configuration.join("config.yaml"), format!("allowed_clusters: [{identity}]\n"))
            .expect("written");
        user.variables.push(("ENVCTL_CONTEXT".to_owned(), context));
        Some(user)
    }

    /// On a kind cluster that the first session makes; `None` where there is no engine.
    pub fn of_kind() -> Option<Self> {
        let mut variables = engine()?;
        variables.push(("ENVCTL_CLUSTER".to_owned(), "kind".to_owned()));
        variables.push(("BASE_IMAGE".to_owned(), BASE.to_owned()));
        Some(Self::new(Cluster::Kind, variables))
    }

    fn new(cluster: Cluster, variables: Vec<(String, String)>) -> Self {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        Self { home: tempfile::tempdir().expect("a directory"), cluster, variables, _alone: alone }
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(PROJECT).stdin(Stdio::null());
        // What cargo tells of this test's package would make the suite's own cargo build everything anew.
        for (name, _) in std::env::vars_os() {
            let told = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "ENVCTL_"];
            if name.to_str().is_some_and(|name| told.iter().any(|start| name.starts_with(start))) {
                command.env_remove(name);
            }
        }
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.env("ENVCTL_STATE_DIR", self.state()).env("XDG_CONFIG_HOME", self.home.path());
        command
    }

    /// Its standard output; fails where it fails, with all it said.
    #[track_caller]
    fn succeeds(&self, mut command: Command) -> String {
        let Output { status, stdout, stderr } = command.output().expect("it runs");
        let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
        assert!(status.success(), "{command:?}: {status}\n{stdout}\n{stderr}");
        stdout.trim().to_owned()
    }

    #[track_caller]
    pub fn envctl(&self, arguments: &[&str]) -> String {
        self.succeeds(self.command(env!("CARGO_BIN_EXE_envctl"), arguments))
    }

    /// Puts images on the node.
    pub fn import(&self, images: &Archive) {
        if let Cluster::Real { run: Some(run) } = self.cluster {
            assert!(run().arg("import").arg(images.path()).status().expect("it runs").success(), "it is imported");
        }
    }

    /// Gives the engine an image.
    pub fn docker_load(&self, archive: &Archive) {
        let path = archive.path();
        self.succeeds(self.command("docker", &["load", "--input", path.to_str().expect("UTF-8")]));
    }

    /// Makes it an image of a root's archive.
    pub fn docker_import(&self, root: &Path) {
        self.succeeds(self.command("docker", &["import", root.to_str().expect("UTF-8"), BASE]));
    }

    /// From nothing to nothing: up, the file's own suite, down.
    pub fn passes(&self, file: &str) {
        self.envctl(&["up", "-f", file]);
        let exports: Value = serde_json::from_str(&self.envctl(&["env", "--format", "json"])).expect("JSON");
        let namespace = exports["ENVCTL_SESSION_NAMESPACE"].as_str().expect("it is exported").to_owned();
        self.envctl(&["test", "--attach", "--fail-on-leftovers", "-f", file]);
        let volumes = format!("jsonpath={{.items[?(@.spec.claimRef.namespace==\"{namespace}\")].metadata.name}}");
        let volumes = self.in_cluster(&["get", "persistentvolumes", "-o", &volumes]);
        assert!(!volumes.is_empty(), "both files have volumes");
        self.envctl(&["down"]);
        let gone = self.in_cluster(&["get", "namespace", &namespace, "--ignore-not-found", "-o", "name"]);
        assert_eq!(gone, "");
        for volume in volumes.split_whitespace() {
            self.in_cluster(&["wait", "--for=delete", &format!("persistentvolume/{volume}"), "--timeout=60s"]);
        }
    }

    /// kubectl as the cluster's administrator.
    #[track_caller]
    fn in_cluster(&self, arguments: &[&str]) -> String {
        let mut command = self.command("kubectl", arguments);
        if matches!(self.cluster, Cluster::Kind) {
            let clusters = self.state().join("clusters");
            command.env("KUBECONFIG", clusters.join(Made::shared(KIND, &self.state()).name).join("kubeconfig"));
        }
        self.succeeds(command)
    }

    fn state(&self) -> PathBuf {
        self.home.path().join("state")
    }
}

impl Drop for User {
    fn drop(&mut self) {
        for arguments in [&["down", "--all", "--timeout", "90s"][..], &["gc", "--cluster", "kind"]] {
            if arguments[0] == "down" || matches!(self.cluster, Cluster::Kind) {
                let _ = self.command(env!("CARGO_BIN_EXE_envctl"), arguments).output();
            }
        }
    }
}
