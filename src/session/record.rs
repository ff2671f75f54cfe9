//! What is on disk about a session, for the command line, the client in tests and other languages' plugins.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::SessionError;

/// The version of the record's schema. Fields may be added under one version; a reader ignores unknown ones.
pub const VERSION: u32 = 1;

/// How far a session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Not everything was ready yet.
    Starting,
    /// Everything was ready once; what is now is for `envctl ps` to say.
    Ready,
    /// Something failed, and `--keep` left the rest up.
    Failed,
    /// Being taken down.
    Ending,
}

impl std::fmt::Display for Phase {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.pad(match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Failed => "failed",
            Self::Ending => "ending",
        })
    }
}

/// A session that ends with its last user: whoever is attached holds a connection to the agent, which the kernel
/// closes with the process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Shared {
    /// The run whose processes share it; `None`: the one command that made it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub run: Option<String>,
    /// Milliseconds that it stays after the last one has left.
    pub linger: u64,
    /// Milliseconds after which it ends, whoever uses it.
    pub limit: u64,
}

/// A moment, as the cluster knows it: what was there then can be told from what was made later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Mark {
    /// Seconds since 1970, by the cluster's clock.
    pub at: i64,
    /// The `resourceVersion` of a list then.
    pub revision: String,
}

/// `session.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// [`VERSION`].
    pub version: u32,
    /// Unique on this machine; the name of the session's directory.
    pub id: String,
    /// The project's root.
    pub root: PathBuf,
    /// The environment's name.
    pub environment: String,
    /// `--session`, by default the environment's name.
    pub session: String,
    /// The file the environment was read from.
    pub file: PathBuf,
    /// The kind of cluster.
    pub cluster: String,
    /// The namespace the session's objects are in.
    pub namespace: String,
    /// How far it is.
    pub phase: Phase,
    /// Seconds since 1970 when it was started.
    pub created: u64,
    /// The agent's process, for people; whether it lives is the lock's to say.
    pub agent_pid: u32,
    /// The cluster's address, once it has one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub api: Option<String>,
    /// The session's own kubeconfig.
    pub kubeconfig: PathBuf,
    /// Where each service's ports are on the host: `SERVICE.PORT` to `HOST:NUMBER`.
    #[serde(default)]
    pub addresses: BTreeMap<String, String>,
    /// The variables handed to tests.
    pub exports: BTreeMap<String, String>,
    /// Present while the session ends with its last user. Such a one is nobody's `.envctl/current`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub shared: Option<Shared>,
    /// When everything was ready for the first time.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ready: Option<Mark>,
}

/// One key of a session, in `keys.json`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyRecord {
    /// Itself; empty once it is no longer in the file.
    pub value: String,
    /// Where it came from, for people: `exec in api`.
    pub source: String,
    /// Milliseconds since 1970 when it was issued.
    pub issued: u64,
    /// Milliseconds since 1970 when it is issued anew, if the file says so.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub expires: Option<u64>,
    /// Why it could not be issued anew the last time.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub problem: Option<String>,
    /// Values that it had before, the latest last: they may still stand in logs.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub former: Vec<String>,
}

impl KeyRecord {
    /// What is left of a key that is no longer in the file.
    pub fn gone(former: Vec<String>) -> Self {
        Self { value: String::new(), source: String::new(), issued: 0, expires: None, problem: None, former }
    }
}

impl std::fmt::Debug for KeyRecord {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("KeyRecord").field("source", &self.source).finish_non_exhaustive()
    }
}

impl Record {
    /// Reads one.
    ///
    /// # Errors
    /// When it cannot be read, parsed, or is of another version.
    pub fn read(path: &Path) -> Result<Self, SessionError> {
        #[derive(Deserialize)]
        struct Peek {
            version: u32,
        }
        let text = fs::read(path).map_err(SessionError::io("read", path))?;
        let broken = |source| SessionError::Record { path: path.to_owned(), source };
        let Peek { version } = serde_json::from_slice(&text).map_err(broken)?;
        if version != VERSION {
            return Err(SessionError::Version { path: path.to_owned(), found: version });
        }
        serde_json::from_slice(&text).map_err(broken)
    }

    /// The same without keys, to be shown.
    ///
    /// # Errors
    /// When the session's keys cannot be read: then it cannot be shown.
    #[cfg(feature = "cli")]
    pub fn shown(&self, directory: &super::state::SessionDirectory) -> Result<Self, SessionError> {
        let redactor = directory.redactor()?;
        let exports = self.exports.iter().map(|(name, value)| (name.clone(), redactor.text(value).into_owned()));
        Ok(Self { exports: exports.collect(), ..self.clone() })
    }

    /// Writes it, readable only by the user, whole or not at all.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn write(&self, path: &Path) -> Result<(), SessionError> {
        let mut text =
            serde_json::to_vec_pretty(self).map_err(|source| SessionError::Record { path: path.to_owned(), source })?;
        text.push(b'\n');
        write_private(path, &text)
    }
}

/// Replaces a file by one that only the user can read; readers see the old or the new one, never half.
///
/// # Errors
/// When the file system refuses; then no half-written file is left.
pub fn write_private(path: &Path, content: &[u8]) -> Result<(), SessionError> {
    let partial = path.with_extension("partial");
    let written = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&partial)
        .and_then(|mut file| file.write_all(content))
        .and_then(|()| fs::rename(&partial, path));
    written.map_err(|error| {
        let _best_effort = fs::remove_file(&partial);
        SessionError::io("write", path)(error)
    })
}
