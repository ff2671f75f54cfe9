//! The program as a person uses it: its words, its exit codes, and what it leaves behind.

mod agent;
mod context;
#[path = "../common/program.rs"]
mod program;
mod refused;
#[path = "../common/require.rs"]
mod require;
mod session;
mod which;
mod words;
