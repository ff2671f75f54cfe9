//! A directory as a build context: a tar archive written while it is sent, so that its size costs no memory.
//!
//! What `.dockerignore` says is left out, but for that file itself and the Dockerfile (docker/cli, `cli/command/image/build/context.go`).
//! Everything belongs to root, as the docker CLI sends it. A Dockerfile outside of the context comes along under a name of its own.

use std::fs::{self, File};
use std::io::{self, Read as _, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures::Stream;
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::ignore::Ignore;

/// How much is handed over at once.
const CHUNK: usize = 64 * 1024;
/// How many chunks may wait for the engine.
const WAITING: usize = 16;
/// The file beside the Dockerfile that says what to leave out.
const IGNORE_FILE: &str = ".dockerignore";
/// A Dockerfile that isn't in the context is called so there.
const OUTSIDE: &str = ".envctl.Dockerfile";

/// What is to be sent.
#[derive(Debug)]
pub struct Context {
    root: PathBuf,
    ignore: Ignore,
    /// The Dockerfile's name within the context.
    pub dockerfile: String,
    /// Its text.
    pub recipe: String,
    outside: Option<PathBuf>,
}

impl Context {
    /// Looks at the directory and its Dockerfile (`None`: the usual one in it).
    ///
    /// # Errors
    /// When one of them isn't there, with its path.
    pub fn new(root: &Path, dockerfile: Option<&Path>) -> Result<Self, (PathBuf, io::Error)> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |error| (path, error)
        };
        if !fs::metadata(root).map_err(at(root))?.is_dir() {
            return Err((root.to_owned(), io::ErrorKind::NotADirectory.into()));
        }
        let usual = root.join("Dockerfile");
        let dockerfile = dockerfile.unwrap_or(&usual);
        let recipe = fs::read_to_string(dockerfile).map_err(at(dockerfile))?;
        let ignored = root.join(IGNORE_FILE);
        let ignore = match fs::read_to_string(&ignored) {
            Ok(text) => Ignore::parse(&text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ignore::default(),
            Err(error) => return Err((ignored, error)),
        };
        let inside = dockerfile.strip_prefix(root).ok().and_then(Path::to_str);
        Ok(Self {
            root: root.to_owned(),
            ignore,
            dockerfile: inside.unwrap_or(OUTSIDE).to_owned(),
            recipe,
            outside: inside.is_none().then(|| dockerfile.to_owned()),
        })
    }

    /// The archive, and the task that writes it: it ends with the stream.
    pub fn archive(self) -> (impl Stream<Item = io::Result<Bytes>> + Send + 'static, JoinHandle<io::Result<()>>) {
        let (chunks, received) = mpsc::channel(WAITING);
        let writing = tokio::task::spawn_blocking(move || {
            let mut builder = Builder::new(Sender { chunks, pending: Vec::with_capacity(CHUNK) });
            self.write(&mut builder)?;
            builder.into_inner()?.flush()
        });
        let stream =
            futures::stream::unfold(received, async |mut received| Some((Ok(received.recv().await?), received)));
        (stream, writing)
    }

    /// A digest of what is to be sent: names, sizes, times and inodes, as of the files of a process image ([`crate::images::process`]).
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn digest(&self) -> io::Result<[u8; 32]> {
        let mut hash = Sha256::new();
        self.each(&mut |path, name| {
            let Ok(meta) = fs::symlink_metadata(path) else { return Ok(()) };
            hash.update(name.as_bytes());
            let times = [meta.mtime(), meta.mtime_nsec()].map(i64::cast_unsigned);
            for number in [meta.len(), meta.ino(), u64::from(meta.mode())].into_iter().chain(times) {
                hash.update(number.to_le_bytes());
            }
            Ok(())
        })?;
        Ok(hash.finalize().into())
    }

    fn write(&self, builder: &mut Builder<impl Write>) -> io::Result<()> {
        self.each(&mut |path, name| append(builder, path, name))
    }

    /// Visits what is to be sent, by its path and its name in the archive.
    fn each(&self, visit: &mut impl FnMut(&Path, &str) -> io::Result<()>) -> io::Result<()> {
        if let Some(outside) = &self.outside {
            visit(outside, OUTSIDE)?;
        }
        self.directory(visit, "")
    }

    fn directory(&self, visit: &mut impl FnMut(&Path, &str) -> io::Result<()>, within: &str) -> io::Result<()> {
        let mut entries: Vec<_> = fs::read_dir(self.root.join(within))?.collect::<io::Result<_>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            // A name that isn't UTF-8 can stand in no Dockerfile.
            let Ok(name) = entry.file_name().into_string() else { continue };
            // envctl's own, which every `up` writes to, is no part of a project.
            if within.is_empty() && name == ".envctl" {
                continue;
            }
            let name = if within.is_empty() { name } else { format!("{within}/{name}") };
            let needed = name == self.dockerfile || name == IGNORE_FILE;
            let ignored = !needed && self.ignore.ignores(&name);
            let is_directory = entry.file_type()?.is_dir();
            if !ignored {
                visit(&entry.path(), &name)?;
            }
            let below = self.dockerfile.strip_prefix(&name).is_some_and(|rest| rest.starts_with('/'));
            if is_directory && (!ignored || below || self.ignore.keeps_below(&name)) {
                self.directory(visit, &name)?;
            }
        }
        Ok(())
    }
}

