//! A session with something in it: up by the protocol, then every verb that looks into it, then gone.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;

use envctl::plan::{Image, Node, NodeId, NodeKind, NodeSpec, Plan, ProcessImage, Service, Workload};
use envctl::session::protocol::{Call, Reply, Request, UpRequest};

use super::agent::{created, open, record};
use super::context::Context;
use super::traces::processes_with;

/// One service that says a word and sleeps for a time that no other process sleeps.
fn plan(context: &Context, script: &str) -> Plan {
    let image = Image {
        process: Some(ProcessImage {
            entrypoint: vec!["sh".to_owned(), "-c".to_owned(), script.to_owned()],
            workdir: context.project(),
            ..ProcessImage::default()
        }),
        ..Image::default()
    };
    let service = Service {
        workload: Workload { image: "sleeper".to_owned(), ..Workload::default() },
        ports: Vec::new(),
        ready: None,
        replicas: 1,
    };
    Plan {
        environment: "demo".to_owned(),
        file: context.project().join("envctl.yaml"),
        project_root: context.project(),
        profiles: Vec::new(),
        includes: Vec::new(),
        cluster: envctl::plan::Cluster::Embedded,
        images: [("sleeper".to_owned(), image)].into(),
        nodes: vec![Node {
            id: NodeId::new(NodeKind::Service, "sleeper"),
            needs: Vec::new(),
            dependents: Vec::new(),
            spec: NodeSpec::Service(Box::new(service)),
        }],
        exports: Vec::new(),
        suites: Default::default(),
        notify: None,
    }
}

fn up(stream: &UnixStream, plan: Plan) -> Vec<Reply> {
    up_and(stream, plan, false)
}

fn up_and(stream: &UnixStream, plan: Plan, hold: bool) -> Vec<Reply> {
    let request = UpRequest {
        plan,
        environment: Default::default(),
        timeout: 60_000,
        keep: false,
        hold,
        detach: false,
        ttl: 3_600_000,
        reissue: Default::default(),
        exchange: Default::default(),
        swap: Default::default(),
    };
    let call = serde_json::to_string(&Call::new(Request::Up(Box::new(request)))).unwrap();
    writeln!(&*stream, "{call}").unwrap();
    let mut replies = Vec::new();
    for line in BufReader::new(stream).lines() {
        let reply: Reply = serde_json::from_str(&line.unwrap()).unwrap();
        let last = reply.is_last();
        replies.push(reply);
        if last {
            break;
        }
    }
    replies
}

#[test]
fn up_look_down() {
    let context = Context::new();
    let state = context.state();
    let record = record(&state, &context.project());
    let marker = format!("98765.{}", std::process::id());
    let creator = created(open(&state, &record));
    let replies = up(&creator, plan(&context, &format!("echo a word; exec sleep {marker}")));
    assert!(matches!(replies.last(), Some(Reply::Up { .. })), "{replies:#?}");
    drop(creator);

    let ran = context.run(&["ps", "-o", "json"]);
    let document: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("{ran:?}"));
    assert_eq!(document["nodes"][0]["state"], "ready", "{document}");
    assert_eq!(document["nodes"][0]["pods"], 1, "{document}");
    assert_eq!(context.run(&["ps", "-o", "name"]).stdout, "sleeper\n");
    assert_eq!(context.run(&["logs", "sleeper"]).stdout, "a word\n");
    assert_eq!(context.run(&["logs"]).stdout, "sleeper | a word\n");

    let ran = context.run(&["exec", "sleeper", "--", "sh", "-c", "echo out; echo err >&2; exit 3"]);
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (Some(3), "out\n", "err\n"));
    assert_eq!(context.run(&["exec", "sleeper", "--", "no-such-program"]).code, Some(127));
    assert_eq!(context.run(&["exec", "sleeper", "--", "/etc/passwd"]).code, Some(126));
    let ran = context.run(&["exec", "nobody", "--", "true"]);
    assert_eq!(ran.code, Some(125));
    assert!(ran.stderr.contains("there are pods of: sleeper"), "{ran:?}");

    let ran = context.run(&["env", "--format", "dotenv"]);
    assert!(ran.stdout.contains("ENVCTL_SESSION=demo-"), "{ran:?}");
    let ran = context.run(&["wait", "sleeper", "--timeout", "20s"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let ran = context.run(&["restart", "sleeper", "--wait-timeout", "20s"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), "sleeper is restarted\n"));

    let before = std::time::Instant::now();
    let ran = context.run(&["down"]);
    let took = before.elapsed();
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), "demo-ID is down\n"));
    eprintln!("down took {took:?}");
    assert!(context.session_directories().is_empty());
    assert_eq!(context.processes(), Vec::<String>::new());
    assert!(processes_with(std::path::Path::new(&marker)).is_empty());
}

#[test]
fn what_fails_is_shown_and_taken_away() {
    let context = Context::new();
    let state = context.state();
    let record = record(&state, &context.project());
    let creator = created(open(&state, &record));
    let replies = up(&creator, plan(&context, "echo done"));
    let failed = replies.iter().find_map(|reply| match reply {
        Reply::Failed { failure, kept } => Some((failure, *kept)),
        _ => None,
    });
    let (failure, kept) = failed.unwrap_or_else(|| panic!("{replies:#?}"));
    assert!(!kept && failure.node.is_some(), "{failure:?}");
    assert!(matches!(replies.last(), Some(Reply::Ended { .. })), "{replies:#?}");
    envctl::session::launch::wait_until_gone(&state.session(&record.id)).unwrap();
    assert!(context.session_directories().is_empty());
}

/// What its creator wants to look at after a failure is there for as long as the creator, and not longer.
#[test]
fn what_failed_and_is_held_goes_with_its_creator() {
    let context = Context::new();
    let state = context.state();
    let record = record(&state, &context.project());
    let creator = created(open(&state, &record));
    let replies = up_and(&creator, plan(&context, "echo done"), true);
    assert!(matches!(replies.last(), Some(Reply::Failed { kept: true, .. })), "{replies:#?}");
    assert_eq!(context.run(&["dump", "--session", &record.id, "--to", "it"]).code, Some(0));
    assert!(context.project().join("it/objects/pods.yaml").exists());
    // As the kernel does when the command is killed.
    drop(creator);
    envctl::session::launch::wait_until_gone(&state.session(&record.id)).unwrap();
    assert!(context.session_directories().is_empty());
    assert_eq!(context.processes(), Vec::<String>::new());
}
