//! An engine that a test may end: it is in a network namespace of its own, and so is whoever uses it.

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::engine::variables;

/// A second engine beside that of `make kind-up`.
pub struct OwnEngine {
    directory: TempDir,
    network: File,
    /// What leads there.
    pub variables: Vec<(String, String)>,
}

impl OwnEngine {
    /// Started, with the node image in it.
    pub fn start() -> Self {
        let directory = tempfile::Builder::new().prefix("envctl-engine").tempdir().expect("a directory");
        let mut apart = Command::new("unshare");
        apart.args(["--net", "--", "sh", "-euc", "ip link set lo up; exec \"$0\" up"]).arg(run());
        let variables = started(apart.env("ENVCTL_KIND_DIR", directory.path()));
        let network = File::open(format!("/proc/{}/ns/net", pid(directory.path()))).expect("its network namespace");
        Self { directory, network, variables }
    }

    /// What runs a program where the engine is.
    pub fn inside(&self) -> Vec<String> {
        let network = format!("--net=/proc/{}/fd/{}", std::process::id(), self.network.as_raw_fd());
        ["nsenter", &network, "--"].map(str::to_owned).into()
    }

    fn run(&self, verb: &str) -> Command {
        let inside = self.inside();
        let mut command = Command::new(&inside[0]);
        command
            .args(&inside[1..])
            .arg(run())
            .arg(verb)
            .env("ENVCTL_KIND_DIR", self.directory.path())
            .stdin(Stdio::null());
        command
    }

    /// `kill -9`, by which all of its containers end; returns when they have.
    pub fn kill(&self) {
        let pid = nix::unistd::Pid::from_raw(pid(self.directory.path()));
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).expect("it runs");
        // All of its processes hold it.
        File::open(self.directory.path().join("lock")).expect("a lock").lock_shared().expect("nobody holds it");
    }

    /// Starts it again, without anything that it had.
    pub fn restart(&self) {
        started(&mut self.run("up"));
    }
}

impl Drop for OwnEngine {
    fn drop(&mut self) {
        let ended = self.run("down").status();
        if !std::thread::panicking() {
            assert!(ended.expect("the script runs").success());
        }
    }
}

fn run() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kind/run")
}

fn started(command: &mut Command) -> Vec<(String, String)> {
    let said = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().expect("the script runs");
    assert!(said.status.success(), "the engine starts");
    variables(&String::from_utf8(said.stdout).expect("UTF-8"))
}

fn pid(directory: &Path) -> i32 {
    std::fs::read_to_string(directory.join("pid")).expect("written").trim().parse().expect("a number")
}
