//! Containers as sandboxed processes: the node process, and the agent's side of it.
//!
//! [`ProcessRuntime`] in the agent starts `envctl __node` ([`node_main`]), which enters namespaces of its own and
//! there makes pods and containers; they talk over one socket pair ([`wire`]). Invariants: the node has one thread
//! and never blocks; the agent never enters a namespace; whatever ends the agent ends everything here.

mod addresses;
mod client;
mod link;
mod network;
pub(in super::super::kubelet) mod node;
mod probe;
pub(in super::super::kubelet) mod sys;
pub(in super::super::kubelet) mod wire;

use std::process::ExitCode;

pub use client::{Options, ProcessRuntime, StartError};
pub use probe::{Mode, Refusal, probe};
pub use wire::read_packet;

/// The node process: `envctl __node`. Must be called before any thread exists.
pub fn node_main() -> ExitCode {
    node::main()
}
