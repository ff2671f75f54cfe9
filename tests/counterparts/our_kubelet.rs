//! Our kubelet under the real API server: the tests of `tests/kubelet`, one after the other.

#[path = "../kubelet/lifecycle.rs"]
mod lifecycle;
#[path = "../kubelet/network.rs"]
mod network;
#[path = "../kubelet/rig.rs"]
mod rig;
mod served;
#[path = "../kubelet/start.rs"]
mod start;
#[path = "../kubelet/streams.rs"]
mod streams;
#[path = "../kubelet/volumes.rs"]
mod volumes;
