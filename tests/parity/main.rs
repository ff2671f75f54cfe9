//! What a user sees of a session is the same on the embedded cluster and on real Kubernetes.
//!
//! Each case plays one scene, step by step, through the command line on both clusters at once: the same env file, in which the image's
//! `process:` is what the embedded cluster runs and the image of that name, imported, what the real one does. Exit codes, stdout, stderr
//! and documents are compared with names, times and addresses masked ([`masks`]); what differs is mended or stands in
//! `differences.txt` with its reason, and a line there that no longer differs fails its case too.
//!
//! The same scenes are played a third time through the `kind` provider where there is an engine (`make kind-up`), and compared by the same table.
//!
//! The real cluster is `make cluster-up`'s (tests/cluster), or another of `tests/cluster/run` where `ENVCTL_CLUSTER_DIR` says so; without one
//! the suite is skipped. `make test-cluster` runs it.

#![cfg(feature = "cli")]

mod causes;
mod compare;
mod ends;
#[path = "../kind/engine.rs"]
mod engine;
#[path = "../common/hello.rs"]
mod hello;
mod kind;
mod life;
mod masks;
#[path = "../common/ran.rs"]
mod ran;
mod refused;
#[path = "../common/require.rs"]
mod require;
mod stage;
