//! One session for the processes of one test run: brought up by the first, gone after the last, whatever kills them.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::process::{Child, ChildStdin, Command, Stdio};

use envctl::session::launch::wait_until_gone;
use envctl::session::state::SessionDirectory;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::context::{Context, ENVCTL};
use super::traces::wait_for_none;

pub fn project() -> Context {
    let context = Context::new();
    context.write_service("trap 'exit 0' TERM\nsleep 100000 & wait", "    ready: { exec: [\"true\"] }\n");
    context
}

/// A process of a run, attached to its session until it is let go of.
struct Process {
    child: Child,
    input: Option<ChildStdin>,
    session: String,
}

impl Process {
    fn started(command: &mut Command) -> Child {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    fn attached(mut child: Child) -> Self {
        let mut session = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut session).unwrap();
        if session.is_empty() {
            let mut said = String::new();
            child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
            panic!("it was not attached ({}): {said}", child.wait().unwrap());
        }
        let input = child.stdin.take();
        Self { child, input, session: session.trim().to_owned() }
    }

    fn let_go(mut self) {
        drop(self.input.take());
        assert!(self.child.wait().unwrap().success());
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// `envctl run --shared`, of a command that says its session and waits for the end of its input.
fn run(context: &Context, run: &str, more: &[&str]) -> Command {
    let mut arguments = vec!["run", "--shared", "--run-id", run];
    arguments.extend(more);
    arguments.extend(["--", "sh", "-c", "echo $ENVCTL_SESSION; exec cat"]);
    context.command(&arguments)
}

pub fn gone(context: &Context, session: &str) {
    wait_until_gone(&SessionDirectory::at(context.state().sessions().join(session))).unwrap();
}

#[test]
fn fifty_at_once_share_one_and_the_last_takes_it_down() {
    let context = project();
    let children: Vec<Child> =
        (0..50).map(|_| Process::started(&mut run(&context, "r", &["--linger", "200ms"]))).collect();
    // Some are killed at whatever point they have come to.
    let (killed, rest): (Vec<_>, Vec<_>) = children.into_iter().enumerate().partition(|(index, _)| index % 7 == 3);
    for (_, mut child) in killed {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let mut processes: Vec<Process> = rest.into_iter().map(|(_, child)| Process::attached(child)).collect();
    let sessions: BTreeSet<&str> = processes.iter().map(|process| process.session.as_str()).collect();
    assert_eq!(sessions.len(), 1, "{sessions:?}");
    assert_eq!(context.processes().iter().filter(|line| line.contains(" __agent ")).count(), 1);
    let last = processes.pop().unwrap();
    for (index, process) in processes.into_iter().enumerate() {
        if index % 2 == 0 { process.kill() } else { process.let_go() }
    }
    // The others have gone, and it is still there for the last one.
    assert_eq!(context.run(&["ls", "-o", "name"]).stdout.lines().count(), 1);
    let session = last.session.clone();
    last.kill();
    gone(&context, &session);
    assert!(context.session_directories().is_empty());
    wait_for_none(context.home());
}

#[test]
fn the_one_that_brings_it_up_may_be_killed_meanwhile() {
    let context = Context::new();
    context.write_service(
        "trap 'exit 0' TERM\nsleep 1; echo yes >/tmp/ready\nsleep 100000 & wait",
        "    ready: { exec: [test, -e, /tmp/ready] }\n",
    );
    let sessions = context.state().sessions();
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&sessions).unwrap();
    let changes = Inotify::init(InitFlags::IN_CLOEXEC).unwrap();
    changes.add_watch(&sessions, AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO).unwrap();
    let first = Process::started(&mut run(&context, "r", &["--linger", "0s"]));
    // Attached, by the agent's word that a second caller gets: it is coming up.
    let began = poll(&mut [PollFd::new(changes.as_fd(), PollFlags::POLLIN)], 60_000_u16).unwrap();
    assert!(began > 0 && !context.session_directories().is_empty(), "the first one never began");
    let second = Process::started(&mut run(&context, "r", &["--linger", "0s"]));
    kill(Pid::from_raw(first.id().try_into().unwrap()), Signal::SIGKILL).unwrap();
    first.wait_with_output().unwrap();
    let second = Process::attached(second);
    let session = second.session.clone();
    second.let_go();
    gone(&context, &session);
    wait_for_none(context.home());
}

#[test]
fn runs_are_apart_and_one_in_the_linger_is_taken_up_again() {
    let context = project();
    let one = Process::attached(Process::started(&mut run(&context, "one", &["--linger", "1m"])));
    let other = Process::attached(Process::started(&mut run(&context, "other", &["--linger", "0s"])));
    assert_ne!(one.session, other.session);
    let (session, others) = (one.session.clone(), other.session.clone());
    other.kill();
    gone(&context, &others);
    one.let_go();
    let again = Process::attached(Process::started(&mut run(&context, "one", &[])));
    assert_eq!(again.session, session);
    // Neither is the one that is meant in this project.
    assert!(!context.project().join(".envctl/current").exists());
    again.let_go();
}

#[test]
fn a_time_limit_ends_it_whoever_uses_it() {
    let context = project();
    let process = Process::attached(Process::started(&mut run(&context, "r", &["--time-limit", "6s"])));
    gone(&context, &process.session);
    process.let_go();
    wait_for_none(context.home());
}

#[test]
fn one_that_does_not_come_up_tells_everyone() {
    let context = Context::new();
    context.write_service("exit 1", "    ready: { exec: [\"false\"] }\n");
    let children: Vec<Child> = (0..3).map(|_| Process::started(&mut run(&context, "r", &[]))).collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(125));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("web"), "{said}");
    }
    assert!(context.session_directories().is_empty());
}

