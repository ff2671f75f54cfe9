//! Telling people of a failure: what is told ([`Message`]), gathered from git and the CI service ([`occasion`]), by a webhook
//! that takes Slack's JSON ([`webhook`]) and by mail ([`email`]).
//!
//! Neighbours: `plan::notify` says who is told, `cli::aftermath` when, and with which dump.
//!
//! Invariants: a secret (the webhook's address, the mail server's password) is read from the host's variables only to be used, and taken
//! out of every word that is said about it. Everything together takes at most [`WITHIN`]. Nothing here fails a run: what went wrong is a
//! sentence.

mod email;
mod message;
mod occasion;
mod webhook;

use std::collections::BTreeMap;
use std::time::Duration;

pub use message::{Failed, Message};
pub use occasion::{Commit, Occasion, PullRequest, gather};

use crate::cluster::refusal::chain;
use crate::plan::{Notify, Secret, When};
use crate::proxied::ProxyError;
use crate::redact::Redactor;

/// For everything together: who waits for a run's result doesn't wait for a mail server.
pub const WITHIN: Duration = Duration::from_secs(10);

/// Why somebody was not told.
#[derive(Debug, thiserror::Error)]
pub enum NotifyError {
    /// The variable that holds a secret is not set, as in pull requests from forks.
    #[error("the variable {0} is not set")]
    NotSet(String),
    /// What the variable holds is no address.
    #[error("what the variable {0} holds is not the address of a webhook (https://…)")]
    NotAnAddress(String),
    /// The machine's certificates cannot be read.
    #[error("no certificate authority of this machine could be read: {0}")]
    NoAuthorities(std::io::Error),
    /// The proxy that is to be used cannot be.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    /// Nobody answered.
    #[error("{0}")]
    Unanswered(String),
    /// The webhook refused.
    #[error("it answered {status}{said}")]
    Refused {
        /// The status.
        status: http::StatusCode,
        /// `: ` and its first line, if it said anything.
        said: String,
    },
    /// The mail cannot be written.
    #[error("the mail could not be written: {0}")]
    Unwritable(String),
    /// The time was over.
    #[error("it took longer than {}", crate::cli::duration::human(WITHIN))]
    TimedOut,
}

/// What became of it.
#[derive(Debug)]
pub struct Told {
    /// Who: `webhook (NAME)`, `mail to …`.
    pub whom: String,
    /// Whether it worked.
    pub result: Result<(), NotifyError>,
}

/// Whether somebody is to be told here.
pub fn applies(notify: &Notify, variables: &BTreeMap<String, String>) -> bool {
    // As `ci-info` and others read it.
    let in_ci = || variables.get("CI").is_some_and(|value| !matches!(value.as_str(), "" | "false" | "0"));
    match notify.when {
        When::Always => true,
        When::Ci => in_ci(),
    }
}

/// Tells everybody, at once.
pub async fn tell(
    notify: &Notify,
    message: &Message,
    variables: &BTreeMap<String, String>,
    redactor: &Redactor,
) -> Vec<Told> {
    let webhook = async {
        let webhook = notify.webhook.as_ref()?;
        let sent =
            async { webhook::send(&webhook.url.from_env, secret(&webhook.url, variables)?, message, redactor).await };
        Some(Told { whom: format!("webhook ({})", webhook.url.from_env), result: in_time(sent).await })
    };
    let email = async {
        let email = notify.email.as_ref()?;
        let sent = async {
            let password = email.login.as_ref().map(|login| secret(&login.password, variables)).transpose()?;
            email::send(email, password, message, redactor).await
        };
        Some(Told { whom: format!("mail to {}", email.to.join(", ")), result: in_time(sent).await })
    };
    let (webhook, email) = tokio::join!(webhook, email);
    webhook.into_iter().chain(email).collect()
}

async fn in_time(sent: impl Future<Output = Result<(), NotifyError>>) -> Result<(), NotifyError> {
    tokio::time::timeout(WITHIN, sent).await.unwrap_or(Err(NotifyError::TimedOut))
}

fn secret<'a>(secret: &Secret, variables: &'a BTreeMap<String, String>) -> Result<&'a str, NotifyError> {
    let set = variables.get(&secret.from_env).map(|value| value.trim()).filter(|value| !value.is_empty());
    set.ok_or_else(|| NotifyError::NotSet(secret.from_env.clone()))
}

/// An error with what caused it, in one line.
fn unanswered(error: &dyn std::error::Error) -> NotifyError {
    NotifyError::Unanswered(one_line(&chain(error)))
}

/// The first line, of a bearable length.
fn one_line(text: &str) -> String {
    const LONGEST: usize = 300;
    let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    let mut short: String = line.chars().take(LONGEST).collect();
    if short.len() < line.len() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_default_only_ci_tells() {
        let notify = |when| Notify { when, webhook: None, email: None };
        let with = |value: &str| BTreeMap::from([("CI".to_owned(), value.to_owned())]);
        assert!(applies(&notify(When::Ci), &with("true")) && applies(&notify(When::Ci), &with("1")));
        assert!(!applies(&notify(When::Ci), &with("false")) && !applies(&notify(When::Ci), &BTreeMap::new()));
        assert!(applies(&notify(When::Always), &BTreeMap::new()));
    }

    #[test]
    fn a_long_answer_is_one_line() {
        assert_eq!(one_line("\n  no_service \nmore"), "no_service");
        assert_eq!(one_line(&"é".repeat(400)).chars().count(), 301);
    }
}
