//! Ports: their long form, and the scheme of their URLs.

use super::{Port, Protocol};
use crate::envfile::model::{PortFields, ProtocolWord};

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
