//! How sessions end: interrupted, failed, kept, killed; and what comes after them.

use crate::compare::both;
use crate::stage::{IMAGE, Stage};

fn web(stage: &Stage, ready: &str) {
    stage.environment(&format!(
        "services:\n  web: {{ image: {IMAGE}, args: [web], grace: 1s, ports: {{ http: 8080 }}, ready: {{ {ready} }} }}\n"
    ));
}

const GOOD: &str = "http: { path: /, port: http }";
const NEVER: &str = "exec: [sh, -c, 'echo never; exit 1'], timeout: 10s";

#[test]
fn interrupted() {
    both("interrupted", |stage| {
        web(stage, NEVER);
        let mut up = stage.start(&["up"]);
        up.until("0 of 1 ready");
        up.interrupt();
        stage.end("up", up);
        stage.ls("nothing is left", &[]);
        stage.envctl("out of time", &["up", "--wait-timeout", "20s"]);
        stage.ls("nothing is left either", &[]);
        stage.envctl("kept", &["up", "--keep", "--wait-timeout", "20s"]);
        stage.envctl("ps of what is kept", &["ps"]);
        stage.envctl("down", &["down"]);
    });
}

#[test]
fn detached() {
    both("detached", |stage| {
        web(stage, GOOD);
        stage.envctl("up", &["up", "-d"]);
        stage.envctl("wait", &["wait"]);
        stage.document("down", &["down", "-o", "json"]);
    });
}

#[test]
fn killed() {
    both("killed", |stage| {
        web(stage, GOOD);
        let up = || {
            let ran = stage.quietly(&["up"]);
            assert_eq!(ran.code, Some(0), "{ran:?}");
            stage.kill_agent();
        };
        up();
        stage.envctl("ps", &["ps"]);
        stage.envctl("up", &["up"]);
        stage.note("answer", &stage.get(&stage.address("web.http")));
        stage.kill_agent();
        stage.envctl("down", &["down"]);
        stage.envctl("down again", &["down"]);
        up();
        stage.envctl("what gc would do", &["gc", "--dry-run", "-o", "name"]);
        stage.envctl("gc", &["gc"]);
        stage.envctl("gc again", &["gc"]);
        web(stage, NEVER);
        let mut up = stage.start(&["up"]);
        up.until("service web: applying");
        stage.kill_agent();
        stage.end("killed during up", up);
        stage.envctl("down after that", &["down"]);
        stage.ls("ls after that", &[]);
    });
}
