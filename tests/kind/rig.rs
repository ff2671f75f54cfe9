//! A home, a project and a state directory, and with them a cluster of a name of its own, kind's or minikube's; what was made is taken away
//! again, also when a test fails.

use std::io::{BufRead as _, BufReader, Lines, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use envctl::cluster::by_tool::By;
use envctl::cluster::by_tool::place::Place;
use envctl::session::state::SessionDirectory;
use serde_json::Value;
use tempfile::TempDir;

use crate::agents;
use crate::ran::Ran;

/// One service, of an image that is built from scratch. `push` is for a context: this name's registry couldn't even be reached.
pub const ENVIRONMENT: &str = "
cluster: CLUSTER
images:
  team/hello: { docker: { context: ., dockerfile: Dockerfile, push: true } }
services:
  web:
    image: team/hello
    args: [first]
    grace: 1s
    ports: { http: 8080 }
    ready: { http: { path: /, port: http } }
";

/// One user of this machine's engine.
pub struct Rig {
    pub home: TempDir,
    by: By,
    /// What leads to the engine, to the tool and to the node image.
    pub variables: Vec<(String, String)>,
    /// The same, whatever a test makes envctl believe.
    real: Vec<(String, String)>,
    /// What every program is run by, to be where the engine is; nothing if that is here.
    prefix: Vec<String>,
    _alone: MutexGuard<'static, ()>,
}

impl Ran {
    #[track_caller]
    pub fn succeeded(self) -> Self {
        assert_eq!(self.code, Some(0), "{}{}", self.stdout, self.stderr);
        self
    }

    /// Which of the images' and clusters' lines it wrote.
    pub fn says(&self, words: &str) -> bool {
        self.stderr.contains(words)
    }
}

/// `examples/hello`, without shared libraries: an image from scratch has none.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let to = Path::new(env!("CARGO_TARGET_TMPDIR")).join("hello-static");
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/hello.rs");
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let made = Command::new(rustc)
            .args(["--edition", "2024", "-O", "-C", "target-feature=+crt-static", "-o"])
            .arg(&to)
            .arg(from)
            .status();
        assert!(made.expect("rustc runs").success());
        to
    })
}

impl Rig {
    /// With what else leads to a tool.
    pub fn with_variables(by: By, cluster: &str, variables: Vec<(String, String)>, prefix: Vec<String>) -> Self {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let home = tempfile::tempdir().expect("a directory");
        let rig = Self { home, by, real: variables.clone(), variables, prefix, _alone: alone };
        std::fs::copy(program(), rig.home.path().join("hello")).expect("copied");
        rig.write("Dockerfile", "FROM scratch\nCOPY hello /hello\nENTRYPOINT [\"/hello\"]\n");
        rig.write(".dockerignore", "*\n!hello\n");
        rig.write("envctl.yaml", &ENVIRONMENT.replace("CLUSTER", cluster));
        rig
    }

    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.home.path().join(name), text).expect("written");
    }

    pub fn state(&self) -> PathBuf {
        self.home.path().join("state")
    }

    /// The name of the cluster that its sessions share.
    pub fn cluster(&self) -> String {
        Place::shared(self.by, &self.state()).name
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut words = self.prefix.iter().map(String::as_str).chain([program]);
        let mut command = Command::new(words.next().expect("a program"));
        command
            .args(words)
            .args(arguments)
            .current_dir(self.home.path())
            .env("HOME", self.home.path())
            .env("ENVCTL_STATE_DIR", self.state())
            .env_remove("ENVCTL_SESSION")
            .env_remove("KUBECONFIG")
            .env_remove("MINIKUBE_HOME")
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null());
        command
    }

    pub fn envctl(&self, arguments: &[&str]) -> Ran {
        Ran::of(self.command(env!("CARGO_BIN_EXE_envctl"), arguments).output().expect("envctl runs"))
    }

    /// With one more variable.
    pub fn with(&self, name: &str, value: &str, arguments: &[&str]) -> Ran {
        let mut command = self.command(env!("CARGO_BIN_EXE_envctl"), arguments);
        Ran::of(command.env(name, value).output().expect("envctl runs"))
    }

    /// Starts envctl, and hands over what it writes to stderr.
    pub fn start(&self, arguments: &[&str]) -> (Child, Lines<BufReader<ChildStderr>>) {
        let mut command = self.command(env!("CARGO_BIN_EXE_envctl"), arguments);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("envctl starts");
        let lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        (child, lines)
    }

    /// A program of this machine, and its own engine.
    pub fn real(&self, program: &str, arguments: &[&str]) -> Ran {
        let mut command = self.command(program, arguments);
        Ran::of(command.envs(self.real.iter().map(|(name, value)| (name, value))).output().expect("it runs"))
    }

    #[track_caller]
    pub fn docker(&self, arguments: &[&str]) -> String {
        self.real("docker", arguments).succeeded().stdout.trim().to_owned()
    }

    /// The names of the containers of this home's clusters.
    pub fn containers(&self) -> Vec<String> {
        let filter = format!("name={}", self.cluster());
        let names = self.docker(&["ps", "--all", "--filter", &filter, "--format", "{{.Names}}"]);
        names.lines().map(str::to_owned).collect()
    }

    pub fn sessions(&self) -> Vec<SessionDirectory> {
        agents::sessions(&self.state())
    }

    /// `kill -9` of the only session's agent; returns when it is gone.
    pub fn kill_agent(&self) {
        agents::kill_agent(&self.state(), &agents::only(&self.state()));
    }

    /// What the service answers on the host.
    pub fn answer(&self, session: &str) -> String {
        let exports = self.envctl(&["env", "--format", "json", "--session", session]).succeeded().stdout;
        let exports: Value = serde_json::from_str(&exports).expect("JSON");
        let address = exports["WEB_URL"].as_str().expect("exported").trim_start_matches("http://").to_owned();
        let mut stream = TcpStream::connect(address).expect("it listens");
        stream.write_all(b"GET / HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n").expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        for session in self.sessions() {
            if let Ok(record) = session.record() {
                _ = self.envctl(&["down", "--session", &record.session, "--timeout", "1s"]);
            }
        }
        // minikube's own networks and volumes.
        for profile in std::fs::read_dir(self.home.path().join(".minikube/profiles")).into_iter().flatten().flatten() {
            self.real("minikube", &["delete", "--profile", &profile.file_name().to_string_lossy()]);
        }
        let has_engine = self.real.iter().any(|(name, _)| name == "DOCKER_HOST");
        let left = if has_engine { self.containers() } else { Vec::new() };
        if !left.is_empty() {
            let arguments: Vec<&str> = ["rm", "-fv"].into_iter().chain(left.iter().map(String::as_str)).collect();
            self.docker(&arguments);
        }
    }
}
