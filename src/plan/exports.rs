//! What tests get. The names are API: they never change silently.
//!
//! For each TCP port P of a service S (upper case, `-` and `.` as `_`): `S_P_HOST`, `S_P_PORT` and, if it is http or https,
//! `S_P_URL`. For the service itself the same without P: `S_HOST` and `S_PORT` of its first TCP port, `S_URL` of its first one that
//! is http or https. Then each key under its own name. The file's `exports` come last and win. Two automatic ones of one name
//! (services `a-b` and `a` with a port `b`) are an error unless the file says which it is.

use super::load::Builder;
use super::references::Reader;
use super::{Export, ExportOrigin, Port, Protocol, ports};
use crate::envfile::{PortField, Problem, Reference, Span, Template};

/// Names that the session itself gives.
const RESERVED: [&str; 3] = ["KUBECONFIG", "ENVCTL_SESSION", "ENVCTL_SESSION_NAMESPACE"];

/// All exports, in order.
pub(super) fn exports(builder: &mut Builder<'_>) -> Vec<Export> {
    let file = builder.file;
    let mut found: Vec<(Export, Span)> = Vec::new();
    for (service, fields) in file.services.iter() {
        let ports: Vec<Port> = fields
            .ports
            .iter()
            .map(|(name, setting)| ports::port(&name.value, &setting.0))
            .filter(|port| port.protocol == Protocol::Tcp)
            .collect();
        for (name, value) in automatic(&service.value, &ports) {
            let export = Export { name, value, origin: ExportOrigin::Service };
            add(builder, &mut found, export, service.span);
        }
    }
    for (key, _) in file.keys.iter() {
        let value = Template::reference(Reference::Key { name: key.value.clone() });
        let export = Export { name: key.value.clone(), value, origin: ExportOrigin::Key };
        add(builder, &mut found, export, key.span);
    }
    for (name, value) in file.exports.iter() {
        if RESERVED.contains(&name.value.as_str()) {
            builder.problem(Problem::at(name.span, format!("`{}` is given by the session itself", name.value)));
        }
        let value = builder.check(value, Reader::Host).clone();
        found.retain(|(export, _)| export.name != name.value);
        found.push((Export { name: name.value.clone(), value, origin: ExportOrigin::File }, name.span));
    }
    found.into_iter().map(|(export, _)| export).collect()
}

fn add(builder: &mut Builder<'_>, found: &mut Vec<(Export, Span)>, export: Export, span: Span) {
    match found.iter().find(|(known, _)| known.name == export.name) {
        None => found.push((export, span)),
        Some(_) if builder.file.exports.knows(&export.name) => {}
        Some((_, first)) => {
            let message = format!("`{}` would be exported twice, with different values", export.name);
            let hint = format!("say which it is: `exports: {{ {}: … }}`", export.name);
            builder.problem(Problem::at(span, message).related(*first, "first for this").hint(Some(hint)));
        }
    }
}

fn automatic(service: &str, ports: &[Port]) -> Vec<(String, Template)> {
    let mut found = Vec::new();
    let upper = |name: &str| name.to_ascii_uppercase().replace(['-', '.'], "_");
    let prefix = upper(service);
    let mut push = |name: String, port: &Port, field: PortField| {
        let reference = Reference::Port { service: service.to_owned(), port: port.name.clone(), field };
        found.push((name, Template::reference(reference)));
    };
    let web = |port: &&Port| matches!(port.scheme.as_deref(), Some("http" | "https"));
    if let Some(first) = ports.first() {
        push(format!("{prefix}_HOST"), first, PortField::Host);
        push(format!("{prefix}_PORT"), first, PortField::Port);
    }
    if let Some(first) = ports.iter().find(web) {
        push(format!("{prefix}_URL"), first, PortField::Url);
    }
    for port in ports {
        let prefix = format!("{prefix}_{}", upper(&port.name));
        push(format!("{prefix}_HOST"), port, PortField::Host);
        push(format!("{prefix}_PORT"), port, PortField::Port);
        if web(&port) {
            push(format!("{prefix}_URL"), port, PortField::Url);
        }
    }
    found
}
