//! TLS serving: a hand-written accept loop, one task per connection, all ended on shutdown.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{ApiServerError, Shared, handler};

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long connections get to finish once shutdown was asked for.
const DRAIN: Duration = Duration::from_secs(1);

/// Accepts until `shutdown`, then drains.
pub async fn serve(server: Shared, listener: TcpListener, shutdown: CancellationToken) -> Result<(), ApiServerError> {
    let acceptor = TlsAcceptor::from(Arc::clone(&server.pki.tls));
    let connections = TaskTracker::new();
    let dropped = CancellationToken::new();
    let result = loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break Ok(()),
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let connection = connection(Arc::clone(&server), acceptor.clone(), stream, shutdown.clone());
                let dropped = dropped.clone();
                connections.spawn(async move {
                    tokio::select! {
                        () = dropped.cancelled() => {}
                        () = connection => {}
                    }
                });
            }
            // One connection that was gone before it was accepted says nothing about the listener.
            Err(error) if is_transient(&error) => tracing::debug!(%error, "accepting a connection"),
            Err(error) => break Err(error.into()),
        }
    };
    connections.close();
    if tokio::time::timeout(DRAIN, connections.wait()).await.is_err() {
        dropped.cancel();
        connections.wait().await;
    }
    result
}

fn is_transient(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(
        error.kind(),
        ErrorKind::ConnectionAborted
            | ErrorKind::ConnectionReset
            | ErrorKind::Interrupted
            | ErrorKind::ConnectionRefused
    )
}

async fn connection(server: Shared, acceptor: TlsAcceptor, stream: TcpStream, shutdown: CancellationToken) {
    let _ = stream.set_nodelay(true);
    let stream = match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "TLS handshake"),
        Err(_) => return tracing::debug!("TLS handshake took too long"),
    };
    let service = service_fn(|request: hyper::Request<Incoming>| {
        let (server, shutdown) = (Arc::clone(&server), shutdown.clone());
        async move {
            Ok::<_, std::convert::Infallible>(handler::handle(server, None, request.map(Body::new), shutdown).await)
        }
    });
    let builder = Builder::new(TokioExecutor::new());
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "connection");
    }
}
