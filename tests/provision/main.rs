//! Provisioning against the real embedded cluster: environments come up, change, fail with one screen, and go.

#[path = "../common/hello.rs"]
mod hello;
#[path = "../common/require.rs"]
mod require;

mod failures;
mod keys;
mod rig;
mod up;