#[test]
fn the_commands_own_code_passes_through() {
    let context = project();
    let ran = context.run(&["run", "--shared", "--linger", "0s", "--", "sh", "-c", "exit 9"]);
    assert_eq!(ran.code, Some(9), "{ran:?}");
    let ran = context.run(&["run", "--shared", "--linger", "0s", "--", "no-such-program"]);
    assert_eq!(ran.code, Some(127), "{ran:?}");
}

/// The small client in processes of their own, with the variables and the pace of cargo-nextest: a process a test, a few at
/// a time, `NEXTEST_RUN_ID` the same in all.
#[test]
fn tests_with_a_process_each_attach_by_the_client() {
    super::hello::build("attached");
    let context = project();
    let program = super::hello::directory().join("attached");
    let test = |run: &str| {
        let mut command = context.command(&[]);
        let mut test = Command::new(&program);
        test.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        test.current_dir(context.project()).env("NEXTEST", "1").env("NEXTEST_RUN_ID", run);
        test.env("NEXTEST_EXECUTION_MODE", "process-per-test").env("ENVCTL", ENVCTL).env("ENVCTL_LINGER", "2s");
        command.stdin(Stdio::null());
        Process::started(&mut test)
    };
    let run = "0b8ac4d2-3e3c-4a5a-8bb8-6f5cf0d9a001";
    let mut sessions = BTreeSet::new();
    for _ in 0..4 {
        let children: Vec<Child> = (0..4).map(|_| test(run)).collect();
        for process in children.into_iter().map(Process::attached).collect::<Vec<_>>() {
            sessions.insert(process.session.clone());
            process.let_go();
        }
    }
    assert_eq!(sessions.len(), 1, "{sessions:?}");
    let session = sessions.pop_first().unwrap();
    gone(&context, &session);

    // What `envctl up` left is what the tests use, and they don't take it down.
    assert_eq!(context.run(&["up"]).code, Some(0));
    let process = Process::attached(test(run));
    assert_eq!(
        process.session,
        context
            .run(&["run", "sh", "-c", "printf %s $ENVCTL_SESSION"])
            .stdout
            .replace("ID", &process.session[process.session.len() - 8..])
    );
    process.let_go();
    assert_eq!(context.run(&["ls", "-o", "name"]).stdout, "demo-ID\n");
    assert_eq!(context.run(&["down"]).code, Some(0));
    wait_for_none(context.home());
}
