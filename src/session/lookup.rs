//! Which session is meant: one rule for the command line, this crate's client and other languages' plugins.
//!
//! 1. The one named (`--session`, `ENVCTL_SESSION`): by its id anywhere on the machine, by its name in this project.
//! 2. The `.envctl/current` record, upwards from the working directory, if that session is live.
//! 3. The only live session of this project.
//!
//! Otherwise an error that lists what there is. With an environment file given (`--file`), sessions of other files do not count.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::record::{Record, VERSION, write_private};
use super::state::StateDirectory;
use super::{SessionError, project};

/// What is known when asking.
#[derive(Debug, Clone)]
pub struct Query<'a> {
    /// `--session` or `ENVCTL_SESSION`.
    pub named: Option<&'a str>,
    /// Only sessions of this environment file.
    pub file: Option<&'a Path>,
    /// The working directory.
    pub start: &'a Path,
}

/// Finds the session that is meant.
///
/// # Errors
/// [`SessionError::NotFound`] and [`SessionError::Ambiguous`], or an unreadable state directory.
pub fn find(state: &StateDirectory, query: &Query<'_>) -> Result<Record, SessionError> {
    let root = project::find_root(query.start);
    let live = state.live()?;
    if let Some(named) = query.named
        && let Some(record) = live.iter().find(|record| record.id == named)
    {
        return Ok(record.clone());
    }
    let of_file = |record: &&Record| query.file.is_none_or(|file| same_file(file, &record.file));
    if query.named.is_none()
        && let Some(current) = read_current(query.start)
        && let Some(record) = live.iter().filter(of_file).find(|record| record.id == current.id)
    {
        return Ok(record.clone());
    }
    let candidates: Vec<&Record> = live
        .iter()
        .filter(of_file)
        .filter(|record| record.root == root)
        .filter(|record| query.named.is_none_or(|name| record.session == name))
        .collect();
    let wanted = || {
        let mut text = query.named.map_or_else(String::new, |name| format!("named \"{name}\" "));
        if let Some(file) = query.file {
            text.push_str(&format!("of {} ", file.display()));
        }
        text.push_str(&format!(
            "{} for {}",
            if candidates.len() > 1 { "are running" } else { "is running" },
            root.display()
        ));
        text
    };
    match candidates.as_slice() {
        [only] => Ok((*only).clone()),
        [] => {
            Err(SessionError::NotFound { wanted: wanted(), live: live.iter().map(line).collect(), ended: Vec::new() })
        }
        several => Err(SessionError::Ambiguous { wanted: wanted(), live: several.iter().copied().map(line).collect() }),
    }
}

fn same_file(one: &Path, other: &Path) -> bool {
    one == other || fs::canonicalize(one).is_ok_and(|one| fs::canonicalize(other).is_ok_and(|other| one == other))
}

fn line(record: &Record) -> String {
    format!("{}  ({}, {})", record.id, record.phase, record.root.display())
}

/// `.envctl/current`: the session that was last brought up in a project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Current {
    /// The record's [`VERSION`].
    pub version: u32,
    /// The session's id.
    pub id: String,
}

fn current_path(root: &Path) -> PathBuf {
    root.join(".envctl").join("current")
}

/// The nearest `.envctl/current` upwards. One that cannot be read counts as none: it is only a shortcut.
pub fn read_current(start: &Path) -> Option<Current> {
    let text = start.ancestors().find_map(|directory| fs::read(current_path(directory)).ok())?;
    serde_json::from_slice(&text).ok().filter(|current: &Current| current.version == VERSION)
}

/// The project's `.envctl`, made if it isn't there. It ignores itself in git.
///
/// # Errors
/// When the project cannot be written.
pub fn own_directory(root: &Path) -> Result<PathBuf, SessionError> {
    let directory = root.join(".envctl");
    fs::create_dir_all(&directory).map_err(SessionError::io("create", &directory))?;
    let ignore = directory.join(".gitignore");
    if !ignore.exists() {
        write_private(&ignore, b"*\n")?;
    }
    Ok(directory)
}

/// Says that `id` is the session meant in this project.
///
/// # Errors
/// When the project cannot be written.
pub fn write_current(root: &Path, id: &str) -> Result<(), SessionError> {
    own_directory(root)?;
    let path = current_path(root);
    let text = serde_json::to_vec(&Current { version: VERSION, id: id.to_owned() })
        .map_err(|source| SessionError::Record { path: path.clone(), source })?;
    write_private(&path, &text)
}

/// Forgets `id` as the session meant in this project, and removes the directory if nothing else is in it: also one that was
/// only half made when its session's agent was killed.
pub fn clear_current(root: &Path, id: &str) {
    if read_current(root).is_some_and(|current| current.id == id) {
        let _already_gone = fs::remove_file(current_path(root));
    }
    let directory = root.join(".envctl");
    let only_ours = fs::read_dir(&directory).is_ok_and(|mut entries| {
        entries.all(|entry| entry.is_ok_and(|entry| MADE_BY_ITSELF.iter().any(|name| entry.file_name() == *name)))
    });
    if only_ours {
        let _already_gone = fs::remove_dir_all(&directory);
    }
}

/// What [`own_directory`] and [`write_current`] leave when they are cut short.
const MADE_BY_ITSELF: [&str; 3] = [".gitignore", ".gitignore.partial", "current.partial"];
