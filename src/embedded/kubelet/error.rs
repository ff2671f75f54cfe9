//! What can stop the kubelet from starting. Everything later is an Event, a condition or a log line.

use std::path::PathBuf;

/// Why the kubelet did not start.
#[derive(Debug, thiserror::Error)]
pub enum KubeletError {
    /// Its directory cannot be made.
    #[error("making the kubelet's directory {path}: {source}")]
    StateDir {
        /// Which one.
        path: PathBuf,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// The API server did not take the Node object or its lease.
    #[error("registering node {node}: {source}")]
    Register {
        /// The node's name.
        node: String,
        /// The server's answer.
        source: Box<kube::Error>,
    },
    /// The cluster DNS address cannot be listened on.
    #[error("listening for cluster DNS on {address}: {source}")]
    Dns {
        /// Address and port.
        address: std::net::SocketAddrV4,
        /// The kernel's answer.
        source: std::io::Error,
    },
}
