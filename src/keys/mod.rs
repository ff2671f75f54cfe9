//! Keys: how each is issued, kept, shown to pods, issued anew and revoked. DESIGN section 10.
//!
//! | module | what it does |
//! |---|---|
//! | `ring` | what a session has: [`Keyring`], the only writer of `keys.json` and of the agent's redactor |
//! | `generate` | random bytes and the host's variables |
//! | `call` | issuing and revoking by a service: `exec` over the pod's exec API, `http` over its host-side address |
//! | `secret` | the Secret that pods read, and the digest that restarts them when a key of theirs changes |
//!
//! Neighbours: `provision::walk` issues keys as nodes of the graph, `session::agent` issues them anew when their time has come, `redact`
//! keeps them out of whatever is shown.
//!
//! Invariants: a value is in the redactor before anybody else has it. It is never on a command line: a pod reads it from the Secret, a command
//! that revokes reads it on standard input (the exec API carries commands in the URL, where `ps`, audit logs and proxies see them). A key
//! keeps its value for the session's life, or until its `ttl` or `keys rotate`: a second `up` must not invalidate what tests hold.

pub mod call;
mod exec;
mod generate;
mod http;
mod ring;
mod secret;

pub use exec::exit_code;
pub use generate::generate;
pub use ring::{Issued, Keyring};
pub use secret::{secret, stamp, uses};

use std::time::Duration;

use crate::plan::{Key, KeyAction, KeySource};
use call::CallError;

/// How long a service has to issue or revoke a key, unless the file says otherwise.
pub const TIMEOUT: Duration = Duration::from_secs(30);

/// Why a key could not be issued.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The host's variable isn't set.
    #[error("it comes from the host's variable {variable}, which is not set")]
    NotSet {
        /// The variable.
        variable: String,
    },
    /// The operating system's generator failed.
    #[error("it could not be generated: {source}")]
    NoRandomness {
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// Its call has a reference that says nothing yet.
    #[error("its call cannot be made: {0}")]
    Unresolved(#[from] crate::plan::ResolveError),
    /// The service did not issue it.
    #[error("{what} {source}")]
    Call {
        /// `the command …` or `the request …`, without secrets.
        what: String,
        /// What became of it.
        source: CallError,
    },
    /// Its command would run in the pods of a service that has none.
    #[error("it is issued by a command in {service}, which runs on this machine and so has no pods")]
    OnHost {
        /// The service.
        service: String,
    },
    /// It could not be written to disk.
    #[error(transparent)]
    Unwritable(#[from] crate::session::SessionError),
}

impl KeyError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotSet { .. } => Some("set it where `envctl up` runs".to_owned()),
            Self::NoRandomness { .. } => Some("/dev/urandom must be readable".to_owned()),
            Self::Unresolved(_) => None,
            Self::OnHost { service } => Some(format!(
                "`envctl up` without --swap, then `envctl swap {service}`: a key keeps its value for the session's life"
            )),
            Self::Call { source, .. } => source.hint(),
            Self::Unwritable(error) => error.hint(),
        }
    }

    /// What the service said instead, for people.
    pub fn output(&self) -> &[String] {
        match self {
            Self::Call { source, .. } => source.output(),
            _ => &[],
        }
    }
}

/// Where a key comes from, for people.
pub fn source(key: &Key) -> String {
    match &key.source {
        KeySource::Generate { bytes, .. } => format!("generated, {bytes} bytes"),
        KeySource::FromEnv(variable) => format!("variable {variable}"),
        KeySource::Issued(KeyAction::Exec { service, .. }) => format!("command in {service}"),
        KeySource::Issued(KeyAction::Http(call)) => format!("request to {}", call.service),
    }
}

/// How long the key's calls may take.
pub fn timeout(key: &Key) -> Duration {
    key.timeout.map_or(TIMEOUT, |time| time.duration())
}

fn is_key(node: &crate::plan::Node) -> bool {
    node.id.kind == crate::plan::NodeKind::Key
}
