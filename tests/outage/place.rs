//! A cluster of its own beside `make cluster-up`'s; what a killed run left, the next one removes.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use crate::require::require;

const PLACE: [(&str, &str); 3] = [
    ("ENVCTL_CLUSTER_DIR", "/var/lib/envctl-outage"),
    ("ENVCTL_CLUSTER_NAME", "envctl-outage"),
    ("ENVCTL_CLUSTER_NUMBER", "2"),
];

/// A cluster, and its program.
pub struct Place {
    pub kubeconfig: std::path::PathBuf,
    pub run: Option<fn() -> Command>,
}

fn run() -> Command {
    let mut run = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cluster/run"));
    run.envs(PLACE).env_remove("ENVCTL_CLUSTER_ONLY").stdin(Stdio::null());
    run
}

fn tell(arguments: &[&str]) {
    let output = run().args(arguments).output().expect("it runs");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The cluster, started with the first test and ended with this process. `None` where it can't be.
pub fn place() -> Option<Place> {
    static UP: OnceLock<bool> = OnceLock::new();
    extern "C" fn down() {
        tell(&["down"]);
    }
    let start = || {
        // SAFETY: asking for one's own user can't fail.
        let root = unsafe { libc::geteuid() } == 0;
        if !require(root, "root, for namespaces of real Kubernetes,") {
            return false;
        }
        if std::env::var("ENVCTL_REQUIRE").as_deref() != Ok("all") {
            let built = run().arg("built").output().expect("it runs").status.success();
            if !require(built, "Kubernetes, built by `make cluster-up`,") {
                return false;
            }
        }
        // SAFETY: `down` is an `extern "C" fn()` that lives as long as the program.
        unsafe { libc::atexit(down) };
        tell(&["up"]);
        true
    };
    let kubeconfig = Path::new(PLACE[0].1).join("kubeconfig");
    UP.get_or_init(start).then_some(Place { kubeconfig, run: Some(run) })
}

/// The right to stop the API server, which one test has at a time; it is started again when that one ends.
pub struct ApiServer(#[expect(dead_code, reason = "held until the test ends")] MutexGuard<'static, ()>);

impl ApiServer {
    /// To be taken before the cluster is asked anything: another test may have stopped it. `None` where there is no cluster.
    pub fn take() -> Option<Self> {
        static ONE: Mutex<()> = Mutex::new(());
        let one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        place().map(|_there| Self(one))
    }

    /// Kills it as `kill -9` does; returns when it is gone.
    pub fn stop(&self) {
        tell(&["stop", "kube-apiserver"]);
    }

    /// Returns when it is ready.
    pub fn start(&self) {
        tell(&["start", "kube-apiserver"]);
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.start();
    }
}
