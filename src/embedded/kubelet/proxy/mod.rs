//! The service proxy: service addresses in the node's network, and the agent's way to services.

pub mod dialer;

pub use self::dialer::{DialError, PortRef, ServiceDialer};
