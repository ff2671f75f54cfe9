//! The sandbox against the real kernel: as whoever runs the tests and, when that is root, also as an ordinary user.

#[path = "../common/program.rs"]
mod program;
#[path = "../common/require.rs"]
mod require;

mod figures;
mod files;
mod isolation;
mod network;
mod programs;
mod rig;
mod teardown;

use std::process::Command;

/// A uid that no account has.
const ORDINARY: &str = "4242";

#[test]
fn all_of_it_as_an_ordinary_user() {
    if !rig::is_root() {
        return;
    }
    let met = program::program("setpriv", "--version");
    if !require::require(met, "setpriv (util-linux)") {
        return;
    }
    let me = std::env::current_exe().expect("this test");
    let status = Command::new("setpriv")
        .args(["--reuid", ORDINARY, "--regid", ORDINARY, "--clear-groups"])
        .arg(me)
        .arg("--test-threads=2")
        .status()
        .expect("setpriv");
    assert!(status.success(), "as uid {ORDINARY}: {status}");
}
