//! Where a cluster that a tool makes is known on disk: `clusters/NAME` in the state directory.
//!
//! - `lock` is held by whoever makes or removes the cluster, the tool itself included while it makes one, so that what a killed envctl
//!   began is not taken for finished or abandoned before it is; and by the agent of the session whose own cluster it is.
//! - `mark` is a word that nobody else knows. The tool's half of this room puts it where only the maker of a cluster can: by it a cluster
//!   is told from one of the same name that someone else made.
//! - `kubeconfig` is written by the tool. It is never the user's.
//! - `identity` is the UID of the cluster's `kube-system` namespace, once it has answered.
//! - `fresh` says that the cluster is one session's own.
//!
//! Names contain a digest of the path of the state directory: users, and tests, have clusters of their own.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use kube::config::Kubeconfig;
use sha2::{Digest as _, Sha256};

use super::By;
use crate::cluster::{ClusterError, kubeconfig};

/// What is known of the cluster, and goes with it: beside those above, what only one tool needs.
const OF_THE_CLUSTER: [&str; 6] = ["identity", "kubeconfig", "kubeconfig.lock", "config.yaml", "home", "mark"];

/// Where a cluster is known.
#[derive(Debug, Clone)]
pub struct Place {
    by: By,
    state: PathBuf,
    directory: PathBuf,
    /// The cluster's name.
    pub name: String,
}

/// The right to make or remove a cluster; it ends when this is dropped, and every program that was given it has ended.
#[derive(Debug)]
pub struct Taken {
    lock: File,
    /// Whether what is there now was begun under this lock and isn't whole yet: then it is this one's to take away.
    making: AtomicBool,
}

impl Taken {
    /// The same right, for a program to hold.
    ///
    /// # Errors
    /// When there are too many open files.
    pub fn shared(&self) -> io::Result<File> {
        self.lock.try_clone()
    }

    /// Whether what is there was begun under this lock, and not finished.
    pub fn is_making(&self) -> bool {
        self.making.load(Ordering::Relaxed)
    }
}

impl From<File> for Taken {
    fn from(lock: File) -> Self {
        Self { lock, making: AtomicBool::new(false) }
    }
}

impl Place {
    /// Of the cluster that all sessions of a state directory share.
    pub fn shared(by: By, state: &Path) -> Self {
        Self::named(by, state, format!("{}{}", by.prefix(), short(state)))
    }

    /// Of a session's own cluster; `session` is its directory.
    pub fn fresh(by: By, state: &Path, session: &Path) -> Self {
        Self::named(by, state, format!("{}{}-{}", by.prefix(), short(state), short(session)))
    }

    fn named(by: By, state: &Path, name: String) -> Self {
        Self { by, state: state.to_owned(), directory: state.join("clusters").join(&name), name }
    }

    /// Of every cluster of a tool that is known in a state directory.
    pub fn all(by: By, state: &Path) -> Vec<Self> {
        let entries = fs::read_dir(state.join("clusters")).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        // One tool's prefix may begin with another's; a digest follows, which begins with no letter of a tool's name.
        let digest = |name: &str| {
            name.strip_prefix(by.prefix())
                .is_some_and(|rest| rest.len() >= 8 && rest.as_bytes()[..8].iter().all(u8::is_ascii_hexdigit))
        };
        names.filter(|name| digest(name)).map(|name| Self::named(by, state, name)).collect()
    }

    /// The tool.
    pub fn by(&self) -> By {
        self.by
    }

    /// The state directory.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// Whether anything was ever begun.
    pub fn exists(&self) -> bool {
        self.mark().is_some()
    }

    /// Whether the cluster is one session's own.
    pub fn is_fresh(&self) -> bool {
        self.path("fresh").exists()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Waits for the right to make or remove the cluster. `fresh`: it is to be a session's own.
    ///
    /// # Errors
    /// When the state directory refuses.
    pub async fn take(&self, fresh: bool) -> Result<Taken, ClusterError> {
        let place = self.clone();
        // It may take as long as another one's making of the cluster; the kernel says when it is over.
        let waiting = tokio::task::spawn_blocking(move || {
            loop {
                let file = place.lock_file()?;
                file.lock()?;
                if place.is_current(&file)? {
                    if fresh {
                        place.write("fresh", "")?;
                    }
                    return Ok(Taken::from(file));
                }
            }
        });
        let taken = waiting.await.unwrap_or_else(|panic| Err(io::Error::other(panic)));
        taken.map_err(|error| ClusterError::unavailable(format!("taking {}", self.path("lock").display()), error))
    }

    /// The same if nobody has it.
    pub fn try_take(&self) -> Option<Taken> {
        let file = self.lock_file().ok()?;
        file.try_lock().ok()?;
        self.is_current(&file).ok()?.then(|| Taken::from(file))
    }

    fn lock_file(&self) -> io::Result<File> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
        OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(self.path("lock"))
    }