/// One file, directory or link; sockets, pipes and devices have no place in an image.
fn append(builder: &mut Builder<impl Write>, path: &Path, name: &str) -> io::Result<()> {
    let meta = match fs::symlink_metadata(path) {
        Ok(meta) => meta,
        // Gone since it was listed.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let mut header = Header::new_gnu();
    header.set_mode(meta.mode() & 0o7777);
    header.set_mtime(u64::try_from(meta.mtime()).unwrap_or(0));
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(0);
    if meta.is_dir() {
        header.set_entry_type(EntryType::Directory);
        builder.append_data(&mut header, format!("{name}/"), io::empty())
    } else if meta.is_symlink() {
        header.set_entry_type(EntryType::Symlink);
        builder.append_link(&mut header, name, fs::read_link(path)?)
    } else if meta.is_file() {
        let file =
            File::open(path).map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
        header.set_size(meta.len());
        // Never more or less than announced, whoever writes to it meanwhile.
        builder.append_data(&mut header, name, file.chain(io::repeat(0)).take(meta.len()))
    } else {
        Ok(())
    }
}

/// Hands what is written to the stream, in chunks.
struct Sender {
    chunks: mpsc::Sender<Bytes>,
    pending: Vec<u8>,
}

impl Write for Sender {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.pending.extend_from_slice(bytes);
        if self.pending.len() >= CHUNK {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::replace(&mut self.pending, Vec::with_capacity(CHUNK));
        self.chunks.blocking_send(chunk.into()).map_err(|_gone| io::ErrorKind::BrokenPipe.into())
    }
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt as _;

    use super::*;

    async fn names(root: &Path, dockerfile: Option<&Path>) -> Vec<String> {
        let (stream, writing) = Context::new(root, dockerfile).expect("a context").archive();
        let bytes: Vec<Bytes> = stream.try_collect().await.expect("an archive");
        writing.await.expect("no panic").expect("written");
        let bytes = bytes.concat();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let entries = archive.entries().expect("entries");
        entries.map(|entry| entry.expect("one").path().expect("a path").display().to_string()).collect()
    }

    #[tokio::test]
    async fn what_is_ignored_stays_behind_and_what_is_needed_does_not() {
        let directory = tempfile::tempdir().expect("a directory");
        let root = directory.path().join("context");
        let write = |name: &str, text: &str| {
            let path = root.join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            fs::write(path, text).expect("written");
        };
        write("docker/Dockerfile", "FROM scratch");
        write("target/debug/big", &"x".repeat(CHUNK * 3));
        write("src/main.rs", "fn main() {}");
        write("docs/a.md", "");
        write("docs/b.md", "");
        write(".envctl/current", "a session");
        write(".dockerignore", "target\ndocker\ndocs\n!docs/b.md\n");
        std::os::unix::fs::symlink("src/main.rs", root.join("link")).expect("made");
        let inside = names(&root, Some(&root.join("docker/Dockerfile"))).await;
        assert_eq!(inside, [".dockerignore", "docker/Dockerfile", "docs/b.md", "link", "src/", "src/main.rs"]);
        let outside = directory.path().join("Other");
        fs::write(&outside, "FROM scratch").expect("written");
        assert_eq!(names(&root, Some(&outside)).await.first().map(String::as_str), Some(OUTSIDE));
        let (path, _) = Context::new(&root, None).expect_err("there is no Dockerfile in it");
        assert_eq!(path, root.join("Dockerfile"));
    }
}
