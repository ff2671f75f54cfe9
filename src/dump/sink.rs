//! Where a dump goes: a directory or a tar, both private, both gone again if they are not finished.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use flate2::Compression;
use flate2::write::GzEncoder;

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
    Tar(Box<tar::Builder<Archive>>),
}

/// The file of a tar.
enum Archive {
    Plain(File),
    Gzip(Box<GzEncoder<File>>),
}

impl io::Write for Archive {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(file) => file.write(bytes),
            Self::Gzip(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(file) => file.flush(),
            Self::Gzip(file) => file.flush(),
        }
    }
}

/// What a dump's name asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Directory,
    Tar,
    TarGzip,
}

/// Whether a dump of this name is one file.
pub fn is_archive(path: &Path) -> bool {
    Form::of(path) != Form::Directory
}

impl Form {
    fn of(path: &Path) -> Self {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        if name.ends_with(".tar.gz") || name.ends_with(".tgz") {
            Self::TarGzip
        } else if name.ends_with(".tar") {
            Self::Tar
        } else {
            Self::Directory
        }
    }
}

impl Sink {
    /// A tar, compressed or not, where the name says so, else a directory. Nothing that is there is overwritten.
    ///
    /// # Errors
    /// When it is there, or cannot be made.
    pub fn create(path: &Path, redactor: Redactor) -> io::Result<Self> {
        let form = Form::of(path);
        let target = if form == Form::Directory {
            DirBuilder::new().mode(0o700).create(path)?;
            Target::Directory(path.to_owned())
        } else {
            let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
            let archive = match form {
                Form::TarGzip => Archive::Gzip(Box::new(GzEncoder::new(file, Compression::default()))),
                _ => Archive::Plain(file),
            };
            Target::Tar(Box::new(tar::Builder::new(archive)))
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
            match tar.get_mut() {
                Archive::Plain(file) => file.sync_all()?,
                Archive::Gzip(file) => {
                    file.try_finish()?;
                    file.get_ref().sync_all()?;
                }
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_name_says_what_it_is() {
        let of = |name: &str| Form::of(Path::new(name));
        assert_eq!([of("a/d.tar"), of("d.TAR.GZ"), of("d.tgz")], [Form::Tar, Form::TarGzip, Form::TarGzip]);
        assert_eq!([of("d.gz"), of("tar"), of("x.tar/d")], [Form::Directory; 3]);
    }
}
