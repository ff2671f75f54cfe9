//! `cluster: kind`, with a real engine, kind's real program and a node image of this machine's own (`make kind-up`, as root).
//!
//! Clusters are made one after the other: each takes most of a small machine.
#![cfg(feature = "cli")]

mod absent;
mod engine;
mod engine_gone;
mod killed;
mod own_engine;
mod rig;
mod shared;

#[path = "../common/agents.rs"]
mod agents;
#[path = "../common/ran.rs"]
mod ran;
#[path = "../common/require.rs"]
mod require;

impl rig::Rig {
    /// `None`: there is no engine, and the test is skipped.
    fn new(cluster: &str) -> Option<Self> {
        Some(Self::with_variables(envctl::cluster::by_tool::KIND, cluster, engine::engine()?, Vec::new()))
    }

    fn in_engine(cluster: &str, engine: &own_engine::OwnEngine) -> Self {
        Self::with_variables(envctl::cluster::by_tool::KIND, cluster, engine.variables.clone(), engine.inside())
    }
}
