//! Writes one run's log file, rotates it, and wakes its followers.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;

use k8s_openapi::jiff::Timestamp;
use tokio::sync::watch;

use super::line::{Cutter, Source};
use super::rotated;

/// A file grows to this many bytes, as upstream's `containerLogMaxSize`; with its rotated
/// predecessor a run holds at most twice that.
pub const MAX_FILE: u64 = 10 * 1024 * 1024;

/// How far a log has come: what followers wait on. The sender's end is the log's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// How often the file has been rotated.
    pub generation: u64,
    /// Bytes in the current file.
    pub length: u64,
}

/// A run's log, while its container runs.
#[derive(Debug)]
pub struct Writer {
    path: PathBuf,
    file: File,
    max_file: u64,
    stdout: Cutter,
    stderr: Cutter,
    progress: watch::Sender<Progress>,
}

impl Writer {
    /// Makes the file, and removes those of runs before the previous one.
    pub fn create(path: PathBuf, run: u32) -> io::Result<Self> {
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory)?;
            if let Some(old) = run.checked_sub(2) {
                let old = directory.join(format!("{old}.log"));
                for stale in [rotated(&old), old] {
                    match std::fs::remove_file(&stale) {
                        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                        _ => {}
                    }
                }
            }
        }
        let file = File::create(&path)?;
        let progress = watch::Sender::new(Progress::default());
        Ok(Self { path, file, max_file: MAX_FILE, stdout: Cutter::default(), stderr: Cutter::default(), progress })
    }

    /// For followers.
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// Takes what a stream said.
    pub fn write(&mut self, source: Source, chunk: &[u8]) -> io::Result<()> {
        let mut output = Vec::with_capacity(chunk.len() + 64);
        self.cutter(source).cut(chunk, source, Timestamp::now(), &mut output);
        self.append(&output)
    }

    /// A stream has ended: what it said without a newline is written.
    pub fn finish(&mut self, source: Source) -> io::Result<()> {
        let mut output = Vec::new();
        self.cutter(source).finish(source, Timestamp::now(), &mut output);
        self.append(&output)
    }

    fn cutter(&mut self, source: Source) -> &mut Cutter {
        match source {
            Source::Stdout => &mut self.stdout,
            Source::Stderr => &mut self.stderr,
        }
    }

    fn append(&mut self, output: &[u8]) -> io::Result<()> {
        if output.is_empty() {
            return Ok(());
        }
        let Progress { mut generation, mut length } = *self.progress.borrow();
        let added = output.len() as u64;
        if length > 0 && length + added > self.max_file {
            std::fs::rename(&self.path, rotated(&self.path))?;
            self.file = File::create(&self.path)?;
            generation += 1;
            length = 0;
        }
        self.file.write_all(output)?;
        self.progress.send_replace(Progress { generation, length: length + added });
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn with_max_file(mut self, bytes: u64) -> Self {
        self.max_file = bytes;
        self
    }
}
