//! A session that works: what it says of itself, references, exec, logs, changes.

use std::io::{BufRead as _, BufReader};

use crate::compare::both;
use crate::stage::{IMAGE, Stage};

/// Serves until it is told to end.
const WORKER: &str =
    "trap 'echo told to end; exit 7' TERM; echo $$$$ >/scratch/pid; echo working; while :; do sleep 1000 & wait; done";

/// Everything that refers to something else.
fn shop(stage: &Stage, word: &str, worker: bool) {
    stage.write(
        "manifests/settings.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {colour: green}\n",
    );
    let worker = if worker {
        format!(
            "  worker:\n    image: {IMAGE}\n    command: [sh, -c, {WORKER:?}]\n    grace: 1s\n    volumes: {{ /scratch: {{}} }}\n    needs: [api]\n"
        )
    } else {
        String::new()
    };
    stage.environment(&format!(
        r#"manifests: [{{ name: settings, path: manifests/settings.yaml }}]
keys:
  TOKEN: {{ generate: {{ bytes: 16 }} }}
  API_KEY: {{ exec: {{ service: api, command: [sh, -c, "echo key-of-$$WORD"] }} }}
exports:
  BASE: "${{services.api.http.url}}/v1"
jobs:
  migrate:
    image: {IMAGE}
    command: [sh, -c, "echo migrating $$COLOUR; cat /etc/job/job.conf"]
    env: {{ COLOUR: {{ configMap: {{ name: settings, key: colour }} }} }}
    volumes: {{ /etc/job: {{ files: {{ job.conf: "api = ${{services.api.http.host}}\n" }} }} }}
    needs: [settings, db]
services:
  db:
    image: {IMAGE}
    args: [db]
    grace: 1s
    ports: {{ http: 8080 }}
    ready: {{ exec: [cat, /etc/passwd] }}
  api:
    image: {IMAGE}
    args: [api]
    grace: 1s
    ports: {{ http: 8080, admin: {{ port: 9000, targetPort: 8080 }} }}
    env:
      WORD: "{word}"
      ODD: "it's \"odd\" \\ #1"
      DB: "http://${{services.db.http.address}}/"
      POD: {{ fieldRef: metadata.name }}
      SECRET: {{ key: TOKEN }}
      COLOUR: {{ configMap: {{ name: settings, key: colour }} }}
    volumes:
      /config: {{ configMap: settings }}
      /scratch: {{}}
    needs: [migrate]
    ready: {{ http: {{ path: /, port: http }} }}
{worker}"#
    ));
}

#[test]
fn life() {
    both("life", |stage| {
        shop(stage, "one", true);
        let ran = stage.envctl("up", &["up"]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        stage.envctl("ps", &["ps"]);
        stage.document("ps json", &["ps", "-o", "json"]);
        stage.ls("ls", &["-o", "name"]);
        stage.document("env", &["env", "--format", "json"]);
        stage.note("answer", &stage.get(&stage.address("api.http")));
        stage.note("answer of another port", &stage.get(&stage.address("api.admin")));
        stage.envctl("keys", &["keys"]);
        stage.envctl("keys show", &["keys", "show", "API_KEY"]);
        stage.envctl("wait", &["wait"]);
        stage.envctl("wait for a job", &["wait", "--for", "complete", "migrate"]);
        stage.envctl("wait for nobody", &["wait", "nobody", "--timeout", "1s"]);
        stage.envctl("run", &["run", "--", "sh", "-c", "echo $BASE $API_KEY; exit 9"]);
        stage.envctl("up again", &["up"]);
        // Another variable, and a service less.
        shop(stage, "two", false);
        stage.envctl("up with a change", &["up"]);
        stage.envctl("ps after a change", &["ps", "-o", "name"]);
        stage.envctl("restart", &["restart", "api"]);
        stage.envctl("restart of nobody", &["restart", "nobody"]);
        stage.envctl("down", &["down"]);
        stage.envctl("down again", &["down"]);
        stage.envctl("ps of nothing", &["ps"]);
        stage.ls("ls of nothing", &[]);
    });
}

#[test]
fn inside() {
    both("inside", |stage| {
        shop(stage, "one", true);
        let ran = stage.quietly(&["up"]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        stage.envctl("exec", &["exec", "api", "--", "sh", "-c", "echo out; echo err >&2; exit 4"]);
        stage.envctl("its variables", &["exec", "api", "--", "sh", "-c", "env | sort"]);
        stage.envctl("its files", &["exec", "api", "--", "sh", "-c", "cat /config/colour; cat /nowhere"]);
        stage.envctl("names of services", &["exec", "api", "--", "cat", "/etc/resolv.conf"]);
        stage.envctl("exec of a signal", &["exec", "api", "--", "sh", "-c", "kill -KILL $$"]);
        stage.envctl("exec of nothing", &["exec", "api", "--", "/nowhere"]);
        stage.envctl("exec of no such program", &["exec", "api", "--", "nowhere"]);
        stage.envctl("exec of a file", &["exec", "api", "--", "/etc/passwd"]);
        stage.envctl("exec in nobody", &["exec", "nobody", "--", "true"]);
        stage.envctl("exec in a job", &["exec", "migrate", "--", "true"]);
        stage.envctl_reading("exec with input", &["exec", "-i", "api", "--", "cat"], "one\ntwo\n");
        stage.envctl("logs of one", &["logs", "api"]);
        stage.envctl("logs of a job", &["logs", "migrate"]);
        stage.envctl("logs of all", &["logs"]);
        stage.envctl("the last line", &["logs", "migrate", "--tail", "1"]);
        stage.envctl("logs with times", &["logs", "migrate", "--timestamps"]);
        stage.envctl("logs of no previous run", &["logs", "api", "--previous"]);
        stage.envctl("logs of nobody", &["logs", "nobody"]);
        // Its end is a restart, whose lines follow.
        let mut follow = stage.start(&["logs", "-f", "worker"]);
        let mut lines = BufReader::new(follow.child.stdout.take().expect("a pipe")).lines();
        let mut next = || lines.next().expect("a line").expect("text");
        let mut seen = vec![next()];
        let end = ["exec", "worker", "--", "sh", "-c", "kill -TERM $(cat /scratch/pid)"];
        // The container's end may be faster than that of `kill`, and takes it along; a `kill` that found nobody would be waited for in vain.
        let killed = stage.quietly(&end);
        assert!(!killed.stderr.contains("No such process"), "{killed:?}");
        seen.extend([next(), next()]);
        stage.note("logs followed over a restart", &seen.join("\n"));
        follow.child.kill().expect("it runs");
        follow.child.wait().expect("it ends");
        stage.envctl("logs of the run before", &["logs", "worker", "--previous"]);
        stage.envctl("logs after a restart", &["logs", "worker"]);
        stage.envctl("ps after a restart", &["ps"]);
    });
}
