//! Ports: their long form, and the scheme of their URLs.

use super::{Port, Protocol};
use crate::envfile::model::{PortFields, ProtocolWord};
use crate::envfile::{Problem, Spanned};

/// The resolved port of a name.
pub(super) fn port(name: &str, fields: &PortFields) -> Port {
    let number = narrow(fields.port.0);
    let app_protocol = fields.app_protocol.as_ref().map(|text| text.value.clone());
    let protocol = match fields.protocol {
        None | Some(ProtocolWord::Tcp) => Protocol::Tcp,
        Some(ProtocolWord::Udp) => Protocol::Udp,
    };
    Port {
        name: name.to_owned(),
        port: number,
        target_port: fields.target_port.map_or(number, |port| narrow(port.0)),
        protocol,
        scheme: scheme(name, app_protocol.as_deref(), protocol),
        app_protocol,
    }
}

/// The port that an HTTP request goes to where none is named: the first that says it speaks HTTP, else the first.
pub(super) fn for_http<'p>(ports: impl Iterator<Item = &'p Port> + Clone) -> Option<&'p Port> {
    let mut connected = ports.filter(|port| port.protocol == Protocol::Tcp);
    connected.clone().find(|port| port.speaks_http()).or_else(|| connected.next())
}

/// What is said of a port that nobody can connect to.
pub(super) fn not_tcp(name: &Spanned<String>, who: &str) -> Problem {
    let message = format!("the port `{}` is UDP, and {who} needs TCP", name.value);
    Problem::at(name.span, message)
}

/// Decoding has bounded it by 65535.
fn narrow(port: u32) -> u16 {
    u16::try_from(port).unwrap_or(u16::MAX)
}

/// The file's word, else the port's name up to its first `-`, as service meshes take it.
fn scheme(name: &str, app_protocol: Option<&str>, protocol: Protocol) -> Option<String> {
    if protocol == Protocol::Udp {
        return None;
    }
    match app_protocol {
        Some("http" | "http2" | "h2c" | "kubernetes.io/h2c" | "kubernetes.io/ws") => Some("http".to_owned()),
        Some("https" | "kubernetes.io/wss") => Some("https".to_owned()),
        Some(other) if other.contains('/') => None,
        Some(other) => Some(other.to_owned()),
        None => match name.split('-').next() {
            Some(word @ ("http" | "https")) => Some(word.to_owned()),
            _ => None,
        },
    }
}
