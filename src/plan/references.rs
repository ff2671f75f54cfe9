//! Whether references name something, and may stand where they stand.

use super::load::{Builder, Edge};
use super::{Condition, NeedReason, NodeId, NodeKind, ports};
use crate::envfile::{PortField, Problem, Reference, Spanned, Template, suggestion};

/// Who reads a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reader {
    /// A variable of a pod: everything, keys by way of their Secret.
    PodVariable,
    /// A command line or a file in a pod, where a key would be seen.
    PodPlain,
    /// A process on the host.
    Host,
    /// A call that issues a key.
    KeyCall,
}

impl<'a> Builder<'a> {
    /// Checks a text's references; returns the text.
    pub fn check<'t>(&mut self, text: &'t Spanned<Template>, reader: Reader) -> &'t Template {
        for reference in text.value.references() {
            if let Err(problem) = self.reference(text, reference, reader) {
                self.problem(problem);
            }
        }
        &text.value
    }

    /// The edges to the keys that a text uses.
    pub fn key_edges(&self, text: &Spanned<Template>) -> Vec<Edge> {
        text.value
            .references()
            .filter_map(|reference| match reference {
                Reference::Key { name } if self.file.keys.knows(name) => {
                    let span = self.sources.narrow(text.span, &reference.to_string());
                    Some(key_edge(name, span))
                }
                _ => None,
            })
            .collect()
    }

    /// A key by its name, for `{ key: NAME }`.
    pub fn key_named(&mut self, name: &Spanned<String>) -> Option<Edge> {
        if self.file.keys.knows(&name.value) {
            return Some(key_edge(&name.value, name.span));
        }
        let hint = suggestion(&name.value, self.file.keys.names(), "the keys are");
        self.problem(Problem::at(name.span, format!("there is no key `{}`", name.value)).hint(hint));
        None
    }

    fn reference(&self, text: &Spanned<Template>, reference: &Reference, reader: Reader) -> Result<(), Problem> {
        let problem = |message: String| Problem::at(self.sources.narrow(text.span, &reference.to_string()), message);
        match reference {
            Reference::Key { name } => {
                if !self.file.keys.knows(name) {
                    let hint = suggestion(name, self.file.keys.names(), "the keys are");
                    return Err(problem(format!("there is no key `{name}`")).hint(hint));
                }
                if reader == Reader::PodPlain {
                    let hint = "put it in a variable of `env`".to_owned();
                    return Err(problem("a key must not be on a command line or in a file".to_owned()).hint(Some(hint)));
                }
                Ok(())
            }
            Reference::Host { service } | Reference::Port { service, .. } => {
                let Some(found) = self.file.services.get(service) else {
                    if self.file.services.knows(service) {
                        return Ok(());
                    }
                    let hint = suggestion(service, self.file.services.names(), "the services are");
                    return Err(problem(format!("there is no service `{service}`")).hint(hint));
                };
                let Reference::Port { port: name, field, .. } = reference else {
                    if found.ports.entries.is_empty() && found.ports.failed.is_empty() {
                        return Err(problem(format!("the service `{service}` has no ports, so it has no address")));
                    }
                    return Ok(());
                };
                let Some(setting) = found.ports.get(name) else {
                    if found.ports.knows(name) {
                        return Ok(());
                    }
                    let hint = suggestion(name, found.ports.names(), "its ports are");
                    return Err(problem(format!("the service `{service}` has no port `{name}`")).hint(hint));
                };
                let port = ports::port(name, &setting.0);
                if *field == PortField::Url && port.scheme.is_none() {
                    let hint =
                        format!("use `${{services.{service}.{name}.address}}`, or give the port an `appProtocol`");
                    return Err(
                        problem(format!("the port `{name}` has no URL: its name says no scheme")).hint(Some(hint))
                    );
                }
                if reader == Reader::Host && port.protocol == super::Protocol::Udp {
                    return Err(problem(format!("the port `{name}` is UDP, which is not forwarded to the host")));
                }
                Ok(())
            }
        }
    }
}

fn key_edge(name: &str, span: crate::envfile::Span) -> Edge {
    Edge { to: NodeId::new(NodeKind::Key, name), condition: Condition::Ready, reason: NeedReason::Key, span }
}
