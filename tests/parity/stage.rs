//! A user with a home and a project on one of the two clusters; all they do is written down, and nothing of it stays.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use envctl::session::state::SessionDirectory;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use crate::hello;
use crate::kind::Kind;
use crate::masks::{Masks, flat};
use crate::ran::Ran;
use crate::require::require;

/// What both clusters run: a small service and a shell's worth of programs.
pub const IMAGE: &str = "envctl-parity";
const PROGRAMS: [&str; 5] = ["/bin/sh", "/bin/cat", "/bin/sleep", "/usr/bin/env", "/usr/bin/sort"];

/// Which cluster.
#[derive(Debug, Clone)]
pub enum Side {
    /// envctl's own.
    Embedded,
    /// Real Kubernetes: its administrator's kubeconfig, that one's context, and the cluster's identity.
    Real { kubeconfig: PathBuf, context: String, identity: String },
    /// Real Kubernetes in a container of kind's, by envctl's own provider.
    Kind(&'static Kind),
}

/// What was seen of one step.
#[derive(Debug, Default)]
pub struct Step {
    pub name: String,
    /// Lines of stdout and stderr, masked, in their order.
    pub out: Vec<String>,
    pub err: Vec<String>,
    /// What has a name: the exit code, the fields of a document.
    pub fields: BTreeMap<String, String>,
}

/// A user at work.
pub struct Stage {
    pub side: Side,
    home: TempDir,
    steps: RefCell<Vec<Step>>,
    /// Of all sessions so far: what removed one tells of it afterwards.
    namespaces: RefCell<BTreeSet<String>>,
}

/// The real cluster, with the image on its node.
pub fn real() -> Option<&'static Side> {
    static REAL: OnceLock<Option<Side>> = OnceLock::new();
    let find = || {
        let directory = std::env::var_os("ENVCTL_CLUSTER_DIR").unwrap_or_else(|| "/var/lib/envctl-cluster".into());
        let kubeconfig = Path::new(&directory).join("kubeconfig");
        if !require(std::fs::File::open(&kubeconfig).is_ok(), "a real cluster (`make cluster-up`, as root)") {
            return None;
        }
        let directory = tempfile::tempdir().expect("a directory");
        let image = directory.path().join("image.tar");
        make(IMAGE, &image);
        let run = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cluster/run");
        assert!(Command::new(run).arg("import").arg(image).status().expect("it runs").success(), "it is imported");
        let kubectl = |arguments: &[&str]| {
            let output = Command::new("kubectl").args(arguments).env("KUBECONFIG", &kubeconfig).output();
            let ran = Ran::of(output.expect("kubectl runs"));
            assert_eq!(ran.code, Some(0), "{ran:?}");
            ran.stdout.trim().to_owned()
        };
        let identity = kubectl(&["get", "namespace", "kube-system", "-o", "jsonpath={.metadata.uid}"]);
        Some(Side::Real { context: kubectl(&["config", "current-context"]), identity, kubeconfig })
    };
    REAL.get_or_init(find).as_ref()
}

/// Makes the image under a name.
pub fn make(name: &str, image: &Path) {
    hello::build("hello");
    let run = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cluster/run");
    let mut make = Command::new(run);
    make.args(["image", "--name", name, "--entrypoint", "/usr/bin/hello", "--output"]).arg(image);
    make.arg("--file").arg(hello::directory().join("hello"));
    for program in PROGRAMS {
        let to = format!("{program}=/usr/bin/{}", program.rsplit('/').next().unwrap_or_default());
        make.args(["--file", &to]);
    }
    assert!(make.status().expect("it runs").success(), "the image is made");
}

impl Stage {
    /// Nothing is running yet.
    pub fn new(side: Side) -> Self {
        let home = tempfile::Builder::new().prefix("envctl-parity").tempdir().expect("a home");
        std::fs::create_dir_all(home.path().join("project/manifests")).expect("a project");
        if let Side::Real { identity, .. } = &side {
            let directory = home.path().join(".config/envctl");
            std::fs::create_dir_all(&directory).expect("a directory");
            std::fs::write(directory.join("config.yaml"), format!("allowed_clusters: [{identity}]\n"))
                .expect("written");
        }
        Self { side, home, steps: RefCell::default(), namespaces: RefCell::default() }
    }