    /// Whether a lock is still the place's: whoever had it before may have removed everything.
    fn is_current(&self, file: &File) -> io::Result<bool> {
        use std::os::unix::fs::MetadataExt as _;
        match fs::metadata(self.path("lock")) {
            Ok(now) => Ok(now.ino() == file.metadata()?.ino()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The mark of the cluster that is there or that was begun.
    pub fn mark(&self) -> Option<String> {
        self.noted("mark")
    }

    /// A new mark, before a cluster is made; what was known of another one is forgotten.
    ///
    /// # Errors
    /// When the state directory refuses.
    pub fn prepare(&self, taken: &Taken) -> Result<String, ClusterError> {
        let mark = uuid::Uuid::new_v4().simple().to_string();
        taken.making.store(true, Ordering::Relaxed);
        self.forget_cluster().map_err(|error| self.unwritable(error))?;
        self.note("mark", &mark)?;
        Ok(mark)
    }

    /// Writes a file that the tool needs, or that its half of the room wants to find again ([`Self::noted`]).
    ///
    /// # Errors
    /// When the state directory refuses.
    pub fn note(&self, name: &str, text: &str) -> Result<PathBuf, ClusterError> {
        debug_assert!(OF_THE_CLUSTER.contains(&name), "it would outlive the cluster");
        self.write(name, text).map_err(|error| self.unwritable(error))?;
        Ok(self.path(name))
    }

    /// What such a file says.
    pub fn noted(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.path(name)).ok().filter(|text| !text.is_empty())
    }

    fn unwritable(&self, error: io::Error) -> ClusterError {
        ClusterError::unavailable(format!("writing to {}", self.directory.display()), error)
    }

    /// Where the tool is to write the kubeconfig.
    pub fn kubeconfig_path(&self) -> PathBuf {
        self.path("kubeconfig")
    }

    /// The kubeconfig of a whole cluster, with `namespace` as its default.
    ///
    /// # Errors
    /// When the tool wrote what is no kubeconfig.
    pub fn kubeconfig(&self, namespace: &str) -> Result<Option<Kubeconfig>, ClusterError> {
        let path = self.kubeconfig_path();
        if path.exists() { kubeconfig::of_file(&path, namespace).map(Some) } else { Ok(None) }
    }

    /// The address of a whole cluster's API.
    pub fn server(&self) -> Option<String> {
        let kubeconfig = Kubeconfig::read_from(self.kubeconfig_path()).ok()?;
        Some(kubeconfig::server(&kubeconfig).to_owned())
    }

    /// The identity of the cluster, if it has ever answered.
    pub fn identity(&self) -> Option<String> {
        fs::read_to_string(self.path("identity")).ok()
    }

    /// Remembers it.
    ///
    /// # Errors
    /// When the state directory refuses.
    pub fn identified(&self, taken: &Taken, identity: &str) -> Result<(), ClusterError> {
        self.note("identity", identity)?;
        taken.making.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Forgets the cluster: it is gone.
    fn forget_cluster(&self) -> io::Result<()> {
        for name in OF_THE_CLUSTER {
            match fs::remove_file(self.path(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Forgets the place too: the cluster is gone.
    ///
    /// # Errors
    /// When the state directory refuses.
    pub fn forget(&self, _taken: &Taken) -> Result<(), ClusterError> {
        match fs::remove_dir_all(&self.directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(ClusterError::unavailable(format!("removing {}", self.directory.display()), error))
            }
            _ => Ok(()),
        }
    }

    fn write(&self, name: &str, text: &str) -> io::Result<()> {
        use io::Write as _;
        let path = self.path(name);
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        file.write_all(text.as_bytes())
    }
}

fn short(path: &Path) -> String {
    Sha256::digest(path.as_os_str().as_encoded_bytes()).iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::by_tool::{KIND, MINIKUBE};

    #[test]
    fn names_are_one_to_a_state_directory_and_session() {
        let shared = Place::shared(KIND, Path::new("/a")).name;
        assert_eq!(shared, Place::shared(KIND, Path::new("/a")).name);
        assert_ne!(shared, Place::shared(KIND, Path::new("/b")).name);
        let fresh = |session| Place::fresh(KIND, Path::new("/a"), Path::new(session)).name;
        assert_ne!(fresh("/a/sessions/x"), fresh("/a/sessions/y"));
        // kind warns from 50 characters on.
        assert!(fresh("/a/sessions/x").len() < 50 && fresh("/a/sessions/x").starts_with(&shared));
    }

    #[tokio::test]
    async fn one_at_a_time_also_when_the_place_is_removed_in_between() {
        let state = tempfile::tempdir().expect("a directory");
        let place = Place::shared(KIND, state.path());
        let first = place.take(false).await.expect("free");
        assert!(place.try_take().is_none());
        let held = first.shared().expect("a copy");
        let waiting = tokio::spawn({
            let place = place.clone();
            async move { place.take(true).await }
        });
        assert!(!first.is_making());
        place.prepare(&first).expect("written");
        assert!(first.is_making());
        place.identified(&first, "uid").expect("written");
        assert!(!first.is_making() && place.identity().as_deref() == Some("uid"));
        assert!(place.mark().is_some_and(|mark| mark.len() == 32));
        place.forget(&first).expect("removed");
        drop(first);
        // A program still has it.
        assert!(place.try_take().is_some(), "another file by now");
        drop(held);
        let second = waiting.await.expect("no panic").expect("taken");
        assert!(place.is_fresh() && place.mark().is_none() && place.try_take().is_none());
        drop(second);
        drop(Place::shared(MINIKUBE, state.path()).take(false).await.expect("free"));
        for by in [KIND, MINIKUBE] {
            let all = Place::all(by, state.path());
            assert!(matches!(all.as_slice(), [one] if one.name == Place::shared(by, state.path()).name), "{all:?}");
        }
    }
}
