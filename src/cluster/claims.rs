//! Whether a context is a cluster that the kind or minikube CLI of this machine claims as its own.
//!
//! A claim is proved by the certificate authority: a context's name and its loopback address prove nothing. kind is asked for
//! the kubeconfig of the cluster, minikube for its profiles and its authority's file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kube::config::Kubeconfig;
use serde_json::Value;
use tokio::process::Command;

/// Whether one of the CLIs has a cluster that this context leads to. A CLI that isn't installed or fails claims nothing.
pub async fn claimed(context: &str, kubeconfig: &Kubeconfig, variables: &BTreeMap<String, String>) -> bool {
    let Some(authority) = authority(kubeconfig) else { return false };
    if let Some(name) = context.strip_prefix("kind-") {
        let theirs = output(variables, "kind", &["get", "kubeconfig", "--name", name]).await;
        return theirs.is_some_and(|theirs| kind_claims(&theirs, &authority));
    }
    match output(variables, "minikube", &["profile", "list", "--output", "json"]).await {
        Some(profiles) if has_profile(&profiles, context) => {
            minikube_authority(variables).is_some_and(|file| is_same(std::fs::read(file), &authority))
        }
        _ => false,
    }
}

/// The certificate authority that the context trusts, as PEM.
fn authority(kubeconfig: &Kubeconfig) -> Option<Vec<u8>> {
    let cluster = kubeconfig.clusters.first()?.cluster.as_ref()?;
    // A client that doesn't check whom it speaks to proves nothing either.
    if cluster.insecure_skip_tls_verify.unwrap_or(false) {
        return None;
    }
    match (&cluster.certificate_authority_data, &cluster.certificate_authority) {
        (Some(data), _) => STANDARD.decode(data).ok(),
        (None, Some(file)) => std::fs::read(file).ok(),
        (None, None) => None,
    }
}

fn kind_claims(theirs: &str, ours: &[u8]) -> bool {
    let theirs = Kubeconfig::from_yaml(theirs).ok().and_then(|theirs| authority(&theirs));
    theirs.is_some_and(|theirs| trimmed(&theirs) == trimmed(ours))
}

fn has_profile(profiles: &str, name: &str) -> bool {
    let profiles: Value = serde_json::from_str(profiles).unwrap_or_default();
    profiles["valid"].as_array().is_some_and(|valid| valid.iter().any(|profile| profile["Name"] == name))
}

fn minikube_authority(variables: &BTreeMap<String, String>) -> Option<PathBuf> {
    Some(minikube_home(variables)?.join("ca.crt"))
}

/// Where minikube keeps what it makes (minikube, `pkg/minikube/localpath`, `MiniPath`).
pub fn minikube_home(variables: &BTreeMap<String, String>) -> Option<PathBuf> {
    let set = |name: &str| variables.get(name).filter(|value| !value.is_empty());
    Some(match set("MINIKUBE_HOME") {
        Some(home) if Path::new(home).ends_with(".minikube") => PathBuf::from(home),
        Some(home) => Path::new(home).join(".minikube"),
        None => Path::new(set("HOME")?).join(".minikube"),
    })
}

fn is_same(theirs: std::io::Result<Vec<u8>>, ours: &[u8]) -> bool {
    theirs.is_ok_and(|theirs| trimmed(&theirs) == trimmed(ours))
}

fn trimmed(pem: &[u8]) -> &[u8] {
    pem.trim_ascii()
}

async fn output(variables: &BTreeMap<String, String>, program: &str, arguments: &[&str]) -> Option<String> {
    let mut command = Command::new(program);
    command.args(arguments).env_clear().envs(variables).stdin(std::process::Stdio::null()).kill_on_drop(true);
    let output = command.output().await.ok().filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kubeconfig(authority: &str, more: &str) -> String {
        let data = STANDARD.encode(authority);
        format!(
            "apiVersion: v1\nkind: Config\nclusters:\n- name: kind-a\n  cluster: {{ server: 'https://127.0.0.1:1', \
             certificate-authority-data: {data}{more} }}\n"
        )
    }

    #[test]
    fn the_authority_decides_and_not_the_name() {
        assert!(kind_claims(&kubeconfig("PEM one", ""), b"PEM one\n"));
        assert!(!kind_claims(&kubeconfig("PEM one", ""), b"PEM two"));
        let unchecked = Kubeconfig::from_yaml(&kubeconfig("PEM one", ", insecure-skip-tls-verify: true"));
        assert_eq!(authority(&unchecked.expect("a kubeconfig")), None);
    }

    #[test]
    fn only_valid_profiles_count() {
        let profiles = r#"{"invalid": [{"Name": "old"}], "valid": [{"Name": "minikube"}]}"#;
        assert!(has_profile(profiles, "minikube") && !has_profile(profiles, "old"));
        // What minikube v1.38.1 wrote of a machine that is a node itself, by the driver none.
        let none = include_str!("by_tool/minikube/testdata/profile-list-none.json");
        assert!(has_profile(none, "minikube") && !has_profile(none, "none"));
        let by = |name: &str, value: &str| minikube_authority(&BTreeMap::from([(name.to_owned(), value.to_owned())]));
        assert_eq!(by("HOME", "/h"), Some(PathBuf::from("/h/.minikube/ca.crt")));
        assert_eq!(by("MINIKUBE_HOME", "/m"), Some(PathBuf::from("/m/.minikube/ca.crt")));
        assert_eq!(by("MINIKUBE_HOME", "/m/.minikube"), Some(PathBuf::from("/m/.minikube/ca.crt")));
    }
}
