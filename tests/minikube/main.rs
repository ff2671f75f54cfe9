//! `cluster: minikube`, with minikube's real program.
//!
//! Where it isn't on `PATH`, what needs it is skipped, with `ENVCTL_REQUIRE=all` too, unlike everything else: no package registry has minikube
//! (not Debian's, npm's or PyPI's, and the Go module proxy refuses its module as too big), so CI has no ordinary way to install it.
//! `ENVCTL_REQUIRE=minikube` makes its absence a failure.
//!
//! With an ordinary minikube and Docker nothing else is needed. A machine without downloads needs an image for nodes (`MINIKUBE_BASE_IMAGE`: that of
//! `tests/kind` does, with sshd, sudo, crictl, a user `docker` who may use both, and kubelet, kubeadm and kubectl in
//! `/var/lib/minikube/binaries/VERSION`), the same programs in `~/.minikube/cache/linux/amd64/VERSION`, which the tests' homes share, and
//! `MINIKUBE_KUBERNETES_VERSION`, `MINIKUBE_CNI=bridge`, and `false` for `MINIKUBE_PRELOAD`, `_CACHE_IMAGES` and `_INSTALL_ADDONS`.
//!
//! What was run, of v1.38.1 and on a machine with cgroups of version 1:
//!
//! - The docker driver, in the way above.
//! - The driver none, by hand, in a privileged container of the image of `tests/kind` with Kubernetes v1.36.3. In place were: the same variables
//!   and programs, sudo, crictl, conntrack, and the CNI plugins in `/opt/cni/bin`, but not the image's own unit of the kubelet. `minikube start
//!   --container-runtime=containerd --extra-config=kubeadm.ignore-preflight-errors=SystemVerification` (the last for these cgroups) took 17 s.
//!   Root had no CAP_SYS_RESOURCE: containerd's configuration said `restrict_oom_score_adj=true`, without spaces, since minikube takes it back
//!   otherwise. Another profile's name was refused, which `cluster: minikube` now is before that. `envctl up --context minikube`, of an image
//!   that its containerd had, was ready in 1.0 to 2.1 s (four times), and the service answered; the second `up` took 0.04 to 0.05 s; `down`
//!   removed the namespace in 8 to 11 s, most of it the namespace controller's. Of these tests `none` needs only minikube's program.
//!
//! What wasn't: the drivers that make virtual machines, podman and ssh; downloads, preloads, minikube's own base image, addons; several nodes;
//! cgroups of version 2. In the driver none's cluster CoreDNS didn't come up (the image's is built without a plugin that minikube configures),
//! and nothing asked it.
#![cfg(feature = "cli")]

mod absent;
mod none;
mod refused;
mod shared;

#[path = "../common/agents.rs"]
mod agents;
#[path = "../kind/engine.rs"]
mod engine;
#[path = "../common/ran.rs"]
mod ran;
#[path = "../common/require.rs"]
mod require;
#[path = "../kind/rig.rs"]
mod rig;

use std::path::PathBuf;

use envctl::cluster::by_tool::MINIKUBE;
use rig::Rig;

/// With minikube's program, and an engine where the test needs one. `None`: the test is skipped.
#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
fn rig(cluster: &str, with_engine: bool) -> Option<Rig> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_there = std::env::split_paths(&path).any(|directory| directory.join("minikube").is_file());
    if !is_there {
        assert!(std::env::var("ENVCTL_REQUIRE").as_deref() != Ok("minikube"), "minikube is missing");
        eprintln!("skipped: minikube is missing (see the top of tests/minikube/main.rs)");
        return None;
    }
    let mut variables = if with_engine { engine::engine()? } else { Vec::new() };
    variables.push(("MINIKUBE_DRIVER".to_owned(), "docker".to_owned()));
    if nix::unistd::geteuid().is_root() {
        variables.push(("MINIKUBE_FORCE".to_owned(), "true".to_owned()));
    }
    let rig = Rig::with_variables(MINIKUBE, cluster, variables, Vec::new());
    let cache = std::env::home_dir().unwrap_or_else(|| PathBuf::from("/")).join(".minikube/cache");
    if cache.is_dir() {
        let home = rig.home.path().join(".minikube");
        std::fs::create_dir(&home).expect("made");
        std::os::unix::fs::symlink(cache, home.join("cache")).expect("linked");
    }
    Some(rig)
}
