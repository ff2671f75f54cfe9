//! The real client-go (tests/client-go, built here) against a session, over TLS: what operators and controllers written in Go do.
//!
//! One Go program, a scenario a test; all share one session and have namespaces of their own in it.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

#[path = "common/hello.rs"]
mod hello;
#[path = "common/program.rs"]
mod program;
#[path = "common/require.rs"]
mod require;
#[path = "common/session.rs"]
mod session;

const ENVIRONMENT: &str = r#"
name: client-go
images:
  hello: { process: { entrypoint: [hello], path: [EXAMPLES] } }
  sh: { process: { entrypoint: [/bin/sh, -c] } }
services:
  web: { image: hello, args: [web], ports: { http: 8080 }, ready: { http: { path: /, port: http } } }
"#;

/// The Go program, built once; Go's own cache makes the second build short.
fn scenarios() -> &'static PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let program = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("client-go");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/client-go");
        // Without symbols it links in half the time.
        let mut go = Command::new("go");
        go.args(["build", "-mod=readonly", "-ldflags=-s -w", "-o"]).arg(&program).arg(".").current_dir(source);
        // An older Go gets the one that go.mod names.
        go.env("GOTOOLCHAIN", "auto").env("CGO_ENABLED", "0");
        assert!(go.status().expect("go runs").success(), "tests/client-go is built");
        program
    })
}

fn run(scenario: &str) {
    if !require::require(program::program("go", "version"), "go") {
        return;
    }
    let program = scenarios();
    hello::build("hello");
    let session = session::of(ENVIRONMENT);
    let output = Command::new(program)
        .arg(scenario)
        .env("KUBECONFIG", &session.kubeconfig)
        .stdin(Stdio::null())
        .output()
        .expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn typed_clients_write_protobuf() {
    run("typed");
}

#[test]
fn informers_sync_by_watch_list() {
    run("informer");
}

#[test]
fn leaders_are_elected_by_lease() {
    run("leader-election");
}

#[test]
fn server_side_apply() {
    run("apply");
}

#[test]
fn exec_by_websocket() {
    run("exec");
}

#[test]
fn access_reviews_and_tokens() {
    run("access");
}

#[test]
fn evictions_say_that_budgets_are_not_weighed() {
    run("eviction");
}
