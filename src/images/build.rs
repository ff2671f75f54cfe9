//! Build commands: each distinct one runs once per `up`, a few at a time, its output kept for when it fails.
//!
//! A command runs in the project root with the environment of whoever called `up` (unlike pods: it is the developer's tool
//! chain), in a process group of its own, so that an abandoned `up` ends all of it.

use std::collections::BTreeMap;
use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::Command;
use tokio::sync::{OnceCell, Semaphore, mpsc};

use crate::provision::{Event, EventSink};

/// How many last lines of a failed build are kept: enough for a compiler's last error.
pub const KEPT_LINES: usize = 40;

type Outcome = Arc<OnceCell<Result<(), BuildError>>>;

/// The build commands of one `up`.
pub struct Builds {
    directory: PathBuf,
    environment: BTreeMap<String, String>,
    permits: Semaphore,
    outcomes: Mutex<HashMap<Vec<String>, Outcome>>,
    events: EventSink,
    began: Instant,
}

/// Why a build command failed: everything needed to understand it.
#[derive(Debug, Clone, thiserror::Error)]
#[error("`{command}` {how}")]
pub struct BuildError {
    /// As it would be typed.
    pub command: String,
    /// Where it ran.
    pub directory: PathBuf,
    /// `exited with code 101`, or why it could not be started.
    pub how: String,
    /// Its exit code; `None` when it could not be started or was ended by a signal.
    pub code: Option<i32>,
    /// The last lines of both its outputs, as they came.
    pub output: Vec<String>,
    /// What the user can do about it, where that isn't in the output.
    pub hint: Option<&'static str>,
}

impl Builds {
    /// Runs at most `limit` commands at once in `directory`, with `environment` only, but for what cargo told the caller about its package
    /// ([`is_of_a_package`]); events' times count from `began`.
    pub fn new(
        directory: &Path,
        mut environment: BTreeMap<String, String>,
        limit: usize,
        events: EventSink,
        began: Instant,
    ) -> Self {
        environment.retain(|name, _| !is_of_a_package(name));
        Self {
            directory: directory.to_owned(),
            environment,
            permits: Semaphore::new(limit.max(1)),
            outcomes: Mutex::new(HashMap::new()),
            events,
            began,
        }
    }

    /// Runs `command` for `image`, or waits for the run that another image began.
    ///
    /// # Errors
    /// [`BuildError`], the same for all images that share the command.
    pub async fn run(&self, command: &[String], image: &str) -> Result<(), BuildError> {
        let outcome = {
            let mut outcomes = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
            outcomes.entry(command.to_vec()).or_default().clone()
        };
        outcome.get_or_init(|| self.execute(command, image)).await.clone()
    }

    /// When the `up` began that these are for.
    pub fn began(&self) -> Instant {
        self.began
    }

    /// Says how far an image is, for people.
    pub fn told(&self, image: &str, doing: &str) {
        let (image, doing) = (image.to_owned(), doing.to_owned());
        self.events.send(Event::ImageProgress { image, doing, at: millis(self.began) });
    }

    /// A build that an engine does: told like a command's, and as one of the few at once.
    ///
    /// # Errors
    /// What `work` fails with.
    pub async fn by_engine<T, E>(
        &self,
        command: &str,
        image: &str,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        // Never closed: whoever has the permits has this too.
        let _permit = self.permits.acquire().await;
        let started = Instant::now();
        let (command, image) = (command.to_owned(), image.to_owned());
        self.events.send(Event::BuildStarted { command: command.clone(), image, at: millis(self.began) });
        let done = work.await?;
        self.events.send(Event::BuildFinished { command, at: millis(self.began), took: millis(started) });
        Ok(done)
    }

    async fn execute(&self, command: &[String], image: &str) -> Result<(), BuildError> {
        let shown = display(command);
        let failed = |how: String, code, output| BuildError {
            command: shown.clone(),
            directory: self.directory.clone(),
            how,
            code,
            output,
            hint: None,
        };
        let [program, arguments @ ..] = command else {
            return Err(failed("is empty".to_owned(), None, Vec::new()));
        };
        let Ok(_permit) = self.permits.acquire().await else {
            return Err(failed("was not started".to_owned(), None, Vec::new()));
        };
        let started = Instant::now();
        self.events.send(Event::BuildStarted {
            command: shown.clone(),
            image: image.to_owned(),
            at: millis(self.began),
        });
        let mut child = Command::new(program)
            .args(arguments)
            .current_dir(&self.directory)
            .env_clear()
            .envs(&self.environment)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(|error| failed(format!("could not be started: {error}"), None, Vec::new()))?;
        let group = GroupGuard(child.id());
        let (lines, received) = mpsc::channel(256);
        let out = forward(child.stdout.take(), lines.clone());
        let err = forward(child.stderr.take(), lines);
        let (output, (), (), status) = tokio::join!(last_lines(received), out, err, child.wait());
        group.disarm();
        let status = status.map_err(|error| failed(format!("could not be waited for: {error}"), None, Vec::new()))?;
        if !status.success() {
            let how = status
                .code()
                .map_or_else(|| format!("was ended by {status}"), |code| format!("exited with code {code}"));
            return Err(failed(how, status.code(), output));
        }
        self.events.send(Event::BuildFinished { command: shown, at: millis(self.began), took: millis(started) });
        Ok(())
    }
}

