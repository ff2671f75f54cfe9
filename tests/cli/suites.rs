//! `envctl test`: what a suite can do wrong, what is told about it, and that nothing of it stays.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::Value;

use super::context::{Context, Ran, Started};
use super::require::require;
use super::traces::wait_for_none;

/// A project with one service and suites `a`, `b`… of shell scripts; each script names this context's home, so that
/// every process of it is found by that.
fn project(suites: &[(&str, &str, &str)]) -> Context {
    let context = Context::new();
    context.write_service("trap 'exit 0' TERM\necho serving\nsleep 100000 & wait", "    ready: { exec: [\"true\"] }\n");
    let mut file = fs::read_to_string(context.project().join("envctl.yaml")).unwrap();
    file.push_str("suites:\n");
    for (name, more, script) in suites {
        let path = format!("suites/{name}");
        context.write(&path, &format!("#!/bin/sh\n{script}\n"));
        let path = context.project().join(path);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        file.push_str(&format!("  {name}: {{ run: [{}]{more} }}\n", path.display()));
    }
    context.write("envctl.yaml", &file);
    context
}

fn document(context: &Context, path: &str) -> Value {
    serde_json::from_slice(&fs::read(context.project().join(path)).unwrap()).unwrap()
}

/// No session, no agent, and nothing of a suite.
fn nothing_is_left(context: &Context) {
    assert!(context.session_directories().is_empty());
    assert_eq!(context.processes(), Vec::<String>::new());
}

fn code(ran: &Ran) -> i32 {
    ran.code.unwrap_or_else(|| panic!("{ran:?}"))
}

#[test]
fn a_suites_own_code_passes_through_and_its_streams_are_apart() {
    let context = project(&[
        ("pass", ", stage: pre", "echo out; echo err >&2; test -n \"$ENVCTL_SESSION\" -a -f \"$KUBECONFIG\""),
        ("three", ", stage: pre", "exit 3"),
        ("killed", "", "kill -9 $$"),
    ]);
    let ran = context.run(&["test", "pass"]);
    assert_eq!((code(&ran), ran.stdout.as_str()), (0, "out\n"), "{ran:?}");
    assert!(ran.stderr.contains("\nerr\n"), "{ran:?}");
    let ran = context.run(&["test", "--stage", "pre", "--result", "r.json"]);
    assert_eq!(code(&ran), 3, "{ran:?}");
    let result = document(&context, "r.json");
    assert_eq!((&result["result"], &result["reason"]), (&"failed".into(), &"Failed".into()));
    assert_eq!(result["suites"][0]["reason"], "Passed");
    assert_eq!((&result["suites"][1]["reason"], &result["suites"][1]["exitCode"]), (&"Failed".into(), &3.into()));
    let ran = context.run(&["test", "killed"]);
    assert_eq!(code(&ran), 137, "{ran:?}");
    assert!(ran.stderr.contains("killed was ended by SIGKILL"), "{ran:?}");
    let ran = context.run(&["test", "-o", "json", "pass"]);
    let result: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("{ran:?}"));
    assert_eq!(result["reason"], "Passed");
    assert!(ran.stderr.contains("\nout\n"), "what a suite prints is not data then: {ran:?}");
    nothing_is_left(&context);
}

#[test]
fn arguments_go_to_one_suite_or_are_the_command() {
    let context = project(&[("one", "", "echo \"got $*\""), ("two", "", "true")]);
    assert_eq!(context.run(&["test", "one", "--", "a b", "-k"]).stdout, "got a b -k\n");
    let ran = context.run(&["test", "one", "two", "--", "x"]);
    assert_eq!(code(&ran), 125, "{ran:?}");
    assert!(ran.stderr.contains("arguments after `--` go to one suite, but 2 were chosen"), "{ran:?}");
    let ran = context.run(&["test", "--", "sh", "-c", "echo $0 $PWD; exit 7", "word"]);
    assert_eq!((code(&ran), ran.stdout.as_str()), (7, "word HOME/project\n"), "{ran:?}");
    let ran = context.run(&["test", "three"]);
    assert!(
        ran.stderr.contains("there is no suite \"three\"") && ran.stderr.contains("there are: one, two"),
        "{ran:?}"
    );
    let ran = context.run(&["test", "--stage", "never"]);
    assert!(ran.stderr.contains("no suite is of the stage \"never\""), "{ran:?}");
    nothing_is_left(&context);
}

