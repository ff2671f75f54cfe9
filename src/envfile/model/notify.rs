//! Who is told of a failure, as it stands in the file.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::envfile::decode::{Decode, Decoder, Number, Spanned};
use crate::envfile::names::{AnyText, Name, VariableName};
use crate::envfile::problem::Problem;
use crate::envfile::record::{record, words};
use crate::envfile::tree::{Node, Value};

words! {
    /// When somebody is told.
    pub enum NotifyWhen {
        /// Only where the variable `CI` is set, as every CI service does: the default.
        Ci = "ci",
        /// Wherever it fails.
        Always = "always",
    }
}

record! {
    /// Who is told when `envctl test` or `envctl up` fails.
    pub struct NotifyFile, "`notify`", span {
        /// `ci` (the default: only where the variable `CI` is set) or `always`.
        when("when"): Option<NotifyWhen>,
        /// A webhook that takes Slack's JSON.
        webhook("webhook"): Option<WebhookFile>,
        /// A mail.
        email("email"): Option<EmailFile>,
    }
}

record! {
    /// A webhook that takes Slack's JSON: Slack's own, Mattermost's, Rocket.Chat's, Discord's with `/slack`.
    pub struct WebhookFile, "a webhook" {
        /// Its address, which is a secret: `{ fromEnv: NAME }`.
        url("url"): SecretSetting,
    }
}

words! {
    /// How a mail server is spoken to.
    pub enum MailTls {
        /// TLS from the second word on, or nothing is sent: the default.
        StartTls = "starttls",
        /// TLS from the first byte.
        Implicit = "implicit",
        /// In the clear.
        None = "none",
    }
}

record! {
    /// A mail through SMTP.
    pub struct EmailFile, "a mail", span {
        /// The sender: `ci@example.org`, or `Name <ci@example.org>`.
        from("from"): Spanned<Name<AnyText>>,
        /// The recipients.
        to("to"): Vec<Spanned<Name<AnyText>>>,
        /// The mail server; its certificate must be for this name.
        host("host"): Spanned<Name<AnyText>>,
        /// Its port; 587 with `starttls`, 465 with `implicit`, 25 with `none` unless it says so.
        port("port"): Option<Number<1, 65535>>,
        /// `starttls` (the default), `implicit` or `none`.
        tls("tls"): Option<MailTls>,
        /// Who logs in; nobody unless it says so.
        username("username"): Option<Spanned<Name<AnyText>>>,
        /// With which password: `{ fromEnv: NAME }`.
        password("password"): Option<SecretSetting>,
    }
}

record! {
    /// A secret by where it is.
    pub struct SecretFile, "a secret" {
        /// The variable of the host that holds it, by its name.
        from_env("fromEnv"): Name<VariableName>,
    }
}

/// A secret by where it is; the secret itself is refused.
#[derive(Debug, Clone)]
pub struct SecretSetting(pub SecretFile);

impl Decode for SecretSetting {
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        if matches!(node.value, Value::Scalar(_)) && !node.is_null() {
            let hint = "name the host's variable that holds it: `{ fromEnv: NAME }`".to_owned();
            decoder.problem(Problem::at(node.span, "a secret doesn't stand in this file").hint(Some(hint)));
            return None;
        }
        SecretFile::decode(node, decoder).map(Self)
    }
}

impl JsonSchema for SecretSetting {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Secret".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let schema = generator.subschema_for::<SecretFile>();
        json_schema!({ "allOf": [schema] })
    }
}
