//! The files of a report: each whole or not there at all.
//!
//! `DIRECTORY/SUITE/junit.xml` always; `failure.txt` and `logs.txt` when the suite failed. A later run of the suite
//! replaces them.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// Why a file of the report is missing.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}: {source}", .path.display())]
pub struct ReportError {
    /// The file.
    pub path: PathBuf,
    /// The kernel's answer.
    pub source: io::Error,
}

/// One suite's folder.
#[derive(Debug, Clone)]
pub struct Folder(PathBuf);

impl Folder {
    /// For a suite's name, which becomes a name that is one everywhere. Nothing is made yet.
    pub fn new(directory: &Path, suite: &str) -> Self {
        let name: String =
            suite.chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' }).collect();
        let name = if name.trim_matches('.').is_empty() { "suite".to_owned() } else { name };
        Self(directory.join(name))
    }

    /// A file of it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Makes the folder and removes what an earlier run left.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn renew(&self) -> Result<(), ReportError> {
        let refused = |path: &Path| {
            let path = path.to_owned();
            move |source| ReportError { path, source }
        };
        fs::create_dir_all(&self.0).map_err(refused(&self.0))?;
        for name in ["junit.xml", "failure.txt", "logs.txt"] {
            let path = self.file(name);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(refused(&path)(error)),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Writes a file; readers see the old one or the new one, and of one that could not be written nothing is left.
///
/// # Errors
/// When the file system refuses.
pub fn write(path: &Path, content: &[u8]) -> Result<(), ReportError> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let made = path.parent().map_or(Ok(()), fs::create_dir_all);
    let written = made
        .and_then(|()| fs::File::create(&partial))
        // Not synced: a report needn't outlive the machine, and a busy disk takes 50 ms for it.
        .and_then(|mut file| file.write_all(content))
        .and_then(|()| fs::rename(&partial, path));
    written.map_err(|source| {
        let _best_effort = fs::remove_file(&partial);
        ReportError { path: path.to_owned(), source }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_named_after_its_suite_and_nothing_else() {
        let at = Path::new("/r");
        assert_eq!(Folder::new(at, "smoke").file("x"), Path::new("/r/smoke/x"));
        assert_eq!(Folder::new(at, "..").file("x"), Path::new("/r/suite/x"));
        assert_eq!(Folder::new(at, "a/b c").file("x"), Path::new("/r/a-b-c/x"));
    }

    #[test]
    fn a_full_disk_leaves_nothing_behind() {
        let path = Path::new("/dev/full/never");
        assert!(write(path, b"x").is_err());
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("r.json");
        write(&path, b"{}").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"{}");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
