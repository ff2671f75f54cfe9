//! Sessions as guests on a real cluster: `make cluster-up` (tests/cluster), or any other by `ENVCTL_TEST_KUBECONFIG`.
//! What people see is the program's command line; what the cluster has is kubectl's.

#[path = "../kind/engine.rs"]
mod engine;
#[path = "../common/hello.rs"]
mod hello;
#[path = "../common/port.rs"]
mod port;
#[path = "../common/proxy.rs"]
mod proxy;
#[path = "../common/ran.rs"]
mod ran;
#[path = "../common/registry.rs"]
mod registry;
#[path = "../common/require.rs"]
mod require;

mod abandoned;
mod allowed;
mod bad;
mod causes;
mod credentials;
mod life;
mod many;
mod ownership;
mod place;
mod proxied;
mod push;
mod refused;
mod rig;
mod swap;
mod user;
