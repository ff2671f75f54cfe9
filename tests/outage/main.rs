//! A real cluster whose API server goes away, for a moment or for good, under an `up`, a session and a `down`.
//!
//! The cluster is this binary's own (`place`): nobody else's is to be stopped.

#[path = "../common/hello.rs"]
mod hello;
#[path = "../common/ran.rs"]
mod ran;
#[path = "../common/require.rs"]
mod require;
#[path = "../guest/rig.rs"]
#[expect(dead_code, reason = "the guests' tests use more of it")]
mod rig;

mod gone;
mod place;
mod restarted;
