//! The verbs against real pods.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use envctl::session::launch;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::context::{Context, ENVCTL};

/// Serves until it is told to end; as a job, ends.
const PROGRAM: &str = "trap 'exit 0' TERM
echo \"started $WORD\"
test \"$1\" = job && exit 0
while :; do sleep 100000 & wait; done";

/// Services `a` and `b` with programs of their own, and a job.
fn shop(context: &Context, word: &str, job: &str, services: &[&str]) {
    let project = context.project();
    let mut file = format!(
        "name: shop\nimages:\n  a: {{ entrypoint: [sh, {0}/a], process: {{}} }}\n  b: {{ entrypoint: [sh, {0}/b], process: {{}} }}\n\
         jobs:\n  migrate: {{ image: b, args: [job], env: {{ WORD: {job} }} }}\n\
         exports:\n  ODD: {ODD_YAML}\nservices:\n",
        project.display()
    );
    for service in services {
        file.push_str(&format!("  {service}: {{ image: {service}, env: {{ WORD: {word} }} }}\n"));
        word_of_others(&mut file, service, word);
    }
    context.write("envctl.yaml", &file);
}

/// Only `a` is told the word.
fn word_of_others(file: &mut String, service: &str, word: &str) {
    if service != "a" {
        let told = format!("image: {service}, env: {{ WORD: {word} }}");
        *file = file.replace(&told, &format!("image: {service}, env: {{ WORD: always }}"));
    }
}

/// What shells, dotenv readers and JSON each write differently.
const ODD: &str = "it's \"odd\" \\ #1 `x` two  blanks";
const ODD_YAML: &str = r##""it's \"odd\" \\ #1 `x` two  blanks""##;

fn shop_context() -> Context {
    let context = Context::new();
    context.write("a", PROGRAM);
    context.write("b", PROGRAM);
    shop(&context, "one", "first", &["a", "b"]);
    context
}

