//! From several terminals: one session shared, and several side by side.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};

use envctl::session::launch;
use envctl::session::state::SessionDirectory;
use nix::sys::signal::{Signal, kill};

use super::context::{Context, ENVCTL};
use super::require::require;
use super::traces;

/// Ready a moment after its start, by itself.
fn slow(context: &Context, word: &str) {
    context.write_service(
        "trap 'exit 0' TERM\nsleep 3; echo yes >/tmp/ready\nsleep 100000 & wait",
        &format!("    env: {{ WORD: {word} }}\n    ready: {{ exec: [test, -e, /tmp/ready] }}\n"),
    );
}

#[test]
fn the_second_up_waits_and_applies_the_difference() {
    let context = Context::new();
    slow(&context, "one");
    let mut first = context.start(&["up"]);
    first.until("0 of 1 ready");
    slow(&context, "two");
    let mut second = context.start(&["up"]);
    second.until("another `up` is at work on this session; waiting for it, then applying what changed");
    // What looks at it meanwhile finds it, too.
    assert!(context.run(&["ps"]).stdout.contains("web"));
    let ran = first.end(&context);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let ran = second.end(&context);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stderr.contains("service web: ready"), "{ran:?}");
    let ran = context.run(&["exec", "web", "--", "sh", "-c", "echo $WORD"]);
    assert_eq!(ran.stdout, "two\n", "{ran:?}");
    assert_eq!(context.processes().iter().filter(|line| line.contains(" __agent ")).count(), 1);
}

#[test]
fn many_at_once_share_one() {
    let context = Context::new();
    context.write_service("trap 'exit 0' TERM\nsleep 100000 & wait", "    ready: { exec: [\"true\"] }\n");
    let all: Vec<_> = (0..4).map(|_| context.start(&["up"])).collect();
    for up in all {
        let ran = up.end(&context);
        assert_eq!(ran.code, Some(0), "{ran:?}");
    }
    assert_eq!(context.run(&["ls", "-o", "name"]).stdout, "demo-ID\n");
    // And all at once away.
    let all: Vec<_> = (0..4).map(|_| context.start(&["down"])).collect();
    for down in all {
        let ran = down.end(&context);
        assert_eq!(ran.code, Some(0), "{ran:?}");
    }
    assert_eq!(context.processes(), Vec::<String>::new());
    assert!(context.session_directories().is_empty());
}

#[test]
fn down_while_an_up_is_at_work() {
    let context = Context::new();
    context.write_service("trap 'exit 0' TERM\nsleep 100000 & wait", "    ready: { exec: [\"false\"] }\n");
    let mut up = context.start(&["up"]);
    up.until("0 of 1 ready");
    assert_eq!(context.run(&["down"]).code, Some(0));
    let ran = up.end(&context);
    assert_eq!(ran.code, Some(125), "{ran:?}");
    assert!(ran.stderr.contains("error: the session ended: it was taken down"), "{ran:?}");
    assert_eq!(context.processes(), Vec::<String>::new());
}

fn answer(address: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text.rsplit("\r\n").next().unwrap_or_default().trim().to_owned()
}

#[test]
fn two_sessions_have_the_same_ports() {
    let hello = Path::new(ENVCTL).with_file_name("examples").join("hello");
    if !require(hello.exists(), "the example `hello` (cargo build --examples)") {
        return;
    }
    let context = Context::new();
    fs::copy(hello, context.project().join("hello")).unwrap();
    context.write(
        "envctl.yaml",
        "name: demo
images:
  hello: { process: { entrypoint: [hello], path: [.] } }
services:
  web:
    image: hello
    args: [\"${WHO}\"]
    ports: { http: 8080 }
    ready: { http: { path: /, port: http } }
",
    );
    let up = |session: &str| {
        let ran = context.ran(context.command(&["up", "--session", session]).env("WHO", session));
        assert_eq!(ran.code, Some(0), "{ran:?}");
    };
    std::thread::scope(|scope| {
        scope.spawn(|| up("one"));
        scope.spawn(|| up("two"));
    });
    for session in ["one", "two"] {
        let output = context.command(&["env", "--format", "json", "--session", session]).output().unwrap();
        let exports: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let (host, port) = (exports["WEB_HOST"].as_str().unwrap(), exports["WEB_PORT"].to_string());
        assert_eq!(answer(&format!("{host}:{}", port.trim_matches('"'))), session);
        let ran = context.run(&["exec", "--session", session, "web", "--", "hostname"]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
    }
    let ran = context.run(&["down", "--session", "one"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(context.run(&["ls", "-o", "name"]).stdout, "demo-two-ID\n");
    let ran = context.run(&["down", "--all"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), "demo-two-ID is down\n"));
    assert_eq!(context.processes(), Vec::<String>::new());
}

/// One agent is stopped, so its session cannot end; the other one's does meanwhile.
#[test]
fn all_are_taken_down_at_once() {
    let context = Context::new();
    context.write_service("exec sleep 100000", "");
    for session in ["one", "two"] {
        let ran = context.run(&["up", "--session", session]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
    }
    let directories = context.session_directories();
    // Whichever one after the other would begin with.
    for stopped in 0..directories.len() {
        let [slow, quick] = [&directories[stopped], &directories[1 - stopped]];
        let session = format!("{} ", slow.display());
        let agents = traces::processes_with(context.home());
        let agent = agents.iter().find(|process| process.arguments.contains(&format!("__agent {session}")));
        let agent = agent.expect("it runs").pid;
        kill(agent, Signal::SIGSTOP).unwrap();
        let mut down = context.start(&["down", "--all"]);
        launch::wait_until_gone(&SessionDirectory::at(quick.clone())).unwrap();
        kill(agent, Signal::SIGCONT).unwrap();
        assert_eq!(down.child.wait().unwrap().code(), Some(0));
        assert_eq!(context.session_directories(), Vec::<PathBuf>::new());
        for session in ["one", "two"] {
            assert_eq!(context.run(&["up", "--session", session]).code, Some(0));
        }
    }
}
