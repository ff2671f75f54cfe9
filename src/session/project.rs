//! Where a project starts, and which environment file is meant. Paths only: nothing is parsed here.

use std::path::{Path, PathBuf};

/// Why no environment file could be chosen.
#[derive(Debug, thiserror::Error)]
pub enum ProjectError {
    /// There is none.
    #[error("no environment file found; looked for\n{}", listed(.looked))]
    NoFile {
        /// Every path that was tried, in order.
        looked: Vec<PathBuf>,
    },
    /// There are several and none was named.
    #[error("several environment files, and none was named:\n{}", listed(.found))]
    SeveralFiles {
        /// All of them.
        found: Vec<PathBuf>,
    },
    /// The named one does not exist.
    #[error("no environment file {named:?}; looked for\n{}", listed(.looked))]
    NoSuchFile {
        /// As given to `--file`.
        named: String,
        /// Every path that was tried, in order.
        looked: Vec<PathBuf>,
    },
    /// The working directory itself is gone or unreadable.
    #[error("cannot tell the working directory: {0}")]
    NoWorkingDirectory(#[source] std::io::Error),
}

impl ProjectError {
    /// What to do about it, one sentence.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoFile { .. } => Some("write one with `envctl init`, or name one with --file".to_owned()),
            Self::SeveralFiles { found } => {
                let name =
                    found.first().and_then(|path| path.file_stem()).map(|stem| stem.to_string_lossy().into_owned());
                Some(format!("name one with --file, for example `--file {}`", name.unwrap_or_default()))
            }
            Self::NoSuchFile { .. } | Self::NoWorkingDirectory(_) => None,
        }
    }
}

fn listed(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| format!("  {}", path.display())).collect::<Vec<_>>().join("\n")
}

/// The project's root: the nearest directory upwards from `start` with `envs/`, `envctl.yaml` or `.git`;
/// `start` itself where there is none.
pub fn find_root(start: &Path) -> PathBuf {
    start
        .ancestors()
        .find(|directory| {
            directory.join("envs").is_dir()
                || directory.join("envctl.yaml").is_file()
                || directory.join(".git").exists()
        })
        .unwrap_or(start)
        .to_path_buf()
}

/// The environment file that is meant: the one named (a path, or a name in `envs/`), else
/// `envctl.yaml` in the root, else the only one in `envs/`.
///
/// # Errors
/// When there is none, or several and none was named.
pub fn find_file(root: &Path, working_directory: &Path, named: Option<&Path>) -> Result<PathBuf, ProjectError> {
    if let Some(named) = named {
        let mut looked = vec![working_directory.join(named)];
        if named.components().count() == 1 && named.extension().is_none() {
            looked.extend(["yaml", "yml"].map(|extension| root.join("envs").join(named).with_extension(extension)));
        }
        return match looked.iter().find(|path| path.is_file()) {
            Some(path) => Ok(path.clone()),
            None => Err(ProjectError::NoSuchFile { named: named.display().to_string(), looked }),
        };
    }
    let single = root.join("envctl.yaml");
    if single.is_file() {
        return Ok(single);
    }
    let mut found: Vec<PathBuf> = std::fs::read_dir(root.join("envs"))
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| {
            path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml") && path.is_file()
        })
        .collect();
    found.sort();
    match found.len() {
        0 => Err(ProjectError::NoFile { looked: vec![single, root.join("envs").join("*.yaml")] }),
        1 => Ok(found.remove(0)),
        _ => Err(ProjectError::SeveralFiles { found }),
    }
}
