//! Where sessions are kept: `$ENVCTL_STATE_DIR`, else `$XDG_STATE_HOME/envctl`, else `~/.local/state/envctl`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use super::SessionError;
use super::record::{KeyRecord, Record};

/// The directory that holds every session of one user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateDirectory(PathBuf);

impl StateDirectory {
    /// By this process's environment.
    ///
    /// # Errors
    /// When no variable says where.
    pub fn from_env() -> Result<Self, SessionError> {
        Self::from_variables(|name| std::env::var_os(name))
    }

    /// By the given variables.
    ///
    /// # Errors
    /// When no variable says where.
    pub fn from_variables(get: impl Fn(&str) -> Option<OsString>) -> Result<Self, SessionError> {
        let get = |name| get(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let path = match (get("ENVCTL_STATE_DIR"), get("XDG_STATE_HOME"), get("HOME")) {
            (Some(own), ..) => own,
            // The specification: a relative path in XDG_STATE_HOME is to be ignored.
            (None, Some(xdg), _) if xdg.is_absolute() => xdg.join("envctl"),
            (None, _, Some(home)) => home.join(".local/state/envctl"),
            _ => return Err(SessionError::NoStateDirectory),
        };
        Ok(Self(std::path::absolute(&path).unwrap_or(path)))
    }

    /// At a known path.
    pub fn at(path: PathBuf) -> Self {
        Self(path)
    }

    /// The path of it.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The directory of all sessions.
    pub fn sessions(&self) -> PathBuf {
        self.0.join("sessions")
    }

    /// The directory of one session, which need not exist.
    pub fn session(&self, id: &str) -> SessionDirectory {
        SessionDirectory(self.sessions().join(id))
    }

    /// Every session directory, live or not, by name. None where nothing was ever started.
    ///
    /// # Errors
    /// When the directory exists and cannot be read.
    pub fn all(&self) -> Result<Vec<SessionDirectory>, SessionError> {
        let sessions = self.sessions();
        let entries = match fs::read_dir(&sessions) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(SessionError::io("read", sessions)(error)),
        };
        let mut found: Vec<_> =
            entries.filter_map(|entry| entry.ok().map(|entry| SessionDirectory(entry.path()))).collect();
        found.sort_by(|one, other| one.0.cmp(&other.0));
        Ok(found)
    }

    /// The records of every live session.
    ///
    /// # Errors
    /// When the state directory cannot be read.
    pub fn live(&self) -> Result<Vec<Record>, SessionError> {
        Ok(self
            .all()?
            .into_iter()
            .filter(|directory| !directory.is_new() && !directory.is_left() && directory.is_live())
            .filter_map(|directory| directory.record().ok())
            .collect())
    }
}

/// What the names of directories begin with whose session is dead and has left something on a cluster.
pub(super) const LEFT: &str = ".left-";
/// And of sessions that have not begun: they get their name when their files are complete.
pub(super) const NEW: &str = ".new-";

/// One session's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionDirectory(pub(super) PathBuf);

impl SessionDirectory {
    /// At a known path.
    pub fn at(path: PathBuf) -> Self {
        Self(path)
    }

    /// The path of it.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The record ([`Record`]), 0600.
    pub fn record_path(&self) -> PathBuf {
        self.0.join("session.json")
    }

    /// The session's own kubeconfig, 0600.
    pub fn kubeconfig(&self) -> PathBuf {
        self.0.join("kubeconfig")
    }

    /// Where the agent listens.
    pub fn socket(&self) -> PathBuf {
        self.0.join("agent.sock")
    }

    /// What the agent wrote about its work.
    pub fn log(&self) -> PathBuf {
        self.0.join("agent.log")
    }

    /// The file whose lock is the agent's life.
    pub fn lock(&self) -> PathBuf {
        self.0.join("lock")
    }

    /// Why the session ended, left by an agent that nobody asked to end.
    pub fn why_ended(&self) -> PathBuf {
        self.0.join("ended")
    }

    /// Whether an agent holds the lock. Asked with a shared lock, so that two who ask do not see each other.
    pub fn is_live(&self) -> bool {
        File::open(self.lock()).is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }

    /// Whether this is what a dead session left.
    pub fn is_left(&self) -> bool {
        self.begins(LEFT)
    }

    /// Whether it is just being made, or was when its maker was killed.
    pub fn is_new(&self) -> bool {
        self.begins(NEW)
    }

    fn begins(&self, with: &str) -> bool {
        self.0.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(with.as_bytes()))
    }

    /// The plan of the last `up`, 0600.
    pub fn plan(&self) -> PathBuf {
        self.0.join("plan.json")
    }

    /// A file for a service's process on the host; its directory is there then.
    ///
    /// # Errors
    /// When that cannot be made.
    pub fn on_host(&self, service: &str, extension: &str) -> Result<PathBuf, SessionError> {
        let directory = self.0.join("on-host");
        fs::create_dir_all(&directory).map_err(SessionError::io("make", &directory))?;
        Ok(directory.join(format!("{service}.{extension}")))
    }

    /// What happened, an event a line, 0600.
    pub fn timeline(&self) -> PathBuf {
        self.0.join("timeline.jsonl")
    }

    /// The keys issued for it ([`KeyRecord`] by name), 0600; there is no such file before the first.
    pub fn keys_path(&self) -> PathBuf {
        self.0.join("keys.json")
    }

    /// Its keys, by name. None before the first was issued.
    ///
    /// # Errors
    /// When the file exists and cannot be read.
    pub fn keys(&self) -> Result<BTreeMap<String, KeyRecord>, SessionError> {
        let path = self.keys_path();
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
            Err(error) => return Err(SessionError::io("read", path)(error)),
        };
        serde_json::from_slice(&text).map_err(|source| SessionError::Record { path, source })
    }

    /// Takes the session's keys, former ones too, out of what is shown.
    ///
    /// # Errors
    /// When its keys cannot be read: then nothing of it can safely be shown.
    #[cfg(feature = "cli")]
    pub fn redactor(&self) -> Result<crate::redact::Redactor, SessionError> {
        let keys = self.keys()?;
        let values = keys.iter().flat_map(|(name, key)| {
            std::iter::once(&key.value).chain(&key.former).map(|value| (name.as_str(), value.as_str()))
        });
        Ok(crate::redact::Redactor::new(values))
    }

    /// Its record.
    ///
    /// # Errors
    /// When it cannot be read or is not one of this version.
    pub fn record(&self) -> Result<Record, SessionError> {
        Record::read(&self.record_path())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by(variables: &[(&str, &str)]) -> Result<PathBuf, SessionError> {
        StateDirectory::from_variables(|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
        })
        .map(|state| state.0)
    }

    #[test]
    fn the_state_directory_follows_the_variables_in_order() {
        assert_eq!(
            by(&[("HOME", "/h"), ("XDG_STATE_HOME", "/x"), ("ENVCTL_STATE_DIR", "/e")]).unwrap(),
            Path::new("/e")
        );
        assert_eq!(by(&[("HOME", "/h"), ("XDG_STATE_HOME", "/x")]).unwrap(), Path::new("/x/envctl"));
        assert_eq!(by(&[("HOME", "/h"), ("XDG_STATE_HOME", "relative")]).unwrap(), Path::new("/h/.local/state/envctl"));
        assert_eq!(by(&[("HOME", "/h"), ("ENVCTL_STATE_DIR", "")]).unwrap(), Path::new("/h/.local/state/envctl"));
        assert!(matches!(by(&[]), Err(SessionError::NoStateDirectory)));
    }
}
