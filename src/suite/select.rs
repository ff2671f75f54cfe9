//! Which suites `envctl test` runs: by name, by stage, all of them, or a command that the file doesn't know.

use std::path::Path;

use crate::plan::{Plan, Suite};

/// What was asked for on the command line.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// Suites by name.
    pub names: &'a [String],
    /// All suites of a stage.
    pub stage: Option<&'a str>,
    /// What stood after `--`.
    pub arguments: &'a [String],
    /// Where a command that the file doesn't know starts.
    pub directory: &'a Path,
}

/// Why nothing can be run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectError {
    /// No such suite.
    #[error("there is no suite {name:?}")]
    NoSuite {
        /// As asked for.
        name: String,
        /// The suites there are.
        known: Vec<String>,
    },
    /// No suite is of that stage.
    #[error("no suite is of the stage {stage:?}")]
    NoStage {
        /// As asked for.
        stage: String,
        /// The stages there are.
        known: Vec<String>,
    },
    /// The file has no suites and no command was given.
    #[error("there is nothing to run: the environment file has no suites")]
    Nothing,
    /// Arguments for several suites.
    #[error("arguments after `--` go to one suite, but {count} were chosen")]
    Ambiguous {
        /// How many.
        count: usize,
    },
}

impl SelectError {
    /// What to do about it, one sentence.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoSuite { known, .. } | Self::NoStage { known, .. } => {
                (!known.is_empty()).then(|| format!("there are: {}", known.join(", ")))
            }
            Self::Nothing => {
                Some("add one under `suites`, or give a command: `envctl test -- pytest tests/`".to_owned())
            }
            Self::Ambiguous { .. } => Some("name one suite, for example `envctl test smoke -- one_test`".to_owned()),
        }
    }
}

/// The suites to run, with their names, in the order asked for, else by name.
///
/// # Errors
/// See [`SelectError`].
pub fn select(plan: &Plan, asked: Asked<'_>) -> Result<Vec<(String, Suite)>, SelectError> {
    let stage = |suite: &Suite| asked.stage.is_none_or(|stage| suite.stage.as_deref() == Some(stage));
    let mut chosen: Vec<(String, Suite)> = Vec::new();
    if asked.names.is_empty() && asked.stage.is_none() && !asked.arguments.is_empty() {
        return Ok(vec![command(asked.arguments, asked.directory)]);
    }
    if asked.names.is_empty() {
        chosen.extend(
            plan.suites.iter().filter(|(_, suite)| stage(suite)).map(|(name, suite)| (name.clone(), suite.clone())),
        );
    }
    for name in asked.names {
        let suite = plan.suites.get(name).filter(|suite| stage(suite)).ok_or_else(|| SelectError::NoSuite {
            name: name.clone(),
            known: plan.suites.iter().filter(|(_, suite)| stage(suite)).map(|(name, _)| name.clone()).collect(),
        })?;
        if !chosen.iter().any(|(known, _)| known == name) {
            chosen.push((name.clone(), suite.clone()));
        }
    }
    match (chosen.len(), asked.stage) {
        (0, Some(wanted)) => {
            let mut known: Vec<String> = plan.suites.values().filter_map(|suite| suite.stage.clone()).collect();
            known.sort_unstable();
            known.dedup();
            Err(SelectError::NoStage { stage: wanted.to_owned(), known })
        }
        (0, None) => Err(SelectError::Nothing),
        (1, _) => {
            chosen[0].1.run.extend(asked.arguments.iter().cloned());
            Ok(chosen)
        }
        (count, _) if !asked.arguments.is_empty() => Err(SelectError::Ambiguous { count }),
        _ => Ok(chosen),
    }
}

/// A command that the file doesn't know, as a suite called like its program.
fn command(words: &[String], directory: &Path) -> (String, Suite) {
    let program = words.first().map_or("", String::as_str);
    let name =
        Path::new(program).file_name().map_or_else(|| program.to_owned(), |name| name.to_string_lossy().into_owned());
    let suite = Suite {
        run: words.to_vec(),
        stage: None,
        timeout: None,
        workdir: directory.to_owned(),
        env: Vec::new(),
        junit: None,
    };
    (name, suite)
}
