//! A home, a project and a real cluster; what was made there is taken away again, also when a test fails.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use envctl::session::identity::Identity;
use envctl::session::state::SessionDirectory;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use crate::hello;
use crate::place::{Place, place};
pub use crate::ran::Ran;

/// The image of `examples/hello`, and a shell, on the cluster's nodes.
pub const IMAGE: &str = "envctl-test-hello";

/// One user of one cluster.
pub struct Rig {
    pub home: TempDir,
    /// The administrator's.
    cluster: PathBuf,
    /// The user's; the same unless a test says otherwise.
    pub kubeconfig: PathBuf,
    /// What else the user's shell has.
    pub variables: Vec<(String, String)>,
}

impl Ran {
    /// Its stdout as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// The kubeconfig of a real cluster that has the image.
fn cluster() -> Option<PathBuf> {
    static CLUSTER: OnceLock<Option<PathBuf>> = OnceLock::new();
    let find = || {
        let Place { kubeconfig, run } = place()?;
        let Some(run) = run else { return Some(kubeconfig) };
        hello::build("hello");
        let directory = tempfile::tempdir().expect("a directory");
        let (program, image) = (hello::directory().join("hello"), directory.path().join("hello.tar"));
        let made = run()
            .args(["image", "--name", IMAGE, "--entrypoint", "/usr/bin/hello", "--file", "/bin/sh=/bin/sh", "--file"])
            .arg(program)
            .arg("--output")
            .arg(&image)
            .status();
        assert!(made.expect("it runs").success(), "the image is made");
        assert!(run().arg("import").arg(image).status().expect("it runs").success(), "it is imported");
        Some(kubeconfig)
    };
    CLUSTER.get_or_init(find).clone()
}

impl Rig {
    /// A user who allows sessions on the cluster, with `envctl.yaml` about one service `web`. `None` where there is no cluster.
    pub fn new() -> Option<Self> {
        let rig = Self::stranger()?;
        let identity = rig.kubectl(&["get", "namespace", "kube-system", "-o", "jsonpath={.metadata.uid}"]);
        rig.allow(&format!("allowed_clusters:\n  - {identity}\n"));
        rig.write(&format!(
            "name: guest\nservices:\n  web:\n    image: {IMAGE}\n    args: [web]\n    grace: 1s\n    ports: {{ http: 8080 }}\n    \
             ready: {{ http: {{ path: /, port: http }} }}\nimages:\n  {IMAGE}: {{ process: {{ entrypoint: [hello] }} }}\n"
        ));
        Some(rig)
    }

    /// A user who allows nothing yet.
    pub fn stranger() -> Option<Self> {
        let cluster = cluster()?;
        let home = tempfile::Builder::new().prefix("envctl-guest").tempdir().expect("a home");
        std::fs::create_dir(home.path().join("project")).expect("a project");
        Some(Self { home, kubeconfig: cluster.clone(), cluster, variables: Vec::new() })
    }

    /// Writes the user's configuration.
    pub fn allow(&self, text: &str) {
        let directory = self.home.path().join(".config/envctl");
        std::fs::create_dir_all(&directory).expect("a directory");
        std::fs::write(directory.join("config.yaml"), text).expect("written");
    }

    /// Writes `envctl.yaml`.
    pub fn write(&self, text: &str) {
        std::fs::write(self.home.path().join("project/envctl.yaml"), text).expect("written");
    }

    /// Adds to `envctl.yaml`.
    pub fn add(&self, text: &str) {
        let path = self.home.path().join("project/envctl.yaml");
        let before = std::fs::read_to_string(&path).expect("a file");
        std::fs::write(path, before + text).expect("written");
    }

    /// envctl in the project, on the cluster.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_envctl"));
        command
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.home.path())
            .env("ENVCTL_STATE_DIR", self.home.path().join("state"))
            .env("KUBECONFIG", &self.kubeconfig)
            .env("ENVCTL_CONTEXT", self.context())
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .current_dir(self.home.path().join("project"))
            .stdin(Stdio::null());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Ran {
        Ran::of(self.command(arguments).output().expect("envctl runs"))
    }

