//! The `envctl` program: the command line, or one of the three processes it starts of itself.
//!
//! `envctl __node`, `envctl __agent` and `envctl __suite` are not for people: the first must run before any thread
//! exists (it makes namespaces), so the choice is made here, before tokio starts.

use std::process::ExitCode;

fn main() -> ExitCode {
    let first = std::env::args_os().nth(1);
    match first.as_ref().and_then(|word| word.to_str()) {
        Some("__node") => envctl::embedded::kubelet::process::node_main(),
        Some("__agent") => envctl::session::agent::main(),
        Some("__suite") => envctl::suite::supervisor::main(),
        _ => envctl::cli::main(),
    }
}
