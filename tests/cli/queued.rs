//! Commands on a session at which an `up` is at work, or the last one failed.

use nix::sys::signal::Signal;

use super::context::{Context, Ran, Started};

/// If the project has it, `web` is ready from its start.
const GO: &str = "go";

/// A service that is ready at once or when it is told to be, and a key.
fn project() -> Context {
    let context = Context::new();
    let go = context.project().join(GO);
    let script = format!("trap 'exit 0' TERM\ntest -e {} && touch /tmp/ready\nsleep 100000 & wait", go.display());
    context.write_service(
        &script,
        "    ready: { exec: [test, -e, /tmp/ready] }\nkeys:\n  A: { generate: { bytes: 8 } }\n",
    );
    context
}

/// An `up` at work, until [`let_go`].
fn at_work(context: &Context) -> Started {
    let mut up = context.start(&["up"]);
    up.until("running, not ready");
    up
}

fn let_go(context: &Context, up: Started) {
    let ran = context.run(&["exec", "web", "--", "touch", "/tmp/ready"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let up = up.end(context);
    assert_eq!(up.code, Some(0), "{up:?}");
}

fn file(context: &Context) -> String {
    std::fs::read_to_string(context.project().join("envctl.yaml")).unwrap()
}

fn variable(context: &Context, name: &str) -> Ran {
    context.run(&["run", "--", "printenv", name])
}

#[test]
fn a_key_is_rotated_although_the_last_up_failed() {
    let context = project();
    context.write(GO, "");
    assert_eq!(context.run(&["up"]).code, Some(0));
    let first = variable(&context, "A");
    let broken = "services:\n  z: { image: z, ready: { exec: [\"false\"] } }\n";
    let images = format!(
        "  z: {{ entrypoint: [sh, {}, -c, exit 1], process: {{}} }}\nservices:",
        context.project().join("nothing").display()
    );
    let text = file(&context).replace("services:\n", broken).replacen("services:", &images, 1);
    context.write("envctl.yaml", &format!("{text}  Z: {{ exec: {{ service: z, command: [echo, key] }} }}\n"));
    let failed = context.run(&["up"]);
    assert_eq!(failed.code, Some(3), "{failed:?}");
    let rotated = context.run(&["keys", "rotate", "A"]);
    assert_eq!(rotated.code, Some(0), "{rotated:?}");
    let second = variable(&context, "A");
    assert_eq!((first.code, second.code), (Some(0), Some(0)));
    assert_ne!(first.stdout, second.stdout);
}

#[test]
fn an_up_for_another_kind_of_cluster_is_refused_and_changes_nothing() {
    let context = project();
    context.write(GO, "");
    assert_eq!(context.run(&["up"]).code, Some(0));
    let before = context.run(&["ps", "-o", "name"]).stdout;
    let refused = context.run(&["up", "--cluster", "kind"]);
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.stderr.contains("runs on embedded; it cannot move to another cluster"), "{refused:?}");
    let ps = context.run(&["ps"]);
    assert!(!ps.stdout.contains("waiting"), "{ps:?}");
    assert_eq!(context.run(&["ps", "-o", "name"]).stdout, before);
    let rotated = context.run(&["keys", "rotate", "A"]);
    assert_eq!(rotated.code, Some(0), "{rotated:?}");
}

#[test]
fn variables_are_waited_for_while_it_comes_up() {
    let context = project();
    let up = at_work(&context);
    let mut run = context.start(&["run", "--", "printenv", "KUBECONFIG"]);
    run.until("not ready yet: waiting for it");
    let mut env = context.start(&["env"]);
    env.until("not ready yet: waiting for it");
    let_go(&context, up);
    let run = run.end(&context);
    assert!(run.code == Some(0) && run.stdout.starts_with("HOME/state/"), "{run:?}");
    let env = env.end(&context);
    assert!(env.code == Some(0) && env.stdout.contains("KUBECONFIG="), "{env:?}");
}

#[test]
fn there_are_no_variables_of_what_did_not_come_up() {
    let context = Context::new();
    context.write_service("exit 1", "    ready: { exec: [\"false\"] }\n");
    assert_eq!(context.run(&["up", "--keep"]).code, Some(3));
    let run = context.run(&["run", "--", "true"]);
    assert_eq!(run.code, Some(125), "{run:?}");
    assert!(run.stderr.contains("is failed, not ready: it has no variables yet"), "{run:?}");
    let env = context.run(&["env"]);
    assert_eq!((env.code, env.stdout.as_str()), (Some(3), ""), "{env:?}");
}

#[test]
fn a_test_that_waits_for_it_can_be_interrupted() {
    let context = project();
    let text = file(&context);
    context.write("envctl.yaml", &format!("{text}suites:\n  a: {{ run: [\"true\"] }}\n"));
    let up = at_work(&context);
    let mut test = context.start(&["test", "--attach"]);
    test.until("not ready yet: waiting for it");
    test.signal(Signal::SIGINT);
    let test = test.end(&context);
    assert_eq!(test.code, Some(130), "{test:?}");
    // It is not this command's.
    assert_eq!(context.run(&["ls", "-o", "name"]).stdout, "demo-ID\n");
    let_go(&context, up);
}

#[test]
fn what_is_refused_keeps_nobody_waiting() {
    let context = project();
    let up = at_work(&context);
    let later = |arguments: &[&str]| {
        let mut command = context.start(arguments);
        command.until("at work");
        command
    };
    // The key goes before it is its turn.
    let text = file(&context);
    context.write("envctl.yaml", text.split("keys:").next().unwrap());
    let without = later(&["up"]);
    let rotated = later(&["keys", "rotate", "A"]);
    let last = later(&["up"]);
    let_go(&context, up);
    assert_eq!(without.end(&context).code, Some(0));
    let rotated = rotated.end(&context);
    assert!(rotated.code == Some(125) && rotated.stderr.contains("no key A"), "{rotated:?}");
    assert_eq!(last.end(&context).code, Some(0));
}
