//! Each room of the embedded cluster against its real counterpart, from the binaries of `tests/cluster`:
//!
//! - `our_controllers` and `our_kubelet`: ours under the real API server and etcd;
//! - `their_controllers`: the real controller manager and scheduler over our API server;
//! - `answers`: what kubectl says of both clusters, compared.
//!
//! As root, with the binaries built (`make cluster-up` does it); otherwise skipped.

#![cfg(feature = "cli")]
#![expect(clippy::duplicate_mod, reason = "the same cases, started in two ways")]

mod answers;
#[path = "../controllers/cluster.rs"]
mod cluster;
#[path = "../common/envctl.rs"]
mod envctl;
#[path = "../common/hello.rs"]
mod hello;
mod masks;
mod our_controllers;
mod our_kubelet;
mod real;
#[path = "../common/require.rs"]
mod require;
mod sides;
mod their_controllers;
