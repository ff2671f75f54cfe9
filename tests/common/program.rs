//! Which programs a test finds on this machine.

use std::process::{Command, Stdio};

/// Whether a program can be started.
pub fn program(name: &str, argument: &str) -> bool {
    Command::new(name).arg(argument).stdin(Stdio::null()).output().is_ok()
}
