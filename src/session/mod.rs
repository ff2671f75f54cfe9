//! A session: one live instance of an environment. Its identity, its record on disk, its agent.

#[cfg(feature = "cli")]
pub mod agent;
