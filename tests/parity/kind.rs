//! A kind cluster for the whole suite, made by a first session's `up`; the image is built and loaded by envctl.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, Once, OnceLock, PoisonError};

use tempfile::TempDir;

use crate::engine::engine;
use crate::hello;
use crate::stage::{IMAGE, make};

/// What the image is built from: of the same files, and with nothing added.
const BASE: &str = "envctl.test/parity:1";

/// A state directory, and with it a cluster.
#[derive(Debug)]
pub struct Kind {
    pub home: TempDir,
    /// What leads to the engine, to kind and to the node image.
    pub variables: Vec<(String, String)>,
}

/// Cases whose commands are about all sessions of a state directory, or remove the cluster that nobody uses: they have one of their own,
/// one after the other.
const ALONE: [&str; 2] = ["killed", "life"];

static SHARED: OnceLock<Option<Kind>> = OnceLock::new();
static FOR_ONE: OnceLock<Option<Kind>> = OnceLock::new();

/// The cluster of a case, with the image in it, and the right to it where there is only one; `None` where there is no engine.
pub fn kind(case: &str) -> Option<(&'static Kind, Option<MutexGuard<'static, ()>>)> {
    static TURN: Mutex<()> = Mutex::new(());
    if !ALONE.contains(&case) {
        return Some((SHARED.get_or_init(Kind::make).as_ref()?, None));
    }
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    Some((FOR_ONE.get_or_init(Kind::make).as_ref()?, Some(turn)))
}

extern "C" fn remove() {
    for kind in [&SHARED, &FOR_ONE].into_iter().filter_map(|kind| kind.get()?.as_ref()) {
        let _ = kind.envctl(&["gc", "--cluster", "kind"]).status();
        // A static is never dropped; its directory must go all the same.
        let _ = std::fs::remove_dir_all(kind.home.path());
    }
}

impl Kind {
    fn make() -> Option<Self> {
        static REMOVED: Once = Once::new();
        static BASE_LOADED: Once = Once::new();
        let variables = engine()?;
        let home = tempfile::Builder::new().prefix("envctl-parity-kind").tempdir().expect("a home");
        let kind = Self { home, variables };
        BASE_LOADED.call_once(|| {
            let image = kind.home.path().join("image.tar");
            make(BASE, &image);
            let docker = kind.command("docker").args(["load", "--quiet", "--input"]).arg(&image).status();
            assert!(docker.expect("docker runs").success(), "the engine has it");
        });
        std::fs::create_dir(kind.context()).expect("a directory");
        std::fs::write(kind.context().join("Dockerfile"), format!("FROM {BASE}\n")).expect("written");
        let process = format!("process: {{ entrypoint: [hello], path: [{}] }}", hello::directory().display());
        let text = format!(
            "name: first\nimages:\n  {IMAGE}: {{ {process}, docker: {{ context: {} }} }}\nservices:\n  web: {{ image: {IMAGE}, args: [web], grace: 1s }}\n",
            kind.context().display()
        );
        std::fs::write(kind.home.path().join("envctl.yaml"), text).expect("written");
        for arguments in [&["up"][..], &["down"]] {
            let output = kind.envctl(arguments).output().expect("envctl runs");
            assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
        // SAFETY: `remove` is an `extern "C" fn()` that lives as long as the program.
        REMOVED.call_once(|| _ = unsafe { libc::atexit(remove) });
        Some(kind)
    }

    pub fn state(&self) -> PathBuf {
        self.home.path().join("state")
    }

    /// What the image is built in.
    pub fn context(&self) -> PathBuf {
        self.home.path().join("context")
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("HOME", self.home.path()).stdin(Stdio::null());
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    fn envctl(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(env!("CARGO_BIN_EXE_envctl"));
        command
            .args(arguments)
            .current_dir(self.home.path())
            .env("ENVCTL_STATE_DIR", self.state())
            .env("ENVCTL_CLUSTER", "kind");
        command
    }
}
