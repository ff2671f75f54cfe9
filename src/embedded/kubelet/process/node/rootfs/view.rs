//! A root before its overlays are mounted: what will be at a path, and where to put something so that it
//! will be there. Writing to an upper directory beforehand also works where writing through the overlay cannot: in
//! a user namespace, the overlay would first have to copy up directories whose owners have no number there.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Component, Path, PathBuf};

use super::layers::Step;

/// How many symbolic links are followed before a loop is assumed, as in the kernel.
const MOST_LINKS: usize = 40;

/// The root under construction.
pub struct View<'a> {
    /// What it is made from.
    pub steps: &'a [Step],
    /// Its own directory, where [`Step::Directory`] and what is fresh are made.
    pub root: &'a Path,
    /// Has the upper directory of each overlay, named by its step's number.
    pub uppers: &'a Path,
}

/// Where a path will come from.
enum Place {
    /// From the root's own directory.
    Own(PathBuf),
    /// From an overlay: its number, what is under it, and the rest of the path.
    Layer { upper: PathBuf, lower: PathBuf, rest: PathBuf },
    /// From a tree that is shown as it is: nothing can be put there.
    Shown,
}

impl View<'_> {
    /// The upper directory of the overlay that is step number `step`.
    pub fn upper(&self, step: usize) -> PathBuf {
        self.uppers.join(step.to_string())
    }

    /// Makes a directory and those above it. Gives `false` where nothing can be put.
    ///
    /// # Errors
    /// Of making a directory, for example `ENOTDIR`.
    pub fn make_directory(&self, path: &Path) -> io::Result<bool> {
        match self.place(&self.resolve(path)) {
            Place::Own(path) => fs::create_dir_all(path).map(|()| true),
            Place::Layer { upper, lower, rest } => {
                let (mut upper, mut lower) = (upper, lower);
                for name in rest.components() {
                    upper.push(name);
                    lower.push(name);
                    // Links have been followed: a directory in a file's place would hide the file.
                    if fs::symlink_metadata(&lower).is_ok_and(|lower| !lower.is_dir()) {
                        return Err(io::Error::from_raw_os_error(nix::libc::ENOTDIR));
                    }
                    match fs::create_dir(&upper) {
                        Ok(()) => inherit(&lower, &upper)?,
                        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                        Err(error) => return Err(error),
                    }
                }
                Ok(true)
            }
            Place::Shown => Ok(false),
        }
    }

    /// Puts a file, in place of whatever would be there (also of a symbolic link). Gives `false` where nothing can be put.
    ///
    /// # Errors
    /// Of making it.
    pub fn put_file(&self, path: &Path, content: &[u8]) -> io::Result<bool> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(false) };
        let parent = self.resolve(parent);
        if !self.make_directory(&parent)? {
            return Ok(false);
        }
        match self.place(&parent.join(name)) {
            Place::Own(path) => fs::write(path, content).map(|()| true),
            Place::Layer { upper, rest, .. } => fs::write(upper.join(rest), content).map(|()| true),
            Place::Shown => Ok(false),
        }
    }

    /// Whether something will be there.
    pub fn exists(&self, path: &Path) -> bool {
        match self.place(&self.resolve(path)) {
            Place::Own(path) => path.exists(),
            Place::Layer { upper, lower, rest } => {
                upper.join(&rest).symlink_metadata().is_ok() || lower.join(&rest).symlink_metadata().is_ok()
            }
            Place::Shown => true,
        }
    }

    /// Follows the symbolic links of a path, whose last name need not exist.
    fn resolve(&self, path: &Path) -> PathBuf {
        let mut rest: Vec<PathBuf> = names(path);
        let mut done = PathBuf::from("/");
        let mut links = 0;
        while let Some(name) = rest.pop() {
            if name == Path::new("..") {
                done.pop();
                continue;
            }
            done.push(&name);
            let Some(target) = self.link(&done).filter(|_| links < MOST_LINKS) else { continue };
            links += 1;
            done.pop();
            if target.is_absolute() {
                done = PathBuf::from("/");
            }
            rest.extend(names(&target));
        }
        done
    }

    /// What the symbolic link at a path says, if one is there.
    fn link(&self, path: &Path) -> Option<PathBuf> {
        let own = self.steps.iter().find_map(|step| match step {
            Step::Link { path: link, target } if link == path => Some(target.clone()),
            _ => None,
        });
        own.or_else(|| match self.place(path) {
            Place::Layer { upper, lower, rest } if !upper.join(&rest).exists() => fs::read_link(lower.join(rest)).ok(),
            _ => None,
        })
    }

    fn place(&self, path: &Path) -> Place {
        let mut place = Place::Own(self.root.join(path.strip_prefix("/").unwrap_or(path)));
        for (number, step) in self.steps.iter().enumerate() {
            match step {
                Step::Overlay { target, lower } => {
                    if let Ok(rest) = path.strip_prefix(target) {
                        place = Place::Layer { upper: self.upper(number), lower: lower.clone(), rest: rest.to_owned() };
                    }
                }
                Step::Show { target, .. } if path.starts_with(target) => place = Place::Shown,
                _ => {}
            }
        }
        place
    }
}

/// The names in a path, last first.
fn names(path: &Path) -> Vec<PathBuf> {
    path.components()
        .rev()
        .filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir))
        .map(|part| PathBuf::from(part.as_os_str()))
        .collect()
}

/// Gives a directory the mode and, where that is possible, the owner of the one it will be merged with.
///
/// # Errors
/// Of changing the mode.
pub fn inherit(lower: &Path, upper: &Path) -> io::Result<()> {
    let Ok(metadata) = fs::metadata(lower) else { return Ok(()) };
    // In a user namespace most owners have no number: the directory is then the caller's.
    let _refused = chown(upper, Some(metadata.uid()), Some(metadata.gid()));
    fs::set_permissions(upper, fs::Permissions::from_mode(metadata.mode() & 0o7777))
}
