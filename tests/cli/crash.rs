//! `kill -9` at a hundred moments: whatever it hits, nothing is left of the session but files, and those go with the
//! next command.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;
use std::time::Instant;

use envctl::session::identity::Identity;
use envctl::session::launch;
use envctl::session::protocol::{Call, Reply, Request};
use envctl::session::record::Phase;
use envctl::session::state::SessionDirectory;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::context::Context;
use super::traces;

const TIMES: u16 = 100;
/// Moments in milliseconds after the start, evenly spread with a random part each, over half as long again as one whole `up`
/// takes on this machine: most fall before it is ready, many after.
fn moments(context: &Context) -> Vec<u16> {
    let whole = || {
        let start = Instant::now();
        assert_eq!(context.run(&["up"]).code, Some(0));
        let took = start.elapsed().as_millis();
        assert_eq!(context.run(&["down"]).code, Some(0));
        took
    };
    // The shortest: other tests begin beside this one.
    let whole = (0..3).map(|_| whole()).min().unwrap();
    let step = u16::try_from(whole * 3 / 2 / u128::from(TIMES)).unwrap().max(1);
    let moment = |index| {
        let random = std::collections::hash_map::RandomState::new();
        let random = std::hash::BuildHasher::hash_one(&random, index);
        index * step + u16::try_from(random % u64::from(step)).unwrap()
    };
    (0..TIMES).map(moment).collect()
}

fn context() -> Context {
    let context = Context::new();
    context.write_service(
        "trap 'exit 0' TERM\necho started\nsleep 100000 & wait",
        "    replicas: 2\n    ready: { exec: [\"true\"] }\n",
    );
    context
}

fn directory(context: &Context) -> SessionDirectory {
    context.state().session(&Identity::new(&context.project(), "demo", None).id())
}

/// After the agent's end: nothing is left, and the next command removes the files.
fn assert_nothing_is_left(
    context: &Context,
    host: &std::collections::BTreeSet<String>,
    namespaces: &std::collections::BTreeSet<String>,
    when: &str,
) {
    traces::wait_for_none(context.home());
    traces::wait_until_unused(namespaces);
    // What stands in the home of another test was mounted by that test. Docker's interfaces are named `veth` and seven hexadecimal digits
    // (moby, `libnetwork/netutils`, `GenerateIfaceName`), and come and go with anyone's containers.
    let home = context.home().display().to_string();
    let of_docker = |line: &str| {
        let digits = line.strip_prefix("interface veth").unwrap_or_default();
        digits.len() == 7 && digits.chars().all(|digit| digit.is_ascii_hexdigit())
    };
    let of_others = |line: &str| (line.contains("/envctl-test") && !line.contains(&home)) || of_docker(line);
    let more: Vec<_> = traces::host().difference(host).filter(|line| !of_others(line)).cloned().collect();
    assert_eq!(more, Vec::<String>::new(), "{when}");
    let ran = context.run(&["ls"]);
    // Whose agent was killed is told once, by the command that removes the files.
    let told = ran.stderr.strip_prefix("warning: demo-ID ended: its agent was killed\n").unwrap_or(&ran.stderr);
    assert_eq!((ran.code, told), (Some(0), "no sessions\n"), "{when}");
    assert!(context.session_directories().is_empty(), "{when}: {:?}", context.session_directories());
    assert!(!context.project().join(".envctl").exists(), "{when}");
}

/// Asks the agent to say when the `up` at work has ended. `None`: the session has ended.
fn when_up(directory: &SessionDirectory) -> Option<Phase> {
    let stream = launch::connect(directory).ok()?;
    writeln!(&stream, "{}", serde_json::to_string(&Call::new(Request::Wait)).unwrap()).ok()?;
    for line in BufReader::new(&stream).lines() {
        match serde_json::from_str(&line.ok()?).unwrap() {
            Reply::Up { record, .. } => return Some(record.phase),
            Reply::Ended { .. } | Reply::Ending => return None,
            _ => {}
        }
    }
    None
}

