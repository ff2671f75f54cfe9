//! A profile in minikube's home: `profiles/NAME`, with `config.json` from the moment minikube knows what to make.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::cluster::ClusterError;
use crate::cluster::by_tool::maker::Site;
use crate::cluster::by_tool::place::Place;

/// The file of ours in the profile's directory.
const MARK: &str = "envctl";

/// Where a profile is.
pub struct Profile {
    /// minikube's home.
    pub home: String,
    directory: PathBuf,
}

impl Profile {
    /// The one of a place's name, in the home that its tool is given.
    ///
    /// # Errors
    /// When there is no home.
    pub fn of(site: &Site<'_>) -> Result<Self, ClusterError> {
        let home = site.tool.variables.get("MINIKUBE_HOME").ok_or_else(|| ClusterError::Unsupported {
            what: "minikube has no directory to keep a cluster in".to_owned(),
            cure: "set HOME, or MINIKUBE_HOME".to_owned(),
        })?;
        Ok(Self { directory: Path::new(home).join("profiles").join(&site.place.name), home: home.clone() })
    }

    fn config(&self) -> PathBuf {
        self.directory.join("config.json")
    }

    /// Whether minikube knows it.
    pub fn is_known(&self) -> bool {
        self.config().exists()
    }

    /// Whether it has the place's mark.
    pub fn is_ours(&self, place: &Place) -> bool {
        let marked = fs::read_to_string(self.directory.join(MARK)).ok();
        marked.is_some() && marked == place.mark()
    }

    /// Marks it, before minikube makes it.
    ///
    /// # Errors
    /// When the home refuses.
    pub fn take(&self, mark: &str) -> Result<(), ClusterError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&self.directory);
        let marked = made.and_then(|()| fs::write(self.directory.join(MARK), mark));
        marked.map_err(|error| ClusterError::unavailable(format!("writing to {}", self.directory.display()), error))
    }

    /// By what driver it is made; `None`: it was left before that was written.
    pub fn driver(&self) -> Option<String> {
        driver(&fs::read(self.config()).ok()?)
    }

    /// minikube refuses to delete what it cannot read, and deletes what is left of a profile that it doesn't know: of ours, a
    /// configuration that was left half written is taken away.
    pub fn mend(&self) {
        if self.driver().is_none()
            && let Err(error) = fs::remove_file(self.config())
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, "a broken configuration of minikube could not be removed");
        }
    }

    /// Removes what minikube left of it when it deleted it.
    ///
    /// # Errors
    /// When the home refuses.
    pub fn forget(&self, place: &Place) -> Result<(), ClusterError> {
        if !self.is_ours(place) {
            return Ok(());
        }
        let removed = fs::remove_dir_all(&self.directory);
        removed.map_err(|error| ClusterError::unavailable(format!("removing {}", self.directory.display()), error))
    }
}

fn driver(config: &[u8]) -> Option<String> {
    let config: Value = serde_json::from_slice(config).ok()?;
    config["Driver"].as_str().filter(|driver| !driver.is_empty()).map(str::to_owned)
}

/// Whether a line of `minikube status --output json` says that the machine runs; one node is an object, several are a list.
pub fn is_running(said: &str) -> bool {
    let said: Value = serde_json::from_str(said.trim()).unwrap_or_default();
    let nodes = said.as_array().map_or(std::slice::from_ref(&said), Vec::as_slice);
    !nodes.is_empty() && nodes.iter().all(|node| node["Host"] == "Running" || node["Host"] == "Paused")
}

#[cfg(test)]
mod tests {
    use super::*;

    // What minikube v1.38.1 wrote (`testdata/README.md`).
    #[test]
    fn the_driver_and_the_state_are_read_as_minikube_writes_them() {
        let config = include_bytes!("testdata/config.json");
        assert_eq!(driver(config).as_deref(), Some("docker"));
        assert_eq!(driver(&config[..config.len() / 2]), None, "half written");
        assert!(is_running(include_str!("testdata/status-running.json")));
        assert!(is_running(include_str!("testdata/status-paused.json")), "it may go on");
        assert!(!is_running(include_str!("testdata/status-stopped.json")));
        assert!(!is_running("") && !is_running("[]") && !is_running("\"x\" profile not found"));
    }
}
