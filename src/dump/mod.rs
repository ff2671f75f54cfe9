//! What explains a session, in one place: `envctl dump`, and what a failed suite attaches.
//!
//! ```text
//! index.json                     this list, and what could not be had
//! versions.json                  envctl, the cluster, the kernel
//! session.json  plan.json        what was asked for
//! timeline.txt  failure.txt      what happened, and why it failed
//! agent.log
//! events.txt                     the cluster's events, oldest first
//! objects/KIND.yaml              every object of the session's namespace, and cluster-wide ones that are the session's
//! logs/POD/CONTAINER.log         also CONTAINER.previous.log
//! ```
//!
//! [`dump`] reads the session's directory ([`files`]) and, where it is live, its cluster ([`cluster`]); nothing of the agent, which may be what
//! is broken. `cli::aftermath` calls it before a failed session goes.
//!
//! Invariants: everything passes the session's redactor, and the data of every Secret is left out; where the keys cannot be read,
//! nothing is written. What cannot be had is listed, and stops nothing. A dump that cannot be written leaves nothing behind.

mod cluster;
mod files;
mod sink;

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::session::SessionError;
use crate::session::state::SessionDirectory;
pub use sink::{Sink, is_archive};

/// What a dump is made of: `index.json`.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Of this schema.
    pub version: u32,
    /// The session's id.
    pub session: String,
    /// Whether its agent ran.
    pub live: bool,
    /// RFC 3339.
    pub created: String,
    /// In the order in which they were gathered.
    pub files: Vec<Entry>,
    /// What belongs to a dump and could not be had.
    pub missing: Vec<Missing>,
}

/// One file of a dump.
#[derive(Debug, Clone, Serialize)]
pub struct Entry {
    /// Relative to the dump.
    pub path: String,
    /// After redaction.
    pub bytes: u64,
}

/// What could not be had.
#[derive(Debug, Clone, Serialize)]
pub struct Missing {
    /// What.
    pub what: String,
    /// Why not.
    pub why: String,
}

/// Why there is no dump.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// Without its keys nothing can be redacted.
    #[error("nothing was dumped, since the session's keys, which must not be in it, cannot be read: {0}")]
    Keys(#[source] SessionError),
    /// The target is in the way, or cannot be written.
    #[error("cannot write the dump to {}: {source}", .path.display())]
    Unwritable {
        /// Where.
        path: PathBuf,
        /// The kernel's answer.
        source: std::io::Error,
    },
}

/// Writes everything that explains a session, live or not, to `target`: a directory that isn't there yet, a `.tar` or a `.tar.gz`.
///
/// # Errors
/// [`DumpError`]; then nothing is left at `target`.
pub async fn dump(session: &SessionDirectory, target: &Path) -> Result<Index, DumpError> {
    let redactor = session.redactor().map_err(DumpError::Keys)?;
    let unwritable = |source| DumpError::Unwritable { path: target.to_owned(), source };
    let mut sink = Sink::create(target, redactor).map_err(unwritable)?;
    let index = gather(session, &mut sink).await.map_err(unwritable)?;
    let text = serde_json::to_vec_pretty(&index).map_err(|error| unwritable(error.into()))?;
    sink.add("index.json", &text).map_err(unwritable)?;
    sink.finish().map_err(unwritable)?;
    Ok(index)
}

async fn gather(session: &SessionDirectory, sink: &mut Sink) -> std::io::Result<Index> {
    let live = session.is_live();
    let mut missing = Vec::new();
    let record = files::gather(session, sink, &mut missing)?;
    match &record {
        Some(record) if live => cluster::gather(record, sink, &mut missing).await?,
        // The embedded cluster's logs are files of the session.
        _ => {
            missing
                .push(Missing { what: "objects and events".to_owned(), why: "the session's agent is gone".to_owned() });
            files::logs(session, sink, &mut missing)?;
        }
    }
    let id = session.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Index {
        version: 1,
        session: id,
        live,
        created: jiff::Timestamp::now().to_string(),
        files: sink.entries().to_vec(),
        missing,
    })
}
