//! The Docker engine of `tests/kind/run`, with kind and a node image.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::require::require;

/// What leads there: the variables that `tests/kind/run env` prints. `None` where there is none.
pub fn engine() -> Option<Vec<(String, String)>> {
    let run = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kind/run");
    let said = Command::new(run).arg("env").stdin(Stdio::null()).output().expect("the script runs");
    if !require(said.status.success(), "a Docker engine with a kind node image (`make kind-up`, as root)") {
        return None;
    }
    Some(variables(&String::from_utf8(said.stdout).expect("UTF-8")))
}

/// Of lines that a shell would read.
pub fn variables(said: &str) -> Vec<(String, String)> {
    let path = std::env::var("PATH").unwrap_or_default();
    let variables = said.lines().filter_map(|line| line.strip_prefix("export ")?.split_once('='));
    variables.map(|(name, value)| (name.to_owned(), value.replace("$PATH", &path))).collect()
}
