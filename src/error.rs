//! What a verb can fail with: one enum over the stages, and what each means to the caller.
//!
//! Each stage keeps its own small error enum; here they are given an exit code and a hint. Only
//! [`crate::cli::output`] prints them. A stage whose report is more than one line (an environment
//! file's diagnostics, a failed start) hands over a finished [`Error::Report`].

use crate::cli::exit::Exit;
use crate::session::SessionError;
use crate::session::project::ProjectError;

/// Why a verb failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The project's root or its environment file could not be told.
    #[error(transparent)]
    Project(#[from] ProjectError),
    /// The session could not be found, read or kept on disk.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// Flags that are well formed but cannot be meant.
    #[error("{what}")]
    Usage {
        /// What is wrong.
        what: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// Something of this machine refused.
    #[error("{what}: {source}")]
    Io {
        /// What was being attempted, and on what.
        what: String,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// A stage's own report, printed as it is: it has its own "error:" and "hint:" lines.
    #[error("{text}")]
    Report {
        /// Whole lines, without a final newline.
        text: String,
        /// The exit code that the stage means.
        exit: Exit,
    },
    /// Anything else that has a sentence, a cure and an exit code.
    #[error("{what}")]
    Failed {
        /// What failed, where and why.
        what: String,
        /// What to do about it.
        hint: Option<String>,
        /// The exit code.
        exit: Exit,
    },
}

impl Error {
    /// For `map_err`: an I/O error with what was being attempted.
    pub fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    /// What the process exits with.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Project(_) | Self::Usage { .. } => Exit::Usage,
            Self::Session(error) => match error {
                SessionError::NotFound { .. } | SessionError::Ambiguous { .. } => Exit::Usage,
                _ => Exit::Failed,
            },
            Self::Io { .. } => Exit::Failed,
            Self::Report { exit, .. } | Self::Failed { exit, .. } => *exit,
        }
    }

    /// What to do about it, one sentence.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Project(error) => error.hint(),
            Self::Session(error) => error.hint(),
            Self::Usage { hint, .. } | Self::Failed { hint, .. } => hint.clone(),
            Self::Io { source, .. } => crate::session::io_hint(source),
            Self::Report { .. } => None,
        }
    }
}
