//! Nothing stays in the engine, however a session ends.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};

use serde_json::Value;

use crate::rig::Rig;

#[test]
fn the_gates_remove_everything_when_the_agent_is_killed() {
    let Some(rig) = Rig::new() else { return };
    rig.envctl(&["up"]).succeeded();
    let mut left: BTreeSet<String> = rig.containers(false).into_iter().collect();
    assert!(left.len() >= 2, "{left:?}");
    let mut events = rig.removals();
    let mut lines = BufReader::new(events.stdout.take().expect("piped")).lines();
    rig.kill_agent();
    // No command of envctl's: the engine tells. What went before the events were listened to is asked for first.
    while !left.is_empty() {
        let there: BTreeSet<String> = rig.containers(false).into_iter().collect();
        left.retain(|id| there.contains(id));
        if left.is_empty() {
            break;
        }
        let event: Value = serde_json::from_str(&lines.next().expect("an event").expect("a line")).expect("JSON");
        left.remove(event["Actor"]["ID"].as_str().unwrap_or_default());
    }
    events.kill().expect("killed");
    events.wait().expect("ended");
    let said = rig.envctl(&["ls"]).succeeded().stderr;
    assert!(said.contains("its agent was killed"), "{said}");
    assert_eq!(rig.sessions().len(), 0);
}

#[test]
fn the_next_command_removes_what_lost_its_gate_too() {
    let Some(rig) = Rig::new() else { return };
    rig.envctl(&["up"]).succeeded();
    // Frozen, the agent doesn't see that they are gone and starts no others.
    let sessions = rig.sessions();
    let agent = sessions[0].record().expect("a record").agent_pid;
    let agent = nix::unistd::Pid::from_raw(i32::try_from(agent).expect("a number"));
    nix::sys::signal::kill(agent, nix::sys::signal::Signal::SIGSTOP).expect("stopped");
    // Whatever comes of this, nothing waits for a stopped agent.
    let killed: Vec<_> = rig.containers(true).iter().map(|gate| rig.try_docker(&["kill", gate])).collect();
    rig.kill_agent();
    assert!(!killed.is_empty() && killed.iter().all(|ran| ran.code == Some(0)), "{killed:?}");
    assert!(!rig.containers(false).is_empty(), "what they would have removed is there");
    rig.envctl(&["ls"]).succeeded();
    assert_eq!(rig.containers(false), Vec::<String>::new());
}
