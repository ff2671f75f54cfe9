//! The two clusters that are asked: an embedded session of this test's own, and `make cluster-up`'s.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::envctl;
use crate::real;
use crate::require::require;

const REAL: &str = "/var/lib/envctl-cluster/kubeconfig";

const ENVIRONMENT: &str = r#"
name: answers
images:
  hello: { entrypoint: [/usr/bin/hello], process: { entrypoint: [hello], path: [EXAMPLES] } }
services:
  unused: { image: hello, ports: { http: 8080 } }
"#;

/// A cluster, and how it is left.
pub struct Side {
    kubectl: PathBuf,
    kubeconfig: PathBuf,
    /// The embedded one's session is in here.
    session: Option<tempfile::TempDir>,
}

/// What kubectl printed.
pub struct Output {
    pub out: String,
    pub err: String,
    pub code: Option<i32>,
}

/// The embedded cluster and the real one.
pub fn sides() -> Option<[Side; 2]> {
    let programs = real::programs()?;
    let readable = std::fs::File::open(REAL).is_ok();
    if !require(readable, "a real cluster (`make cluster-up`)") {
        return None;
    }
    crate::hello::build("hello");
    let kubectl = programs.join("kubectl");
    let theirs = Side { kubectl: kubectl.clone(), kubeconfig: REAL.into(), session: None };
    theirs.must(&["delete", "namespace", "answers", "--ignore-not-found"], "");
    import_hello(programs);

    let session = tempfile::tempdir().expect("a directory");
    let kubeconfig = envctl::up(session.path(), ENVIRONMENT);
    let ours = Side { kubectl, kubeconfig, session: Some(session) };
    Some([ours, theirs])
}

/// The image of the real cluster is made of the very program that is the process of the embedded one.
fn import_hello(programs: &Path) {
    let directory = tempfile::tempdir().expect("a directory");
    let (program, file) = (crate::hello::directory().join("hello"), directory.path().join("hello.tar"));
    let cluster = |arguments: &[&str]| {
        let status = Command::new(programs.join("cluster")).args(arguments).status().expect("it starts");
        assert!(status.success(), "cluster {arguments:?}: {status}");
    };
    let (program, file) = (program.display().to_string(), file.display().to_string());
    cluster(&["image", "--name", "hello", "--entrypoint", "/usr/bin/hello", "--file", &program, "--output", &file]);
    cluster(&["import", &file]);
}

impl Side {
    /// Runs kubectl, in namespace `answers` where nothing else is said.
    pub fn kubectl(&self, arguments: &[&str], input: &str) -> Output {
        let mut command = Command::new(&self.kubectl);
        command.args(["--kubeconfig".as_ref(), self.kubeconfig.as_os_str()]);
        if !arguments.contains(&"-n") {
            command.args(["--namespace", "answers"]);
        }
        let home = tempfile::tempdir().expect("a directory");
        let mut child = command
            .args(arguments)
            .env("HOME", home.path())
            .env_remove("KUBECONFIG")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("kubectl starts");
        // kubectl may end without reading; its output says why.
        let _ = child.stdin.take().expect("it is piped").write_all(input.as_bytes());
        let output = child.wait_with_output().expect("kubectl ends");
        Output {
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
            code: output.status.code(),
        }
    }

    /// The same, and it must succeed.
    pub fn must(&self, arguments: &[&str], input: &str) {
        let output = self.kubectl(arguments, input);
        let which = self.kubeconfig.display();
        assert_eq!(output.code, Some(0), "{which}: kubectl {}\n{}{}", arguments.join(" "), output.out, output.err);
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        if let Some(session) = &self.session {
            envctl::envctl(session.path(), &["down"]);
        } else {
            self.kubectl(&["delete", "namespace", "answers", "--ignore-not-found"], "");
            self.kubectl(&["delete", "clusterrole,clusterrolebinding", "answers", "--ignore-not-found"], "");
        }
    }
}