#[test]
fn the_command_line_is_killed_during_up() {
    let context = context();
    let host = traces::host();
    let directory = directory(&context);
    let (mut was_ready, mut was_not) = (0, 0);
    for moment in moments(&context) {
        let mut up = context.command(&["up"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        traces::ended_within(Pid::from_raw(up.id().try_into().unwrap()), moment);
        up.kill().unwrap();
        up.wait().unwrap();
        let namespaces = traces::namespaces_of(&traces::processes_with(context.home()));
        // Not there yet, or gone already, is as good as ended.
        if let Ok(lock) = File::open(directory.lock()) {
            match when_up(&directory) {
                // It was ready before its creator died: it lives on, and `down` ends it.
                Some(phase) => {
                    assert_eq!(phase, Phase::Ready);
                    was_ready += 1;
                    let ran = context.run(&["down"]);
                    assert_eq!(ran.code, Some(0), "{ran:?}");
                }
                None => was_not += 1,
            }
            launch::wait_until_free(&lock, &directory).unwrap();
        }
        assert_nothing_is_left(&context, &host, &namespaces, &format!("killed after {moment} ms"));
    }
    eprintln!("killed the command line {TIMES} times: {was_not} before ready, {was_ready} after");
    assert!(was_not > 20, "{was_not}");
}

/// Whoever tries again at once, as a CI job does, gets a session: the one that is ending is waited for.
#[test]
fn the_command_line_is_killed_and_another_comes_at_once() {
    let context = context();
    for moment in moments(&context).into_iter().step_by(3) {
        let mut up = context.start(&["up"]).child;
        traces::ended_within(Pid::from_raw(up.id().try_into().unwrap()), moment);
        up.kill().unwrap();
        let ran = context.run(&["up"]);
        assert_eq!(ran.code, Some(0), "killed after {moment} ms: {ran:?}");
        up.wait().unwrap();
        assert_eq!(context.run(&["down"]).code, Some(0));
    }
}

#[test]
fn the_agent_is_killed_during_up_and_while_up() {
    let context = context();
    let host = traces::host();
    let (mut during, mut after) = (0, 0);
    let mut moments = moments(&context).into_iter().cycle();
    while during + after < TIMES {
        let moment = moments.next().unwrap();
        let mut started = context.start(&["up"]);
        let up = Pid::from_raw(started.child.id().try_into().unwrap());
        // Every fifth when it is up, however long that takes on this machine, and a moment later.
        if (during + after) % 5 == 4 {
            assert!(traces::ended_within(up, u16::MAX / 2), "it never came up");
            traces::ended_within(context.agent().unwrap(), moment % 50);
        } else {
            traces::ended_within(up, moment);
        }
        let Some(agent) = context.agent() else {
            // Too early: there is none yet.
            started.child.kill().unwrap();
            started.child.wait().unwrap();
            if let Ok(lock) = File::open(directory(&context).lock()) {
                launch::wait_until_free(&lock, &directory(&context)).unwrap();
            }
            continue;
        };
        let namespaces = traces::namespaces_of(&traces::processes_with(context.home()));
        kill(agent, Signal::SIGKILL).unwrap();
        let ran = started.end(&context);
        match ran.code {
            Some(0) => after += 1,
            Some(125) => {
                during += 1;
                assert!(ran.stderr.contains("error: the session's agent ended unexpectedly"), "{ran:?}");
            }
            _ => panic!("{moment} ms: {ran:?}"),
        }
        traces::wait_for_none(context.home());
        assert_nothing_is_left(&context, &host, &namespaces, &format!("killed after {moment} ms"));
    }
    eprintln!("killed the agent {TIMES} times: {during} during up, {after} while up");
    assert!(during > 20 && after >= 15, "{during} {after}");
}

/// The node alone: its agent notices, says so to whoever waits and to the next command, and ends as well.
#[test]
fn the_node_is_killed_during_up_and_while_up() {
    for during in [true, false] {
        let context = context();
        if during {
            context.write_service("trap 'exit 0' TERM\nsleep 100000 & wait", "    ready: { exec: [\"false\"] }\n");
        }
        let host = traces::host();
        let mut up = context.start(&["up"]);
        up.until(if during { "0 of 1 ready" } else { "everything is ready" });
        let mut follower =
            context.command(&["logs", "-f"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let processes = traces::processes_with(context.home());
        let namespaces = traces::namespaces_of(&processes);
        let node = processes.iter().find(|process| process.arguments.contains(" __node ")).expect("the node").pid;
        let agent = context.agent().expect("the agent");
        kill(node, Signal::SIGKILL).unwrap();
        let ran = up.end(&context);
        let lost = "the node process ended unexpectedly; every pod ended with it";
        if during {
            assert_eq!(ran.code, Some(4), "{ran:?}");
            assert!(ran.stderr.contains(lost) && ran.stderr.contains("[ClusterUnavailable]"), "{ran:?}");
        }
        assert!(traces::ended_within(agent, u16::MAX / 2), "the agent lives on without its node");
        follower.wait().unwrap();
        let ran = context.run(&["ps"]);
        assert_eq!(ran.code, Some(2), "{ran:?}");
        assert!(ran.stderr.starts_with("error: no session is running for HOME/project"), "{ran:?}");
        assert_eq!(ran.stderr.contains(lost), !during, "{ran:?}");
        assert_nothing_is_left(&context, &host, &namespaces, "the node was killed");
    }
}
