//! One session for this test binary, and kubectl with its kubeconfig.

use std::ffi::OsStr;
use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::Value;

#[path = "../common/program.rs"]
mod program;
#[path = "../common/require.rs"]
mod require;
#[path = "../common/session.rs"]
mod shared;

use shared::Session;

const ENVIRONMENT: &str = r#"
name: kubectl
images:
  hello:
    process: { entrypoint: [hello], path: [EXAMPLES] }
  platform:
    process: { entrypoint: [platform], path: [EXAMPLES] }
  sh:
    process: { entrypoint: [/bin/sh, -c] }
services:
  web:
    image: hello
    args: [web]
    ports: { http: 8080 }
    ready: { http: { path: /, port: http } }
"#;

fn session() -> Option<&'static Session> {
    require::require(program::program("kubectl", "--help"), "kubectl").then(|| shared::of(ENVIRONMENT))
}

/// What kubectl printed.
pub struct Output {
    pub out: String,
    pub err: String,
    pub code: Option<i32>,
}

impl Output {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.out))
    }
}

/// Runs kubectl with its standard input; `None` where kubectl is absent.
fn start(arguments: &[&str], input: &str, environment: &[(&str, &OsStr)]) -> Option<Output> {
    let session = session()?;
    let mut child = Command::new("kubectl")
        .args(arguments)
        .current_dir(session.directory.path())
        .env("KUBECONFIG", &session.kubeconfig)
        .env("HOME", session.directory.path())
        .envs(environment.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("kubectl runs");
    let mut stdin = child.stdin.take().expect("it is piped");
    // kubectl may end without reading; its output says why.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = child.wait_with_output().expect("kubectl ends");
    Some(Output {
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
        code: output.status.code(),
    })
}

fn succeeded(arguments: &[&str], output: Output) -> Output {
    assert_eq!(output.code, Some(0), "kubectl {}\n{}{}", arguments.join(" "), output.out, output.err);
    output
}

/// kubectl must succeed. Where it is absent the caller's test is over (`None`).
pub fn kubectl(arguments: &[&str]) -> Option<Output> {
    start(arguments, "", &[]).map(|output| succeeded(arguments, output))
}

/// The same, with something on its standard input.
pub fn kubectl_input(arguments: &[&str], input: &str) -> Option<Output> {
    start(arguments, input, &[]).map(|output| succeeded(arguments, output))
}

/// The same, with `KUBE_EDITOR`.
pub fn kubectl_edit(arguments: &[&str], editor: &str) -> Option<Output> {
    start(arguments, "", &[("KUBE_EDITOR", OsStr::new(editor))]).map(|output| succeeded(arguments, output))
}

/// kubectl as it is to be started; `None` where it is absent.
pub fn kubectl_command(arguments: &[&str]) -> Option<Command> {
    let session = session()?;
    let mut command = Command::new("kubectl");
    command.args(arguments).current_dir(session.directory.path());
    command.env("KUBECONFIG", &session.kubeconfig).env("HOME", session.directory.path());
    Some(command)
}

/// kubectl must fail.
pub fn kubectl_fails(arguments: &[&str], input: &str) -> Option<Output> {
    let output = start(arguments, input, &[])?;
    assert_ne!(output.code, Some(0), "kubectl {} succeeded:\n{}", arguments.join(" "), output.out);
    Some(output)
}
