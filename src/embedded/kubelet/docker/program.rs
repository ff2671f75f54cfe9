//! This program as a gate finds it in its container: the file itself and the libraries that it runs with, bound from the host.
//!
//! The image has none of them, and a container sees nothing of the host, so the loader is named and told where to look. A program that is
//! linked statically needs neither.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::super::runtime::Mount;
use super::gate::PLACE;

/// What to bind, and what to start.
#[derive(Debug, Clone)]
pub struct Program {
    /// Read-only, all below [`PLACE`].
    pub mounts: Vec<Mount>,
    /// The command line.
    pub argv: Vec<String>,
}

impl Program {
    /// Of the process that asks. `directory` takes a copy where the program's file has been replaced by another build since.
    ///
    /// # Errors
    /// When the kernel doesn't tell.
    pub fn own(directory: &Path) -> io::Result<Self> {
        let maps = fs::read_to_string("/proc/self/maps")?;
        Ok(Self::from(&maps, file(directory)?))
    }

    /// `maps` is as in `/proc/self/maps`.
    fn from(maps: &str, file: PathBuf) -> Self {
        let libraries: BTreeSet<&Path> = maps
            .lines()
            .filter_map(|line| line.find('/').map(|at| Path::new(&line[at..])))
            .filter(|path| file_name(path).contains(".so"))
            .collect();
        let directories: BTreeSet<&Path> = libraries.iter().filter_map(|library| library.parent()).collect();
        let inside = |number: usize| format!("{PLACE}/lib{number}");
        let mut mounts: Vec<Mount> = directories
            .iter()
            .enumerate()
            .map(|(number, directory)| Mount {
                source: directory.to_path_buf(),
                target: PathBuf::from(inside(number)),
                read_only: true,
            })
            .collect();
        let target = PathBuf::from(format!("{PLACE}/envctl"));
        mounts.push(Mount { source: file, target: target.clone(), read_only: true });
        let mut argv = Vec::new();
        let loader = libraries.iter().find(|library| file_name(library).starts_with("ld-"));
        if let Some(loader) = loader {
            let at = directories.iter().position(|directory| loader.parent() == Some(directory)).unwrap_or_default();
            argv.push(format!("{}/{}", inside(at), file_name(loader)));
            argv.push("--library-path".to_owned());
            argv.push((0..directories.len()).map(inside).collect::<Vec<_>>().join(":"));
        }
        argv.push(target.to_string_lossy().into_owned());
        argv.push("__gate".to_owned());
        Self { mounts, argv }
    }
}

fn file_name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

/// Where this very program is: its path, if that still leads to it.
fn file(directory: &Path) -> io::Result<PathBuf> {
    const OWN: &str = "/proc/self/exe";
    let (running, path) = (fs::metadata(OWN)?, fs::read_link(OWN)?);
    if fs::metadata(&path).is_ok_and(|found| (found.dev(), found.ino()) == (running.dev(), running.ino())) {
        return Ok(path);
    }
    let copy = directory.join("envctl");
    fs::copy(OWN, &copy)?;
    Ok(copy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loader_is_told_where_to_look() {
        let maps = "55d-55e r-xp 00000000 fe:00 1 /opt/envctl\n\
                    7f0-7f1 r--p 00000000 fe:00 2   /usr/lib/x86_64-linux-gnu/libc.so.6\n\
                    7f1-7f2 r-xp 00000000 fe:00 3 /usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2\n\
                    7f2-7f3 r-xp 00000000 fe:00 4 /opt/more/libm.so.6\n\
                    7ff-800 rw-p 00000000 00:00 0 [stack]\n";
        let program = Program::from(maps, PathBuf::from("/opt/envctl"));
        let targets: Vec<_> = program.mounts.iter().map(|mount| mount.target.to_string_lossy()).collect();
        assert_eq!(targets, ["/.envctl/lib0", "/.envctl/lib1", "/.envctl/envctl"]);
        assert_eq!(
            program.argv,
            [
                "/.envctl/lib1/ld-linux-x86-64.so.2",
                "--library-path",
                "/.envctl/lib0:/.envctl/lib1",
                "/.envctl/envctl",
                "__gate"
            ]
        );
    }

    #[test]
    fn a_static_program_starts_by_itself() {
        let program = Program::from("55d-55e r-xp 00000000 fe:00 1 /opt/envctl\n", PathBuf::from("/opt/envctl"));
        assert_eq!(program.argv, ["/.envctl/envctl", "__gate"]);
    }
}
