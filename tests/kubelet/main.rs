//! The kubelet on real pods: the real API server over TLS, the real node process, no controllers (what they would make, the
//! tests make).

#![cfg(feature = "cli")]

#[path = "../common/hello.rs"]
mod hello;
#[path = "../common/require.rs"]
mod require;

mod lifecycle;
mod network;
mod rig;
mod served;
mod start;
mod streams;
mod volumes;
