//! The example program `hello`, which serves and needs nothing to start. `cargo test` builds examples; with one
//! test named (`cargo test --test …`) it doesn't, so it is built here where it is absent.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Once;

/// Where the compiled examples are.
pub fn directory() -> PathBuf {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_envctl"));
    program.parent().expect("a directory").join("examples")
}

/// Builds it where it is absent.
pub fn build() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let (directory, manifest) = (directory(), concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));
        if directory.join("hello").exists() {
            return;
        }
        let profile = directory.parent().expect("the profile's directory");
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--example", "hello", "--manifest-path", manifest, "--target-dir"]);
        cargo.arg(profile.parent().expect("the target directory"));
        if profile.ends_with("release") {
            cargo.arg("--release");
        }
        assert!(cargo.status().expect("cargo runs").success(), "examples/hello is built");
    });
}
