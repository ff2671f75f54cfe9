//! Example programs that tests start. `cargo test` builds examples; with one test named (`cargo test --test …`) it
//! doesn't, so they are built here where they are absent.

use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// Where the compiled examples are.
pub fn directory() -> PathBuf {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_envctl"));
    program.parent().expect("a directory").join("examples")
}

/// Builds one of them where it is absent.
pub fn build(name: &str) {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let (directory, manifest) = (directory(), concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));
    if directory.join(name).exists() {
        return;
    }
    let profile = directory.parent().expect("the profile's directory");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--example", name, "--manifest-path", manifest, "--target-dir"]);
    cargo.arg(profile.parent().expect("the target directory"));
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    assert!(cargo.status().expect("cargo runs").success(), "the example {name} is built");
}
