//! A client with one connection for all that it asks: HTTP/2, as client-go speaks it, where kube-rs would open a connection, with its
//! handshake, for every request and watch that is under way.
//!
//! Streams (exec, attach, port-forwards) are upgraded connections, which HTTP/2 as kube-rs asks for them has not: those go by HTTP/1.1. A
//! connection over which nothing comes is asked for a sign of life at client-go's pace (`apimachinery/pkg/util/net/http.go`).

use std::time::Duration;

use http::{Request, header};
use hyper_rustls::{FixedServerNameResolver, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::retry::RetryPolicy;
use kube::client::{Body, ClientBuilder, ConfigExt as _};
use rustls::pki_types::ServerName;
use tower::retry::RetryLayer;
use tower::{BoxError, ServiceBuilder};

use crate::proxied::Connector;

/// client-go's `ReadIdleTimeout` and `PingTimeout`.
const IDLE: Duration = Duration::from_secs(30);
const PING: Duration = Duration::from_secs(15);

/// A client by a configuration, through the proxy that it or the environment names. Its credential plugins are run here, which may take a while.
///
/// # Errors
/// As kube-rs: certificates that are none, credentials that cannot be had; or a proxy of a kind that isn't supported.
pub fn client(config: kube::Config, proxy: Option<&str>) -> Result<kube::Client, kube::Error> {
    let mut tcp = HttpConnector::new();
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(config.connect_timeout);
    let connector = Connector::new(tcp, &config.cluster_url, proxy);
    let connector = connector.map_err(|error| kube::Error::Service(error.into()))?;
    let tls = config.rustls_client_config()?;
    let name = config.tls_server_name.clone().map(ServerName::try_from).transpose();
    let name = name.map_err(|error| kube::Error::Service(error.into()))?;
    let https = |tls| {
        let builder = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http();
        match name.clone() {
            Some(name) => builder.with_server_name_resolver(FixedServerNameResolver::new(name)),
            None => builder,
        }
    };
    let mut pool = Client::builder(TokioExecutor::new());
    pool.timer(TokioTimer::new()).pool_timer(TokioTimer::new());
    pool.http2_keep_alive_interval(IDLE).http2_keep_alive_timeout(PING);
    let requests: Client<_, Body> =
        pool.build(https(tls.clone()).enable_all_versions().wrap_connector(connector.clone()));
    let upgrades: Client<_, Body> = pool.build(https(tls).enable_http1().wrap_connector(connector));
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.default_retry.then(|| RetryLayer::new(RetryPolicy::server_retry())))
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service_fn(move |request: Request<Body>| {
            let is_upgrade = request.headers().contains_key(header::UPGRADE);
            if is_upgrade { upgrades.request(request) } else { requests.request(request) }
        });
    Ok(ClientBuilder::new(service, config.default_namespace).build())
}
