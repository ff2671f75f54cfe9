//! TCP connections to servers elsewhere, through the proxy that whoever runs envctl has to use.
//!
//! By Go's rules, which kubectl has too (golang.org/x/net/http/httpproxy, `FromEnvironment`): `HTTPS_PROXY` or `HTTP_PROXY` by what is asked
//! for, unless `NO_PROXY` names it; nothing of this machine's loopback ever goes through a proxy. It is asked for a tunnel (`CONNECT`),
//! whatever goes through it. kube-rs would compare `NO_PROXY` with the proxy's own address, and refuse lists with blanks in them.
//!
//! Neighbours: `cluster::multiplexed`, `notify::webhook`.

use std::net::IpAddr;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use futures::{FutureExt as _, TryFutureExt as _};
use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower::{BoxError, Service};

/// A proxy that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the proxy for {host} ({from}) is of a kind that is not supported ({kind}://): only http:// is")]
pub struct ProxyError {
    host: String,
    from: &'static str,
    kind: String,
}

/// Makes connections to one server, directly or through a proxy.
#[derive(Debug, Clone)]
pub enum Connector {
    /// Directly.
    Direct(HttpConnector),
    /// Through a proxy.
    Tunnel(Tunnel<HttpConnector>),
}

impl Connector {
    /// Over `tcp` to the server, through the proxy `own` that its own configuration names, else the one of the environment's variables.
    ///
    /// # Errors
    /// When that is of another kind than `http`.
    pub fn new(mut tcp: HttpConnector, server: &Uri, own: Option<&str>) -> Result<Self, ProxyError> {
        // The scheme is the concern of who speaks TLS over it.
        tcp.enforce_http(false);
        let variable = |name: &str| {
            let value = std::env::var(name).or_else(|_| std::env::var(name.to_ascii_lowercase()));
            value.unwrap_or_default()
        };
        Self::by(tcp, server, own, variable)
    }

    fn by(
        tcp: HttpConnector,
        server: &Uri,
        own: Option<&str>,
        variable: impl Fn(&str) -> String,
    ) -> Result<Self, ProxyError> {
        let (from, matcher) = match own {
            Some(own) => ("`proxy-url` of its kubeconfig", Matcher::builder().all(own.to_owned())),
            None if is_loopback(server) => return Ok(Self::Direct(tcp)),
            None => {
                let builder = Matcher::builder().https(variable("HTTPS_PROXY")).http(variable("HTTP_PROXY"));
                ("HTTPS_PROXY or HTTP_PROXY", builder.no(variable("NO_PROXY")))
            }
        };
        let Some(proxy) = matcher.build().intercept(server) else { return Ok(Self::Direct(tcp)) };
        if proxy.uri().scheme_str() != Some("http") {
            return Err(ProxyError {
                host: server.host().unwrap_or_default().to_owned(),
                from,
                kind: proxy.uri().scheme_str().unwrap_or_default().to_owned(),
            });
        }
        let tunnel = Tunnel::new(proxy.uri().clone(), tcp);
        Ok(Self::Tunnel(match proxy.basic_auth() {
            Some(credentials) => tunnel.with_auth(credentials.clone()),
            None => tunnel,
        }))
    }
}

fn is_loopback(server: &Uri) -> bool {
    let host = server.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

impl Service<Uri> for Connector {
    type Response = TokioIo<TcpStream>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        match self {
            Self::Direct(tcp) => tcp.poll_ready(context).map_err(Into::into),
            Self::Tunnel(tunnel) => tunnel.poll_ready(context).map_err(Into::into),
        }
    }

    fn call(&mut self, server: Uri) -> Self::Future {
        match self {
            Self::Direct(tcp) => tcp.call(server).map_err(Into::into).boxed(),
            Self::Tunnel(tunnel) => tunnel.call(server).map_err(Into::into).boxed(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `direct`, `tunnel`, or why not.
    fn way(server: &str, own: Option<&str>, variables: &[(&str, &str)]) -> String {
        let variable = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned()).unwrap_or_default()
        };
        match Connector::by(HttpConnector::new(), &server.parse().expect("an address"), own, variable) {
            Ok(Connector::Direct(_)) => "direct".to_owned(),
            Ok(Connector::Tunnel(tunnel)) => {
                assert!(!format!("{tunnel:?}").contains("secret"), "what is shown of it");
                "tunnel".to_owned()
            }
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn which_way_is_gos() {
        let all = [("HTTPS_PROXY", "http://ann:secret@proxy:3128"), ("NO_PROXY", "10.0.0.0/8, .corp ,exact.test")];
        for (server, expected) in [
            ("https://cluster.test:6443", "tunnel"),
            ("http://cluster.test", "direct"),
            ("https://10.1.2.3:6443", "direct"),
            ("https://a.corp", "direct"),
            ("https://exact.test", "direct"),
            ("https://127.0.0.1:6443", "direct"),
            ("https://[::1]:6443", "direct"),
            ("https://localhost:6443", "direct"),
        ] {
            assert_eq!(way(server, None, &all), expected, "{server}");
        }
        assert_eq!(way("http://cluster.test", None, &[("HTTP_PROXY", "proxy:3128")]), "tunnel");
        assert_eq!(way("https://cluster.test", None, &[]), "direct");
        assert_eq!(way("https://cluster.test", None, &[("HTTPS_PROXY", "http://p"), ("NO_PROXY", "*")]), "direct");
    }

    #[test]
    fn what_a_kubeconfig_says_is_meant() {
        let never = [("NO_PROXY", "*")];
        assert_eq!(way("https://127.0.0.1:6443", Some("http://proxy:3128"), &never), "tunnel");
        assert_eq!(
            way("https://one:6443", Some("socks5://ann:secret@proxy"), &[]),
            "the proxy for one (`proxy-url` of its kubeconfig) is of a kind that is not supported (socks5://): only http:// is"
        );
    }
}
