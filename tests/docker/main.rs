//! Pods of the embedded cluster that run in a real Docker engine: the one of `make kind-up`. As root; what an ordinary user may do is tried
//! by a user who is made for it.
#![cfg(feature = "cli")]

mod builds;
mod ends;
mod pods;
mod refused;
mod rig;

#[path = "../common/agents.rs"]
mod agents;
#[path = "../kind/engine.rs"]
mod engine;
#[path = "../common/ran.rs"]
mod ran;
#[path = "../common/registry.rs"]
#[expect(dead_code, reason = "nobody logs in or counts uploads here")]
mod registry;
#[path = "../common/require.rs"]
mod require;
