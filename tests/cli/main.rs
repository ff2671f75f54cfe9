//! The program as a person uses it: its words, its exit codes, and what it leaves behind.

mod again;
mod agent;
mod bad;
mod context;
mod crash;
mod debugger;
#[path = "../common/hello.rs"]
mod hello;
mod interrupt;
mod keys;
mod nextest;
mod notify;
#[path = "../common/port.rs"]
mod port;
#[path = "../common/program.rs"]
mod program;
#[path = "../common/proxy.rs"]
mod proxy;
mod pytest;
mod queued;
mod refused;
#[path = "../common/require.rs"]
mod require;
mod seccomp;
mod session;
mod shared;
mod suites;
mod swap;
mod terminal;
mod together;
mod traces;
mod verbs;
mod which;
mod words;
