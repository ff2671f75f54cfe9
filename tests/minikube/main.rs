//! `cluster: minikube`, with minikube's real program.
//!
//! Where it isn't on `PATH`, what needs it is skipped, with `ENVCTL_REQUIRE=all` too, unlike everything else: no package registry has minikube
//! (not Debian's, npm's or PyPI's, and the Go module proxy refuses its module as too big), so CI has no ordinary way to install it.
//! `ENVCTL_REQUIRE=minikube` makes its absence a failure.
//!
//! With an ordinary minikube and Docker nothing else is needed. A machine without downloads needs an image for nodes (`MINIKUBE_BASE_IMAGE`: that of
//! `tests/kind` does, with sshd, sudo, crictl, a user `docker` who may use both, and kubelet, kubeadm and kubectl in
//! `/var/lib/minikube/binaries/VERSION`), the same programs in `~/.minikube/cache/linux/amd64/VERSION`, which the tests' homes share, and
//! `MINIKUBE_KUBERNETES_VERSION`, `MINIKUBE_CNI=bridge`, and `false` for `MINIKUBE_PRELOAD`, `_CACHE_IMAGES` and `_INSTALL_ADDONS`. So v1.38.1 was
//! tried, its docker driver only, on a machine with cgroups of version 1.
#![cfg(feature = "cli")]

mod absent;
mod refused;
mod shared;

#[path = "../kind/engine.rs"]
mod engine;
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
