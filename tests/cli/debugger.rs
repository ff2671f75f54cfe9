//! A suite runs while the service that it asks stands in a real debugger on this machine.

use std::io::Write as _;

use nix::sys::signal::Signal;

use super::hello;
use super::port::free_port;
use super::program::program;
use super::require::require;
use super::swap::{address, context, get, up};

/// What a developer types: stop at the first request, look, and go on when they have seen enough.
const COMMANDS: &str = "set pagination off
set debuginfod enabled off
break hello.rs:LINE
run
bt 1
shell echo stands at the breakpoint >&2; read -r go <GO
delete
continue
";

const SOURCE: &str = include_str!("../../examples/hello.rs");

/// The suite's question, and that it has its answer.
const SUITE: &str = "exec 3<>\"/dev/tcp/$BACK_HOST/$BACK_PORT\"; printf 'GET / HTTP/1.1\\r\\n\\r\\n' >&3; cat <&3";

#[test]
fn a_suite_waits_at_the_breakpoint_and_passes_when_the_service_goes_on() {
    if !require(program("gdb", "--version"), "gdb") {
        return;
    }
    let context = context();
    let file = std::fs::read_to_string(context.project().join("envctl.yaml")).unwrap();
    context.write("envctl.yaml", &format!("{file}suites:\n  ask: {{ run: [bash, ask] }}\n"));
    context.write("ask", SUITE);
    let go = context.project().join("go");
    nix::unistd::mkfifo(&go, nix::sys::stat::Mode::S_IRWXU).unwrap();
    // Where it begins to answer.
    let line = SOURCE.lines().position(|line| line.starts_with("fn answer(")).unwrap() + 2;
    let commands = COMMANDS.replace("LINE", &line.to_string());
    context.write("commands", &commands.replace("GO", &go.display().to_string()));
    up(&context, &[]);

    let port = free_port();
    let mut swap =
        context.command(&["swap", "back", "--port", &port.to_string(), "--", "gdb", "--batch", "-x", "commands"]);
    swap.arg("--args").arg(hello::directory().join("hello")).arg("host").env("PORT", port.to_string());
    let mut swap = super::context::Context::started(&mut swap);
    swap.until("its pods have stepped aside");
    let mut suite = context.start(&["test", "ask", "--attach"]);
    swap.until("stands at the breakpoint");
    assert!(suite.child.try_wait().unwrap().is_none(), "it waits for its answer");
    std::fs::OpenOptions::new().write(true).open(&go).unwrap().write_all(b"go\n").unwrap();
    let ran = suite.end(&context);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stdout.contains("host"), "{ran:?}");

    swap.signal(Signal::SIGTERM);
    let ran = swap.end(&context);
    assert!(ran.stdout.contains("hello::answer"), "the debugger knows where it was: {ran:?}");
    assert!(ran.stderr.ends_with("the pods of back are back\n"), "{ran:?}");
    assert_eq!(get(&address(&context, "back:http")).unwrap(), "pod");
}
