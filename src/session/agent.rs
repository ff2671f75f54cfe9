//! The agent: the background process that owns a session.

use std::process::ExitCode;

/// The agent process: `envctl __agent`.
pub fn main() -> ExitCode {
    ExitCode::FAILURE
}
