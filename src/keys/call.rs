//! A call to a service that issues or revokes a key: resolved ([`Call::new`], pure), made ([`Call::issue`], [`Call::revoke`]), and what
//! may go wrong with it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::{KeyError, exec, http};
use crate::plan::{KeyAction, NodeId, NodeKind, NodeSpec, Plan, PortId, ResolveError, Viewpoint};
use crate::redact::Redactor;

/// How many lines of what a service said a failure shows.
const SHOWN: usize = 20;

/// A call, ready to be made.
#[derive(Clone)]
pub enum Call {
    /// A command in a pod of the service.
    Exec {
        /// Which service.
        service: String,
        /// Program and arguments.
        command: Vec<String>,
    },
    /// A request.
    Http(http::Request),
}

/// Which port a call goes to from the host, if it does.
pub fn port(action: &KeyAction) -> Option<PortId> {
    match action {
        KeyAction::Exec { .. } => None,
        KeyAction::Http(call) => Some(PortId { service: call.service.clone(), port: call.port.clone() }),
    }
}

impl Call {
    /// Resolves the references of a call as the service sees them, which reads it. `keys` are the issued ones.
    ///
    /// # Errors
    /// The first reference that cannot be resolved.
    pub fn new(
        action: &KeyAction,
        plan: &Plan,
        keys: &BTreeMap<String, String>,
        addresses: &BTreeMap<PortId, SocketAddr>,
    ) -> Result<Self, ResolveError> {
        let text = |template: &crate::plan::Template| template.resolve(plan, Viewpoint::Pod, keys);
        match action {
            KeyAction::Exec { service, command } => {
                let command = command.iter().map(text).collect::<Result<_, _>>()?;
                Ok(Self::Exec { service: service.clone(), command })
            }
            KeyAction::Http(call) => {
                let id = PortId { service: call.service.clone(), port: call.port.clone() };
                let not_forwarded = || {
                    ResolveError::NotForwarded(crate::plan::Reference::Port {
                        service: call.service.clone(),
                        port: call.port.clone(),
                        field: crate::plan::PortField::Address,
                    })
                };
                Ok(Self::Http(http::Request {
                    service: call.service.clone(),
                    address: *addresses.get(&id).ok_or_else(not_forwarded)?,
                    tls: is_https(plan, &id),
                    method: call.method.clone(),
                    path: text(&call.path)?,
                    headers: call
                        .headers
                        .iter()
                        .map(|(name, value)| Ok((name.clone(), text(value)?)))
                        .collect::<Result<_, ResolveError>>()?,
                    body: call.body.as_ref().map(text).transpose()?,
                    pointer: call.pointer.clone(),
                }))
            }
        }
    }

    /// What it is, for people.
    pub fn describe(&self) -> String {
        match self {
            Self::Exec { service, command } => format!("the command `{}` in {service}", command.join(" ")),
            Self::Http(request) => format!("the request {} {} to {}", request.method, request.path, request.service),
        }
    }

    /// Makes it; the answer is the key.
    ///
    /// # Errors
    /// [`KeyError::Call`].
    pub async fn issue(&self, client: &kube::Client, within: Duration) -> Result<String, KeyError> {
        let answer = async {
            match self {
                Self::Exec { service, command } => exec::issue(client, service, command).await,
                Self::Http(request) => request.issue().await,
            }
        };
        self.within(within, answer).await
    }

    /// Makes it to revoke `key`: a command reads it on standard input, a request has it where the file puts it.
    ///
    /// # Errors
    /// [`KeyError::Call`].
    pub async fn revoke(&self, client: &kube::Client, key: &str, within: Duration) -> Result<(), KeyError> {
        let done = async {
            match self {
                Self::Exec { service, command } => exec::revoke(client, service, command, key).await,
                Self::Http(request) => request.revoke().await,
            }
        };
        self.within(within, done).await
    }

    async fn within<T>(
        &self,
        time: Duration,
        doing: impl Future<Output = Result<T, CallError>>,
    ) -> Result<T, KeyError> {
        let done = tokio::time::timeout(time, doing).await.unwrap_or(Err(CallError::TimedOut(time)));
        done.map_err(|source| KeyError::Call { what: self.describe(), source })
    }
}

fn is_https(plan: &Plan, id: &PortId) -> bool {
    let service = NodeId::new(NodeKind::Service, id.service.clone());
    let node = plan.nodes.iter().find(|node| node.id == service);
    let Some(NodeSpec::Service(service)) = node.map(|node| &node.spec) else { return false };
    service.ports.iter().any(|port| port.name == id.port && port.scheme.as_deref() == Some("https"))
}

