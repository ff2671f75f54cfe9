//! Why something doesn't come up on a real cluster, each cause by its name and on one screen.

use crate::rig::{IMAGE, Ran, Rig};

/// What `up` of one service says that never comes up.
fn fails(service: &str, patience: &str) -> Option<Ran> {
    let rig = Rig::new()?;
    let service = if service.contains("image: ") { service.to_owned() } else { format!("image: {IMAGE}, {service}") };
    rig.write(&format!(
        "name: guest\nservices:\n  web: {{ {service} }}\nimages: {{ {IMAGE}: {{ process: {{ entrypoint: [hello] }} }} }}\n"
    ));
    let ran = rig.expect(3, &["up", "--wait-timeout", patience]);
    assert!(ran.stderr.contains("service web failed: "), "{}", ran.stderr);
    assert!(rig.sessions().is_empty());
    Some(ran)
}

#[test]
fn an_image_that_cannot_be_pulled() {
    let Some(ran) = fails("image: nowhere.invalid/none:1", "60s") else { return };
    assert!(ran.stderr.contains("image \"nowhere.invalid/none:1\" cannot be run"), "{}", ran.stderr);
    assert!(ran.stderr.contains("[ImageNotFound]"), "{}", ran.stderr);
}

#[test]
fn a_secret_that_is_not_there() {
    let Some(ran) = fails("env: { PASSWORD: { secret: { name: db, key: password } } }", "60s") else { return };
    assert!(ran.stderr.contains("[MissingConfig]") && ran.stderr.contains("secret \"db\" not found"), "{}", ran.stderr);
}

#[test]
fn a_crash_that_is_still_within_its_budget_when_time_is_over() {
    let service = "command: [/bin/sh, -c, 'echo no database; exit 3']";
    let Some(ran) = fails(service, "20s") else { return };
    assert!(ran.stderr.contains("[CrashLoop]") && ran.stderr.contains("exited with code 3"), "{}", ran.stderr);
    assert!(ran.stderr.contains("| no database"), "{}", ran.stderr);
}

#[test]
fn more_memory_than_any_node_has() {
    let Some(ran) = fails("resources: { memory: 900Ti }", "20s") else { return };
    assert!(ran.stderr.contains("[Unschedulable]") && ran.stderr.contains("Insufficient memory"), "{}", ran.stderr);
}

#[test]
fn a_probe_that_fails() {
    let service = "ports: { http: 8080 }, ready: { exec: [/bin/sh, -c, 'echo not migrated; exit 1'] }";
    let Some(ran) = fails(service, "30s") else { return };
    assert!(ran.stderr.contains("[NeverReady]"), "{}", ran.stderr);
    assert!(ran.stderr.contains("Readiness") && ran.stderr.contains("not migrated"), "{}", ran.stderr);
    assert!(ran.stderr.contains("| hello listens on 8080"), "{}", ran.stderr);
}

#[test]
fn a_command_that_is_not_there() {
    let Some(ran) = fails("command: [/no/such/program]", "60s") else { return };
    assert!(ran.stderr.contains("[CommandNotFound]") && ran.stderr.contains("/no/such/program"), "{}", ran.stderr);
}
