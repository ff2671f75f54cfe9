//! The program under test, with a session in a directory that is its home and holds its state.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

/// What it printed; it must succeed.
pub fn envctl(directory: &Path, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(env!("CARGO_BIN_EXE_envctl"))
        .args(arguments)
        .current_dir(directory)
        .env("ENVCTL_STATE_DIR", directory.join("state"))
        .env("HOME", directory)
        .env_remove("ENVCTL_SESSION")
        // Whatever engine this machine has: none of these images is its to pull.
        .env("DOCKER_HOST", "unix:///nowhere/docker.sock")
        .stderr(Stdio::inherit())
        .output()
        .expect("envctl runs");
    assert!(output.status.success(), "envctl {arguments:?}: {}", output.status);
    output.stdout
}

/// Brings an environment up, in which `EXAMPLES` is the directory of the compiled examples. Returns the session's kubeconfig.
pub fn up(directory: &Path, environment: &str) -> PathBuf {
    // Examples stand beside the program under test.
    let examples = PathBuf::from(env!("CARGO_BIN_EXE_envctl")).with_file_name("examples");
    let environment = environment.replace("EXAMPLES", &examples.display().to_string());
    std::fs::write(directory.join("envctl.yaml"), environment).expect("a file");
    envctl(directory, &["up"]);
    let exports: Value = serde_json::from_slice(&envctl(directory, &["env", "--format", "json"])).expect("JSON");
    exports["KUBECONFIG"].as_str().expect("KUBECONFIG is exported").into()
}
