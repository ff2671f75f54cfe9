//! Twenty sessions at once on one node.

use std::process::{Child, Stdio};
use std::time::Instant;

use crate::rig::Rig;

const SESSIONS: usize = 20;

#[test]
fn twenty_sessions_at_once_are_created_and_reaped() {
    let Some(rig) = Rig::new() else { return };
    let began = Instant::now();
    let up = |number| -> Child {
        let mut up = rig.command(&["up", "--session", &format!("s{number}"), "-o", "name"]);
        up.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("envctl runs")
    };
    let ups: Vec<Child> = (0..SESSIONS).map(up).collect();
    for up in ups {
        let output = up.wait_with_output().expect("it ends");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let created = began.elapsed();
    let namespaces: Vec<String> = rig.sessions().iter().map(|path| Rig::record_in(path)).map(of_namespace).collect();
    assert_eq!(namespaces.len(), SESSIONS);
    // Half is taken down, half killed and reaped.
    for _ in 0..SESSIONS / 2 {
        rig.kill_agent().expect("an agent");
    }
    let began = Instant::now();
    rig.expect(0, &["gc", "--timeout", "180s"]);
    let reaped = began.elapsed();
    let began = Instant::now();
    rig.expect(0, &["down", "--all", "--timeout", "180s"]);
    let down = began.elapsed();
    assert!(rig.sessions().is_empty(), "{:?}", rig.sessions());
    let left = rig.kubectl(&["get", "namespaces", "-o", "name"]);
    let mine: Vec<&str> = left.lines().filter(|line| namespaces.iter().any(|name| line.ends_with(name))).collect();
    assert_eq!(mine, Vec::<&str>::new());
    eprintln!("{SESSIONS} sessions at once: up in {created:.1?}, half reaped in {reaped:.1?}, half down in {down:.1?}");
}

fn of_namespace(record: serde_json::Value) -> String {
    record["namespace"].as_str().expect("a namespace").to_owned()
}
