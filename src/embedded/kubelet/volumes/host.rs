//! Volumes that are a directory of this machine: hostPath, and emptyDir's directory.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Why a host path cannot be used, in upstream's words (`pkg/volume/hostpath/host_path.go`).
#[derive(Debug, thiserror::Error)]
pub enum HostPathError {
    /// It exists and is something else, or doesn't exist.
    #[error("hostPath type check failed: {path} is not {article}")]
    Type {
        /// On the host.
        path: String,
        /// What was asked for.
        article: &'static str,
    },
    /// A type Kubernetes doesn't have.
    #[error("{0} is an invalid volume type")]
    Unknown(String),
    /// The kernel said no.
    #[error("{path}: {source}")]
    Io {
        /// On the host.
        path: String,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// Checks, and for `…OrCreate` makes, a hostPath. Without a type a missing one becomes a directory, as runtimes do.
pub fn prepare(path: &Path, kind: &str) -> Result<(), HostPathError> {
    let shown = path.display().to_string();
    let failed = |source| HostPathError::Io { path: shown.clone(), source };
    let wrong = |article| Err(HostPathError::Type { path: shown.clone(), article });
    let found = match fs::metadata(path) {
        Ok(metadata) => Some(metadata.file_type()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(failed(error)),
    };
    let directory = || fs::DirBuilder::new().recursive(true).mode(0o755).create(path);
    let is = |test: fn(&fs::FileType) -> bool| found.as_ref().is_some_and(test);
    match kind {
        "" => {
            if found.is_none() {
                directory().map_err(failed)
            } else {
                Ok(())
            }
        }
        "DirectoryOrCreate" => match found {
            None => directory().map_err(failed),
            Some(kind) if kind.is_dir() => Ok(()),
            Some(_) => wrong("a directory"),
        },
        "FileOrCreate" => match found {
            None => fs::OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o644)
                .open(path)
                .map(drop)
                .map_err(failed),
            Some(kind) if kind.is_file() => Ok(()),
            Some(_) => wrong("a file"),
        },
        "Directory" => {
            if is(fs::FileType::is_dir) {
                Ok(())
            } else {
                wrong("a directory")
            }
        }
        "File" => {
            if is(fs::FileType::is_file) {
                Ok(())
            } else {
                wrong("a file")
            }
        }
        "Socket" => {
            if is(FileTypeExt::is_socket) {
                Ok(())
            } else {
                wrong("a socket file")
            }
        }
        "CharDevice" => {
            if is(FileTypeExt::is_char_device) {
                Ok(())
            } else {
                wrong("a character device")
            }
        }
        "BlockDevice" => {
            if is(FileTypeExt::is_block_device) {
                Ok(())
            } else {
                wrong("a block device")
            }
        }
        other => Err(HostPathError::Unknown(other.to_owned())),
    }
}

/// Makes an emptyDir: open to every user of the pod (`pkg/volume/emptydir/empty_dir.go`, `perm = 0777`).
pub fn empty_dir(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o777))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        fs::write(at("file"), "x").unwrap();
        prepare(&at("a/b"), "DirectoryOrCreate").unwrap();
        assert!(at("a/b").is_dir());
        prepare(&at("new"), "FileOrCreate").unwrap();
        assert!(at("new").is_file());
        prepare(&at("plain"), "").unwrap();
        assert!(at("plain").is_dir());
        prepare(&at("file"), "File").unwrap();
        for (name, kind, words) in [
            ("file", "Directory", "is not a directory"),
            ("file", "DirectoryOrCreate", "is not a directory"),
            ("gone", "File", "is not a file"),
            ("file", "Socket", "is not a socket file"),
            ("file", "Odd", "Odd is an invalid volume type"),
        ] {
            let error = prepare(&at(name), kind).unwrap_err().to_string();
            assert!(error.ends_with(words), "{error}");
        }
    }
}