#[test]
fn what_cannot_be_started_says_why() {
    let context = project(&[("plain", "", "true"), ("shebang", "", "true")]);
    let plain = context.project().join("suites/plain");
    fs::set_permissions(&plain, fs::Permissions::from_mode(0o644)).unwrap();
    context.write("suites/shebang", "#!/no/such/interpreter\n");
    let ran = context.run(&["test", "plain", "--result", "r.json"]);
    assert_eq!(code(&ran), 126, "{ran:?}");
    assert!(ran.stderr.contains("plain: was not started: its program is not executable (`chmod +x`)"), "{ran:?}");
    assert_eq!(document(&context, "r.json")["reason"], "NotExecutable");
    let ran = context.run(&["test", "shebang"]);
    assert_eq!(code(&ran), 126, "{ran:?}");
    assert!(ran.stderr.contains("the interpreter in its first line is missing"), "{ran:?}");
    let ran = context.run(&["test", "--", "no-such-program"]);
    assert_eq!(code(&ran), 127, "{ran:?}");
    assert!(ran.stderr.contains("no-such-program: was not started: no such program"), "{ran:?}");
    nothing_is_left(&context);
}

#[test]
fn a_timeout_ends_everything_the_suite_began() {
    // A child in its group, a daemon with a session of its own, and both it and the suite ignore SIGTERM.
    let script = "trap '' TERM\nsh \"$0.child\" &\nsetsid sh \"$0.child\" daemon &\nwait; wait";
    let context = project(&[("stubborn", ", timeout: 1s", script)]);
    context.write("suites/stubborn.child", "trap '' TERM\nwhile :; do sleep 1000; done\n");
    let ran = context.run(&["test", "stubborn", "--grace", "300ms", "--result", "r.json"]);
    assert_eq!(code(&ran), 124, "{ran:?}");
    assert!(ran.stderr.contains("did not end within TIME, and had to be killed"), "{ran:?}");
    assert_eq!(document(&context, "r.json")["reason"], "TimedOut");
    nothing_is_left(&context);
}

#[test]
fn a_daemon_that_is_left_running_is_named_and_ended() {
    let context = project(&[(
        "daemon",
        "",
        "setsid sh \"$0.child\" >/dev/null 2>&1 </dev/null &\nuntil [ \"$(cat /proc/$!/comm)\" = sleep ]; do :; done\nexit 0",
    )]);
    context.write("suites/daemon.child", "exec sleep 86400\n");
    let ran = context.run(&["test", "daemon", "--result", "r.json"]);
    assert_eq!(code(&ran), 0, "{ran:?}");
    assert!(ran.stderr.contains("daemon left a process running, which was ended: sleep (pid "), "{ran:?}");
    assert_eq!(document(&context, "r.json")["suites"][0]["endedProcesses"].as_array().unwrap().len(), 1);
    nothing_is_left(&context);
}

#[test]
fn a_flood_is_passed_on_whole_in_little_memory() {
    // 200 MB, and a last line without an end.
    let context =
        project(&[("flood", "", "yes 0123456789012345678901234567890123456789 | head -c 200000000; printf last")]);
    let mut command = context.command(&["test", "flood"]);
    command.stdout(fs::File::create(context.project().join("out")).unwrap());
    let (before, status) = (peak_of_children(), command.stderr(std::process::Stdio::null()).status().unwrap());
    let peak = peak_of_children();
    assert_eq!(status.code(), Some(0));
    let out = fs::read(context.project().join("out")).unwrap();
    assert_eq!(out.len(), 200_000_000 + 4);
    assert!(out.ends_with(b"last"));
    // In KiB. Other tests' children count too: the limit is for what is new.
    assert!(peak <= before.max(120_000), "{before} → {peak} KiB");
    nothing_is_left(&context);
}

