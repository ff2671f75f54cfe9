//! A client whose credentials are renewed when the API refuses them, from where the user keeps theirs.
//!
//! kube-rs renews what says when it expires. A plugin that doesn't say so, a token that the user's next login replaced, a certificate: those are
//! known to be over only by a 401. client-go asks the plugin again then (`plugin/pkg/client/auth/exec/exec.go`, `maybeRefreshCreds`); here
//! the user's kubeconfig is read again as well, so that a login anywhere is enough for sessions that are up.
//!
//! Invariants: only credentials are taken from there, and only while the context still leads to the same address: where requests go never changes. A
//! request is sent again at most once, and a plugin is not run more often than every [`PAUSE`].

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use http::{Request, Response};
use kube::client::Body;
use kube::config::Kubeconfig;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tower::BoxError;

use super::{ClusterError, credentials, kubeconfig};
use crate::session::record::write_private;

/// Between two runs of the same plugin, two readings of the same file.
const PAUSE: Duration = Duration::from_secs(5);

/// Where credentials are renewed from.
#[derive(Debug, Clone)]
pub struct Renewal {
    variables: BTreeMap<String, String>,
    copy: Option<PathBuf>,
}

impl Renewal {
    /// From the kubeconfig that `variables` name. `copy`: the session's own, which gets what is new.
    pub fn new(variables: BTreeMap<String, String>, copy: Option<PathBuf>) -> Self {
        Self { variables, copy }
    }

    /// From the kubeconfig of whoever runs this program.
    pub fn own() -> Self {
        let variables = std::env::vars_os();
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self { variables: variables.filter_map(text).collect(), copy: None }
    }
}

/// A client by a kubeconfig's current context, in `namespace`.
///
/// # Errors
/// As [`kubeconfig::client`], unless the user's kubeconfig has what helps.
pub async fn client(kubeconfig: Kubeconfig, renewal: Renewal, namespace: &str) -> Result<kube::Client, ClusterError> {
    let (client, kubeconfig) = match kubeconfig::client(kubeconfig.clone(), namespace).await {
        Err(refused @ ClusterError::Credentials { .. }) => match renewed(&kubeconfig, &renewal, namespace) {
            Ok(renewed) if text(&renewed) != text(&kubeconfig) => {
                (kubeconfig::client(renewed.clone(), namespace).await?, renewed)
            }
            _ => return Err(refused),
        },
        other => (other?, kubeconfig),
    };
    let current = Current { client, kubeconfig, number: 0, tried: None };
    let renewing =
        Renewing(Arc::new(Shared { current: Mutex::new(current), renewal, namespace: namespace.to_owned() }));
    Ok(kube::Client::new(renewing, namespace))
}

/// The same cluster with the credentials that the user has now.
fn renewed(old: &Kubeconfig, renewal: &Renewal, namespace: &str) -> Result<Kubeconfig, ClusterError> {
    let context = old.current_context.clone().unwrap_or_default();
    let mut fresh = kubeconfig::of_context(&context, &renewal.variables, namespace)?;
    let (was, is) = (kubeconfig::server(old).to_owned(), kubeconfig::server(&fresh).to_owned());
    if was != is {
        let attempt = format!("renewing the credentials of context {context:?}");
        return Err(ClusterError::unavailable(attempt, format!("it leads to {is} by now, no longer to {was}")));
    }
    // Under whatever name the cluster is there by now.
    let name = fresh.clusters.first().map(|named| named.name.clone()).unwrap_or_default();
    fresh.clusters.clone_from(&old.clusters);
    fresh.clusters.iter_mut().for_each(|named| named.name.clone_from(&name));
    Ok(fresh)
}

/// Whether the same words may stand for other credentials: a plugin's, a file's.
fn is_indirect(kubeconfig: &Kubeconfig) -> bool {
    let mut infos = kubeconfig.auth_infos.iter().filter_map(|named| named.auth_info.as_ref());
    infos.any(|info| {
        info.exec.is_some()
            || info.auth_provider.is_some()
            || info.token_file.is_some()
            || info.client_certificate.is_some()
    })
}

fn text(kubeconfig: &Kubeconfig) -> String {
    serde_json::to_string_pretty(kubeconfig).unwrap_or_default()
}

struct Current {
    client: kube::Client,
    kubeconfig: Kubeconfig,
    /// How often it was renewed.
    number: u64,
    tried: Option<Instant>,
}

struct Shared {
    current: Mutex<Current>,
    renewal: Renewal,
    namespace: String,
}

impl Shared {
    /// Another client than that of this number, if there is one.
    async fn renew(&self, number: u64) -> Option<kube::Client> {
        let mut current = self.current.lock().await;
        if current.number != number {
            return Some(current.client.clone());
        }
        let renewed = async {
            let kubeconfig = renewed(&current.kubeconfig, &self.renewal, &self.namespace)?;
            if text(&kubeconfig) == text(&current.kubeconfig) {
                let too_soon = current.tried.is_some_and(|tried| tried.elapsed() < PAUSE);
                if too_soon || !is_indirect(&kubeconfig) {
                    return Ok(None);
                }
            }
            current.tried = Some(Instant::now());
            let client = kubeconfig::client(kubeconfig.clone(), &self.namespace).await?;
            Ok::<_, ClusterError>(Some((client, kubeconfig)))
        };
        let (client, kubeconfig) = match renewed.await {
            Ok(renewed) => renewed?,
            Err(error) => {
                tracing::warn!(%error, "credentials that the cluster refuses could not be renewed");
                return None;
            }
        };
        if let Some(copy) = &self.renewal.copy
            && let Err(error) = write_private(copy, text(&kubeconfig).as_bytes())
        {
            tracing::warn!(%error, "the session's kubeconfig could not be written");
        }
        (current.client, current.kubeconfig) = (client.clone(), kubeconfig);
        current.number += 1;
        Some(client)
    }
}

/// The service under the client.
struct Renewing(Arc<Shared>);

impl tower::Service<Request<Body>> for Renewing {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<Body>, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let shared = self.0.clone();
        Box::pin(async move {
            let (client, number) = {
                let current = shared.current.lock().await;
                (current.client.clone(), current.number)
            };
            let again = copy(&request);
            let answer = client.send(request).await;
            let is_refused = match &answer {
                Ok(answer) => answer.status() == http::StatusCode::UNAUTHORIZED,
                Err(error) => credentials::is_about(error),
            };
            if let Some(again) = again.filter(|_| is_refused)
                && let Some(client) = shared.renew(number).await
            {
                return client.send(again).await.map_err(Into::into);
            }
            answer.map_err(Into::into)
        })
    }
}

/// The same request once more; `None` where its body can be sent only once.
fn copy(request: &Request<Body>) -> Option<Request<Body>> {
    let mut copy = Request::new(request.body().try_clone()?);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    *copy.extensions_mut() = request.extensions().clone();
    Some(copy)
}
