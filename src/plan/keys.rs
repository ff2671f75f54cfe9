//! Keys: where they come from and what they wait for.

use super::load::{Builder, Draft, Edge};
use super::references::Reader;
use super::{
    Condition, Encoding, HttpCall, Key, KeyAction, KeySource, NeedReason, NodeId, NodeKind, NodeSpec, Port, Protocol,
    ports,
};
use crate::envfile::model::{EncodingWord, ExecCall, HttpRequest, KeyFile, MethodWord};
use crate::envfile::{Problem, Span, Spanned, Template, suggestion};

/// A key's node; `None` after reporting what it lacks.
pub(super) fn key(builder: &mut Builder<'_>, name: &str, file: &KeyFile) -> Option<Draft> {
    let given = [
        ("exec", file.exec.is_some()),
        ("http", file.http.is_some()),
        ("generate", file.generate.is_some()),
        ("fromEnv", file.from_env.is_some()),
    ];
    if given.iter().filter(|(_, given)| *given).count() != 1 {
        if builder.sound(file.span) {
            let message =
                format!("the key `{name}` comes from exactly one of `exec`, `http`, `generate` and `fromEnv`");
            builder.problem(Problem::at(file.span, message));
        }
        return None;
    }
    let mut calls = Calls { edges: Vec::new(), issuer: None };
    let source = if let Some(exec) = &file.exec {
        KeySource::Issued(calls.exec(builder, exec)?)
    } else if let Some(http) = &file.http {
        KeySource::Issued(calls.http(builder, http, "POST")?)
    } else if let Some(generate) = &file.generate {
        KeySource::Generate {
            bytes: generate.bytes.map_or(32, |bytes| bytes.0),
            encoding: match generate.encoding {
                None | Some(EncodingWord::Hex) => Encoding::Hex,
                Some(EncodingWord::Base64) => Encoding::Base64,
                Some(EncodingWord::Base64Url) => Encoding::Base64Url,
            },
        }
    } else {
        KeySource::FromEnv(file.from_env.as_ref()?.value.text.clone())
    };
    let mut edges = std::mem::take(&mut calls.edges);
    edges.extend(builder.needs(&file.needs, name));
    let revoke = match &file.revoke {
        None => None,
        Some(revoke) => match (&revoke.exec, &revoke.http) {
            (Some(exec), None) => Some(calls.exec(builder, exec)?),
            (None, Some(http)) => Some(calls.http(builder, http, "DELETE")?),
            _ => {
                if builder.sound(revoke.span) {
                    builder.problem(Problem::at(revoke.span, "a key is revoked by exactly one of `exec` and `http`"));
                }
                None
            }
        },
    };
    // Revoking is for the end: it makes nothing wait at the start, but other keys that it uses must be there.
    edges.extend(calls.edges.into_iter().filter(|edge| edge.reason == NeedReason::Key && edge.to.name != name));
    if let Some(Spanned { span, value }) = &file.ttl {
        if matches!(source, KeySource::FromEnv(_)) {
            builder.problem(Problem::at(*span, "a key of the host cannot be issued anew, so it has no `ttl`"));
        }
        if value.seconds() == 0 {
            builder.problem(Problem::at(*span, "a key must live longer than that"));
        }
    }
    if let Some(Spanned { span, value }) = &file.timeout {
        if file.exec.is_none() && file.http.is_none() && file.revoke.is_none() {
            builder.problem(Problem::at(*span, "no service is called for this key, so it has no `timeout`"));
        } else if value.duration().is_zero() {
            builder.problem(Problem::at(*span, "no call is as fast as that"));
        }
    }
    let (ttl, timeout) = (file.ttl.as_ref().map(|ttl| ttl.value), file.timeout.as_ref().map(|time| time.value));
    Some(Draft {
        id: NodeId::new(NodeKind::Key, name),
        edges,
        spec: NodeSpec::Key(Box::new(Key { source, revoke, ttl, timeout })),
    })
}

/// Resolves calls to services; what each waits for is collected.
struct Calls {
    edges: Vec<Edge>,
    /// The service of the issuing call: the default for the revoking one.
    issuer: Option<Spanned<String>>,
}

