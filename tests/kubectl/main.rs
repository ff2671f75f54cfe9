//! The real kubectl against a session, over TLS: what the registry calls enforced, shown by its own client.
//!
//! All tests share one session and use names of their own in it. Where two wait for the same thing by
//! different words (`wait`, `rollout status`), both are here because both are how people wait.

mod apply;
mod delete;
mod forward;
mod read;
mod run;
mod session;
mod workloads;

use session::{Output, kubectl, kubectl_command, kubectl_fails, kubectl_input};