/// The name of the pod that a service runs in now.
fn pod(context: &Context, service: &str) -> String {
    let ran = context.run(&["exec", service, "--", "hostname"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    ran.stdout
}

fn up(context: &Context) -> String {
    let ran = context.run(&["up"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), ""), "{ran:?}");
    ran.stderr
}

#[test]
fn up_again_applies_only_the_difference() {
    let context = shop_context();
    let said = up(&context);
    assert!(said.contains("service a: ready") && said.contains("job migrate: ready"), "{said}");
    assert_eq!(context.run(&["logs", "migrate"]).stdout, "started first\n");
    let (a, b) = (pod(&context, "a"), pod(&context, "b"));

    let said = up(&context);
    for unchanged in ["service a: unchanged", "service b: unchanged", "job migrate: unchanged"] {
        assert!(said.contains(unchanged), "{unchanged}: {said}");
    }
    assert_eq!((&pod(&context, "a"), &pod(&context, "b")), (&a, &b));

    // Another variable: that service only.
    shop(&context, "two", "first", &["a", "b"]);
    let said = up(&context);
    assert!(said.contains("service a: ready") && said.contains("service b: unchanged"), "{said}");
    assert!(said.contains("job migrate: unchanged"), "{said}");
    // The pod before may still be ending.
    assert!(context.run(&["logs", "a"]).stdout.ends_with("started two\n"));
    let changed = pod(&context, "a");
    assert!(changed != a && pod(&context, "b") == b);

    // A rebuilt program: whoever runs it.
    context.write("a", &format!("{PROGRAM}\n# rebuilt"));
    let said = up(&context);
    assert!(said.contains("service a: ready") && said.contains("service b: unchanged"), "{said}");
    assert!(pod(&context, "a") != changed && pod(&context, "b") == b);

    // A changed job runs again.
    shop(&context, "two", "second", &["a", "b"]);
    let said = up(&context);
    assert!(said.contains("job migrate: ready") && said.contains("service a: unchanged"), "{said}");
    assert_eq!(context.run(&["logs", "migrate"]).stdout, "started second\n");

    // What the file no longer has, goes.
    shop(&context, "two", "second", &["a"]);
    let said = up(&context);
    assert!(said.contains("service b: removed") && said.contains("service a: unchanged"), "{said}");
    let ran = context.run(&["exec", "b", "--", "true"]);
    assert_eq!(ran.code, Some(125), "{ran:?}");
    let ran = context.run(&["ps", "-o", "name"]);
    assert_eq!(ran.stdout.lines().filter(|name| *name == "b").count(), 0, "{ran:?}");
}

#[test]
fn up_detached_then_wait() {
    let context = shop_context();
    let ran = context.run(&["up", "-d", "-o", "json"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let document: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(document["result"], "accepted", "{document}");
    let ran = context.run(&["wait"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let ran = context.run(&["wait", "--for", "complete", "migrate"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let ran = context.run(&["ps", "-o", "json"]);
    let document: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    let states: Vec<_> = document["nodes"].as_array().unwrap().iter().map(|node| &node["state"]).collect();
    assert!(states.iter().all(|state| *state == "ready" || *state == "completed"), "{document}");
    // A job that is done has all its pods, not none of them ready; ages are whole seconds.
    let ran = context.run(&["ps"]);
    let migrate: Vec<_> =
        ran.stdout.lines().find(|line| line.starts_with("migrate")).unwrap().split_whitespace().collect();
    assert_eq!(migrate[1..4], ["job", "completed", "1/1"], "{ran:?}");
    assert!(migrate[5].strip_suffix('s').is_some_and(|age| age.parse::<u64>().is_ok()), "{ran:?}");
    let ran = context.run(&["wait", "--for", "gone", "a", "--timeout", "1s"]);
    assert_eq!(ran.code, Some(3), "{ran:?}");
    let ran = context.run(&["exec", "migrate", "--", "true"]);
    assert!(ran.code == Some(125) && ran.stderr.contains("any more: migrate has ended"), "{ran:?}");
    // A job is ready when it has completed; what can't come to be is refused, not waited for.
    let ran = context.run(&["wait", "migrate", "a"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    for (arguments, words) in [
        (["nobody", "--for", "ready"], "no service and no job \"nobody\" in this session"),
        (["nobody", "--for", "complete"], "there are: a, b, migrate"),
        (["a", "--for", "complete"], "a is a service: it doesn't complete"),
    ] {
        let ran = context.run(&[&["wait"][..], &arguments].concat());
        assert!(ran.code == Some(2) && ran.stderr.contains(words), "{ran:?}");
    }
}

#[test]
fn a_shell_that_names_a_session_that_is_gone_gets_it_again() {
    let context = shop_context();
    let session = |named: Option<&str>| {
        let mut command = context.command(&["up", "-o", "json"]);
        command.envs(named.map(|id| ("ENVCTL_SESSION", id)));
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let record: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        record["session"]["id"].as_str().unwrap().to_owned()
    };
    for named in [None, Some("branch")] {
        let id = session(named);
        assert_eq!(context.run(&["down", "--session", &id]).code, Some(0));
        assert_eq!(session(Some(&id)), id, "by `eval \"$(envctl env)\"`, then `down`, then `up`");
        assert_eq!(context.run(&["down", "--session", &id]).code, Some(0));
    }
}

#[test]
fn up_attached_streams_logs_until_interrupted() {
    let context = shop_context();
    let mut started = context.start(&["up", "--attach"]);
    let mut stdout = BufReader::new(started.child.stdout.take().unwrap());
    let mut text = String::new();
    while !(text.contains("| started one") && text.contains("| started always")) {
        assert!(stdout.read_line(&mut text).unwrap() > 0, "{text}");
    }
    started.signal(Signal::SIGINT);
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    assert_eq!(started.child.wait().unwrap().code(), Some(130));
    assert_eq!(context.processes(), Vec::<String>::new());
    assert!(context.session_directories().is_empty());
}

#[test]
fn logs_follow_and_look_back() {
    let context = shop_context();
    up(&context);
    let write = |line: &str| {
        let ran = context.run(&["exec", "a", "--", "sh", "-c", &format!("echo {line} >/proc/2/fd/1")]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
    };
    write("more");
    assert_eq!(context.run(&["logs", "a", "--tail", "1"]).stdout, "more\n");
    let ran = context.run(&["logs", "a", "--timestamps"]);
    assert!(ran.stdout.lines().all(|line| line.starts_with("20") && line.contains("Z ")), "{ran:?}");

    let mut following = context.start(&["logs", "-f", "a"]);
    let mut lines = BufReader::new(following.child.stdout.take().unwrap()).lines();
    let mut next = || lines.next().unwrap().unwrap();
    assert_eq!((next(), next()), ("started one".to_owned(), "more".to_owned()));
    write("even more");
    assert_eq!(next(), "even more");
    // Its end is a restart, whose lines follow.
    let ran = context.run(&["exec", "a", "--", "kill", "-TERM", "2"]);
    // The container's end may be faster than that of `kill`, and takes it along.
    assert!(matches!(ran.code, Some(0 | 137)), "{ran:?}");
    assert_eq!(next(), "started one");
    assert_eq!(context.run(&["logs", "a"]).stdout, "started one\n");
    assert_eq!(context.run(&["logs", "a", "--previous"]).stdout, "started one\nmore\neven more\n");
    assert_eq!(context.run(&["down"]).code, Some(0));
    // Nothing to follow any more.
    assert!(following.child.wait().unwrap().code().is_some());
}

#[test]
fn every_run_is_followed_once_however_soon_the_next_begins() {
    let context = Context::new();
    context.write_service(
        "trap 'exit 0' TERM\nrun=$(cat /data/run 2>/dev/null || echo 0)\n[ $run = 0 ] && mkfifo /data/go\necho run $run\n\
         echo $((run + 1)) >/data/run\n[ $run = 0 ] && read -r go </data/go\n[ $run = 3 ] || exit 1\nsleep 100000 & wait",
        "    volumes: { /data: { name: data } }\n",
    );
    up(&context);
    let mut following = context.start(&["logs", "-f"]);
    let mut lines = BufReader::new(following.child.stdout.take().unwrap()).lines();
    let mut next = || lines.next().unwrap().unwrap();
    assert_eq!(next(), "web | run 0");
    _ = context.run(&["exec", "web", "--", "sh", "-c", "echo go >/data/go"]);
    let rest: Vec<String> = (1..4).map(|_| next()).collect();
    assert_eq!(rest, ["web | run 1", "web | run 2", "web | run 3"]);
    assert_eq!(context.run(&["down"]).code, Some(0));
    assert!(lines.next().is_none_or(|line| line.is_err()), "nothing twice");
    assert!(following.child.wait().unwrap().code().is_some());
}

#[test]
fn exec_passes_input_and_signals() {
    let context = shop_context();
    up(&context);
    let mut command = context.command(&["exec", "-i", "a", "--", "sh", "-c", "cat; exit 4"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let text = "words\n".repeat(50_000);
    let mut input = child.stdin.take().unwrap();
    let (sent, output) = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            input.write_all(text.as_bytes()).unwrap();
            drop(input);
        });
        let output = child.wait_with_output().unwrap();
        (writer.join(), output)
    });
    sent.unwrap();
    assert_eq!(output.status.code(), Some(4));
    assert!(output.stdout == text.as_bytes(), "{} of {} bytes came back", output.stdout.len(), text.len());
    // Nothing of the caller's environment is inside.
    let ran = context.ran(context.command(&["exec", "a", "--", "env"]).env("CLOUD_TOKEN", "secret"));
    assert!(ran.stdout.contains("WORD=one\n") && !ran.stdout.contains("CLOUD_TOKEN"), "{ran:?}");
    // 128 and the signal's number, as a shell has it.
    assert_eq!(context.run(&["exec", "a", "--", "sh", "-c", "kill -KILL $$"]).code, Some(137));
}

#[test]
fn restart_makes_new_pods() {
    let context = shop_context();
    up(&context);
    let (a, b) = (pod(&context, "a"), pod(&context, "b"));
    let ran = context.run(&["restart", "a"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), "a is restarted\n"));
    assert!(pod(&context, "a") != a && pod(&context, "b") == b);
    let ran = context.run(&["restart", "nobody"]);
    assert!(ran.code == Some(2) && ran.stderr.contains("hint: there are: "), "{ran:?}");
}

#[test]
fn env_is_read_by_real_shells() {
    let context = shop_context();
    up(&context);
    let in_shell = |script: &str| {
        let plain = context.command(&[]);
        let mut shell = Command::new("sh");
        shell.args(["-euc", script, ENVCTL]).env_clear().current_dir(context.project());
        shell.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let ran = context.ran(&mut shell);
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
        ran.stdout
    };
    assert_eq!(in_shell("eval \"$(\"$0\" env)\"; printf %s \"$ODD\""), ODD);
    let session = context.run(&["ls", "-o", "name"]).stdout;
    let sourced = in_shell("\"$0\" env --format dotenv | grep -v ODD >.env; . ./.env; echo \"$ENVCTL_SESSION\"");
    assert_eq!(sourced, session);
    assert_eq!(in_shell("eval \"$(\"$0\" env)\"; cd /; \"$0\" ps -o name | sort | head -1"), "a\n");
    let ran = context.run(&["env", "--format", "json"]);
    let document: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(document["ODD"], ODD);
    let kubeconfig = document["KUBECONFIG"].as_str().unwrap().replace("HOME", &context.home().to_string_lossy());
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(kubeconfig).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);

    let ran = context.run(&["run", "--", "sh", "-c", "printf %s \"$ODD\"; exit 9"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(9), ODD));
    // Signals are the command's own: it is this very process.
    let mut child = context.command(&["run", "--", "sh", "-c", "echo go; exec sleep 100000"]);
    let mut child = child.stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(15));
}

#[test]
fn an_unused_session_ends_by_itself() {
    let context = shop_context();
    let ran = context.run(&["up", "--ttl", "1s"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stderr.contains("ends after TIME unused"), "{ran:?}");
    let directory = context.session_directories().pop().unwrap();
    launch::wait_until_gone(&envctl::session::state::SessionDirectory::at(directory)).unwrap();
    assert_eq!(context.processes(), Vec::<String>::new());
    // The next command says where it has gone, and that is the end of it.
    let ran = context.run(&["ps"]);
    assert!(ran.code == Some(2) && ran.stderr.contains("no session is running"), "{ran:?}");
    assert!(ran.stderr.contains("; shop-ID ended: nothing used it for its idle time\n"), "{ran:?}");
    assert!(context.session_directories().is_empty());
    assert!(!context.run(&["ps"]).stderr.contains("ended"));
}

#[test]
fn a_file_of_another_directory_finds_its_session() {
    let context = shop_context();
    let file = context.project().join("envctl.yaml");
    let file = file.to_str().unwrap();
    let elsewhere = |arguments: &[&str]| {
        let mut command = context.command(arguments);
        context.ran(command.current_dir(context.home()))
    };
    let ran = elsewhere(&["up", "-f", file]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(elsewhere(&["exec", "-f", file, "a", "--", "true"]).code, Some(0));
    // Without it, what is running is at least named.
    let ran = elsewhere(&["down"]);
    assert!(ran.code == Some(0) && ran.stderr.contains("live are:\n  shop-ID"), "{ran:?}");
    let ran = elsewhere(&["down", "-f", file]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), "shop-ID is down\n"));
}
