//! One probe's action: an HTTP request, a connection, a command. Also the actions of lifecycle hooks.
//!
//! Words and rules follow upstream's `pkg/probe/{http,tcp,exec}` and `pkg/kubelet/prober/prober.go`.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Container, ExecAction, HTTPGetAction, Probe, TCPSocketAction};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::io::{AsyncRead, AsyncWrite};

use super::super::command::{self, CommandError};
use super::super::runtime::{NodeNetwork, Runtime};
use crate::tls;

/// Bytes of a response's body that are read, as upstream's `maxRespBodyLength`.
const BODY: usize = 10 * 1024;

/// Where a container is.
#[derive(Clone)]
pub struct Site {
    /// Runs commands.
    pub runtime: Arc<dyn Runtime>,
    /// Reaches addresses.
    pub network: Arc<dyn NodeNetwork>,
    /// The pod's address.
    pub pod_ip: Ipv4Addr,
    /// The container's current id.
    pub container_id: String,
}

/// Why a probe did not succeed, in its event's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// It was made, and the answer is no.
    Failed(String),
    /// It could not be made, which says nothing about the container.
    Errored(String),
}

/// Runs a probe once.
pub async fn probe(site: &Site, container: &Container, probe: &Probe, timeout: Duration) -> Result<(), Trouble> {
    if let Some(action) = &probe.exec {
        exec(site, action, timeout).await
    } else if let Some(action) = &probe.http_get {
        http_get(site, container, action, "kube-probe/1.36", timeout).await.map_err(Trouble::Failed)
    } else if let Some(action) = &probe.tcp_socket {
        tcp(site, container, action, timeout).await.map_err(Trouble::Failed)
    } else {
        let words = "grpc probes are not supported on this node: use httpGet, tcpSocket or exec";
        Err(Trouble::Failed(words.to_owned()))
    }
}

/// A command; its output is the message. `pkg/probe/exec/exec.go`: what has no exit code and was in time is an error.
pub async fn exec(site: &Site, action: &ExecAction, timeout: Duration) -> Result<(), Trouble> {
    let argv = action.command.clone().unwrap_or_default();
    match command::run(&*site.runtime, &site.container_id, &argv, timeout).await {
        Ok((status, _)) if status.code() == 0 => Ok(()),
        Ok((_, output)) => Err(Trouble::Failed(output)),
        Err(error @ CommandError::TimedOut { .. }) => Err(Trouble::Failed(error.to_string())),
        Err(error) => Err(Trouble::Errored(format!(
            "rpc error: code = Unknown desc = failed to exec in container: unable to start container process: {error}"
        ))),
    }
}

/// A connection.
pub async fn tcp(
    site: &Site,
    container: &Container,
    action: &TCPSocketAction,
    timeout: Duration,
) -> Result<(), String> {
    let port = resolve_port(&action.port, container)?;
    let address = SocketAddrV4::new(host(action.host.as_deref(), site), port);
    match tokio::time::timeout(timeout, site.network.connect(address)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(format!("dial tcp {address}: {}", go_words(&error))),
        Err(_) => Err(format!("dial tcp {address}: i/o timeout")),
    }
}

