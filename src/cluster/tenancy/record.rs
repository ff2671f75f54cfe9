//! `lodged.json` in a session's directory: what is on a cluster that outlives the session's agent.
//!
//! As long as the file exists, the directory is kept (with the kubeconfig beside it), whoever is gone: the next `up`, `down` or
//! `gc` finds by it what to take away.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The version of the file's schema.
pub const VERSION: u32 = 1;

/// Where a session is a guest, and as what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Lodged {
    /// [`VERSION`].
    pub version: u32,
    /// The cluster's identity.
    pub cluster: String,
    /// Its address, for people.
    pub server: String,
    /// The session's id: on everything it made, as a label.
    pub session: String,
    /// The session's namespace.
    pub namespace: String,
    /// The namespace's UID, once it was made.
    pub uid: Option<String>,
}

fn path(directory: &Path) -> PathBuf {
    directory.join("lodged.json")
}

impl Lodged {
    /// Nothing is there yet.
    pub fn new(cluster: &str, server: &str, session: &str, namespace: &str) -> Self {
        Self {
            version: VERSION,
            cluster: cluster.to_owned(),
            server: server.to_owned(),
            session: session.to_owned(),
            namespace: namespace.to_owned(),
            uid: None,
        }
    }

    /// What is recorded in a session's directory, if anything.
    ///
    /// # Errors
    /// When the file is there and cannot be read or understood.
    pub fn read(directory: &Path) -> std::io::Result<Option<Self>> {
        let text = match std::fs::read(path(directory)) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let lodged: Self = serde_json::from_slice(&text)?;
        if lodged.version != VERSION {
            return Err(std::io::Error::other(format!(
                "its version is {}, this envctl understands {VERSION}",
                lodged.version
            )));
        }
        Ok(Some(lodged))
    }

    /// Whether something is recorded, readable or not.
    pub fn is_in(directory: &Path) -> bool {
        path(directory).exists()
    }

    /// Records it, whole or not at all.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn write(&self, directory: &Path) -> std::io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(directory)?;
        serde_json::to_writer_pretty(&mut file, self)?;
        file.write_all(b"\n")?;
        file.persist(path(directory))?;
        Ok(())
    }

    /// Nothing is there any more.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn remove(directory: &Path) -> std::io::Result<()> {
        match std::fs::remove_file(path(directory)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}