fn peak_of_children() -> i64 {
    nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_CHILDREN).unwrap().max_rss()
}

fn started(context: &Context, arguments: &[&str], script_says: &str) -> Started {
    let mut started = context.start(arguments);
    started.until(script_says);
    started
}

#[test]
fn ctrl_c_asks_once_and_kills_twice() {
    let context = project(&[
        ("polite", "", "trap 'echo bye; exit 0' INT\necho begun >&2\nsleep 100000 & wait"),
        ("deaf", "", "trap '' INT TERM\necho begun >&2\nsleep 100000; sleep 100000"),
    ]);
    let run = started(&context, &["test", "polite", "--result", "r.json"], "begun");
    run.signal(Signal::SIGINT);
    let ran = run.end(&context);
    assert_eq!((code(&ran), ran.stdout.as_str()), (130, "bye\n"), "{ran:?}");
    assert!(ran.stderr.contains("interrupted: asking the suite to end (again to kill it)"), "{ran:?}");
    assert_eq!(document(&context, "r.json")["reason"], "Interrupted");
    nothing_is_left(&context);
    let mut run = started(&context, &["test", "deaf"], "begun");
    run.signal(Signal::SIGINT);
    run.until("again to kill it");
    run.signal(Signal::SIGINT);
    let ran = run.end(&context);
    assert_eq!(code(&ran), 130, "{ran:?}");
    assert!(ran.stderr.contains("deaf: was interrupted, and had to be killed"), "{ran:?}");
    nothing_is_left(&context);
}

#[test]
fn ctrl_c_while_something_is_ended_that_was_left_runs_no_other_suite() {
    // What it leaves says so when it is asked to end, and does not.
    let left = "trap 'echo asked >&2' TERM INT\necho >\"$1\"\nwhile :; do sleep 100000 & wait; done";
    let script = "mkfifo \"$0.begun\"\nsh \"$0.left\" \"$0.begun\" &\nread line <\"$0.begun\"\nexit 0";
    let context = project(&[("a", "", script), ("b", "", "touch ran")]);
    context.write("suites/a.left", left);
    let run = started(&context, &["test", "a", "b", "--result", "r.json"], "asked");
    run.signal(Signal::SIGINT);
    let mut run = run;
    run.until("again to kill it");
    run.signal(Signal::SIGINT);
    let ran = run.end(&context);
    assert_eq!(code(&ran), 130, "{ran:?}");
    assert!(!context.project().join("ran").exists(), "{ran:?}");
    assert_eq!(document(&context, "r.json")["reason"], "Interrupted");
    nothing_is_left(&context);
}

#[test]
fn killed_by_force_it_takes_suite_and_session_along() {
    let context = project(&[("long", "", "echo begun >&2\nsetsid sleep 100000 &\nsleep 100000")]);
    let run = started(&context, &["test", "long"], "begun");
    let directory = context.session_directories().pop().unwrap();
    run.signal(Signal::SIGKILL);
    envctl::session::launch::wait_until_gone(&envctl::session::state::SessionDirectory::at(directory)).unwrap();
    // The suite's processes hold the other end of this pipe; their supervisor ends after them.
    let ran = run.end(&context);
    assert_eq!(ran.code, None, "{ran:?}");
    assert!(context.session_directories().is_empty());
    wait_for_none(context.home());
}

