//! An agent's life, seen from outside: one to a session, and nothing left whatever ends it.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Barrier;

use envctl::session::identity::Identity;
use envctl::session::launch::{self, Agent};
use envctl::session::protocol::{Call, Reply, Request};
use envctl::session::record::{Phase, Record, VERSION};
use envctl::session::state::StateDirectory;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::context::{Context, ENVCTL};

pub fn record(state: &StateDirectory, root: &Path) -> Record {
    let identity = Identity::new(root, "demo", None);
    Record {
        version: VERSION,
        id: identity.id(),
        namespace: identity.namespace(),
        root: identity.root.clone(),
        environment: "demo".to_owned(),
        session: "demo".to_owned(),
        file: PathBuf::new(),
        cluster: "embedded".to_owned(),
        phase: Phase::Starting,
        created: 0,
        agent_pid: 0,
        api: None,
        kubeconfig: state.session(&identity.id()).kubeconfig(),
        addresses: Default::default(),
        exports: Default::default(),
        shared: None,
        ready: None,
    }
}

pub fn open(state: &StateDirectory, record: &Record) -> Agent {
    launch::open_or_create(state, record, Path::new(ENVCTL)).unwrap()
}

pub fn created(agent: Agent) -> UnixStream {
    match agent {
        Agent::Created(stream) => stream,
        other => panic!("expected a new agent, got {other:?}"),
    }
}

fn ask(stream: &UnixStream, line: &str) -> Reply {
    writeln!(&*stream, "{line}").unwrap();
    let mut reply = String::new();
    BufReader::new(stream).read_line(&mut reply).unwrap();
    serde_json::from_str(&reply).unwrap_or_else(|error| panic!("{error}: {reply:?}"))
}

/// The agent's process: asked of the agent, so that it runs by now.
fn pid(state: &StateDirectory, id: &str) -> Pid {
    let stream = launch::connect(&state.session(id)).unwrap();
    let call = serde_json::to_string(&Call::new(Request::Status)).unwrap();
    match ask(&stream, &call) {
        Reply::Status(status) => Pid::from_raw(i32::try_from(status.record.agent_pid).unwrap()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn many_at_once_meet_one_agent() {
    let context = Context::new();
    let state = context.state();
    let record = record(&state, &context.project());
    let barrier = Barrier::new(8);
    let agents: Vec<Agent> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    barrier.wait();
                    open(&state, &record)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let new = agents.iter().filter(|agent| matches!(agent, Agent::Created(_))).count();
    assert_eq!(new, 1, "{agents:?}");
    assert_eq!(context.processes().len(), 1);
    drop(agents);
}

#[test]
fn an_agent_whose_creator_dies_before_ready_leaves_nothing() {
    let context = Context::new();
    let state = context.state();
    let record = record(&state, &context.project());
    // At once (the agent may not even run yet), and when it certainly runs.
    for runs in [false, true] {
        let creator = created(open(&state, &record));
        if runs {
            pid(&state, &record.id);
        }
        let lock = fs::File::open(state.session(&record.id).lock()).unwrap();
        drop(creator);
        launch::wait_until_free(&lock, &state.session(&record.id)).unwrap();
        assert_eq!(context.session_directories(), Vec::<PathBuf>::new());
    }
}

#[test]
fn sigterm_is_down() {
    let context = Context::new();
    let state = context.state();
    let record = record(&state, &context.project());
    let creator = created(open(&state, &record));
    let agent = pid(&state, &record.id);
    let lock = fs::File::open(state.session(&record.id).lock()).unwrap();
    kill(agent, Signal::SIGTERM).unwrap();
    launch::wait_until_free(&lock, &state.session(&record.id)).unwrap();
    assert_eq!(context.session_directories(), Vec::<PathBuf>::new());
    drop(creator);
}

#[test]
fn a_killed_agents_files_are_gone_after_the_next_command() {
    let context = Context::new();
    let state = context.state();
    let record = record(&state, &context.project());
    let directory = state.session(&record.id);
    for _ in 0..100 {
        let creator = created(open(&state, &record));
        let agent = pid(&state, &record.id);
        kill(agent, Signal::SIGKILL).unwrap();
        launch::wait_until_gone(&directory).unwrap();
        assert!(!directory.is_live());
        assert!(directory.path().exists(), "nobody has cleaned up yet");
        drop(creator);
    }
    let ran = context.run(&["ps"]);
    insta::assert_snapshot!(ran.stderr, @r"
    error: no session is running for HOME/project; demo-ID ended: its agent was killed
    hint: start one with `envctl up`
    ");
    assert_eq!(context.session_directories(), Vec::<PathBuf>::new());
}

#[test]
fn down_takes_a_session_away_and_of_nothing_says_so() {
    let context = Context::new();
    let state = context.state();
    let record = record(&state, &context.project());
    let creator = created(open(&state, &record));
    let ran = context.run(&["down"]);
    insta::assert_snapshot!(ran.stderr, @"demo-ID is down");
    assert_eq!(ran.code, Some(0));
    assert_eq!(context.session_directories(), Vec::<PathBuf>::new());
    assert_eq!(context.processes(), Vec::<String>::new());
    let ran = context.run(&["down"]);
    insta::assert_snapshot!(ran.stderr, @"nothing to take down: no session is running for HOME/project");
    assert_eq!(ran.code, Some(0));
    drop(creator);
}

#[test]
fn another_protocol_is_a_clear_answer() {
    let context = Context::new();
    let state = context.state();
    let record = record(&state, &context.project());
    let _creator = created(open(&state, &record));
    let stream = launch::connect(&state.session(&record.id)).unwrap();
    let reply = ask(&stream, r#"{"protocol":4711,"request":"fly","to":"the moon"}"#);
    assert!(matches!(reply, Reply::Mismatch { protocol: 1, .. }), "{reply:?}");
}

#[test]
fn a_state_directory_may_have_a_longer_path_than_a_socket() {
    let context = Context::new();
    let state = StateDirectory::at(context.state().path().join("d".repeat(120)));
    let record = record(&state, &context.project());
    let creator = created(open(&state, &record));
    pid(&state, &record.id);
    let lock = fs::File::open(state.session(&record.id).lock()).unwrap();
    drop(creator);
    launch::wait_until_free(&lock, &state.session(&record.id)).unwrap();
}

#[test]
fn a_program_that_cannot_be_started_leaves_nothing() {
    let context = Context::new();
    let state = context.state();
    let record = record(&state, &context.project());
    let error = launch::open_or_create(&state, &record, Path::new("/nonexistent/envctl")).unwrap_err();
    assert!(error.to_string().contains("cannot start the agent from /nonexistent/envctl"), "{error}");
    assert_eq!(context.session_directories(), Vec::<PathBuf>::new());
}
