//! Brings up a whole private, short-lived copy of a system on Kubernetes, from one environment file.
//!
//! The data path, which is also the order of the modules:
//!
//! ```text
//! env file → envfile → plan → objects → cluster → provision (images, readiness) → session → teardown
//! ```
//!
//! `envfile`, `plan` and `objects` are pure. Everything after them speaks only `kube::Client`; the
//! cluster inside envctl (`embedded`) is one provider among others. With `default-features = false`
//! only [`session`]'s small client is built.

pub mod session;

#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "cli")]
pub mod cluster;
#[cfg(feature = "cli")]
pub mod dump;
#[cfg(feature = "cli")]
pub mod embedded;
#[cfg(feature = "cli")]
pub mod envfile;
#[cfg(feature = "cli")]
pub mod error;
#[cfg(feature = "cli")]
pub mod images;
#[cfg(feature = "cli")]
pub mod keys;
#[cfg(feature = "cli")]
pub mod notify;
#[cfg(feature = "cli")]
pub mod objects;
#[cfg(feature = "cli")]
pub mod on_host;
#[cfg(feature = "cli")]
pub mod plan;
#[cfg(feature = "cli")]
pub mod provision;
#[cfg(feature = "cli")]
mod proxied;
#[cfg(feature = "cli")]
pub mod readiness;
#[cfg(feature = "cli")]
pub mod reading;
#[cfg(feature = "cli")]
pub mod redact;
#[cfg(feature = "cli")]
pub mod suite;
#[cfg(feature = "cli")]
pub mod teardown;
#[cfg(feature = "cli")]
mod tls;