#[test]
fn a_session_that_ends_under_a_suite_is_the_environments_failure() {
    let context = project(&[("long", "", "echo begun >&2\nsleep 100000")]);
    let run = started(&context, &["test", "long", "--result", "r.json"], "begun");
    let agent = context.agent().unwrap();
    nix::sys::signal::kill(agent, Signal::SIGKILL).unwrap();
    let ran = run.end(&context);
    assert_eq!(code(&ran), 125, "{ran:?}");
    assert!(ran.stderr.contains("long: lost its session"), "{ran:?}");
    assert_eq!(document(&context, "r.json")["reason"], "SessionLost");
    // The kernel ends what the agent had, beside the agent's own end.
    wait_for_none(context.home());
    nothing_is_left(&context);
}

#[test]
fn a_failure_is_explained_and_its_logs_are_kept() {
    // It ends when the service has been started again.
    let script = r#"mkfifo log; exec 3<>log
        "$ENVCTL" logs -f web >&3 3<&- & follower=$!
        serving() { while read -r line <&3; do case $line in *serving) return;; esac; done; }
        serving; "$ENVCTL" exec web -- sh -c 'echo noted >/proc/1/fd/1; kill -TERM 1' 2>/dev/null; serving
        kill $follower; exit 4"#;
    let context = project(&[("bad", "", script)]);
    let mut command = context.command(&["test", "bad", "--report", "out", "--result", "out/r.json"]);
    let ran = context.ran(command.env("ENVCTL", super::context::ENVCTL));
    assert_eq!(code(&ran), 4, "{ran:?}");
    assert!(ran.stderr.contains("suite bad exited with code 4 after TIME"), "{ran:?}");
    assert!(ran.stderr.contains("not as it should be:"), "{ran:?}");
    // An ordinary user's exec may not open the program's own output, so there is nothing in the log of that time.
    assert!(!nix::unistd::geteuid().is_root() || ran.stderr.contains("log of web ("), "{ran:?}");
    let result = document(&context, "out/r.json");
    for (file, words) in
        [("failure.txt", "exited with code 4"), ("logs.txt", "serving"), ("junit.xml", "exited with code 4")]
    {
        let text = fs::read_to_string(context.project().join("out/bad").join(file)).unwrap();
        assert!(text.contains(words), "{file}: {text}");
    }
    assert_eq!(result["suites"][0]["junit"]["collected"], false);
    nothing_is_left(&context);
}

#[test]
fn a_key_is_never_shown() {
    let context = project(&[(
        "leak",
        ", junit: j.xml",
        "echo \"out $KEY\"; echo \"err $KEY\" >&2; printf %s \"$KEY\" >key\n\
         printf '<testsuite><testcase name=\"%s\"><failure/></testcase></testsuite>' \"$KEY\" >j.xml; exit 1",
    )]);
    let file = fs::read_to_string(context.project().join("envctl.yaml")).unwrap();
    context.write("envctl.yaml", &format!("{file}keys:\n  KEY: {{ generate: {{ bytes: 16 }} }}\n"));
    let ran = context.run(&["test", "leak", "-o", "json", "--report", "out", "--result", "out/r.json"]);
    assert_eq!(code(&ran), 1, "{ran:?}");
    let key = fs::read_to_string(context.project().join("key")).unwrap();
    assert_eq!(key.len(), 32);
    let mut shown = vec![("stdout".to_owned(), ran.stdout), ("stderr".to_owned(), ran.stderr)];
    for name in ["r.json", "leak/junit.xml", "leak/failure.txt", "leak/logs.txt"] {
        shown.push((name.to_owned(), fs::read_to_string(context.project().join("out").join(name)).unwrap()));
    }
    for (name, text) in &shown {
        assert!(!text.contains(&key), "{name}: {text}");
    }
    assert!(shown[1].1.contains("out [redacted KEY]") && shown[1].1.contains("err [redacted KEY]"), "{shown:?}");
    nothing_is_left(&context);
}