impl Calls {
    fn exec(&mut self, builder: &mut Builder<'_>, call: &ExecCall) -> Option<KeyAction> {
        let service = self.service(builder, call.service.as_ref(), call.span)?;
        let command = call.command.0.iter().map(|word| builder.check(word, Reader::PodPlain).clone()).collect();
        Some(KeyAction::Exec { service, command })
    }

    fn http(&mut self, builder: &mut Builder<'_>, call: &HttpRequest, method: &str) -> Option<KeyAction> {
        let service = self.service(builder, call.service.as_ref(), call.span)?;
        let port = self.port(builder, &service, call)?;
        let path = self.text(builder, &call.path);
        if !path.to_string().starts_with('/') {
            builder.problem(Problem::at(call.path.span, "a path starts with `/`"));
        }
        let mut headers = std::collections::BTreeMap::new();
        for (name, value) in call.headers.iter() {
            headers.insert(name.value.clone(), self.text(builder, value));
        }
        let body = call.body.as_ref().map(|body| self.text(builder, body));
        if let Some(pointer) = &call.pointer
            && !pointer.value.is_empty()
            && !pointer.value.starts_with('/')
        {
            builder.problem(Problem::at(pointer.span, "a JSON Pointer starts with `/`, as in `/data/token`"));
        }
        let method = match call.method {
            None => method,
            Some(MethodWord::Get) => "GET",
            Some(MethodWord::Post) => "POST",
            Some(MethodWord::Put) => "PUT",
            Some(MethodWord::Patch) => "PATCH",
            Some(MethodWord::Delete) => "DELETE",
        };
        Some(KeyAction::Http(HttpCall {
            service,
            port,
            method: method.to_owned(),
            path,
            headers,
            body,
            pointer: call.pointer.as_ref().map(|pointer| pointer.value.clone()),
        }))
    }

    fn text(&mut self, builder: &mut Builder<'_>, text: &Spanned<Template>) -> Template {
        self.edges.extend(builder.key_edges(text));
        builder.check(text, Reader::KeyCall).clone()
    }

    fn service(&mut self, builder: &mut Builder<'_>, named: Option<&Spanned<String>>, call: Span) -> Option<String> {
        let Some(named) = named.cloned().or_else(|| self.issuer.clone()) else {
            builder.problem(Problem::at(call, "`service` is missing in a key's call"));
            return None;
        };
        if !builder.file.services.knows(&named.value) {
            let hint = suggestion(&named.value, builder.file.services.names(), "the services are");
            builder.problem(Problem::at(named.span, format!("there is no service `{}`", named.value)).hint(hint));
            return None;
        }
        let to = NodeId::new(NodeKind::Service, named.value.clone());
        self.edges.push(Edge { to, condition: Condition::Ready, reason: NeedReason::Issuer, span: named.span });
        let name = named.value.clone();
        self.issuer.get_or_insert(named);
        Some(name)
    }

    fn port(&mut self, builder: &mut Builder<'_>, service: &str, call: &HttpRequest) -> Option<String> {
        let found = builder.file.services.get(service)?;
        let ports: Vec<Port> = found.ports.iter().map(|(name, setting)| ports::port(&name.value, &setting.0)).collect();
        match &call.port {
            Some(named) if ports.iter().any(|port| port.name == named.value && port.protocol == Protocol::Udp) => {
                builder.problem(ports::not_tcp(named, "HTTP"));
                None
            }
            Some(named) if found.ports.knows(&named.value) => Some(named.value.clone()),
            Some(named) => {
                let hint = suggestion(&named.value, found.ports.names(), "its ports are");
                let message = format!("the service `{service}` has no port `{}`", named.value);
                builder.problem(Problem::at(named.span, message).hint(hint));
                None
            }
            None => {
                let port = ports::for_http(ports.iter());
                if port.is_none() && found.ports.failed.is_empty() {
                    builder.problem(Problem::at(call.span, format!("the service `{service}` has no TCP port to call")));
                }
                port.map(|port| port.name.clone())
            }
        }
    }
}
