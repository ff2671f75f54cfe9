//! The `envctl` program: the command line, or one of the two processes it starts of itself.
//!
//! `envctl __node` and `envctl __agent` are not for people: the first must run before any thread
//! exists (it makes namespaces), so the choice is made here, before tokio starts.

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("__node") => envctl::embedded::kubelet::process::node_main(),
        Some("__agent") => envctl::session::agent::main(),
        _ => envctl::cli::main(),
    }
}