#[test]
fn a_key_that_is_issued_anew_is_the_next_suites_and_is_never_shown() {
    let context = project(&[
        ("a", "", "printf %s \"$KEY\" >one; \"$ENVCTL\" keys rotate KEY 2>/dev/null"),
        ("b", "", "printf %s \"$KEY\" >two; echo \"$KEY\""),
    ]);
    let file = fs::read_to_string(context.project().join("envctl.yaml")).unwrap();
    context.write("envctl.yaml", &format!("{file}keys:\n  KEY: {{ generate: {{ bytes: 16 }} }}\n"));
    let mut command = context.command(&["test", "a", "b", "--report", "out"]);
    let ran = context.ran(command.env("ENVCTL", super::context::ENVCTL));
    assert_eq!((code(&ran), ran.stdout.as_str()), (0, "[redacted KEY]\n"), "{ran:?}");
    let read = |path: &str| fs::read_to_string(context.project().join(path)).unwrap();
    assert_ne!(read("one"), read("two"));
    assert!(read("out/b/junit.xml").contains("[redacted KEY]"), "{}", read("out/b/junit.xml"));
    nothing_is_left(&context);
}

#[test]
fn a_suites_junit_file_may_be_the_reports_own() {
    let script = "mkdir -p out/own; printf '<testsuite><testcase name=\"a&lt;b&gt;\"><failure/></testcase></testsuite>' >out/own/junit.xml; exit 1";
    let context = project(&[("own", ", junit: out/own/junit.xml", script)]);
    let ran = context.run(&["test", "own", "--report", "out"]);
    assert_eq!(code(&ran), 1, "{ran:?}");
    assert!(ran.stderr.contains("- a<b>\n"), "{ran:?}");
    let mut files: Vec<_> =
        fs::read_dir(context.project().join("out/own")).unwrap().map(|file| file.unwrap().file_name()).collect();
    files.sort();
    assert_eq!(files, ["failure.txt", "junit.xml", "logs.txt"], "{ran:?}");
    let text = fs::read_to_string(context.project().join("out/own/junit.xml")).unwrap();
    assert!(text.contains("a&lt;b&gt;"), "{text}");
    nothing_is_left(&context);
}

#[test]
fn junit_is_collected_and_what_is_none_is_said() {
    let good = "printf '<testsuite><testcase name=\"a\"/><testcase name=\"b\"><failure/></testcase></testsuite>' >j.xml; exit 1";
    let context = project(&[
        ("good", ", junit: j.xml", good),
        ("text", ", junit: t.xml", "echo all passed >t.xml"),
        ("none", ", junit: j.xml", "true"),
    ]);
    let ran = context.run(&["test", "good", "--result", "r.json"]);
    assert_eq!(code(&ran), 1, "{ran:?}");
    assert!(ran.stderr.contains("(2 tests, 1 failed)") && ran.stderr.contains("- b\n"), "{ran:?}");
    let result = document(&context, "r.json");
    assert_eq!(result["suites"][0]["junit"]["counts"]["tests"], 2);
    let path = result["suites"][0]["junit"]["path"].as_str().unwrap();
    assert_eq!(fs::read(path).unwrap(), fs::read(context.project().join("j.xml")).unwrap());
    let ran = context.run(&["test", "text", "none"]);
    assert_eq!(code(&ran), 0, "{ran:?}");
    assert!(ran.stderr.contains("t.xml is not JUnit XML: it has no element at all"), "{ran:?}");
    assert!(ran.stderr.contains("j.xml is from an earlier run"), "{ran:?}");
    let written = fs::read_to_string(context.project().join(".envctl/report/text/junit.xml")).unwrap();
    assert!(written.contains("<testcase name=\"text\""), "{written}");
    nothing_is_left(&context);
}

