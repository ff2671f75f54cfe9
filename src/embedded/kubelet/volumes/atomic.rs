//! Writes a volume's files so that readers see all of one version or all of another.
//!
//! The layout and the order of steps are upstream's `pkg/volume/util/atomic_writer.go`: files live in a
//! dated directory, `..data` is a symlink to it that is replaced by rename, and what users see are
//! symlinks through `..data`.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use k8s_openapi::jiff::Timestamp;

use super::payload::Payload;

const DATA: &str = "..data";
const NEW_DATA: &str = "..data_tmp";

/// Makes `directory` hold exactly `payload`. Whether anything had to be written.
pub fn write(directory: &Path, payload: &Payload) -> io::Result<bool> {
    fs::create_dir_all(directory)?;
    let data = directory.join(DATA);
    let old = match fs::read_link(&data) {
        Ok(name) => Some(name),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    if let Some(old) = &old
        && same(&directory.join(old), payload)?
    {
        return Ok(false);
    }
    let name = format!("..{}", Timestamp::now().as_nanosecond());
    let fresh = directory.join(&name);
    fs::create_dir(&fresh)?;
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o755))?;
    for (path, file) in payload {
        let target = fresh.join(path);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&target, &file.data)?;
        // The process's umask has no say.
        fs::set_permissions(&target, fs::Permissions::from_mode(file.mode))?;
    }
    let link = directory.join(NEW_DATA);
    match fs::remove_file(&link) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => symlink(&name, &link)?,
    }
    fs::rename(&link, &data)?;
    // What is seen at the top: the first component of each path.
    let visible: BTreeSet<&str> =
        payload.keys().filter_map(|path| path.split('/').find(|part| !part.is_empty() && *part != ".")).collect();
    for name in &visible {
        match symlink(Path::new(DATA).join(name), directory.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if !name.to_string_lossy().starts_with("..") && !visible.contains(name.to_string_lossy().as_ref()) {
            fs::remove_file(entry.path())?;
        }
    }
    if let Some(old) = old {
        fs::remove_dir_all(directory.join(old))?;
    }
    Ok(true)
}

/// Whether a version on disk has these files and no others.
fn same(version: &Path, payload: &Payload) -> io::Result<bool> {
    let mut count = 0;
    let mut pending = vec![version.to_owned()];
    while let Some(directory) = pending.pop() {
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                pending.push(entry.path());
            } else {
                count += 1;
            }
        }
    }
    if count != payload.len() {
        return Ok(false);
    }
    for (path, file) in payload {
        let path = version.join(path);
        match fs::metadata(&path) {
            Ok(metadata) if metadata.permissions().mode() & 0o7777 == file.mode => {}
            Ok(_) => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        }
        if fs::read(&path)? != file.data {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::super::payload::File;
    use super::*;

    fn payload(files: &[(&str, &str, u32)]) -> Payload {
        files
            .iter()
            .map(|(path, text, mode)| ((*path).to_owned(), File { data: text.as_bytes().to_vec(), mode: *mode }))
            .collect()
    }

    #[test]
    fn replaces_whole_versions() {
        let directory = tempfile::tempdir().unwrap();
        let at = |path: &str| directory.path().join(path);
        assert!(write(directory.path(), &payload(&[("one", "1", 0o644), ("user/two", "2", 0o400)])).unwrap());
        assert_eq!(fs::read_to_string(at("one")).unwrap(), "1");
        assert_eq!(fs::read_to_string(at("user/two")).unwrap(), "2");
        assert_eq!(fs::metadata(at("user/two")).unwrap().permissions().mode() & 0o777, 0o400);
        assert_eq!(fs::read_link(at("one")).unwrap(), Path::new("..data/one"));
        let first = fs::read_link(at("..data")).unwrap();

        assert!(
            !write(directory.path(), &payload(&[("one", "1", 0o644), ("user/two", "2", 0o400)])).unwrap(),
            "nothing to do"
        );
        assert_eq!(fs::read_link(at("..data")).unwrap(), first);

        assert!(write(directory.path(), &payload(&[("one", "1b", 0o644), ("three", "3", 0o644)])).unwrap());
        assert_eq!(fs::read_to_string(at("one")).unwrap(), "1b");
        assert!(!at("user").exists() && fs::symlink_metadata(at("user")).is_err());
        assert!(!at(first.to_str().unwrap()).exists(), "the old version is gone");
    }
}