/// A request; 200 to 399 is success.
pub async fn http_get(
    site: &Site,
    container: &Container,
    action: &HTTPGetAction,
    agent: &str,
    timeout: Duration,
) -> Result<(), String> {
    let port = resolve_port(&action.port, container)?;
    let address = SocketAddrV4::new(host(action.host.as_deref(), site), port);
    let scheme = action.scheme.as_deref().unwrap_or("HTTP").to_lowercase();
    let path = action.path.as_deref().unwrap_or("/");
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let authority = match action.host.as_deref().filter(|host| !host.is_empty()) {
        Some(host) => format!("{host}:{port}"),
        None => address.to_string(),
    };
    let url = format!("{scheme}://{authority}{path}");
    let mut request = http::Request::get(&path);
    let mut named_host = None;
    let (mut has_agent, mut has_accept) = (false, false);
    for header in action.http_headers.iter().flatten() {
        if header.name.eq_ignore_ascii_case("host") {
            named_host = Some(header.value.clone());
            continue;
        }
        has_agent |= header.name.eq_ignore_ascii_case("user-agent");
        has_accept |= header.name.eq_ignore_ascii_case("accept");
        request = request.header(header.name.as_str(), header.value.as_str());
    }
    if !has_agent {
        request = request.header("User-Agent", agent);
    }
    if !has_accept {
        request = request.header("Accept", "*/*");
    }
    let request = request
        .header("Host", named_host.unwrap_or(authority))
        .header("Connection", "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| format!("Get \"{url}\": {error}"))?;
    let exchange = async {
        let stream =
            site.network.connect(address).await.map_err(|error| format!("dial tcp {address}: {}", go_words(&error)))?;
        if scheme == "https" {
            let stream =
                tls::connect_unverified((*address.ip()).into(), stream).await.map_err(|error| error.to_string())?;
            send(stream, request).await
        } else {
            send(stream, request).await
        }
    };
    match tokio::time::timeout(timeout, exchange).await {
        Ok(Ok(status)) if (200..400).contains(&status) => Ok(()),
        Ok(Ok(status)) => Err(format!("HTTP probe failed with statuscode: {status}")),
        Ok(Err(words)) => Err(format!("Get \"{url}\": {words}")),
        Err(_) => {
            Err(format!("Get \"{url}\": context deadline exceeded (Client.Timeout exceeded while awaiting headers)"))
        }
    }
}

async fn send<S>(stream: S, request: http::Request<Empty<Bytes>>) -> Result<u16, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(|error| match error.is_incomplete_message() {
            true => "EOF".to_owned(),
            false => error.to_string(),
        })?;
        let status = response.status().as_u16();
        // The body is read, as upstream does, so that the server sees an orderly end.
        let mut body = response.into_body();
        let mut read = 0;
        while let Some(Ok(frame)) = body.frame().await {
            read += frame.data_ref().map_or(0, Bytes::len);
            if read >= BODY {
                break;
            }
        }
        Ok(status)
    };
    futures::pin_mut!(exchange, connection);
    // The connection is driven only as long as the exchange needs it.
    match futures::future::select(exchange, connection).await {
        futures::future::Either::Left((result, _)) => result,
        futures::future::Either::Right((_, exchange)) => exchange.await,
    }
}

fn host(given: Option<&str>, site: &Site) -> Ipv4Addr {
    given.and_then(|host| host.parse().ok()).unwrap_or(site.pod_ip)
}

/// A port by number or by the name of one of the container's (`pkg/probe/util.go`).
pub fn resolve_port(port: &IntOrString, container: &Container) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => {
            let named = container.ports.iter().flatten().find(|port| port.name.as_ref() == Some(name));
            match named.map(|port| port.container_port).or_else(|| name.parse().ok()) {
                Some(number) => Some(number),
                None => return Err(format!("couldn't find port: {name:?} in pod")),
            }
        }
    };
    number
        .and_then(|number| u16::try_from(number).ok())
        .filter(|number| *number > 0)
        .ok_or_else(|| format!("invalid port number: {number:?}"))
}

fn go_words(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
        std::io::ErrorKind::HostUnreachable => "connect: no route to host".to_owned(),
        std::io::ErrorKind::ConnectionReset => "read: connection reset by peer".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ports_by_name() {
        let container: Container =
            serde_json::from_value(json!({"name": "c", "ports": [{"name": "http", "containerPort": 8080}]})).unwrap();
        assert_eq!(resolve_port(&IntOrString::Int(80), &container), Ok(80));
        assert_eq!(resolve_port(&IntOrString::String("http".into()), &container), Ok(8080));
        assert_eq!(resolve_port(&IntOrString::String("81".into()), &container), Ok(81));
        assert!(resolve_port(&IntOrString::String("nope".into()), &container).is_err());
        assert!(resolve_port(&IntOrString::Int(0), &container).is_err());
    }
}
