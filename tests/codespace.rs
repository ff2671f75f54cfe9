//! The case envctl was made for, with real parts: PostgreSQL, Django, a worker, and models that Django deploys through the
//! Kubernetes API. Brought up by the command line; what works is for a user's own pytest suite to say.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

#[path = "common/require.rs"]
mod require;

use require::require;

/// The project's directory with the Django project in it.
const PROJECT: &str = env!("CARGO_MANIFEST_DIR");

/// A state directory of the test's own; its session goes with it.
struct Session {
    state: tempfile::TempDir,
}

impl Session {
    fn new() -> Self {
        Self { state: tempfile::tempdir().expect("a directory") }
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

    /// Runs the suite, or what of it `expression` selects.
    fn passes(&self, expression: &str) {
        let key =
            self.succeeds(&["exec", "api", "--", "python", "examples/codespace/manage.py", "issue_key", "--user=demo"]);
        let arguments = [
            "run",
            "--",
            "examples/codespace/.venv/bin/pytest",
            "-p",
            "no:cacheprovider",
            "-k",
            expression,
            "examples/codespace/tests",
        ];
        let output = self.envctl(&arguments).env("API_KEY", key.trim()).output().expect("envctl runs");
        assert!(output.status.success(), "{}\n{}", String::from_utf8_lossy(&output.stdout), self.logs());
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
fn the_suite_passes_also_after_the_database_was_restarted() {
    if !possible() {
        return;
    }
    let built = std::fs::metadata(stamp()).expect("the virtual environment").modified().expect("a time");
    let session = Session::new();
    session.succeeds(&["up"]);
    session.passes("test");
    // The volume outlives the pod: the account and the keys are there; the worker starts again by itself.
    session.succeeds(&["restart", "db"]);
    session.passes("test_worker");
    // Nothing has changed, so nothing is made again.
    session.succeeds(&["up"]);
    assert_eq!(std::fs::metadata(stamp()).expect("the virtual environment").modified().expect("a time"), built);
    session.succeeds(&["down"]);
}
