//! The `envctl` program: the command line, or one of the five processes it starts of itself.
//!
//! `envctl __node`, `envctl __gate`, `envctl __agent`, `envctl __suite` and `envctl __beside` are not for people: the first must run before any thread
//! exists (it makes namespaces), so the choice is made here, before tokio starts.

use std::process::ExitCode;

use envctl::suite::supervisor::Place;

fn main() -> ExitCode {
    let first = std::env::args_os().nth(1);
    match first.as_ref().and_then(|word| word.to_str()) {
        Some("__node") => envctl::embedded::kubelet::process::node_main(),
        Some("__gate") => envctl::embedded::kubelet::docker::gate::main(),
        Some("__agent") => envctl::session::agent::main(),
        Some("__suite") => envctl::suite::supervisor::main(Place::OwnSession),
        Some("__beside") => envctl::suite::supervisor::main(Place::Terminal),
        _ => envctl::cli::main(),
    }
}
