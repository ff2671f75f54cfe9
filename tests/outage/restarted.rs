//! An API server that is killed and started again: everything goes on.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Stdio;

use crate::place::ApiServer;
use crate::rig::{IMAGE, Rig};

/// Three services, each once the one before is ready.
pub fn chain(rig: &Rig) {
    let image =
        format!("image: {IMAGE}, ports: {{ http: 8080 }}, grace: 1s, ready: {{ http: {{ path: /, port: http }} }}");
    rig.write(&format!(
        "name: guest\nservices:\n  first: {{ {image}, args: [first] }}\n  second: {{ {image}, args: [second], needs: [first] }}\n  third: {{ {image}, \
         args: [third], needs: [second] }}\nimages: {{ {IMAGE}: {{ process: {{ entrypoint: [hello] }} }} }}\n"
    ));
}

#[test]
fn in_the_middle_of_an_up() {
    let Some(server) = ApiServer::take() else { return };
    let rig = Rig::new().expect("a cluster");
    chain(&rig);
    let mut up = rig.command(&["up"]).stderr(Stdio::piped()).spawn().expect("envctl runs");
    let mut stderr = BufReader::new(up.stderr.take().expect("a pipe"));
    let mut said = String::new();
    while !said.contains("service first: ready") {
        assert!(stderr.read_line(&mut said).expect("a line") > 0, "{said}");
    }
    server.stop();
    while !said.contains("the cluster's API doesn't answer") {
        assert!(stderr.read_line(&mut said).expect("a line") > 0, "{said}");
    }
    server.start();
    stderr.read_to_string(&mut said).expect("text");
    assert_eq!(up.wait().expect("it ends").code(), Some(0), "{said}");
    assert!(said.contains("the cluster's API answers again"), "{said}");
    rig.expect(0, &["down"]);
}

#[test]
fn in_the_middle_of_a_session() {
    let Some(server) = ApiServer::take() else { return };
    let rig = Rig::new().expect("a cluster");
    rig.expect(0, &["up", "--lease", "60s"]);
    let address = rig.record()["addresses"]["web.http"].as_str().expect("an address").to_owned();
    assert!(rig.get(&address).ends_with("web\n"));
    server.stop();
    let ran = rig.expect(4, &["logs", "web"]);
    assert!(ran.stderr.contains("onnection refused"), "{}", ran.stderr);
    rig.expect(0, &["ps"]);
    std::thread::scope(|scope| {
        // It waits for the API server, as for a server that is slow to accept.
        let waiting = scope.spawn(|| rig.get(&address));
        server.start();
        assert!(waiting.join().expect("an answer").ends_with("web\n"));
    });
    rig.expect(0, &["logs", "web"]);
    let text = std::fs::read_to_string(rig.home.path().join("project/envctl.yaml")).expect("a file");
    rig.write(&text.replace("args: [web]", "args: [changed]"));
    rig.expect(0, &["up"]);
    let answer = rig.get(&address);
    assert!(answer.ends_with("changed\n"), "{answer:?}");
    rig.expect(0, &["down"]);
}
