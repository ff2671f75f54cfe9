//! Images run as processes on the embedded cluster: what each means to the node, and a digest of its files.
//!
//! The digest is of size, modification time and inode, not of content: hashing a debug binary takes longer than
//! everything else in `up`, and every build tool writes a new file when it makes a new program. A file touched
//! without a change costs one restart.

use std::fmt::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::embedded::kubelet::image::{Image as NodeImage, Rootfs};
use crate::plan;

/// Where programs are looked up after the image's own `path`, as the kubelet's default `PATH`.
const DEFAULT_PATH: [&str; 6] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// What the node needs to run `image`. An entrypoint with a slash that isn't absolute is the project's own file.
pub fn node_image(image: &plan::Image, project_root: &Path) -> NodeImage {
    let process = image.process.clone().unwrap_or_default();
    let mut entrypoint = if process.entrypoint.is_empty() { image.entrypoint.clone() } else { process.entrypoint };
    if let Some(program) = entrypoint.first_mut()
        && program.contains('/')
    {
        *program = project_root.join(&*program).to_string_lossy().into_owned();
    }
    let working_dir = if process.workdir.as_os_str().is_empty() { project_root.to_owned() } else { process.workdir };
    NodeImage {
        rootfs: Rootfs::Host,
        entrypoint,
        cmd: Vec::new(),
        env: process.env,
        path: process.path,
        working_dir: Some(working_dir),
        user: process.user,
    }
}

/// A digest of the files that running `command` and `args` (of a pod's spec; empty: the image's own) would use: its
/// program, every argument that names a file of the working directory, such as a script, and the image's sources.
pub fn digest(image: &plan::Image, project_root: &Path, command: &[String], args: &[String]) -> String {
    let node = node_image(image, project_root);
    let directory = node.working_dir.as_deref().unwrap_or(Path::new("/"));
    let command = if command.is_empty() { &node.entrypoint } else { command };
    let mut hash = Sha256::new();
    if let Some(program) = command.first().and_then(|program| find(program, &node, directory)) {
        add_file(&mut hash, &program);
    }
    for argument in command.iter().skip(1).chain(args) {
        if !argument.is_empty() {
            add_file(&mut hash, &directory.join(argument));
        }
    }
    for source in image.process.iter().flat_map(|process| &process.sources) {
        add_tree(&mut hash, source);
    }
    let bytes: [u8; 32] = hash.finalize().into();
    bytes[..10].iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a String cannot fail");
        text
    })
}

/// Adds a file; nothing if it is none.
fn add_file(hash: &mut Sha256, path: &Path) {
    let Ok(meta) = std::fs::metadata(path) else { return };
    if !meta.is_file() {
        return;
    }
    hash.update(path.as_os_str().as_encoded_bytes());
    for number in [meta.len(), meta.ino(), meta.mtime().cast_unsigned(), meta.mtime_nsec().cast_unsigned()] {
        hash.update(number.to_le_bytes());
    }
}

/// Adds a file, or all files of a directory in the order of their names, without what is hidden or a cache. Links to
/// directories are not followed.
fn add_tree(hash: &mut Sha256, path: &Path) {
    let Ok(entries) = std::fs::read_dir(path) else { return add_file(hash, path) };
    let mut entries: Vec<_> = entries.flatten().collect();
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name();
        if name == "__pycache__" || name.as_encoded_bytes().starts_with(b".") {
            continue;
        }
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            add_tree(hash, &entry.path());
        } else {
            add_file(hash, &entry.path());
        }
    }
}

fn find(program: &str, image: &NodeImage, directory: &Path) -> Option<PathBuf> {
    if program.contains('/') {
        return Some(directory.join(program));
    }
    let own = image.path.iter().map(PathBuf::as_path);
    own.chain(DEFAULT_PATH.iter().map(Path::new)).map(|entry| entry.join(program)).find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(root: &Path, entrypoint: &[&str]) -> plan::Image {
        plan::Image {
            process: Some(plan::ProcessImage {
                entrypoint: entrypoint.iter().map(|word| (*word).to_owned()).collect(),
                path: vec![root.join("bin")],
                workdir: root.to_owned(),
                sources: vec![root.join("lib")],
                ..plan::ProcessImage::default()
            }),
            ..plan::Image::default()
        }
    }

    #[test]
    fn a_relative_entrypoint_is_the_projects_own_file() {
        let root = Path::new("/project");
        let entrypoint = |words: &[&str]| node_image(&image(root, words), root).entrypoint;
        assert_eq!(entrypoint(&["tools/serve", "x/y"]), ["/project/tools/serve", "x/y"]);
        assert_eq!(entrypoint(&["/bin/serve"]), ["/bin/serve"]);
        assert_eq!(entrypoint(&["serve"]), ["serve"]);
    }

    #[test]
    fn a_rebuilt_program_and_an_edited_script_are_differences() {
        let root = tempfile::tempdir().expect("a directory");
        let root = root.path();
        std::fs::create_dir(root.join("bin")).expect("made");
        std::fs::write(root.join("bin/serve"), "1").expect("written");
        std::fs::write(root.join("app.py"), "1").expect("written");
        let image = image(root, &["serve"]);
        let args = ["app.py".to_owned(), "--port".to_owned()];
        let of = || digest(&image, root, &[], &args);
        let first = of();
        assert_eq!(of(), first, "nothing changed");
        std::fs::write(root.join("bin/serve"), "22").expect("written");
        let second = of();
        assert_ne!(second, first, "the program is another");
        std::fs::write(root.join("app.py"), "22").expect("written");
        assert_ne!(of(), second, "the script is another");
        assert_ne!(digest(&image, root, &["sh".to_owned()], &args), of(), "another command");
    }

    #[test]
    fn an_edited_source_is_a_difference_and_what_is_hidden_or_a_cache_is_not() {
        let root = tempfile::tempdir().expect("a directory");
        let root = root.path();
        let of = || digest(&image(root, &["serve"]), root, &[], &[]);
        let before = of();
        std::fs::create_dir_all(root.join("lib/views/__pycache__")).expect("made");
        std::fs::create_dir(root.join("lib/.venv")).expect("made");
        std::fs::write(root.join("lib/views/a.py"), "1").expect("written");
        let first = of();
        assert_ne!(first, before, "a new file");
        std::fs::write(root.join("lib/views/__pycache__/a.pyc"), "1").expect("written");
        std::fs::write(root.join("lib/.venv/python"), "1").expect("written");
        assert_eq!(of(), first, "what is made by running it");
        std::fs::write(root.join("lib/views/a.py"), "22").expect("written");
        assert_ne!(of(), first, "an edited file");
    }
}