/// What became of a call: the end of a sentence that begins with it.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Nowhere to run it.
    #[error("cannot be run: {service} has no pod that is ready")]
    NoPod {
        /// The service.
        service: String,
    },
    /// The cluster's API refused or did not answer.
    #[error("cannot be run: {0}")]
    Cluster(#[source] kube::Error),
    /// The runtime could not start it.
    #[error("could not be started: {message}")]
    NotStarted {
        /// In the runtime's words.
        message: String,
    },
    /// It failed.
    #[error("exited with code {code}")]
    Exited {
        /// Its code.
        code: i32,
        /// The end of what it wrote to standard error.
        output: Vec<String>,
    },
    /// The connection to it broke, or it was ended by a signal.
    #[error("did not come to an end of its own: {message}")]
    Broken {
        /// In the API's words.
        message: String,
        /// The end of what it wrote to standard error.
        output: Vec<String>,
    },
    /// Too slow.
    #[error("was not done within {0:?}")]
    TimedOut(Duration),
    /// No key.
    #[error("gave nothing, where a key is expected")]
    Nothing {
        /// The end of what it wrote to standard error.
        output: Vec<String>,
    },
    /// More than a key.
    #[error("gave {count} lines, where a key of one line is expected")]
    Lines {
        /// How many.
        count: usize,
    },
    /// Not a text that a variable can hold.
    #[error("gave what is not text")]
    NotText,
    /// Something else than a key.
    #[error("gave more than {0} bytes")]
    TooLong(usize),
    /// No connection, or it ended before an answer.
    #[error("got no answer from {address}: {message}")]
    Unanswered {
        /// Where.
        address: SocketAddr,
        /// Why.
        message: String,
    },
    /// The request cannot be sent as it is.
    #[error("cannot be sent: {0}")]
    NotSent(#[from] ::http::Error),
    /// The service refused.
    #[error("was answered {status}")]
    Refused {
        /// The answer's status.
        status: ::http::StatusCode,
        /// The beginning of the answer's body.
        output: Vec<String>,
    },
    /// No JSON where a field of it is the key.
    #[error("was not answered with JSON: {0}")]
    NotJson(#[source] serde_json::Error),
    /// No text there.
    #[error("was answered with JSON that has no text at `{pointer}`{there}")]
    NoField {
        /// Where the key was expected.
        pointer: String,
        /// What there is instead, without values.
        there: String,
    },
}

impl CallError {
    /// What the service said, for people.
    pub fn output(&self) -> &[String] {
        match self {
            Self::Exited { output, .. }
            | Self::Broken { output, .. }
            | Self::Nothing { output }
            | Self::Refused { output, .. } => output,
            _ => &[],
        }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::TimedOut(_) => {
                "see the service's log (`envctl up --keep`, then `envctl logs`); `timeout:` of the key gives it more time"
            }
            Self::Lines { .. } => "print only the key on standard output, everything else on standard error",
            Self::Nothing { .. } => {
                "print the key on standard output; for a request, `pointer:` says where in the answer it is"
            }
            Self::NoField { .. } | Self::NotJson(_) => {
                "`pointer:` says where in the answer the key is; without it, the whole answer is the key"
            }
            Self::NotStarted { .. } => "the command runs in the service's container: give it a path that is there",
            Self::NoPod { .. } => "`envctl ps` says how the service is",
            _ => return None,
        };
        Some(hint.to_owned())
    }
}

/// A key of one line: an end of the last line is not part of it. `output` is what explains that there is none.
pub(super) fn one_line(answer: Vec<u8>, output: Vec<String>) -> Result<String, CallError> {
    let mut text = String::from_utf8(answer).map_err(|_| CallError::NotText)?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    if text.trim().is_empty() {
        return Err(CallError::Nothing { output });
    }
    if text.contains('\0') {
        return Err(CallError::NotText);
    }
    match text.split('\n').count() {
        1 => Ok(text),
        count => Err(CallError::Lines { count }),
    }
}

/// The last lines of what a service said, without the `secret` that it may have given beside.
pub(super) fn last_lines(said: &[u8], secret: &[u8]) -> Vec<String> {
    let secret = String::from_utf8_lossy(secret);
    let redactor = Redactor::new(secret.lines().map(|line| ("OUTPUT", line)));
    let text = String::from_utf8_lossy(said);
    let clean = redactor.text(&text);
    let lines: Vec<String> = clean.lines().map(str::to_owned).collect();
    lines[lines.len().saturating_sub(SHOWN)..].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_end_of_line_is_not_part_of_a_key() {
        let key = |text: &str| one_line(text.as_bytes().to_vec(), Vec::new()).map_err(|error| error.to_string());
        assert_eq!(key("sk-1\n").as_deref(), Ok("sk-1"));
        assert_eq!(key("sk-1\r\n").as_deref(), Ok("sk-1"));
        assert_eq!(key(" sk 1").as_deref(), Ok(" sk 1"));
        assert_eq!(key("\n"), Err("gave nothing, where a key is expected".to_owned()));
        assert_eq!(key("one\ntwo\n"), Err("gave 2 lines, where a key of one line is expected".to_owned()));
        assert_eq!(key("sk-1\n\n"), Err("gave 2 lines, where a key of one line is expected".to_owned()));
        assert_eq!(key("a\0b"), Err("gave what is not text".to_owned()));
    }

    #[test]
    fn what_is_shown_of_a_failed_command_has_not_its_output() {
        assert_eq!(
            last_lines(b"issued sk-123 for demo\nthen failed", b"sk-123\n"),
            ["issued [redacted OUTPUT] for demo", "then failed"]
        );
    }
}