    /// Writes `envctl.yaml`, with the image that both clusters have.
    pub fn environment(&self, text: &str) {
        let examples = hello::directory();
        let built = match &self.side {
            Side::Kind(kind) => format!(", docker: {{ context: {} }}", kind.context().display()),
            _ => String::new(),
        };
        let process = format!("process: {{ entrypoint: [hello], path: [{}] }}", examples.display());
        let image = format!("  {IMAGE}: {{ {process}{built} }}\n");
        self.write("envctl.yaml", &format!("name: parity\nimages:\n{image}{text}"));
    }

    /// Writes a file of the project.
    pub fn write(&self, path: &str, text: &str) {
        std::fs::write(self.project().join(path), text).expect("written");
    }

    fn state(&self) -> PathBuf {
        match &self.side {
            Side::Kind(kind) => kind.state(),
            _ => self.home.path().join("state"),
        }
    }

    fn project(&self) -> PathBuf {
        self.home.path().join("project")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_envctl"));
        command
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.home.path())
            .env("ENVCTL_STATE_DIR", self.state())
            .current_dir(self.project())
            .stdin(Stdio::null());
        match &self.side {
            Side::Embedded => {}
            Side::Real { kubeconfig, context, .. } => {
                command.env("KUBECONFIG", kubeconfig).env("ENVCTL_CONTEXT", context);
            }
            Side::Kind(kind) => {
                command.env("ENVCTL_CLUSTER", "kind").envs(kind.variables.iter().map(|(name, value)| (name, value)));
            }
        }
        command
    }

    /// Runs it without writing it down.
    pub fn quietly(&self, arguments: &[&str]) -> Ran {
        ran(self.command(arguments))
    }

    /// Runs envctl: its exit code and the lines of both its outputs are what was seen.
    pub fn envctl(&self, step: &str, arguments: &[&str]) -> Ran {
        // For the names of what it may remove.
        self.masks();
        let ran = self.quietly(arguments);
        self.lines(step, &ran);
        ran
    }

    /// Runs `envctl ls`, which is about this project: on kind it shares a state directory with others, whose sessions are left out.
    pub fn ls(&self, step: &str, flags: &[&str]) {
        let mut ran = self.quietly(&[&["ls"], flags].concat());
        if let Side::Kind(_) = &self.side {
            let ids: Vec<String> =
                self.sessions().iter().filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect();
            let is_mine = |line: &&str| line.starts_with("ID ") || ids.iter().any(|id| line.contains(id));
            ran.stdout = ran.stdout.lines().filter(is_mine).fold(String::new(), |all, line| all + line + "\n");
            if ids.is_empty() && !ran.stdout.is_empty() {
                (ran.stdout, ran.stderr) = (String::new(), ran.stderr + "no sessions\n");
            }
        }
        self.lines(step, &ran);
    }

    /// Runs envctl with something to read.
    pub fn envctl_reading(&self, step: &str, arguments: &[&str], input: &str) -> Ran {
        let mut command = self.command(arguments);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("envctl runs");
        child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("written");
        let ran = Ran::of(child.wait_with_output().expect("it ends"));
        self.lines(step, &ran);
        ran
    }

    /// Runs envctl, whose stdout is a document: its fields are what was seen.
    pub fn document(&self, step: &str, arguments: &[&str]) -> Value {
        let ran = self.quietly(arguments);
        let value = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{step}: {error}: {ran:?}"));
        let masks = self.masks();
        let mut seen = Step { name: step.to_owned(), err: masks.lines(&ran.stderr), ..Step::default() };
        seen.fields = flat(&value, &masks);
        seen.fields.insert("exit code".to_owned(), format!("{:?}", ran.code));
        self.steps.borrow_mut().push(seen);
        value
    }

    fn lines(&self, step: &str, ran: &Ran) {
        let masks = self.masks();
        let fields = [("exit code".to_owned(), format!("{:?}", ran.code))].into();
        let (out, err) = (masks.lines(&ran.stdout), masks.lines(&ran.stderr));
        self.steps.borrow_mut().push(Step { name: step.to_owned(), out, err, fields });
    }

    /// Something else that was seen.
    pub fn note(&self, step: &str, text: &str) {
        let out = self.masks().lines(text);
        self.steps.borrow_mut().push(Step { name: step.to_owned(), out, ..Step::default() });
    }

    /// Starts envctl with its outputs to be read.
    pub fn start(&self, arguments: &[&str]) -> Started {
        let mut child = self.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
        let err = BufReader::new(child.stderr.take().expect("a pipe"));
        Started { child, err, text: String::new() }
    }

    /// Waits for what was started, and writes it down.
    pub fn end(&self, step: &str, mut started: Started) {
        let (mut stdout, mut stderr) = (String::new(), started.text);
        started.err.read_to_string(&mut stderr).expect("text");
        started.child.stdout.take().expect("a pipe").read_to_string(&mut stdout).expect("text");
        let code = started.child.wait().expect("it ends").code();
        self.lines(step, &Ran { code, stdout, stderr });
    }

    fn masks(&self) -> Masks {
        let mut names = vec![
            (self.home.path().display().to_string(), "HOME"),
            (hello::directory().display().to_string(), "EXAMPLES"),
        ];
        names.push(match &self.side {
            Side::Embedded => ("cluster embedded:".to_owned(), "cluster CLUSTER:"),
            Side::Real { context, .. } => (format!("cluster context:{context}:"), "cluster CLUSTER:"),
            Side::Kind(_) => ("cluster kind:".to_owned(), "cluster CLUSTER:"),
        });
        if let Side::Kind(kind) = &self.side {
            names.push((kind.home.path().display().to_string(), "HOME"));
        }
        let mut namespaces = self.namespaces.borrow_mut();
        for directory in self.sessions() {
            namespaces.extend(SessionDirectory::at(directory).record().ok().map(|record| record.namespace));
        }
        names.extend(namespaces.iter().map(|namespace| (namespace.clone(), "NAMESPACE")));
        Masks::new(names)
    }

    /// The directories of this project's sessions, living or left.
    fn sessions(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.state().join("sessions")).into_iter().flatten();
        let directories = entries.filter_map(|entry| Some(entry.ok()?.path()));
        let is_mine = |directory: &PathBuf| {
            SessionDirectory::at(directory.clone()).record().is_ok_and(|record| record.root == self.project())
        };
        directories.filter(is_mine).collect()
    }

    /// The address of a service's port.
    pub fn address(&self, port: &str) -> String {
        self.live().record().expect("a record").addresses[port].to_string()
    }

    fn live(&self) -> SessionDirectory {
        let directories = self.sessions().into_iter().map(SessionDirectory::at);
        directories.filter(|one| !one.is_left()).find(SessionDirectory::is_live).expect("a live session")
    }

    /// What an address answers to GET /, or why not.
    pub fn get(&self, address: &str) -> String {
        let get = || {
            let mut stream = TcpStream::connect(address)?;
            stream.set_read_timeout(Some(Duration::from_secs(60)))?;
            stream.write_all(b"GET / HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).map(|_| answer)
        };
        get().unwrap_or_else(|error: std::io::Error| error.kind().to_string())
    }

    /// Kills the agent as `kill -9` does, and returns when it is gone.
    pub fn kill_agent(&self) {
        let directory = self.live();
        let lock = std::fs::File::open(directory.lock()).expect("a lock");
        let pid = i32::try_from(directory.record().expect("a record").agent_pid).expect("a process");
        assert!(pid > 1);
        kill(Pid::from_raw(pid), Signal::SIGKILL).expect("it runs");
        lock.lock_shared().expect("its lock is free once it is gone");
    }

    /// What is left of sessions on this machine, and of this user's on the real cluster.
    pub fn left(&self) -> Vec<String> {
        let here = self.sessions().into_iter().filter(|path| path.is_dir()).map(|path| path.display().to_string());
        here.collect()
    }

    /// Takes away what is left, whatever the file says by now.
    pub fn down(&self) -> Ran {
        // In a state directory of one's own, all there is.
        let all: &[&str] = if matches!(self.side, Side::Kind(_)) { &[] } else { &["--all"] };
        self.quietly(&[&["down", "--timeout", "90s"], all].concat())
    }

    /// All that was seen.
    pub fn seen(self) -> Vec<Step> {
        self.steps.take()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = self.down();
    }
}

/// An envctl that runs.
pub struct Started {
    pub child: Child,
    err: BufReader<ChildStderr>,
    text: String,
}

impl Started {
    /// Reads its stderr up to a line with `words`.
    pub fn until(&mut self, words: &str) {
        let mut line = String::new();
        while self.err.read_line(&mut line).expect("text") > 0 {
            self.text.push_str(&line);
            if line.contains(words) {
                return;
            }
            line.clear();
        }
        panic!("it never said {words:?}:\n{}", self.text);
    }

    /// As Ctrl-C does.
    pub fn interrupt(&self) {
        kill(Pid::from_raw(self.child.id().try_into().expect("a process")), Signal::SIGINT).expect("it runs");
    }
}

fn ran(mut command: Command) -> Ran {
    Ran::of(command.output().expect("envctl runs"))
}
