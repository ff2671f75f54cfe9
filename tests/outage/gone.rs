//! An API server that doesn't come back: told, with the exit code for it, and what is left is removed once it is there again.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Stdio;

use crate::place::ApiServer;
use crate::restarted::chain;
use crate::rig::Rig;

/// A kubelet that has missed its API server looks for it seldom: a pod's end may take it a minute.
const PATIENCE: [&str; 2] = ["--timeout", "180s"];

#[test]
fn in_the_middle_of_an_up() {
    let Some(server) = ApiServer::take() else { return };
    let rig = Rig::new().expect("a cluster");
    chain(&rig);
    let mut up = rig.command(&["up", "--wait-timeout", "40s"]).stderr(Stdio::piped()).spawn().expect("envctl runs");
    let mut stderr = BufReader::new(up.stderr.take().expect("a pipe"));
    let mut said = String::new();
    while !said.contains("service first: ready") {
        assert!(stderr.read_line(&mut said).expect("a line") > 0, "{said}");
    }
    let namespace = rig.namespace();
    server.stop();
    stderr.read_to_string(&mut said).expect("text");
    assert_eq!(up.wait().expect("it ends").code(), Some(4), "{said}");
    assert!(said.contains("the cluster's API has not answered for") && said.contains("[ClusterUnavailable]"), "{said}");
    assert!(said.contains(&format!("namespace {namespace}")) && said.contains("`envctl gc`"), "{said}");
    let ran = rig.expect(4, &["gc"]);
    assert!(ran.stderr.contains(&format!("still there: namespace {namespace}")), "{}", ran.stderr);
    assert!(ran.stderr.contains("onnection refused"), "{}", ran.stderr);
    server.start();
    rig.expect(0, &[&["gc"][..], &PATIENCE].concat());
    assert!(!rig.has(&namespace) && rig.sessions().is_empty());
}

#[test]
fn in_the_middle_of_a_session_it_ends_with_its_lease() {
    let Some(server) = ApiServer::take() else { return };
    let rig = Rig::new().expect("a cluster");
    rig.expect(0, &["up", "--lease", "8s"]);
    let namespace = rig.namespace();
    let lock = std::fs::File::open(rig.sessions().remove(0).join("lock")).expect("a lock");
    server.stop();
    // Its agent ends by itself.
    lock.lock_shared().expect("free");
    let ran = rig.expect(0, &["ls"]);
    assert!(ran.stderr.contains("its lease could not be renewed for 8 s"), "{}", ran.stderr);
    server.start();
    rig.expect(0, &[&["down"][..], &PATIENCE].concat());
    assert!(!rig.has(&namespace) && rig.sessions().is_empty());
}

#[test]
fn at_its_end() {
    let Some(server) = ApiServer::take() else { return };
    let rig = Rig::new().expect("a cluster");
    rig.expect(0, &["up"]);
    let namespace = rig.namespace();
    server.stop();
    let ran = rig.expect(6, &["down"]);
    assert!(
        ran.stderr.contains(&format!("namespace {namespace}")) && ran.stderr.contains("onnection refused"),
        "{}",
        ran.stderr
    );
    server.start();
    rig.expect(0, &[&["gc"][..], &PATIENCE].concat());
    assert!(!rig.has(&namespace) && rig.sessions().is_empty());
}
