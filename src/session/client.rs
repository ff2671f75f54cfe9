//! The client for tests: the session that is meant, and what it exports.

use std::collections::BTreeMap;
use std::fs::{File, FileTimes};
use std::path::Path;
use std::time::SystemTime;

use super::SessionError;
use super::lookup::{self, Query};
use super::record::Record;
use super::state::StateDirectory;

/// A live session, as found. It may end at any time after that.
#[derive(Debug, Clone)]
pub struct Session {
    record: Record,
}

/// The session that is meant here: `ENVCTL_SESSION`, else `.envctl/current` upwards from the working
/// directory, else the only live session of this project.
///
/// Counts as use: it postpones the session's end after an idle time.
///
/// # Errors
/// When there is none, or several; the message lists them.
pub fn find() -> Result<Session, SessionError> {
    let named = std::env::var("ENVCTL_SESSION").ok().filter(|name| !name.is_empty());
    find_named(named.as_deref())
}

/// Like [`find`], for a session's id or its name in this project.
///
/// # Errors
/// As [`find`].
pub fn find_named(named: Option<&str>) -> Result<Session, SessionError> {
    let state = StateDirectory::from_env()?;
    let start = std::env::current_dir().map_err(SessionError::io("tell", "."))?;
    let record = lookup::find(&state, &Query { named, file: None, start: &start })?;
    touch(&state, &record.id);
    Ok(Session { record })
}

/// Says that a session is in use, by the time of its lock file: the agent looks there before it ends an idle session.
pub fn touch(state: &StateDirectory, id: &str) {
    // Best effort: a session that just ended has no such file, and who reads exports need not care.
    let _gone = File::options()
        .write(true)
        .open(state.session(id).lock())
        .and_then(|file| file.set_times(FileTimes::new().set_modified(SystemTime::now())));
}

impl Session {
    pub(super) fn of(record: Record) -> Self {
        Self { record }
    }

    /// Unique on this machine.
    pub fn id(&self) -> &str {
        &self.record.id
    }

    /// The environment's name.
    pub fn environment(&self) -> &str {
        &self.record.environment
    }

    /// The namespace the session's objects are in.
    pub fn namespace(&self) -> &str {
        &self.record.namespace
    }

    /// The project's root.
    pub fn root(&self) -> &Path {
        &self.record.root
    }

    /// The session's own kubeconfig.
    pub fn kubeconfig(&self) -> &Path {
        &self.record.kubeconfig
    }

    /// Every variable handed to tests.
    pub fn exports(&self) -> &BTreeMap<String, String> {
        &self.record.exports
    }

    /// One of them, for example `API_URL`.
    pub fn export(&self, name: &str) -> Option<&str> {
        self.record.exports.get(name).map(String::as_str)
    }

    /// The whole record.
    pub fn record(&self) -> &Record {
        &self.record
    }
}
