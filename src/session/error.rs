//! What can be wrong with finding or keeping a session.

use std::io;
use std::path::PathBuf;

/// Why a session could not be found, read or kept on disk.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// None is live.
    #[error("no session {wanted}{}{}", ends(.ended), others(.live))]
    NotFound {
        /// `is running for /path`, or `named "x" is running`.
        wanted: String,
        /// Every live session of the machine, one line each.
        live: Vec<String>,
        /// Those of this project that ended by themselves, as far as this command found out: who and why.
        ended: Vec<String>,
    },
    /// More than one could be meant.
    #[error("several sessions {wanted}{}", others(.live))]
    Ambiguous {
        /// As in `NotFound`.
        wanted: String,
        /// The candidates, one line each.
        live: Vec<String>,
    },
    /// Neither `ENVCTL_STATE_DIR`, `XDG_STATE_HOME` nor `HOME` says where sessions are kept.
    #[error("there is no place to keep sessions: none of ENVCTL_STATE_DIR, XDG_STATE_HOME and HOME is set")]
    NoStateDirectory,
    /// A file of the session could not be read or written.
    #[error("cannot {what} {}: {source}", .path.display())]
    Io {
        /// The verb: `create`, `read`…
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A record that this envctl does not understand.
    #[error("{} is not a session record of this envctl: {source}", .path.display())]
    Record {
        /// The record.
        path: PathBuf,
        /// What the parser found.
        source: serde_json::Error,
    },
    /// A record of another version's schema.
    #[error("{} has version {found} of the record, this envctl understands {}", .path.display(), super::record::VERSION)]
    Version {
        /// The record.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
}

impl SessionError {
    /// For `map_err`: an I/O error with what was being done to which file.
    pub(crate) fn io(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { what, path, source }
    }

    /// What to do about it, one sentence.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotFound { live, .. } if live.is_empty() => Some("start one with `envctl up`".to_owned()),
            Self::NotFound { .. } => Some("start one with `envctl up`, or name one with --session".to_owned()),
            Self::Ambiguous { .. } => Some("name one with --session, or set ENVCTL_SESSION".to_owned()),
            Self::NoStateDirectory => Some("set ENVCTL_STATE_DIR to a directory that you can write".to_owned()),
            Self::Io { source, .. } => io_hint(source),
            Self::Version { .. } => {
                Some("use the envctl that started the session, or end it with that one's `down`".to_owned())
            }
            Self::Record { .. } => None,
        }
    }
}

/// What to do about the failures of disks that people meet.
pub fn io_hint(error: &io::Error) -> Option<String> {
    let hint = match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "make it writable, or set ENVCTL_STATE_DIR to a directory that is"
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "free some space, or set ENVCTL_STATE_DIR to a directory on another disk"
        }
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
            "something else is in the way: move it, or set ENVCTL_STATE_DIR"
        }
        _ => return None,
    };
    Some(hint.to_owned())
}

fn ends(ended: &[String]) -> String {
    ended.iter().map(|session| format!("; {session}")).collect()
}

fn others(live: &[String]) -> String {
    if live.is_empty() {
        return String::new();
    }
    let mut text = "; live are:".to_owned();
    for line in live {
        text.push_str("\n  ");
        text.push_str(line);
    }
    text
}