#[test]
fn a_full_disk_is_said_and_leaves_no_half_a_file() {
    if !require(nix::unistd::geteuid().is_root(), "root (to mount a small file system)") {
        return;
    }
    let context = project(&[("bad", "", "yes | head -c 40000; exit 9"), ("good", "", "yes | head -c 40000")]);
    let small = context.project().join("small");
    fs::create_dir(&small).unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=4k", "tmpfs"]).arg(&small).status();
    if !require(mounted.is_ok_and(|status| status.success()), "the right to mount") {
        return;
    }
    fs::write(small.join("filler"), [0; 4096]).unwrap();
    let bad = context.run(&["test", "bad", "--result", "small/r.json", "--report", "small/report"]);
    let good = context.run(&["test", "good", "--result", "small/r.json"]);
    let report = context.run(&["test", "good", "--report", "small"]);
    let files: Vec<_> = fs::read_dir(&small).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    let half = fs::read_dir(small.join("good")).map_or(0, Iterator::count);
    assert!(Command::new("umount").arg(&small).status().unwrap().success());
    assert_eq!(code(&bad), 9, "the suite's code wins: {bad:?}");
    assert!(bad.stderr.contains("small/r.json: No space left on device"), "{bad:?}");
    assert!(bad.stderr.contains("free some space, or name another place with --result"), "{bad:?}");
    assert_eq!(code(&good), 125, "{good:?}");
    assert_eq!(code(&report), 125, "{report:?}");
    assert!(report.stderr.contains("junit.xml: No space left on device"), "{report:?}");
    assert!(files.iter().all(|name| name == "filler" || name == "report" || name == "good"), "{files:?}");
    assert_eq!(half, 0, "no half a file");
    nothing_is_left(&context);
}

#[test]
fn an_environment_that_does_not_come_up_runs_no_suite() {
    let context = project(&[("never", "", "touch ran")]);
    context.write("serve", "#!/bin/sh\nexit 1\n");
    // A probe that always succeeds could do so before its end.
    let file = fs::read_to_string(context.project().join("envctl.yaml")).unwrap();
    context.write("envctl.yaml", &file.replace("exec: [\"true\"]", "exec: [\"false\"]"));
    let ran = context.run(&["test", "never", "--result", "r.json"]);
    assert_eq!(code(&ran), 125, "{ran:?}");
    assert!(ran.stderr.contains("no suite was run: the environment did not come up"), "{ran:?}");
    assert_eq!(document(&context, "r.json")["reason"], "CrashLoop");
    assert!(!context.project().join("ran").exists());
    nothing_is_left(&context);
}

#[test]
fn it_keeps_what_it_is_told_to_and_attaches_to_what_is_there() {
    let context = project(&[("good", "", "echo $ENVCTL_SESSION"), ("bad", "", "exit 1")]);
    assert_eq!(context.run(&["up"]).code, Some(0));
    let ran = context.run(&["test", "good", "--attach"]);
    assert_eq!((code(&ran), ran.stdout.as_str()), (0, "demo-ID\n"), "{ran:?}");
    let own = context.run(&["test", "good", "--keep-on-failure"]);
    assert!(code(&own) == 0 && own.stdout.starts_with("demo-test-"), "{own:?}");
    // A test's own session is never the one that is meant.
    assert_eq!(context.run(&["run", "sh", "-c", "echo $ENVCTL_SESSION"]).stdout, "demo-ID\n");
    assert_eq!(context.run(&["down"]).code, Some(0));
    let kept = context.run(&["test", "bad", "--keep-on-failure"]);
    assert_eq!(code(&kept), 1, "{kept:?}");
    assert!(kept.stderr.contains("stays up: `envctl ps --session demo-test-"), "{kept:?}");
    assert_eq!(context.run(&["ls", "-o", "name"]).stdout.lines().count(), 1);
    assert_eq!(context.run(&["down"]).code, Some(0));
    nothing_is_left(&context);
}

#[test]
fn suites_are_listed_with_the_commands_for_both_places() {
    let context = project(&[("one", ", stage: nightly", "true"), ("two", "", "true")]);
    let ran = context.run(&["suites"]);
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert!(lines[0].starts_with("SUITE   STAGE     RUNS"), "{ran:?}");
    assert!(lines[1].starts_with("two     -         HOME/project/suites/two   envctl test two"), "{ran:?}");
    assert!(lines[2].contains("envctl test --stage nightly --report report --result report/result.json"), "{ran:?}");
    let ran = context.run(&["suites", "-o", "json"]);
    let rows: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(rows["suites"][1]["local"], "envctl test one");
}