/// Whether this is a variable by which `cargo test` and `cargo run` tell a program which package it is of ("Environment variables Cargo sets for
/// crates" in cargo's reference). A cargo below would take it for its own: ring's build script, for one, is run again when it changes, and all
/// that depends on ring is built again, in each direction.
fn is_of_a_package(name: &str) -> bool {
    const NAMES: [&str; 7] = [
        "CARGO_MANIFEST_DIR",
        "CARGO_MANIFEST_PATH",
        "CARGO_CRATE_NAME",
        "CARGO_BIN_NAME",
        "CARGO_PRIMARY_PACKAGE",
        "CARGO_TARGET_TMPDIR",
        "OUT_DIR",
    ];
    NAMES.contains(&name) || name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_BIN_EXE_")
}

/// Ends the whole process group if the build is abandoned.
struct GroupGuard(Option<u32>);

impl GroupGuard {
    fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for GroupGuard {
    fn drop(&mut self) {
        if let Some(group) = self.0.and_then(|id| i32::try_from(id).ok()) {
            // It may just have ended: then there is nothing to signal.
            let _ = nix::sys::signal::killpg(nix::unistd::Pid::from_raw(group), nix::sys::signal::Signal::SIGKILL);
        }
    }
}

async fn last_lines(mut received: mpsc::Receiver<String>) -> Vec<String> {
    let mut kept = VecDeque::new();
    while let Some(line) = received.recv().await {
        if kept.len() == KEPT_LINES {
            kept.pop_front();
        }
        kept.push_back(line);
    }
    kept.into()
}

async fn forward(stream: Option<impl AsyncRead + Unpin>, lines: mpsc::Sender<String>) {
    let Some(stream) = stream else { return };
    let mut reader = BufReader::new(stream);
    let mut buffer = Vec::new();
    // A compiler may print anything: bytes that aren't UTF-8 are replaced, an unfinished last line counts.
    while let Ok(1..) = reader.read_until(b'\n', &mut buffer).await {
        let line = String::from_utf8_lossy(&buffer).trim_end().to_owned();
        buffer.clear();
        if lines.send(line).await.is_err() {
            return;
        }
    }
}

/// A command as it would be typed in a shell.
pub fn display(command: &[String]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    let quoted = command.iter().map(|word| {
        if !word.is_empty() && word.chars().all(plain) {
            word.clone()
        } else {
            format!("'{}'", word.replace('\'', r"'\''"))
        }
    });
    quoted.collect::<Vec<_>>().join(" ")
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    fn builds(directory: &Path) -> (Builds, mpsc::UnboundedReceiver<Event>) {
        let (events, received) = EventSink::channel();
        (Builds::new(directory, std::env::vars().collect(), 2, events, Instant::now()), received)
    }

    #[tokio::test]
    async fn each_command_runs_once_whoever_asks() {
        let directory = tempfile::tempdir().expect("a directory");
        let (builds, mut events) = builds(directory.path());
        let build = command(&["sh", "-c", "echo run >> count"]);
        let (first, second) = tokio::join!(builds.run(&build, "a"), builds.run(&build, "b"));
        first.expect("built");
        second.expect("built");
        assert_eq!(std::fs::read_to_string(directory.path().join("count")).expect("written"), "run\n");
        assert!(matches!(events.recv().await, Some(Event::BuildStarted { image, .. }) if image == "a"));
        assert!(matches!(events.recv().await, Some(Event::BuildFinished { .. })));
        assert!(events.try_recv().is_err());
    }

    #[tokio::test]
    async fn what_cargo_says_of_the_callers_package_is_not_passed_on() {
        let directory = tempfile::tempdir().expect("a directory");
        assert!(std::env::var("CARGO_PKG_NAME").is_ok() && std::env::var("CARGO").is_ok(), "cargo runs this test");
        let (builds, _events) = builds(directory.path());
        builds.run(&command(&["sh", "-c", "env > variables"]), "a").await.expect("built");
        let variables = std::fs::read_to_string(directory.path().join("variables")).expect("written");
        assert!(!variables.contains("CARGO_PKG_") && !variables.contains("CARGO_MANIFEST_DIR="), "{variables}");
        assert!(variables.contains("\nCARGO=") || variables.starts_with("CARGO="), "{variables}");
    }

    #[tokio::test]
    async fn a_failure_keeps_the_end_of_both_outputs_and_the_code() {
        let directory = tempfile::tempdir().expect("a directory");
        let (builds, _events) = builds(directory.path());
        let script = command(&["sh", "-c", "seq 100; echo broken >&2; exit 3"]);
        let error = builds.run(&script, "a").await.expect_err("it exits with 3");
        assert_eq!((error.code, error.how.as_str()), (Some(3), "exited with code 3"));
        assert_eq!(error.output.len(), KEPT_LINES);
        let missing = builds.run(&command(&["/no/such/program"]), "a").await.expect_err("there is none");
        assert!(missing.how.starts_with("could not be started: "), "{missing}");
    }

    #[test]
    fn commands_are_shown_as_they_would_be_typed() {
        assert_eq!(display(&command(&["cargo", "build", "a b", "it's", ""])), r"cargo build 'a b' 'it'\''s' ''");
    }
}
