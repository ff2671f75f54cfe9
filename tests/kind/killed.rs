//! `kill -9`, Ctrl-C, and a node that ends: whatever was begun is finished by the next `up` or removed by it or by `gc`.

use envctl::session::launch::wait_until_gone;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::agents;
use crate::rig::{ENVIRONMENT, Rig};

/// The line by which the node's container is there and the cluster is not.
const BEGUN: &str = "cluster: Starting control-plane";

#[test]
fn a_shared_cluster_that_was_left_unfinished_is_made_again_and_one_that_ends_ends_its_sessions() {
    let Some(rig) = Rig::new("kind") else { return };
    let (mut child, lines) = rig.start(&["up"]);
    assert!(lines.map_while(Result::ok).any(|line| line.contains(BEGUN)), "it gets that far");
    rig.kill_agent();
    assert!(!child.wait().expect("it ends").success());
    assert_eq!(rig.containers().len(), 1, "somebody has to remove it");
    // What fails beside it is no reason to leave it unfinished once more.
    let recipe = std::fs::read_to_string(rig.home.path().join("Dockerfile")).expect("read");
    rig.write("Dockerfile", "FROM scratch\nCOPY missing /missing\n");
    let failed = rig.envctl(&["up"]);
    assert!(failed.code == Some(3) && failed.says("docker build -t team/hello"), "{failed:?}");
    assert!(failed.says("could not be made runnable; more about it when the cluster is there"), "{failed:?}");
    // kind may have come to its end all the same, alone: then there is nothing to make again.
    assert!(failed.says("which was left unfinished or stopped") || !failed.says(BEGUN), "{failed:?}");
    rig.write("Dockerfile", &recipe);
    let up = rig.envctl(&["up"]).succeeded();
    assert!(!up.says(BEGUN), "{up:?}");
    let session = rig.sessions()[0].record().expect("a record").session;
    assert!(rig.answer(&session).ends_with("first\n"));

    let sessions = rig.sessions();
    rig.docker(&["kill", &rig.containers()[0]]);
    wait_until_gone(&sessions[0]).expect("its agent ends");
    let ended = rig.envctl(&["ls"]);
    assert!(ended.says("1 dead session has left something on a cluster"), "{ended:?}");
    rig.envctl(&["gc", "--cluster", "kind"]).succeeded();
    assert!(rig.containers().is_empty());
    let clean = rig.envctl(&["gc"]).succeeded();
    assert!(clean.says("nothing to remove"), "{clean:?}");
}

#[test]
fn killed_at_any_step_with_all_that_it_started_it_goes_on_with_the_next_up() {
    let Some(rig) = Rig::new("kind") else { return };
    for step in [
        "image team/hello: building",
        "cluster: Preparing nodes",
        "cluster: Writing configuration",
        BEGUN,
        "image team/hello: loading into",
        "cluster: Installing CNI",
        "cluster: Installing StorageClass",
        "cluster kind: reachable",
        "service web: applying",
        "service web: starting",
    ] {
        if step.starts_with("service web") {
            // Else it might be up before it is killed.
            let never = ENVIRONMENT
                .replace("{ http: 8080 }", "{ http: 8080, none: 9 }")
                .replace("{ http: { path: /, port: http } }", "{ tcp: none }");
            rig.write("envctl.yaml", &never.replace("CLUSTER", "kind"));
        }
        let (mut child, lines) = rig.start(&["up"]);
        let mut said = Vec::new();
        let reached = lines.map_while(Result::ok).any(|line| {
            said.push(line);
            said.last().is_some_and(|line| line.contains(step))
        });
        assert!(reached, "{step}: {said:#?}");
        let session = agents::only(&rig.state());
        let started = descendants(session.agent_pid);
        agents::kill_agent(&rig.state(), &session);
        for process in started {
            // It may have ended by itself.
            _ = kill(Pid::from_raw(process.cast_signed()), Signal::SIGKILL);
        }
        assert!(!child.wait().expect("it ends").success(), "{step}");
    }
    rig.write("envctl.yaml", &ENVIRONMENT.replace("CLUSTER", "kind"));
    rig.envctl(&["up", "--session", "after"]).succeeded();
    assert!(rig.answer("after").ends_with("first\n"));
    rig.envctl(&["down", "--session", "after"]).succeeded();
    rig.envctl(&["gc"]).succeeded();
    rig.envctl(&["gc", "--cluster", "kind"]).succeeded();
    assert!(rig.containers().is_empty() && rig.sessions().is_empty());
}

#[test]
fn a_sessions_own_cluster_goes_with_it_whatever_ends_it() {
    let Some(rig) = Rig::new("{ kind: { fresh: true } }") else { return };
    let (mut child, lines) = rig.start(&["up"]);
    let mut lines = lines.map_while(Result::ok);
    assert!(lines.any(|line| line.contains(BEGUN)), "it gets that far");
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).expect("interrupted");
    let rest: Vec<String> = lines.collect();
    assert_eq!(child.wait().expect("it ends").code(), Some(130), "{rest:#?}");
    assert!(rig.containers().is_empty() && rig.sessions().is_empty(), "{rest:#?}");

    // Nobody else would use it: what fails beside it ends it.
    let recipe = std::fs::read_to_string(rig.home.path().join("Dockerfile")).expect("read");
    rig.write("Dockerfile", "FROM scratch\nCOPY missing /missing\n");
    let failed = rig.envctl(&["up"]);
    assert!(failed.code == Some(3) && failed.says("docker build -t team/hello"), "{failed:?}");
    assert!(!failed.says("cluster kind: reachable"), "{failed:?}");
    assert!(rig.containers().is_empty() && rig.sessions().is_empty(), "{failed:?}");
    rig.write("Dockerfile", &recipe);

    rig.envctl(&["up"]).succeeded();
    let own = rig.containers();
    assert!(own.len() == 1 && own[0] != format!("{}-control-plane", rig.cluster()), "{own:?}");
    rig.kill_agent();
    assert_eq!(rig.containers(), own);
    let swept = rig.envctl(&["gc"]).succeeded();
    assert!(swept.says("removed kind cluster") && rig.containers().is_empty(), "{swept:?}");
}

/// What a process started, and what that did.
fn descendants(process: u32) -> Vec<u32> {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let lines = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    let children = lines.collect::<Vec<_>>().join(" ");
    let children = children.split_whitespace().filter_map(|child| child.parse().ok());
    children.flat_map(|child| [vec![child], descendants(child)].concat()).collect()
}
