//! Which real cluster: `make cluster-up`'s, or any other by `ENVCTL_TEST_KUBECONFIG` or `ENVCTL_CLUSTER_DIR`.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::require::require;

/// A cluster, and its program (tests/cluster), where it has one.
pub struct Place {
    pub kubeconfig: PathBuf,
    pub run: Option<fn() -> Command>,
}

/// `None` where there is none.
pub fn place() -> Option<Place> {
    if let Some(own) = std::env::var_os("ENVCTL_TEST_KUBECONFIG") {
        return Some(Place { kubeconfig: PathBuf::from(own), run: None });
    }
    // The same variable tells `tests/cluster/run` which one.
    let directory = std::env::var_os("ENVCTL_CLUSTER_DIR").unwrap_or_else(|| "/var/lib/envctl-cluster".into());
    let kubeconfig = PathBuf::from(directory).join("kubeconfig");
    require(std::fs::File::open(&kubeconfig).is_ok(), "a real cluster (`make cluster-up`, as root)")
        .then_some(Place { kubeconfig, run: Some(run) })
}

fn run() -> Command {
    Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cluster/run"))
}
