//! Which existing clusters sessions may be started on: those that the user's own configuration lists, by identity.
//!
//! A cluster's identity is the UID of its `kube-system` namespace: names and addresses say nothing (a tunnel makes
//! production look local). The list is in `$XDG_CONFIG_HOME/envctl/config.yaml`, else `~/.config/envctl/config.yaml`; no
//! environment file, project or flag can add to it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Namespace;
use kube::api::Api;
use kube::config::Kubeconfig;
use serde::Deserialize;

use super::refusal::Refusal;
use super::{ClusterError, credentials};

/// The namespace whose UID identifies a cluster: every cluster has it, and it lives as long as the cluster.
const IDENTIFYING: &str = "kube-system";

/// The user's own configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Identities of clusters that sessions may be started on.
    pub allowed_clusters: Vec<String>,
}

/// The path of the user's configuration by these variables.
pub fn path(variables: &BTreeMap<String, String>) -> Option<PathBuf> {
    let set = |name: &str| variables.get(name).filter(|value| !value.is_empty()).map(Path::new);
    // The specification: a relative path in XDG_CONFIG_HOME is to be ignored.
    let base = set("XDG_CONFIG_HOME").filter(|path| path.is_absolute()).map(Path::to_owned);
    Some(base.or_else(|| Some(set("HOME")?.join(".config")))?.join("envctl/config.yaml"))
}

/// Reads the user's configuration; one that isn't there allows nothing.
///
/// # Errors
/// When it cannot be read or understood.
pub fn read(path: &Path) -> Result<Settings, ClusterError> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Settings::default()),
        Err(error) => return Err(ClusterError::unavailable(format!("reading {}", path.display()), error)),
    };
    parse(&text).map_err(|error| ClusterError::unavailable(format!("reading {}", path.display()), error))
}

fn parse(text: &str) -> Result<Settings, serde_yaml::Error> {
    // An empty file, or one of comments only, is no mapping.
    let empty = text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'));
    if empty { Ok(Settings::default()) } else { serde_yaml::from_str(text) }
}

/// The identity of the cluster that a client by this kubeconfig speaks to. One request.
///
/// # Errors
/// When it doesn't answer, or doesn't let itself be identified.
pub async fn identity(client: &kube::Client, kubeconfig: &Kubeconfig) -> Result<String, ClusterError> {
    let server = super::kubeconfig::server(kubeconfig);
    let api: Api<Namespace> = Api::all(client.clone());
    match api.get(IDENTIFYING).await {
        Ok(namespace) => Ok(namespace.metadata.uid.unwrap_or_default()),
        Err(kube::Error::Api(status)) if status.code == 403 => Err(ClusterError::Unsupported {
            what: format!(
                "{server} cannot be identified (by the UID of the namespace {IDENTIFYING}): {}",
                status.message
            ),
            cure: Refusal::of(403, &status.message).hint().unwrap_or_default(),
        }),
        Err(error) => Err(credentials::explain(kubeconfig, format!("asking {server} for its identity"), error)),
    }
}

/// Passes if the cluster is on the user's list.
///
/// # Errors
/// When it isn't: with what to add to which file.
pub fn check(
    identity: &str,
    context: &str,
    server: &str,
    variables: &BTreeMap<String, String>,
) -> Result<(), ClusterError> {
    let path = path(variables);
    let settings = path.as_deref().map(read).transpose()?.unwrap_or_default();
    if settings.allowed_clusters.iter().any(|allowed| allowed == identity) {
        return Ok(());
    }
    Err(ClusterError::Unsupported {
        what: format!(
            "context {context:?} ({server}) is not a cluster that you allow sessions on: its identity, {identity}, is not listed"
        ),
        cure: cure(identity, context, server, path.as_deref(), &settings),
    })
}

fn cure(identity: &str, context: &str, server: &str, path: Option<&Path>, settings: &Settings) -> String {
    let Some(path) = path else {
        return "set HOME or XDG_CONFIG_HOME, where the list of allowed clusters is kept".to_owned();
    };
    let line = format!("  - {identity}  # {context}, {server}");
    if settings.allowed_clusters.is_empty() {
        format!("if sessions may come and go there, put this into {}:\n\nallowed_clusters:\n{line}", path.display())
    } else {
        format!(
            "if sessions may come and go there, add this line to `allowed_clusters` in {}:\n\n{line}",
            path.display()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_follows_the_variables() {
        let by = |pairs: &[(&str, &str)]| {
            path(&pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
        };
        let of = |path: &str| Some(PathBuf::from(path));
        assert_eq!(by(&[("HOME", "/h"), ("XDG_CONFIG_HOME", "/x")]), of("/x/envctl/config.yaml"));
        assert_eq!(by(&[("HOME", "/h"), ("XDG_CONFIG_HOME", "x")]), of("/h/.config/envctl/config.yaml"));
        assert_eq!(by(&[]), None);
    }

    #[test]
    fn what_is_to_be_pasted_is_understood() {
        for settings in [Settings::default(), Settings { allowed_clusters: vec!["other".to_owned()] }] {
            let cure = cure("uid-1", "dev", "https://one:6443", Some(Path::new("/c.yaml")), &settings);
            let pasted = cure.split_once("\n\n").expect("something to paste").1;
            let text = match settings.allowed_clusters.as_slice() {
                [] => pasted.to_owned(),
                _ => format!("allowed_clusters:\n  - other\n{pasted}\n"),
            };
            let read = parse(&text).expect("it can be read");
            assert_eq!(read.allowed_clusters.last().map(String::as_str), Some("uid-1"), "{text}");
        }
    }

    #[test]
    fn an_empty_file_allows_nothing_and_a_misspelt_one_is_refused() {
        assert_eq!(parse("# nothing yet\n").expect("empty"), Settings::default());
        assert!(parse("allowed_cluster: [a]\n").is_err());
    }
}
