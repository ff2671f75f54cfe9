//! A client with one connection for all that it asks: HTTP/2, as client-go speaks it, where kube-rs would open a connection, with its
//! handshake, for every request and watch that is under way.
//!
//! Streams (exec, attach, port-forwards) are upgraded connections, which HTTP/2 as kube-rs asks for them has not: those go by HTTP/1.1. A
//! connection over which nothing comes is asked for a sign of life at client-go's pace (`apimachinery/pkg/util/net/http.go`).

use std::time::Duration;

use http::{Request, header};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::retry::RetryPolicy;
use kube::client::{Body, ClientBuilder, ConfigExt as _};
use tower::retry::RetryLayer;
use tower::{BoxError, ServiceBuilder};

/// client-go's `ReadIdleTimeout` and `PingTimeout`.
const IDLE: Duration = Duration::from_secs(30);
const PING: Duration = Duration::from_secs(15);

/// A client by a configuration without credential plugins, since kube-rs keeps to itself when what those gave expires. Without TLS nobody could
/// say that they speak HTTP/2, and how to go through proxies, and under which name a server is to show itself, kube-rs knows: then it is
/// kube-rs' own.
///
/// # Errors
/// As kube-rs: certificates that are none, credentials that cannot be had.
pub fn client(config: kube::Config) -> Result<kube::Client, kube::Error> {
    let is_special = config.proxy_url.is_some() || config.tls_server_name.is_some();
    if is_special || config.cluster_url.scheme_str() != Some("https") {
        return kube::Client::try_from(config);
    }
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(config.connect_timeout);
    let tls = config.rustls_client_config()?;
    let connector = |tls| HttpsConnectorBuilder::new().with_tls_config(tls).https_only();
    let mut pool = Client::builder(TokioExecutor::new());
    pool.timer(TokioTimer::new()).pool_timer(TokioTimer::new());
    pool.http2_keep_alive_interval(IDLE).http2_keep_alive_timeout(PING);
    let requests: Client<_, Body> =
        pool.build(connector(tls.clone()).enable_all_versions().wrap_connector(tcp.clone()));
    let upgrades: Client<_, Body> = pool.build(connector(tls).enable_http1().wrap_connector(tcp));
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
