//! Which parts of the host a container sees, and through what: decided once, when the node starts.
//!
//! One overlay per real directory at the top of the host's tree, so that each has a private writable layer. The
//! file systems mounted further down get one each, on top. In a user namespace the kernel refuses an
//! overlay over a directory with mounts beneath it (what they cover would show), so such a directory is opened
//! up: its entries are treated one by one, or, if there are too many, it is shown read-only.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::mountinfo::HostMount;

/// Directories at the top that a container has of its own.
pub const FRESH: [&str; 5] = ["/dev", "/proc", "/run", "/sys", "/tmp"];
/// Directories at the top that no program needs.
const HIDDEN: [&str; 2] = ["/boot", "/lost+found"];
/// A directory with more entries than this is not opened up.
const OPENED_UP: usize = 64;

/// One thing to do to build a container's root, in order. Paths are the container's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A directory of the root's own.
    Directory(PathBuf),
    /// A symbolic link as on the host.
    Link {
        /// Where.
        path: PathBuf,
        /// To what.
        target: PathBuf,
    },
    /// A private writable layer over a directory.
    Overlay {
        /// Where it is seen.
        target: PathBuf,
        /// What is under it, as the node names it.
        lower: PathBuf,
    },
    /// A file or a whole tree, read-only.
    Show {
        /// Where it is seen, the same on the host.
        target: PathBuf,
        /// Whether it is a file.
        file: bool,
    },
}

/// What is known of the host.
pub struct Host<'a> {
    /// Where its tree is.
    pub root: &'a Path,
    /// What is mounted in it.
    pub mounts: &'a [HostMount],
    /// Whether mounts are locked to what they cover: in a user namespace.
    pub locked: bool,
    /// Whose files can be copied to the writable layer, in a user namespace.
    pub uid: u32,
}

impl Host<'_> {
    /// The steps for [`super::super::super::super::image::Rootfs::Host`]. `visible` are directories that must be seen
    /// and writable wherever they are: the project.
    pub fn plan(&self, visible: &[PathBuf]) -> Vec<Step> {
        let mut steps = Vec::new();
        for name in self.entries(Path::new("/")) {
            let path = Path::new("/").join(name);
            let own = |list: &[&str]| list.iter().any(|other| Path::new(other) == path);
            if !own(&FRESH) && !own(&HIDDEN) {
                self.show(&path, &mut steps);
            }
        }
        if !self.locked {
            for mount in self.mounts.iter().filter(|mount| self.is_layer(mount)) {
                self.overlay(&mount.path, &mut steps);
            }
        }
        for path in visible {
            self.reveal(path, &mut steps);
        }
        steps
    }

    /// Adds one entry of a directory that is the root's own.
    fn show(&self, path: &Path, steps: &mut Vec<Step>) {
        let Ok(metadata) = fs::symlink_metadata(self.on_host(path)) else { return };
        if metadata.is_symlink() {
            if let Ok(target) = fs::read_link(self.on_host(path)) {
                steps.push(Step::Link { path: path.to_owned(), target });
            }
        } else if metadata.is_dir() {
            self.cover(path, steps);
        } else if metadata.is_file() && path.parent() != Some(Path::new("/")) {
            steps.push(Step::Show { target: path.to_owned(), file: true });
        }
    }

    /// Adds a directory.
    fn cover(&self, path: &Path, steps: &mut Vec<Step>) {
        let beneath = |mount: &&HostMount| mount.path != path && mount.path.starts_with(path);
        let nested: Vec<&HostMount> = self.mounts.iter().filter(beneath).collect();
        if !self.locked || nested.is_empty() {
            if self.is_empty(path) && nested.is_empty() {
                steps.push(Step::Directory(path.to_owned()));
            } else {
                self.overlay(path, steps);
            }
            return;
        }
        let entries = self.entries(path);
        if !entries.is_empty() && entries.len() <= OPENED_UP {
            steps.push(Step::Directory(path.to_owned()));
            for name in entries {
                self.show(&path.join(name), steps);
            }
            return;
        }
        steps.push(Step::Show { target: path.to_owned(), file: false });
        let covered = |mount: &HostMount| {
            nested.iter().any(|other| other.path != mount.path && mount.path.starts_with(&other.path))
        };
        for mount in &nested {
            if self.is_layer(mount) && mount.writable && !covered(mount) {
                self.cover(&mount.path, steps);
            }
        }
    }

    /// Makes sure that a directory is seen and can be written to.
    fn reveal(&self, path: &Path, steps: &mut Vec<Step>) {
        if !self.on_host(path).is_dir() {
            return;
        }
        if FRESH.iter().any(|fresh| path.starts_with(fresh)) {
            let mut above: Vec<&Path> = path.ancestors().skip(1).collect();
            above.reverse();
            steps.extend(above.into_iter().skip(2).map(|directory| Step::Directory(directory.to_owned())));
            self.cover(path, steps);
            return;
        }
        let layer = steps
            .iter()
            .filter_map(|step| match step {
                Step::Overlay { target, .. } | Step::Show { target, .. } if path.starts_with(target) => Some(target),
                _ => None,
            })
            .max_by_key(|target| target.as_os_str().len());
        let Some(layer) = layer.filter(|layer| layer.as_path() != path) else { return };
        let foreign =
            |directory: &Path| fs::metadata(self.on_host(directory)).is_ok_and(|metadata| metadata.uid() != self.uid);
        // Writing beneath would copy a directory up whose owner has no number in the user namespace.
        if self.locked && path.ancestors().take_while(|above| above != layer).any(foreign) {
            self.cover(path, steps);
        }
    }

    fn overlay(&self, path: &Path, steps: &mut Vec<Step>) {
        steps.push(Step::Overlay { target: path.to_owned(), lower: self.on_host(path) });
    }

    /// Whether a mount further down is shown as a layer of its own.
    fn is_layer(&self, mount: &HostMount) -> bool {
        let apart = |top: &&str| mount.path.starts_with(top);
        mount.keeps_files
            && mount.path.components().count() > 2
            && !FRESH.iter().any(apart)
            && !HIDDEN.iter().any(apart)
            && self.on_host(&mount.path).is_dir()
    }

    fn on_host(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    fn is_empty(&self, path: &Path) -> bool {
        fs::read_dir(self.on_host(path)).is_ok_and(|mut entries| entries.next().is_none())
    }

    fn entries(&self, path: &Path) -> Vec<std::ffi::OsString> {
        let mut names: Vec<_> =
            fs::read_dir(self.on_host(path)).into_iter().flatten().flatten().map(|entry| entry.file_name()).collect();
        names.sort();
        names
    }
}
