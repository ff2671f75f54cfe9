//! Who is told of a failure: addresses checked, secrets by name only.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::load::Builder;
use crate::envfile::model::{EmailFile, MailTls, NotifyFile, NotifyWhen, SecretSetting};
use crate::envfile::{Problem, Spanned};

/// Who is told when `envctl test` or `envctl up` fails.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notify {
    /// Where that is done.
    pub when: When,
    /// A webhook that takes Slack's JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<Webhook>,
    /// A mail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<Email>,
}

/// Where a failure is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum When {
    /// Where the variable `CI` is set.
    Ci,
    /// Everywhere.
    Always,
}

/// A secret, by the host's variable that holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Secret {
    /// The variable.
    pub from_env: String,
}

/// A webhook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Webhook {
    /// Its address.
    pub url: Secret,
}

/// A mail through SMTP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Email {
    /// The sender's mailbox.
    pub from: String,
    /// The recipients' mailboxes.
    pub to: Vec<String>,
    /// The mail server.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How it is spoken to.
    pub tls: Tls,
    /// Who logs in, if anybody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<Login>,
}

/// How a mail server is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tls {
    /// RFC 3207, or nothing is sent.
    StartTls,
    /// RFC 8314.
    Implicit,
    /// In the clear.
    None,
}

/// Who logs in at a mail server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login {
    /// The name.
    pub username: String,
    /// The password.
    pub password: Secret,
}

impl Notify {
    /// Every secret that it uses and that is set, by its variable.
    pub fn secrets<'a>(&'a self, variables: &'a BTreeMap<String, String>) -> Vec<(&'a str, &'a str)> {
        let webhook = self.webhook.iter().map(|webhook| &webhook.url);
        let password = self.email.iter().filter_map(|email| email.login.as_ref()).map(|login| &login.password);
        let names = webhook.chain(password).map(|secret| secret.from_env.as_str());
        names.filter_map(|name| Some((name, variables.get(name)?.trim()))).collect()
    }
}

/// The file's `notify`; `None` after reporting what is wrong, or where there is nobody to tell.
pub(super) fn notify(builder: &mut Builder<'_>) -> Option<Notify> {
    let file: &NotifyFile = builder.file.notify.as_ref()?;
    if file.webhook.is_none() && file.email.is_none() {
        if builder.sound(file.span) {
            let hint = "`webhook: { url: { fromEnv: NAME } }`, or `email: …`".to_owned();
            builder.problem(Problem::at(file.span, "`notify` names nobody").hint(Some(hint)));
        }
        return None;
    }
    Some(Notify {
        when: match file.when {
            None | Some(NotifyWhen::Ci) => When::Ci,
            Some(NotifyWhen::Always) => When::Always,
        },
        webhook: file.webhook.as_ref().map(|webhook| Webhook { url: secret(&webhook.url) }),
        email: file.email.as_ref().map(|email| self::email(builder, email)),
    })
}

fn secret(setting: &SecretSetting) -> Secret {
    Secret { from_env: setting.0.from_env.text.clone() }
}

fn email(builder: &mut Builder<'_>, file: &EmailFile) -> Email {
    if file.to.is_empty() && builder.sound(file.span) {
        builder.problem(Problem::at(file.span, "a mail has at least one recipient in `to`"));
    }
    for mailbox in std::iter::once(&file.from).chain(&file.to) {
        if mailbox.value.text.parse::<lettre::message::Mailbox>().is_err() {
            let message = format!("`{}` is not a mail address", mailbox.value.text);
            let hint = "write it like `ci@example.org` or `CI <ci@example.org>`".to_owned();
            builder.problem(Problem::at(mailbox.span, message).hint(Some(hint)));
        }
    }
    let tls = match file.tls {
        None | Some(MailTls::StartTls) => Tls::StartTls,
        Some(MailTls::Implicit) => Tls::Implicit,
        Some(MailTls::None) => Tls::None,
    };
    let login = match (&file.username, &file.password) {
        (Some(Spanned { span, value }), Some(password)) => {
            if tls == Tls::None {
                let message = "a password is not sent in the clear";
                let hint = "`tls: starttls` or `tls: implicit`".to_owned();
                builder.problem(Problem::at(*span, message).hint(Some(hint)));
            }
            Some(Login { username: value.text.clone(), password: secret(password) })
        }
        (None, None) => None,
        _ => {
            if builder.sound(file.span) {
                builder.problem(Problem::at(file.span, "`username` and `password` come together"));
            }
            None
        }
    };
    let default = match tls {
        Tls::StartTls => 587,
        Tls::Implicit => 465,
        Tls::None => 25,
    };
    Email {
        from: file.from.value.text.clone(),
        to: file.to.iter().map(|mailbox| mailbox.value.text.clone()).collect(),
        host: file.host.value.text.clone(),
        port: file.port.and_then(|port| u16::try_from(port.0).ok()).unwrap_or(default),
        tls,
        login,
    }
}
