//! The case envctl was made for, with real parts: PostgreSQL, Django, a worker, and models that Django deploys through the
//! Kubernetes API. Brought up by the command line; what works is for a user's own pytest suite to say.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, MutexGuard, PoisonError};

#[path = "common/require.rs"]
mod require;

use require::require;

/// The project's directory with the Django project in it.
const PROJECT: &str = env!("CARGO_MANIFEST_DIR");

/// One session at a time: both use the project's own directory, where the current one is noted.
static ALONE: Mutex<()> = Mutex::new(());

/// A state directory of the test's own; its session goes with it.
struct Session {
    state: tempfile::TempDir,
    _alone: MutexGuard<'static, ()>,
}

impl Session {
    fn new() -> Self {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        Self { state: tempfile::tempdir().expect("a directory"), _alone: alone }
    }

    fn envctl(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_envctl"));
        command.args(arguments).current_dir(PROJECT);
        command.env("ENVCTL_STATE_DIR", self.state.path()).env("ENVCTL_FILE", "envs/codespace.yaml");
        command.env_remove("ENVCTL_SESSION");
        command
    }

    /// Its standard output; fails if it fails, with what it said.
    fn succeeds(&self, arguments: &[&str]) -> String {
        let Output { status, stdout, stderr } = self.envctl(arguments).output().expect("envctl runs");
        let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
        assert!(status.success(), "envctl {arguments:?}: {status}\n{stdout}\n{stderr}");
        stdout.into_owned()
    }

    /// Runs what of the suite `expression` selects, in the live session.
    fn passes(&self, expression: &str) {
        let arguments = ["test", "--attach", "codespace", "--", "-k", expression];
        let output = self.envctl(&arguments).output().expect("envctl runs");
        let said = [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
        assert!(output.status.success(), "{said}\n{}", self.logs());
    }

    /// The names of the pods that serve, sorted.
    fn pods(&self) -> Vec<String> {
        let script = "import sys; from kubernetes import client, config; config.load_kube_config(); \
                      print(*sorted(p.metadata.name for p in client.CoreV1Api().list_namespaced_pod(sys.argv[1]).items \
                      if p.status.phase == 'Running' and not p.metadata.deletion_timestamp))";
        let names = [
            "run",
            "--",
            "sh",
            "-c",
            "exec examples/codespace/.venv/bin/python -c \"$1\" \"$ENVCTL_SESSION_NAMESPACE\"",
            "sh",
            script,
        ];
        self.succeeds(&names).split_whitespace().map(str::to_owned).collect()
    }

    fn logs(&self) -> String {
        ["db", "api", "worker"].map(|service| self.succeeds(&["logs", service])).join("\n")
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.envctl(&["down"]).output();
    }
}

/// What the environment needs of the machine.
fn possible() -> bool {
    let postgres = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    if !require(postgres.count() > 0, "PostgreSQL (Debian's package postgresql)") {
        return false;
    }
    let build =
        Command::new("examples/codespace/bin/build").current_dir(PROJECT).output().expect("the build step runs");
    let said = String::from_utf8_lossy(&build.stderr);
    require(build.status.success(), &format!("a virtual environment with packages from PyPI ({said})"))
}

fn stamp() -> PathBuf {
    Path::new(PROJECT).join("examples/codespace/.venv/stamp")
}

#[test]
fn the_suite_passes_in_a_session_of_its_own_and_leaves_nothing_behind() {
    if !possible() {
        return;
    }
    let session = Session::new();
    session.succeeds(&["test", "--fail-on-leftovers"]);
    assert!(session.succeeds(&["ls", "-o", "name"]).is_empty());
}

#[test]
fn the_suite_passes_after_the_database_was_restarted_and_only_what_changed_is_made_again() {
    if !possible() {
        return;
    }
    let modified = || std::fs::metadata(stamp()).expect("the virtual environment").modified().expect("a time");
    let built = modified();
    let session = Session::new();
    session.succeeds(&["up"]);
    // The volume outlives the pod: the account and the key are there; the worker starts again by itself.
    session.succeeds(&["restart", "db"]);
    session.passes("test_worker");
    let before = session.pods();
    session.succeeds(&["up"]);
    assert_eq!((session.pods(), modified()), (before.clone(), built), "nothing has changed");
    // Touching a view is a difference for what consists of the sources, and for nothing else.
    let view = Path::new(PROJECT).join("examples/codespace/serving/views.py");
    let file = std::fs::File::options().append(true).open(view).expect("a source");
    file.set_modified(std::time::SystemTime::now()).expect("touched");
    session.succeeds(&["up"]);
    let after = session.pods();
    assert_eq!(only(&before, "db-"), only(&after, "db-"));
    assert_ne!(only(&before, "api-"), only(&after, "api-"));
    assert_eq!(modified(), built, "requirements.txt is the same");
    session.passes("test_worker or test_a_deployed_model");
    session.succeeds(&["down"]);
}

fn only<'a>(pods: &'a [String], prefix: &str) -> Vec<&'a str> {
    pods.iter().map(String::as_str).filter(|pod| pod.starts_with(prefix)).collect()
}
