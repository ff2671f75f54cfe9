//! Agents that were killed: what they left is removed by whoever comes next, and by the cluster itself if nobody does.

use std::time::{Duration, Instant};

use crate::rig::{IMAGE, Rig};

#[test]
fn what_a_killed_agent_left_is_removed_by_down() {
    let Some(rig) = Rig::new() else { return };
    rig.expect(0, &["up"]);
    let namespace = rig.namespace();
    rig.kill_agent().expect("an agent");
    let ran = rig.expect(0, &["down"]);
    assert!(ran.stderr.contains(&format!("removed namespace {namespace}")), "{ran:?}");
    assert!(!rig.has(&namespace));
    assert!(rig.sessions().is_empty());
}

#[test]
fn the_next_up_removes_what_a_killed_agent_left() {
    let Some(rig) = Rig::new() else { return };
    rig.expect(0, &["up"]);
    let first = rig.namespace();
    rig.kill_agent().expect("an agent");
    rig.expect(0, &["up"]);
    rig.wait_gone(&first);
    rig.expect(0, &["down"]);
}

#[test]
fn an_agent_killed_at_any_step_leaves_nothing_after_down() {
    let Some(rig) = Rig::new() else { return };
    let began = Instant::now();
    rig.expect(0, &["up"]);
    let whole = began.elapsed();
    rig.expect(0, &["down"]);
    let times = 12;
    for index in 0..times {
        let mut up = rig.command(&["up"]).stderr(std::process::Stdio::null()).spawn().expect("envctl runs");
        // The moment is what is tested.
        std::thread::sleep(whole * index / times);
        let killed = rig.kill_agent();
        if killed.is_none() {
            up.kill().expect("it was running");
        }
        up.wait().expect("it ends");
        rig.expect(0, &["down"]);
        assert!(rig.sessions().iter().all(|path| path.join("lock").exists()), "{:?}", rig.sessions());
        // Killed before its agent was found, it may be coming up or ending by itself.
        rig.expect(0, &["down"]);
        let mine = rig.kubectl(&["get", "namespaces", "-l", "envctl.dev/environment=guest", "-o", "json"]);
        let mine: serde_json::Value = serde_json::from_str(&mine).expect("JSON");
        let id = rig.id();
        let left: Vec<_> = mine["items"]
            .as_array()
            .expect("a list")
            .iter()
            .filter(|namespace| namespace["metadata"]["labels"]["envctl.dev/session"] == id.as_str())
            .collect();
        assert!(left.is_empty(), "killed after {:?}: {left:#?}", whole * index / times);
    }
}

#[test]
fn an_agent_killed_while_it_takes_a_session_away_leaves_nothing_either() {
    let Some(rig) = Rig::new() else { return };
    rig.write(&format!(
        "name: guest\nservices:\n  first: {{ image: {IMAGE}, grace: 1s }}\n  second: {{ image: {IMAGE}, needs: [first], grace: 1s }}\nimages: \
         {{ {IMAGE}: {{ process: {{ entrypoint: [hello] }} }} }}\n"
    ));
    rig.expect(0, &["up"]);
    let began = Instant::now();
    rig.expect(0, &["down"]);
    let whole = began.elapsed();
    let times = 4;
    for index in 0..times {
        rig.expect(0, &["up"]);
        let namespace = rig.namespace();
        let down = rig.command(&["down"]).stderr(std::process::Stdio::piped()).spawn().expect("envctl runs");
        // The moment is what is tested.
        std::thread::sleep(whole * index / times);
        rig.kill_agent();
        // It goes on without the agent.
        let ended = down.wait_with_output().expect("it ends");
        assert!(ended.status.success(), "killed after {:?}: {ended:?}", whole * index / times);
        assert!(!rig.has(&namespace) && rig.sessions().is_empty(), "killed after {:?}", whole * index / times);
    }
}

#[test]
fn the_cluster_removes_a_session_that_nobody_comes_back_for() {
    let Some(rig) = Rig::new() else { return };
    rig.expect(0, &["up", "--lease", "15s"]);
    let namespace = rig.namespace();
    // Longer than its lease: it is renewed.
    let ran = rig.try_kubectl(&["wait", "--for=delete", &format!("namespace/{namespace}"), "--timeout=25s"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    rig.kill_agent().expect("an agent");
    let began = Instant::now();
    rig.wait_gone(&namespace);
    assert!(began.elapsed() > Duration::from_secs(5), "not before its time: {:?}", began.elapsed());
}

#[test]
fn an_expired_lease_is_reaped_from_another_machine() {
    let (Some(rig), Some(other)) = (Rig::new(), Rig::new()) else { return };
    rig.expect(0, &["up"]);
    let namespace = rig.namespace();
    rig.kill_agent().expect("an agent");
    std::fs::remove_dir_all(rig.home.path().join("state")).expect("removed");
    let listed = |rig: &Rig| {
        let listed = rig.expect(0, &["gc", "--dry-run", "-o", "json"]).json();
        listed["sessions"].as_array().is_some_and(|all| all.iter().any(|one| one["namespace"] == namespace.as_str()))
    };
    assert!(!listed(&other), "its lease has not expired");
    rig.kubectl(&[
        "-n",
        &namespace,
        "patch",
        "lease",
        "envctl-session",
        "--type=merge",
        "-p",
        r#"{"spec":{"leaseDurationSeconds":1}}"#,
    ]);
    // The lease's own time has to pass.
    std::thread::sleep(Duration::from_secs(3));
    // Every other session of this cluster sweeps too, and may have come first.
    let lease = ["-n", &namespace, "get", "lease", "envctl-session"];
    assert!(listed(&other) || rig.try_kubectl(&lease).code == Some(1));
    other.expect(0, &["gc"]);
    rig.wait_gone(&namespace);
}

#[test]
fn a_session_whose_namespace_was_deleted_ends() {
    let Some(rig) = Rig::new() else { return };
    rig.expect(0, &["up", "--lease", "4s"]);
    let directory = rig.sessions().remove(0);
    let lock = std::fs::File::open(directory.join("lock")).expect("a lock");
    let namespace = rig.namespace();
    rig.kubectl(&["delete", "namespace", &namespace]);
    // It ends by itself: its agent's lock comes free.
    lock.lock_shared().expect("free");
    // The next command removes its files.
    rig.expect(0, &["ls"]);
    assert!(!directory.exists());
}