/// `kubectl` as a suite's program.
fn has_kubectl() -> bool {
    require(Command::new("kubectl").args(["version", "--client"]).output().is_ok(), "kubectl")
}

#[test]
fn what_is_left_behind_is_named_and_reset_deletes_it() {
    if !has_kubectl() {
        return;
    }
    let script = "kubectl create configmap note --from-literal=a=b >/dev/null\nkubectl create deployment model --image=web >/dev/null\n\
                  kubectl create namespace extra >/dev/null\nkubectl create configmap gone >/dev/null; kubectl delete configmap gone >/dev/null";
    let context = project(&[("leave", "", script), ("clean", "", "kubectl get pods >/dev/null")]);
    let ran = context.run(&["test", "clean", "--fail-on-leftovers", "--result", "r.json"]);
    assert_eq!(code(&ran), 0, "{ran:?}");
    assert_eq!(document(&context, "r.json")["leftovers"], Value::Array(Vec::new()));
    let ran = context.run(&["test", "leave", "--fail-on-leftovers", "--result", "r.json"]);
    assert_eq!(code(&ran), 125, "{ran:?}");
    let result = document(&context, "r.json");
    assert_eq!(result["reason"], "LeftBehind");
    let names: Vec<&str> =
        result["leftovers"].as_array().unwrap().iter().map(|left| left["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["extra", "note", "model"]);
    assert_eq!(result["leftovers"][1]["account"], "kubernetes-admin");
    assert!(ran.stderr.contains("left behind: ConfigMap/note in envctl-demo-test-"), "{ran:?}");
    nothing_is_left(&context);

    assert_eq!(context.run(&["up"]).code, Some(0));
    assert_eq!(context.run(&["test", "leave", "--attach"]).code, Some(0));
    let ran = context.run(&["reset", "--dry-run", "-o", "name"]);
    assert_eq!(ran.stdout, "Namespace/extra\nConfigMap/note\nDeployment/model\n", "{ran:?}");
    let ran = context.run(&["reset"]);
    assert_eq!(code(&ran), 0, "{ran:?}");
    assert!(ran.stderr.contains("deleted: Deployment/model in ") && ran.stderr.contains("web is restarted"), "{ran:?}");
    let ran = context.run(&["reset"]);
    assert!(code(&ran) == 0 && ran.stderr.contains("nothing was left behind"), "{ran:?}");
    assert_eq!(context.run(&["run", "kubectl", "get", "deployments", "-o", "name"]).stdout, "deployment.apps/web\n");
    assert_eq!(context.run(&["down"]).code, Some(0));
    nothing_is_left(&context);
}

/// The account that created it is the one whose token was used, not the one that ran the suite.
#[test]
fn an_object_is_its_creators_account() {
    if !has_kubectl() {
        return;
    }
    let script = "kubectl create serviceaccount robot >/dev/null\nkubectl create rolebinding robot --clusterrole=edit \
                  --serviceaccount=\"$ENVCTL_SESSION_NAMESPACE:robot\" >/dev/null\n\
                  kubectl --token=\"$(kubectl create token robot)\" create configmap made >/dev/null";
    let context = project(&[("robot", "", script)]);
    let ran = context.run(&["test", "robot", "--result", "r.json"]);
    assert_eq!(code(&ran), 0, "{ran:?}");
    let result = document(&context, "r.json");
    let left = result["leftovers"].as_array().unwrap();
    let made = left.iter().find(|left| left["name"] == "made").unwrap_or_else(|| panic!("{left:?}"));
    assert!(made["account"].as_str().unwrap().ends_with(":robot"), "{made}");
    assert!(Path::new(&context.project()).exists());
}
