//! References, resolved for whoever reads them: a pod sees a Service by its name, the host by a forwarded address.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::{NodeKind, NodeSpec, Plan, Port, Service};
use crate::envfile::{Part, PortField, Reference, Template};

/// A named port of a service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PortId {
    /// The service.
    pub service: String,
    /// Its port's name.
    pub port: String,
}

/// Who reads a text with references.
#[derive(Debug, Clone, Copy)]
pub enum Viewpoint<'a> {
    /// A pod in the session's namespace: `NAME:PORT`, by the cluster's DNS.
    Pod,
    /// A process on the host (tests, suites, a swapped service): the address each port is forwarded at.
    Host(&'a BTreeMap<PortId, SocketAddr>),
}

/// Why a reference could not be resolved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// No such service or port in the plan.
    #[error("{0}: there is no such service or port")]
    Unknown(Reference),
    /// A `url` of a port without a scheme.
    #[error("{0}: this port has no URL, since its name says no scheme")]
    NoUrl(Reference),
    /// The port isn't reachable from the host (yet).
    #[error("{0}: this port is not forwarded to the host")]
    NotForwarded(Reference),
    /// The key has not been issued (yet).
    #[error("{0}: this key has not been issued")]
    NotIssued(Reference),
}

impl Template {
    /// The text as `viewpoint` sees it. `keys` are the issued ones, by name.
    ///
    /// # Errors
    /// The first reference that cannot be resolved.
    pub fn resolve(
        &self,
        plan: &Plan,
        viewpoint: Viewpoint<'_>,
        keys: &BTreeMap<String, String>,
    ) -> Result<String, ResolveError> {
        let mut out = String::new();
        for part in self.parts() {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Reference(reference) => out.push_str(&resolve(reference, plan, viewpoint, keys)?),
            }
        }
        Ok(out)
    }
}

fn resolve(
    reference: &Reference,
    plan: &Plan,
    viewpoint: Viewpoint<'_>,
    keys: &BTreeMap<String, String>,
) -> Result<String, ResolveError> {
    let unknown = || ResolveError::Unknown(reference.clone());
    match reference {
        Reference::Key { name } => keys.get(name).cloned().ok_or_else(|| ResolveError::NotIssued(reference.clone())),
        Reference::Host { service } => {
            let spec = service_of(plan, service).ok_or_else(unknown)?;
            let port = spec.ports.first().ok_or_else(unknown)?;
            Ok(address(service, port, viewpoint).ok_or_else(|| ResolveError::NotForwarded(reference.clone()))?.0)
        }
        Reference::Port { service, port, field } => {
            let spec = service_of(plan, service).ok_or_else(unknown)?;
            let port = spec.ports.iter().find(|candidate| candidate.name == *port).ok_or_else(unknown)?;
            let (host, number) =
                address(service, port, viewpoint).ok_or_else(|| ResolveError::NotForwarded(reference.clone()))?;
            let mut text = String::new();
            match field {
                PortField::Host => text.push_str(&host),
                PortField::Port => push(&mut text, format_args!("{number}")),
                PortField::Address => push(&mut text, format_args!("{host}:{number}")),
                PortField::Url => {
                    let scheme = port.scheme.as_ref().ok_or_else(|| ResolveError::NoUrl(reference.clone()))?;
                    push(&mut text, format_args!("{scheme}://{host}:{number}"));
                }
            }
            Ok(text)
        }
    }
}

fn push(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.write_fmt(arguments).expect("writing to a String cannot fail");
}

/// Host (an IPv6 address in brackets) and port.
fn address(service: &str, port: &Port, viewpoint: Viewpoint<'_>) -> Option<(String, u16)> {
    match viewpoint {
        Viewpoint::Pod => Some((service.to_owned(), port.port)),
        Viewpoint::Host(addresses) => {
            let id = PortId { service: service.to_owned(), port: port.name.clone() };
            let address = addresses.get(&id)?;
            let host = if address.is_ipv6() { format!("[{}]", address.ip()) } else { address.ip().to_string() };
            Some((host, address.port()))
        }
    }
}

fn service_of<'a>(plan: &'a Plan, name: &str) -> Option<&'a Service> {
    plan.nodes.iter().find_map(|node| match &node.spec {
        NodeSpec::Service(service) if node.id.kind == NodeKind::Service && node.id.name == name => Some(&**service),
        _ => None,
    })
}
