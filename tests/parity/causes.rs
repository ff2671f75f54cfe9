//! Each cause for which an environment does not come up: its screen, its exit code, its name.

use crate::compare::both;
use crate::stage::{IMAGE, Stage};

/// A session that is up, so that what follows is only the difference: one service fails, the session stays.
fn session(stage: &Stage) {
    stage.environment("");
    let ran = stage.quietly(&["up"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
}

/// `up` of services (and jobs …) of which one fails; what it printed, as text and as a document.
fn fails(stage: &Stage, step: &str, text: &str) {
    fails_with(stage, step, text, &[]);
}

fn fails_with(stage: &Stage, step: &str, text: &str, flags: &[&str]) {
    stage.environment(text);
    stage.envctl(step, &[&["up"], flags].concat());
}

/// For programs that end at once: on a busy machine they take longer to do so than what passes for running without a check.
const CHECK: &str = "ports: { http: 8080 }, ready: { http: { path: /, port: http } }";

/// One service that doesn't get ready.
fn service(name: &str, fields: &str) -> String {
    format!("services:\n  {name}: {{ grace: 1s, {fields} }}\n")
}

#[test]
fn images() {
    both("images", |stage| {
        session(stage);
        fails(stage, "no such image", &service("absent", "image: nowhere.invalid/nothing:1"));
        fails(stage, "no image's name", &service("misnamed", "image: 'Not An Image'"));
    });
}

#[test]
fn commands() {
    both("commands", |stage| {
        session(stage);
        fails(stage, "no such program", &service("lost", &format!("image: {IMAGE}, command: [no-such-program]")));
        fails(stage, "no such file", &service("nowhere", &format!("image: {IMAGE}, command: [/no/such/file]")));
        fails(stage, "not a program", &service("data", &format!("image: {IMAGE}, command: [/etc/passwd]")));
        fails(stage, "no such directory", &service("elsewhere", &format!("image: {IMAGE}, workdir: /etc/passwd/x")));
        fails(
            stage,
            "ends well",
            &service("done", &format!("image: {IMAGE}, command: [sh, -c, 'echo done'], {CHECK}")),
        );
    });
}

#[test]
fn settings() {
    both("settings", |stage| {
        session(stage);
        let service = |name: &str, fields: &str| service(name, &format!("image: {IMAGE}, {fields}"));
        fails(stage, "no such secret", &service("one", "env: { A: { secret: { name: absent, key: a } } }"));
        fails(stage, "no such config map", &service("two", "env: { A: { configMap: { name: absent, key: a } } }"));
        stage.write(
            "manifests/settings.yaml",
            "apiVersion: v1\nkind: Secret\nmetadata: {name: there}\nstringData: {b: '1'}\n",
        );
        let manifest = "manifests: [{ name: settings, path: manifests/settings.yaml }]\n".to_owned();
        let keyless = service("three", "needs: [settings], env: { A: { secret: { name: there, key: a } } }");
        fails(stage, "no such key", &(manifest + &keyless));
        let volume = service("four", "volumes: { /config: { configMap: absent } }");
        fails_with(stage, "no such config map for a volume", &volume, &["--wait-timeout", "30s"]);
    });
}

#[test]
fn crashes() {
    both("crashes", |stage| {
        session(stage);
        let script = format!("command: [sh, -c, 'echo cannot reach the database >&2; exit 3'], {CHECK}");
        fails(stage, "a crash loop", &service("crashing", &format!("image: {IMAGE}, {script}")));
        stage.envctl("ps of it", &["ps", "-o", "name"]);
    });
}

#[test]
fn jobs() {
    both("jobs", |stage| {
        session(stage);
        let job = |name: &str, fields: &str| format!("jobs:\n  {name}: {{ image: {IMAGE}, {fields} }}\n");
        let fail = "command: [sh, -c, 'echo no such table >&2; exit 4'], retries: 0";
        fails(stage, "a job fails", &job("migrate", fail));
        let after = format!("services:\n  after: {{ image: {IMAGE}, needs: [again] }}\n");
        fails(stage, "a job fails twice", &(job("again", &fail.replace("retries: 0", "retries: 1")) + &after));
        stage.document("as a document", &["up", "-o", "json"]);
        fails(stage, "a job takes too long", &job("slow", "command: [sh, -c, 'sleep 1000'], timeout: 2s"));
        fails(stage, "a job's program is missing", &job("lost", "command: [no-such-program], retries: 0"));
    });
}

#[test]
fn probes() {
    both("probes", |stage| {
        session(stage);
        let probe = |name: &str, program: &str, ready: &str| {
            service(
                name,
                &format!(
                    "image: {IMAGE}, {program}, ports: {{ http: 8080 }}, ready: {{ {ready}, interval: 1s, timeout: 10s }}"
                ),
            )
        };
        let soon = ["--wait-timeout", "20s"];
        let silent = "command: [sh, -c, 'echo idle; sleep 1000']";
        let http = "http: { path: /, port: http }";
        fails_with(stage, "nobody listens", &probe("silent", silent, http), &soon);
        fails_with(
            stage,
            "a command says no",
            &probe("refusing", "args: [refusing]", "exec: [sh, -c, 'echo not yet; exit 3']"),
            &soon,
        );
        fails_with(
            stage,
            "a command is missing",
            &probe("probing", "args: [probing]", "exec: [no-such-program]"),
            &soon,
        );
    });
}

#[test]
fn unschedulable() {
    both("unschedulable", |stage| {
        stage.write(
            "manifests/nowhere.yaml",
            &format!(
                "apiVersion: v1\nkind: Pod\nmetadata: {{name: nowhere}}\nspec:\n  nodeSelector: {{planet: mars}}\n  \
                 containers: [{{name: main, image: {IMAGE}, imagePullPolicy: IfNotPresent}}]\n"
            ),
        );
        fails(stage, "on no node", "manifests: [{ name: pod, path: manifests/nowhere.yaml }]\n");
        stage.ls("the session is gone", &[]);
    });
}

#[test]
fn keys() {
    both("keys", |stage| {
        session(stage);
        let key = |name: &str, command: &str| {
            format!(
                "keys:\n  {name}: {{ exec: {{ service: issuer, command: {command} }} }}\n{}",
                service(
                    "issuer",
                    &format!(
                        "image: {IMAGE}, args: [issuer], ports: {{ http: 8080 }}, ready: {{ http: {{ path: /, port: http }} }}"
                    )
                )
            )
        };
        fails(stage, "the command fails", &key("API_KEY", "[sh, -c, 'echo no such user >&2; exit 3']"));
        fails(stage, "the command is missing", &key("API_KEY", "[no-such-program]"));
        fails(stage, "it prints nothing", &key("API_KEY", "[sh, -c, 'exit 0']"));
        fails(stage, "it prints two lines", &key("API_KEY", "[sh, -c, 'echo one-two; echo three-four']"));
        let http = "keys:\n  API_KEY: { http: { service: issuer, path: /keys, pointer: /key } }\n";
        fails(
            stage,
            "no field of an answer",
            &key("X", "x").replacen("keys:\n  X: { exec: { service: issuer, command: x } }\n", http, 1),
        );
    });
}
