//! Credentials that a cluster doesn't accept: what they are, by the kubeconfig, and how to come by others.
//!
//! Kubeconfigs have many kinds of credentials; kube-rs renews those that say when they expire (credential plugins) and reads token files again. For
//! all others this is where a 401, or a plugin that fails, becomes a sentence with a cure.

use kube::client::AuthError;
use kube::config::{AuthInfo, Kubeconfig};

use super::ClusterError;
use super::refusal::{chain, in_words};

/// Whether a client's error is about its credentials: refused by the API, or not to be had.
pub fn is_about(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 401) || trouble(error).is_some()
}

/// What went wrong with getting credentials, if that is what went wrong.
fn trouble(error: &kube::Error) -> Option<&AuthError> {
    if let kube::Error::Auth(trouble) = error {
        return Some(trouble);
    }
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(trouble) = cause.downcast_ref::<AuthError>() {
            return Some(trouble);
        }
        source = cause.source();
    }
    None
}

/// As a [`ClusterError::Credentials`] if that is what the error is about, else [`ClusterError::Unavailable`].
pub fn explain(kubeconfig: &Kubeconfig, attempt: impl Into<String>, error: kube::Error) -> ClusterError {
    if !is_about(&error) {
        return ClusterError::unavailable(attempt, Plain(in_words(&error).into_owned()));
    }
    let info = kubeconfig.auth_infos.first();
    let user = info.map_or("(none)", |info| info.name.as_str());
    let info = info.and_then(|info| info.auth_info.as_ref());
    let context = kubeconfig.current_context.clone().unwrap_or_default();
    let server = super::kubeconfig::server(kubeconfig);
    let what = match trouble(&error) {
        Some(trouble) => format!("the credentials of context {context:?} cannot be had: {}", said(trouble)),
        None => format!(
            "{server} does not accept the credentials of context {context:?} (user {user:?}): {}",
            in_words(&error)
        ),
    };
    let how = how(info, user);
    ClusterError::Credentials {
        what,
        cure: format!("{how}; `kubectl --context {context} get namespaces` tells whether they work"),
    }
}

/// How to come by others.
fn how(info: Option<&AuthInfo>, user: &str) -> String {
    let Some(info) = info else { return "the context names no user: give it one that has credentials".to_owned() };
    if let Some(exec) = &info.exec {
        let command = exec.command.clone().unwrap_or_default();
        let hint = exec.install_hint.as_ref().map(|hint| format!(" ({})", hint.trim())).unwrap_or_default();
        return format!("log in again: they come from the credential plugin {command}{hint}");
    }
    if let Some(file) = &info.token_file {
        return format!("write a token that is valid into {file}");
    }
    if info.token.is_some() {
        return format!(
            "log in again: its token has expired or was revoked; a new one: kubectl config set-credentials {user} --token=…"
        );
    }
    if info.client_certificate.is_some() || info.client_certificate_data.is_some() {
        return "log in again: its client certificate has expired, or is of another cluster".to_owned();
    }
    if info.username.is_some() {
        return "Kubernetes has no passwords any more: use a token, a certificate or a credential plugin".to_owned();
    }
    format!("user {user:?} has no credentials that envctl knows")
}

/// What a plugin said: never what it wrote to its standard output, which may be a credential.
fn said(trouble: &AuthError) -> String {
    match trouble {
        AuthError::AuthExecRun { out, .. } => {
            let stderr = String::from_utf8_lossy(&out.stderr);
            let last = stderr.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing").trim();
            format!("the credential plugin failed ({}): {last}", out.status)
        }
        AuthError::AuthExecStart(error) => format!("the credential plugin could not be started: {error}"),
        AuthError::AuthExecParse(_) => "what the credential plugin wrote is no ExecCredential".to_owned(),
        other => chain(other),
    }
}

/// A client's error in its own words only.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Plain(String);
