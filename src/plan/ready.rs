//! Readiness checks: their defaults, and the ports that they name.

use super::load::Builder;
use super::{Check, Port, Protocol, Ready, ports};
use crate::envfile::model::{ReadyFile, SchemeWord};
use crate::envfile::{Problem, Span, Spanned, TimeSpan, suggestion};

const SECOND: TimeSpan = TimeSpan(std::time::Duration::from_secs(1));

/// The check; `None` after reporting what it lacks.
pub(super) fn ready(builder: &mut Builder<'_>, service: &str, file: &ReadyFile, ports: &[Port]) -> Option<Ready> {
    let check = match (&file.http, &file.tcp, &file.exec) {
        (Some(http), None, None) => {
            let http = &http.0;
            let port = match &http.port {
                Some(port) => named(builder, service, port, ports)?,
                None => match ports::for_http(ports.iter()) {
                    Some(port) => port,
                    None => return no_ports(builder, service, http.span),
                },
            };
            let path = http.path.as_ref().map_or("/", |path| path.value.as_str());
            if let Some(path) = http.path.as_ref().filter(|path| !path.value.starts_with('/')) {
                let hint = format!("`/{}`?", path.value);
                builder.problem(Problem::at(path.span, "a path starts with `/`").hint(Some(hint)));
            }
            let https = match http.scheme {
                Some(SchemeWord::Https) => true,
                Some(SchemeWord::Http) => false,
                None => port.scheme.as_deref() == Some("https"),
            };
            Check::Http {
                path: path.to_owned(),
                port: port.name.clone(),
                scheme: if https { "HTTPS" } else { "HTTP" }.to_owned(),
                headers: http.headers.iter().map(|(name, value)| (name.value.clone(), value.value.clone())).collect(),
            }
        }
        (None, Some(tcp), None) => {
            if ports.iter().all(|port| port.protocol == Protocol::Udp) {
                return no_ports(builder, service, tcp.0.span);
            }
            Check::Tcp { port: named(builder, service, &tcp.0, ports)?.name.clone() }
        }
        (None, None, Some(command)) => Check::Exec { command: command.0.clone() },
        _ => {
            if builder.sound(file.span) {
                let hint = "in a profile, `http: null` takes away what the file says".to_owned();
                let message = "a readiness check is exactly one of `http`, `tcp` and `exec`";
                builder.problem(Problem::at(file.span, message).hint(Some(hint)));
            }
            return None;
        }
    };
    Some(Ready {
        check,
        interval: whole_seconds(builder, file.interval.as_ref()).unwrap_or(SECOND),
        timeout: whole_seconds(builder, file.timeout.as_ref()).unwrap_or(SECOND),
        failures: file.failures.map_or(3, |failures| failures.0),
        startup: whole_seconds(builder, file.startup.as_ref()),
    })
}

/// Kubernetes counts probes' times in seconds, from one.
fn whole_seconds(builder: &mut Builder<'_>, span: Option<&Spanned<TimeSpan>>) -> Option<TimeSpan> {
    let Spanned { span, value } = span?;
    if value.duration().subsec_nanos() > 0 || value.seconds() == 0 {
        let hint = "the first try is made at once, whatever the interval".to_owned();
        builder
            .problem(Problem::at(*span, format!("{value} is not a number of whole seconds, from 1s")).hint(Some(hint)));
    }
    Some(*value)
}

fn no_ports(builder: &mut Builder<'_>, service: &str, span: Span) -> Option<Ready> {
    let left_out = builder.file.services.get(service).is_some_and(|file| !file.ports.failed.is_empty());
    if !left_out {
        let hint = "give it one: `ports: { http: 8080 }`".to_owned();
        builder
            .problem(Problem::at(span, format!("the service `{service}` has no TCP port to check")).hint(Some(hint)));
    }
    None
}

/// A port by its name or number.
fn named<'p>(builder: &mut Builder<'_>, service: &str, name: &Spanned<String>, ports: &'p [Port]) -> Option<&'p Port> {
    let found = ports.iter().find(|port| port.name == name.value || port.target_port.to_string() == name.value);
    let file = builder.file.services.get(service);
    if found.is_none() && !file.is_some_and(|file| file.ports.knows(&name.value)) {
        let hint = suggestion(&name.value, ports.iter().map(|port| port.name.as_str()), "its ports are");
        let message = format!("the service `{service}` has no port `{}`", name.value);
        builder.problem(Problem::at(name.span, message).hint(hint));
    }
    if found.is_some_and(|port| port.protocol == Protocol::Udp) {
        let hint = "`ready: { exec: [COMMAND] }` asks it in the container".to_owned();
        builder.problem(ports::not_tcp(name, "this check").hint(Some(hint)));
        return None;
    }
    found
}