    /// Runs it and panics with what it said unless it exits with `code`.
    pub fn expect(&self, code: i32, arguments: &[&str]) -> Ran {
        let ran = self.run(arguments);
        assert_eq!(ran.code, Some(code), "{arguments:?}: {ran:#?}");
        ran
    }

    /// The name of the context.
    pub fn context(&self) -> String {
        self.kubectl(&["config", "current-context"])
    }

    /// kubectl's answer; panics where it fails.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        let ran = self.try_kubectl(arguments);
        assert_eq!(ran.code, Some(0), "{arguments:?}: {ran:?}");
        ran.stdout.trim().to_owned()
    }

    pub fn try_kubectl(&self, arguments: &[&str]) -> Ran {
        let output = Command::new("kubectl").args(arguments).env("KUBECONFIG", &self.cluster).output();
        Ran::of(output.expect("kubectl runs"))
    }

    /// kubectl with an object to read.
    pub fn apply(&self, object: &Value) {
        let mut kubectl = Command::new("kubectl");
        kubectl.args(["apply", "-f", "-"]).env("KUBECONFIG", &self.cluster).stdin(Stdio::piped()).stdout(Stdio::null());
        let mut child = kubectl.spawn().expect("kubectl runs");
        child.stdin.take().expect("a pipe").write_all(object.to_string().as_bytes()).expect("written");
        assert!(child.wait().expect("it ends").success(), "{object}");
    }

    /// The session's namespace.
    pub fn namespace(&self) -> String {
        self.record()["namespace"].as_str().expect("a namespace").to_owned()
    }

    /// The session's id.
    pub fn id(&self) -> String {
        Identity::new(&self.home.path().join("project"), "guest", None).id()
    }

    /// The record of the only session.
    pub fn record(&self) -> Value {
        let directories = self.sessions();
        let [only] = directories.as_slice() else { panic!("not one session: {directories:?}") };
        Self::record_in(only)
    }

    /// The record in a session's directory.
    pub fn record_in(directory: &Path) -> Value {
        let text = std::fs::read(directory.join("session.json")).expect("a record");
        serde_json::from_slice(&text).expect("JSON")
    }

    /// The directories of sessions, dead ones too.
    pub fn sessions(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.home.path().join("state/sessions")).into_iter().flatten();
        entries.map(|entry| entry.expect("an entry").path()).collect()
    }

    /// Kills the agent as `kill -9` does, and returns when it is gone. `None` where there is none yet.
    pub fn kill_agent(&self) -> Option<()> {
        let directories = self.sessions().into_iter().map(SessionDirectory::at);
        let directory = directories.filter(|directory| !directory.is_left()).find(SessionDirectory::is_live)?;
        let lock = std::fs::File::open(directory.lock()).ok()?;
        let pid = i32::try_from(directory.record().ok()?.agent_pid).ok().filter(|pid| *pid > 0)?;
        kill(Pid::from_raw(pid), Signal::SIGKILL).ok()?;
        lock.lock_shared().expect("its lock is free once it is gone");
        Some(())
    }

    /// Waits until a namespace is gone, by kubectl's watch.
    pub fn wait_gone(&self, namespace: &str) {
        let ran = self.try_kubectl(&["wait", "--for=delete", &format!("namespace/{namespace}"), "--timeout=180s"]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
    }

    /// Whether a namespace is there.
    pub fn has(&self, namespace: &str) -> bool {
        self.try_kubectl(&["get", "namespace", namespace]).code == Some(0)
    }

    /// What an address answers to GET /.
    pub fn get(&self, address: &str) -> String {
        let mut stream = TcpStream::connect(address).expect("somebody listens");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("set");
        stream.write_all(b"GET / HTTP/1.1\r\nhost: web\r\n\r\n").expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let _ = self.command(&["down", "--all", "--timeout", "90s"]).output();
    }
}
