//! The kind and minikube programs: run, their progress passed on, everything kept that explains a failure.
//!
//! A program gets the variables that it is given and no others. Who abandons a call ends the program with it.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

use crate::cluster::ClusterError;
use crate::images::build::display;

/// How many last lines of a failed program are kept.
const KEPT_LINES: usize = 20;

/// An external program.
#[derive(Debug, Clone)]
pub struct Tool {
    /// Its name, looked up in the caller's `PATH`.
    pub program: &'static str,
    /// What makes it print its version.
    pub version: &'static [&'static str],
    /// The oldest version known to work: major and minor.
    pub oldest: (u32, u32),
    /// Where to get it.
    pub install: &'static str,
    /// The caller's variables, and what is the tool's own for this cluster.
    pub variables: BTreeMap<String, String>,
}

/// Why a program's call came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// It isn't there, or cannot be started.
    #[error("{program} cannot be started: {source}")]
    Missing {
        /// Its name.
        program: &'static str,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// It failed; the last lines it wrote to both outputs.
    #[error("`{command}` failed ({status}){}", said(.output))]
    Failed {
        /// As it would be typed.
        command: String,
        /// How it ended.
        status: std::process::ExitStatus,
        /// Its last lines.
        output: Vec<String>,
    },
    /// It is too old, or says something that is no version.
    #[error("{program} {found} is not supported: {oldest} or later is needed")]
    Version {
        /// Its name.
        program: &'static str,
        /// What it said.
        found: String,
        /// The oldest that is.
        oldest: String,
    },
    /// It could not be waited for or listened to.
    #[error("running {program}: {source}")]
    Lost {
        /// Its name.
        program: &'static str,
        /// The kernel's answer.
        source: std::io::Error,
    },
}

fn said(output: &[String]) -> String {
    if output.is_empty() { String::new() } else { format!(":\n  {}", output.join("\n  ")) }
}

impl Tool {
    /// Runs it to its end and returns what it wrote to stdout. Each line of both outputs goes to `told` as it comes. It has `holding` as
    /// its stdin: a lock that it holds as long as it runs, whatever becomes of this process.
    ///
    /// # Errors
    /// [`ToolError`].
    pub async fn run(
        &self,
        arguments: &[&str],
        holding: Option<File>,
        told: impl FnMut(&str) + Send,
    ) -> Result<String, ToolError> {
        let program = self.program;
        let lost = |source| ToolError::Lost { program, source };
        let mut child = Command::new(program)
            .args(arguments)
            .env_clear()
            .envs(&self.variables)
            .stdin(holding.map_or_else(Stdio::null, Stdio::from))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| ToolError::Missing { program, source })?;
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let (mut stdout, heard) = (String::new(), Mutex::new((told, VecDeque::new())));
        let hear = |line: String| {
            let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
            let (told, last) = &mut *heard;
            told(line.trim_end());
            if last.len() == KEPT_LINES {
                last.pop_front();
            }
            last.push_back(line);
        };
        let reading_out = async {
            let Some(out) = out else { return Ok(()) };
            let mut lines = BufReader::new(out).lines();
            while let Some(line) = lines.next_line().await? {
                stdout.push_str(&line);
                stdout.push('\n');
                hear(line);
            }
            Ok(())
        };
        let reading_err = async {
            let Some(err) = err else { return Ok(()) };
            let mut lines = BufReader::new(err).lines();
            while let Some(line) = lines.next_line().await? {
                hear(line);
            }
            Ok(())
        };
        let (read, said, status) = tokio::join!(reading_out, reading_err, child.wait());
        let status = status.map_err(lost)?;
        read.and(said).map_err(lost)?;
        if status.success() {
            return Ok(stdout);
        }
        let mut words = vec![program.to_owned()];
        words.extend(arguments.iter().map(|&word| word.to_owned()));
        let (_, last) = heard.into_inner().unwrap_or_else(PoisonError::into_inner);
        Err(ToolError::Failed { command: display(&words), status, output: last.into() })
    }

    /// Checks its version: what it prints has one, as `v0.33.0` or `0.33.0`.
    ///
    /// # Errors
    /// [`ToolError`]: absent, failing, or too old.
    pub async fn check(&self) -> Result<(), ToolError> {
        let said = self.run(self.version, None, |_| ()).await?;
        if version(&said).is_some_and(|found| found >= self.oldest) {
            return Ok(());
        }
        let (major, minor) = self.oldest;
        let found = said.lines().next().unwrap_or("of unknown version").trim();
        let found = found.strip_prefix(self.program).unwrap_or(found).trim().to_owned();
        Err(ToolError::Version { program: self.program, found, oldest: format!("v{major}.{minor}") })
    }

    /// What the user can do about a failure.
    pub fn cure(&self, error: &ToolError) -> Option<String> {
        match error {
            ToolError::Missing { .. } | ToolError::Version { .. } => {
                Some(format!("{}; or use `cluster: embedded`, which needs nothing", self.install))
            }
            ToolError::Failed { .. } | ToolError::Lost { .. } => None,
        }
    }

    /// A failure as the cluster's, with what can be done about it.
    pub fn failed<'a>(&'a self, attempt: &'a str) -> impl FnOnce(ToolError) -> ClusterError + 'a {
        move |error| match self.cure(&error) {
            Some(cure) => ClusterError::Unsupported { what: error.to_string(), cure },
            None => ClusterError::unavailable(attempt, error),
        }
    }
}

fn version(said: &str) -> Option<(u32, u32)> {
    said.split_whitespace().find_map(|word| {
        let mut numbers = word.trim_start_matches('v').split('.');
        Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_the_programs_print_them() {
        // kind's `pkg/cmd/kind/version`, minikube's `cmd/minikube/cmd/version.go`.
        assert_eq!(version("kind v0.33.0 go1.26.8 linux/amd64\n"), Some((0, 33)));
        assert_eq!(version("kind v0.28.0-alpha+ab2 go1.24 linux/amd64\n"), Some((0, 28)));
        assert_eq!(version("v1.37.0\n"), Some((1, 37)));
        assert_eq!(version("what?"), None);
    }

    #[tokio::test]
    async fn a_failure_keeps_command_status_and_last_lines() {
        let tool = Tool {
            program: "sh",
            version: &["-c", "echo 1.0"],
            oldest: (0, 1),
            install: "install it",
            variables: std::env::vars().collect(),
        };
        let mut told = Vec::new();
        let script = ["-c", "seq 30 >&2; exit 3"];
        let error = tool.run(&script, None, |line| told.push(line.to_owned())).await.expect_err("it exits with 3");
        assert_eq!(told.len(), 30);
        let ToolError::Failed { command, output, .. } = &error else { panic!("{error}") };
        assert_eq!(command, "sh -c 'seq 30 >&2; exit 3'");
        assert_eq!((output.len(), output.last().map(String::as_str)), (KEPT_LINES, Some("30")));
        let absent = Tool { program: "no-such-program", ..tool };
        let error = absent.check().await.expect_err("there is none");
        assert!(absent.cure(&error).is_some_and(|cure| cure.starts_with("install it")));
    }
}
