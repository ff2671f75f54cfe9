//! Sessions as guests on a real cluster: `make cluster-up` (tests/cluster), or any other by `ENVCTL_TEST_KUBECONFIG`.
//! What people see is the program's command line; what the cluster has is kubectl's.

#[path = "../common/hello.rs"]
mod hello;
#[path = "../common/require.rs"]
mod require;

mod abandoned;
mod allowed;
mod life;
mod ownership;
mod rig;
