//! Where a dump goes: a directory or a tar, both private, both gone again if they are not finished.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::Entry;
use crate::redact::Redactor;

/// Takes the files of a dump, redacts them and writes them.
pub struct Sink {
    redactor: Redactor,
    target: Target,
    entries: Vec<Entry>,
    unfinished: Option<PathBuf>,
}

enum Target {
    Directory(PathBuf),
    Tar(Box<tar::Builder<File>>),
}

impl Sink {
    /// A tar where the name says so, else a directory. Nothing that is there is overwritten.
    ///
    /// # Errors
    /// When it is there, or cannot be made.
    pub fn create(path: &Path, redactor: Redactor) -> io::Result<Self> {
        let target = if path.extension().is_some_and(|extension| extension == "tar") {
            let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
            Target::Tar(Box::new(tar::Builder::new(file)))
        } else {
            DirBuilder::new().mode(0o700).create(path)?;
            Target::Directory(path.to_owned())
        };
        Ok(Self { redactor, target, entries: Vec::new(), unfinished: Some(path.to_owned()) })
    }

    /// Takes keys out of what is added.
    pub fn redactor(&self) -> &Redactor {
        &self.redactor
    }

    /// What was added.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Adds a file, at a path relative to the dump.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn add(&mut self, path: &str, content: &[u8]) -> io::Result<()> {
        let content = self.redactor.bytes(content).into_owned();
        let path = self.redactor.text(path).into_owned();
        match &mut self.target {
            Target::Directory(directory) => {
                let file = directory.join(&path);
                if let Some(parent) = file.parent() {
                    DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
                }
                OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?.write_all(&content)?;
            }
            Target::Tar(tar) => {
                let mut header = tar::Header::new_gnu();
                header.set_size(content.len() as u64);
                header.set_mode(0o600);
                let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
                header.set_mtime(now.as_secs());
                tar.append_data(&mut header, &path, content.as_slice())?;
            }
        }
        self.entries.push(Entry { path, bytes: content.len() as u64 });
        Ok(())
    }

    /// Completes it. Without this, nothing of it stays.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn finish(mut self) -> io::Result<()> {
        if let Target::Tar(tar) = &mut self.target {
            tar.finish()?;
            tar.get_ref().sync_all()?;
        }
        self.unfinished = None;
        Ok(())
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        if let Some(path) = &self.unfinished {
            // Best effort after the failure that is reported.
            let _told = match self.target {
                Target::Directory(_) => fs::remove_dir_all(path),
                Target::Tar(_) => fs::remove_file(path),
            };
        }
    }
}
