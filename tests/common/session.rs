//! One session for a whole test binary: brought up by the first test that asks, taken down as the program ends.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

pub struct Session {
    pub directory: tempfile::TempDir,
    pub kubeconfig: PathBuf,
}

impl Session {
    pub fn envctl(&self, arguments: &[&str]) -> Vec<u8> {
        let output = Command::new(env!("CARGO_BIN_EXE_envctl"))
            .args(arguments)
            .current_dir(self.directory.path())
            .env("ENVCTL_STATE_DIR", self.directory.path().join("state"))
            .env("HOME", self.directory.path())
            .env_remove("ENVCTL_SESSION")
            .stderr(Stdio::inherit())
            .output()
            .expect("envctl runs");
        assert!(output.status.success(), "envctl {arguments:?}: {}", output.status);
        output.stdout
    }
}

/// The session of this environment file, in which `EXAMPLES` is the directory of the compiled examples.
pub fn of(environment: &str) -> &'static Session {
    static SESSION: OnceLock<Session> = OnceLock::new();
    extern "C" fn down() {
        if let Some(session) = SESSION.get() {
            session.envctl(&["down"]);
            // A static is never dropped; its directory must go all the same.
            let _ = std::fs::remove_dir_all(session.directory.path());
        }
    }
    SESSION.get_or_init(|| {
        let directory = tempfile::tempdir().expect("a temporary directory");
        // Examples stand beside the program under test.
        let examples = PathBuf::from(env!("CARGO_BIN_EXE_envctl")).with_file_name("examples");
        let environment = environment.replace("EXAMPLES", &examples.display().to_string());
        std::fs::write(directory.path().join("envctl.yaml"), environment).expect("a file");
        let mut session = Session { directory, kubeconfig: PathBuf::new() };
        session.envctl(&["up"]);
        let exports: Value = serde_json::from_slice(&session.envctl(&["env", "--format", "json"])).expect("JSON");
        session.kubeconfig = exports["KUBECONFIG"].as_str().expect("KUBECONFIG is exported").into();
        // SAFETY: `down` is an `extern "C" fn()` that lives as long as the program.
        unsafe { libc::atexit(down) };
        session
    })
}
