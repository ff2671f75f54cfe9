//! Startup, readiness and liveness probes.

pub mod schedule;
