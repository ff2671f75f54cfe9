//! Containers as sandboxed processes: the node process, and the agent's side of it.

use std::process::ExitCode;

/// The node process: `envctl __node`.
pub fn node_main() -> ExitCode {
    ExitCode::FAILURE
}
