//! Commands on a session at which an `up` is at work, or the last one failed.

use nix::sys::signal::Signal;

use super::context::{Context, Ran};

/// What `web` is ready by.
const GO: &str = "go";

/// A service that is ready from when the project has a file `go`, and a key.
fn project() -> Context {
    let context = Context::new();
    let go = context.project().join(GO);
    let more =
        format!("    ready: {{ exec: [test, -e, {}] }}\nkeys:\n  A: {{ generate: {{ bytes: 8 }} }}\n", go.display());
    context.write_service("trap 'exit 0' TERM\nsleep 100000 & wait", &more);
    context
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
    assert_eq!(context.run(&["up", "-d"]).code, Some(0));
    let mut run = context.start(&["run", "--", "printenv", "KUBECONFIG"]);
    run.until("not ready yet: waiting for it");
    let mut env = context.start(&["env"]);
    env.until("not ready yet: waiting for it");
    context.write(GO, "");
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
    assert_eq!(context.run(&["up", "-d"]).code, Some(0));
    let mut test = context.start(&["test", "--attach"]);
    test.until("not ready yet: waiting for it");
    test.signal(Signal::SIGINT);
    let test = test.end(&context);
    assert_eq!(test.code, Some(130), "{test:?}");
    // It is not this command's.
    assert_eq!(context.run(&["ls", "-o", "name"]).stdout, "demo-ID\n");
    context.write(GO, "");
    assert_eq!(context.run(&["wait"]).code, Some(0));
}
