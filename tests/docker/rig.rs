//! A home with a project and a state directory, and this machine's engine; what is left in it by a failed test is removed.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use envctl::embedded::kubelet::docker::{POD, SESSION};
use envctl::session::state::SessionDirectory;
use serde_json::Value;
use tempfile::TempDir;

use crate::agents;
use crate::engine::engine;
pub use crate::ran::Ran;
use crate::require::require;

/// A shell and a web server in an image from scratch: Debian's package `busybox-static`.
const BUSYBOX: &str = "/bin/busybox";

/// One service in the engine, one that is a process, and jobs by which each reaches the other by its name.
pub const ENVIRONMENT: &str = r#"
images:
  team/box: { docker: { context: ., dockerfile: Dockerfile, push: true } }
  python: { process: { entrypoint: [python3] } }
services:
  inside:
    image: team/box
    command: [httpd, -f, -p, "8080", -h, /web]
    ports: { http: 8080 }
    ready: { exec: [wget, -q, -O, /dev/null, "http://localhost:8080/"] }
  beside:
    image: python
    args: [-m, http.server, "9000", --directory, web]
    ports: { http: 9000 }
    ready: { http: { path: /, port: http } }
jobs:
  out: { image: team/box, command: [wget, -q, -O, /dev/stdout, "http://beside:9000/"], needs: [beside] }
  in:
    image: python
    args: ["-c", "import urllib.request as u; print(u.urlopen('http://inside:8080/').read().decode())"]
    needs: [inside]
"#;

/// They share the engine, and a name for an image that each builds of files of its own.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

pub struct Rig {
    pub home: TempDir,
    variables: Vec<(String, String)>,
    _turn: MutexGuard<'static, ()>,
}

impl Ran {
    #[track_caller]
    pub fn succeeded(self) -> Self {
        assert_eq!(self.code, Some(0), "{}{}", self.stdout, self.stderr);
        self
    }
}

impl Rig {
    /// `None`: there is no engine, and the test is skipped.
    pub fn new() -> Option<Self> {
        let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let variables = engine()?;
        if !require(Path::new(BUSYBOX).exists(), "a static busybox (Debian's busybox-static)") {
            return None;
        }
        let rig = Self { variables, home: tempfile::tempdir().expect("a directory"), _turn: turn };
        std::fs::copy(BUSYBOX, rig.home.path().join("busybox")).expect("copied");
        rig.write("web/index.html", "a page\n");
        rig.write("etc/passwd", "root:x:0:0:root:/root:/bin/sh\napp:x:1234:1234:app:/:/bin/sh\n");
        rig.write(
            "Dockerfile",
            "FROM scratch\nCOPY busybox /bin/busybox\nCOPY etc /etc\nCOPY web /web\n\
             RUN [\"/bin/busybox\", \"--install\", \"-s\", \"/bin\"]\nENV GREETING=hello\nWORKDIR /web\n",
        );
        rig.write(".dockerignore", "*\n!busybox\n!etc\n!web\n");
        rig.write("envctl.yaml", ENVIRONMENT);
        Some(rig)
    }

    pub fn write(&self, name: &str, text: &str) {
        let path = self.home.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        std::fs::write(path, text).expect("written");
    }

    pub fn state(&self) -> PathBuf {
        self.home.path().join("state")
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .current_dir(self.home.path())
            .env("HOME", self.home.path())
            .env("ENVCTL_STATE_DIR", self.state())
            .env_remove("ENVCTL_SESSION")
            .env_remove("KUBECONFIG")
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

    /// In the session's cluster and namespace.
    pub fn kubectl(&self, arguments: &[&str]) -> Ran {
        let sessions = self.sessions();
        let [session] = sessions.as_slice() else { panic!("{sessions:?}") };
        let mut command = self.command("kubectl", arguments);
        Ran::of(command.env("KUBECONFIG", session.path().join("kubeconfig")).output().expect("kubectl runs"))
    }

    /// One container's status.
    #[track_caller]
    pub fn container(&self, pod: &str, container: &str) -> Value {
        let said = self.kubectl(&["get", "pod", pod, "-o", "json"]).succeeded().stdout;
        let pod: Value = serde_json::from_str(&said).expect("JSON");
        let all = pod["status"]["containerStatuses"].as_array().expect("statuses");
        all.iter().find(|status| status["name"] == container).expect("its status").clone()
    }

    #[track_caller]
    pub fn docker(&self, arguments: &[&str]) -> String {
        self.try_docker(arguments).succeeded().stdout.trim().to_owned()
    }

    pub fn try_docker(&self, arguments: &[&str]) -> Ran {
        Ran::of(self.command("docker", arguments).output().expect("docker runs"))
    }

    /// Streams the engine's events, of the last minute too, that tell of containers of this home that are gone.
    pub fn removals(&self) -> std::process::Child {
        let mut command =
            self.command("docker", &["events", "--since", "1m", "--filter", "event=destroy", "--format", "{{json .}}"]);
        command.stdout(Stdio::piped()).spawn().expect("docker runs")
    }

    /// The containers of this home's sessions: of all, or only the gates.
    pub fn containers(&self, gates: bool) -> Vec<String> {
        let label = format!("label={SESSION}");
        let format = format!("{{{{.ID}}}} {{{{.Image}}}} {{{{.Label \"{SESSION}\"}}}} {{{{.Label \"{POD}\"}}}}");
        let listed = self.docker(&["ps", "--all", "--no-trunc", "--filter", &label, "--format", &format]);
        let own = self.state();
        let own = own.to_str().expect("UTF-8");
        let lines = listed.lines().filter(|line| line.contains(own) && (!gates || line.contains("envctl.local/gate")));
        lines.map(|line| line.split(' ').next().unwrap_or_default().to_owned()).collect()
    }

    pub fn sessions(&self) -> Vec<SessionDirectory> {
        agents::sessions(&self.state())
    }

    /// `kill -9` of the only session's agent; returns when it is gone.
    pub fn kill_agent(&self) {
        agents::kill_agent(&self.state(), &agents::only(&self.state()));
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let _also_after_a_failure = self.envctl(&["down", "--all"]);
        for container in self.containers(false) {
            self.docker(&["rm", "--force", "--volumes", &container]);
        }
    }
}
