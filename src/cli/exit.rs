//! The exit codes, which are API: documented in `--help`, never changed silently.

/// What the process exits with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Exit {
    /// 0: it worked.
    Ok,
    /// 2: bad usage or a bad environment file.
    Usage,
    /// 3: something never became ready.
    NotReady,
    /// 4: the cluster is not available.
    NoCluster,
    /// 5: a key could not be issued.
    Key,
    /// 6: teardown left something.
    Leftovers,
    /// 124: a deadline passed under `test`, `run` or `exec`.
    Timeout,
    /// 125: envctl itself or the environment failed.
    Failed,
    /// 126: the command exists but cannot be executed.
    NotExecutable,
    /// 127: there is no such command.
    NotFound,
    /// 130: interrupted (Ctrl-C).
    Interrupted,
    /// The command's own code, passed through by `test`, `run` and `exec`.
    Command(u8),
}

impl Exit {
    /// The number.
    pub fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Usage => 2,
            Self::NotReady => 3,
            Self::NoCluster => 4,
            Self::Key => 5,
            Self::Leftovers => 6,
            Self::Timeout => 124,
            Self::Failed => 125,
            Self::NotExecutable => 126,
            Self::NotFound => 127,
            Self::Interrupted => 130,
            Self::Command(code) => code,
        }
    }

    /// What a failed `up` exits with.
    pub fn of_failure(failure: &crate::provision::Failure) -> Self {
        match failure.cause.exit_code() {
            2 => Self::Usage,
            3 => Self::NotReady,
            4 => Self::NoCluster,
            5 => Self::Key,
            130 => Self::Interrupted,
            _ => Self::Failed,
        }
    }

    /// Under `run` and `exec`, a code below 124 would be taken for the command's own: envctl's failures become 125.
    pub fn of_wrapper(self) -> Self {
        match self {
            Self::Usage | Self::NotReady | Self::NoCluster | Self::Key | Self::Leftovers => Self::Failed,
            other => other,
        }
    }
}

/// The end of `--help`.
pub const HELP: &str = "\
Exit codes:
    0  it worked
    2  bad usage, or a bad environment file
    3  something never became ready
    4  the cluster is not available
    5  a key could not be issued
    6  teardown left something
  125  envctl itself failed
  130  interrupted
Under `test`, `run`, `exec` and `swap` the command's own code passes through, and envctl's are:
  124  timeout
  125  envctl or the environment failed
  126  the command cannot be executed
  127  the command was not found
  130  interrupted

Every flag can also be given as ENVCTL_<FLAG>, for example ENVCTL_SESSION or ENVCTL_WAIT_TIMEOUT.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrapper_never_shows_its_own_failure_as_the_commands() {
        for exit in [Exit::Usage, Exit::NotReady, Exit::NoCluster, Exit::Key, Exit::Leftovers] {
            assert_eq!(exit.of_wrapper().code(), 125);
        }
        assert_eq!(Exit::Command(3).of_wrapper().code(), 3);
        assert_eq!(Exit::NotFound.of_wrapper().code(), 127);
    }

    #[test]
    fn every_code_is_in_the_help() {
        for exit in [
            Exit::Ok,
            Exit::Usage,
            Exit::NotReady,
            Exit::NoCluster,
            Exit::Key,
            Exit::Leftovers,
            Exit::Timeout,
            Exit::Failed,
            Exit::NotExecutable,
            Exit::NotFound,
            Exit::Interrupted,
        ] {
            let line = format!("{:>5}  ", exit.code());
            assert!(HELP.lines().any(|text| text.starts_with(&line)), "{} is not documented", exit.code());
        }
    }
}
