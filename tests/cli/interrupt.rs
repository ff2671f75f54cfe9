//! Ctrl-C during `up`, once and twice, and an agent that dies under it.

use nix::sys::signal::{Signal, kill};

use super::context::Context;
use super::traces;

/// A service that runs and never gets ready; `trap` is what it does on SIGTERM.
fn never_ready(trap: &str) -> Context {
    let context = Context::new();
    context
        .write_service(&format!("{trap}\nwhile :; do sleep 1000 & wait; done"), "    ready: { exec: [\"false\"] }\n");
    context
}

#[test]
fn once_takes_everything_away() {
    let context = never_ready("trap 'exit 0' TERM");
    let mut up = context.start(&["up"]);
    up.until("0 of 1 ready");
    up.signal(Signal::SIGINT);
    let ran = up.end(&context);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(130), ""), "{ran:?}");
    assert!(ran.stderr.contains("interrupted: taking the session down (again to kill it)"), "{ran:?}");
    assert!(ran.stderr.ends_with("the session was removed\n"), "{ran:?}");
    assert_eq!(context.processes(), Vec::<String>::new());
    assert!(context.session_directories().is_empty());
}

#[test]
fn twice_does_not_wait_for_what_ignores_it() {
    let context = never_ready("trap '' TERM");
    let mut up = context.start(&["up"]);
    up.until("0 of 1 ready");
    let namespaces = traces::namespaces_of(&traces::processes_with(context.home()));
    let before = std::time::Instant::now();
    up.signal(Signal::SIGINT);
    up.until("interrupted: taking");
    up.signal(Signal::SIGINT);
    let ran = up.end(&context);
    assert_eq!(ran.code, Some(130), "{ran:?}");
    assert!(before.elapsed().as_secs() < 5, "{:?}", before.elapsed());
    traces::wait_for_none(context.home());
    traces::wait_until_unused(&namespaces);
    assert!(context.session_directories().is_empty());
}

#[test]
fn of_a_session_that_was_there_leaves_it() {
    let context = Context::new();
    context.write_service("trap 'exit 0' TERM\nsleep 100000 & wait", "");
    assert_eq!(context.run(&["up"]).code, Some(0));
    context.write_service("trap 'exit 0' TERM\nsleep 100000 & wait", "    ready: { exec: [\"false\"] }\n");
    let mut up = context.start(&["up"]);
    up.until("service web: starting");
    up.signal(Signal::SIGINT);
    let ran = up.end(&context);
    assert_eq!(ran.code, Some(130), "{ran:?}");
    assert!(ran.stderr.contains("interrupted; the session was there before and goes on"), "{ran:?}");
    assert_eq!(context.run(&["ls", "-o", "name"]).stdout, "demo-ID\n");
}

#[test]
fn an_agent_that_dies_says_why_and_leaves_nothing() {
    let context = never_ready("trap 'exit 0' TERM");
    let mut up = context.start(&["up"]);
    up.until("0 of 1 ready");
    kill(context.agent().unwrap(), Signal::SIGKILL).unwrap();
    let ran = up.end(&context);
    assert_eq!(ran.code, Some(125), "{ran:?}");
    assert!(
        ran.stderr.contains(
            "error: the session's agent ended unexpectedly, and the session with it; the last lines of its log:\n  | "
        ),
        "{ran:?}"
    );
    assert!(ran.stderr.ends_with("hint: `envctl up` starts a new one\n"), "{ran:?}");
    assert!(context.session_directories().is_empty());
    traces::wait_for_none(context.home());
}
