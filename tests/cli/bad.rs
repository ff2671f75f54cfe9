//! Bad input: a clear message, the documented exit code, and nothing left behind.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use super::context::{Context, ENVCTL, Ran};
use super::program::program;
use super::require::require;
use super::seccomp::{self, Profile};

fn assert_nothing_is_left(context: &Context) {
    assert!(context.session_directories().is_empty(), "{:?}", context.session_directories());
    assert_eq!(context.processes(), Vec::<String>::new());
    assert!(!context.project().join(".envctl").exists());
}

fn up_of(file: &str) -> (Context, Ran) {
    let context = Context::new();
    context.write("envctl.yaml", file);
    let ran = context.run(&["up"]);
    (context, ran)
}

/// [`screen`] of a cluster that didn't start: how far the service is by then is a matter of who is faster.
fn so_far(ran: &Ran) -> String {
    let state = "  - service web: ";
    let line = |line: &str| {
        if line.starts_with(state) { format!("{state}waiting for the cluster\n") } else { line.to_owned() }
    };
    screen(ran).split_inclusive('\n').map(line).collect()
}

/// What is said after the lines of events: the failure's screen, with the random ends of pods' names masked.
fn screen(ran: &Ran) -> String {
    let (_, screen) = ran.stderr.split_once("\n\n").unwrap_or(("", &ran.stderr));
    let mut text = String::new();
    for word in screen.split_inclusive(char::is_whitespace) {
        match word.find("web-") {
            Some(at) => text.push_str(&format!(
                "{}web-POD{}",
                &word[..at],
                word[at + 4..].trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '-')
            )),
            None => text.push_str(word),
        }
    }
    text
}

#[test]
fn a_bad_file_is_exit_2_with_the_line() {
    for (name, file) in [
        ("malformed", "services:\n  web: { image: app\n"),
        ("unknown-field", "images: { app: { process: {} } }\nservices:\n  web: { image: app, port: 80 }\n"),
        ("wrong-type", "images: { app: { process: {} } }\nservices:\n  web: { image: app, replicas: many }\n"),
        (
            "cycle",
            "images: { app: { entrypoint: [app], process: {} } }\nservices:\n  a: { image: app, needs: [b] }\n  b: { image: app, needs: [a] }\n",
        ),
    ] {
        let (context, ran) = up_of(file);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{name}: {ran:?}");
        insta::with_settings!({ snapshot_suffix => name }, { insta::assert_snapshot!("bad_file", ran.stderr) });
        assert_nothing_is_left(&context);
    }
}

#[test]
fn a_missing_command() {
    let (context, ran) =
        up_of("images: { app: { entrypoint: [no-such-program], process: {} } }\nservices:\n  web: { image: app }\n");
    assert_eq!(ran.code, Some(3), "{ran:?}");
    let screen = screen(&ran);
    assert!(screen.contains("no-such-program") && screen.contains("[CommandNotFound]"), "{screen}");
    assert!(screen.contains("hint: "), "{screen}");
    assert_nothing_is_left(&context);
}

#[test]
fn a_command_that_exits_at_once() {
    let context = Context::new();
    context.write_service("echo nothing to do", "");
    let ran = context.run(&["up"]);
    assert_eq!(ran.code, Some(3), "{ran:?}");
    assert!(screen(&ran).contains("[ExitedEarly]") && screen(&ran).contains("| nothing to do"), "{ran:?}");
    assert_nothing_is_left(&context);
}

#[test]
fn a_command_that_fails_at_once_uses_up_its_crash_budget() {
    let context = Context::new();
    context.write_service("echo no such table >&2; exit 7", "");
    let ran = context.run(&["up", "-o", "json"]);
    assert_eq!(ran.code, Some(3), "{ran:?}");
    assert!(screen(&ran).contains("[CrashLoop]") && screen(&ran).contains("| no such table"), "{ran:?}");
    assert!(screen(&ran).contains("the session was removed; `envctl up --keep` leaves it up to look at"), "{ran:?}");
    let document: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((&document["result"], &document["reason"]), (&"failed".into(), &"CrashLoop".into()), "{document}");
    // The session is gone: only who it was.
    assert_eq!(document["session"]["environment"], "demo", "{document}");
    assert!(document["session"].get("agentPid").is_none() && document["session"].get("phase").is_none(), "{document}");
    assert_nothing_is_left(&context);
}

#[test]
fn what_is_kept_after_a_failure_is_shown_and_goes_with_down() {
    let context = Context::new();
    context.write_service("echo nothing to do", "");
    let ran = context.run(&["up", "--keep", "-o", "json"]);
    assert_eq!(ran.code, Some(3), "{ran:?}");
    assert!(ran.stderr.contains("session demo-ID stays up"), "{ran:?}");
    let document: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(document["session"]["phase"], "failed", "{document}");
    assert!(document["session"]["agentPid"].as_u64().unwrap() > 1, "{document}");
    let ran = context.run(&["ps"]);
    assert!(ran.stdout.contains("failed"), "{ran:?}");
    assert_eq!(context.run(&["down"]).code, Some(0));
    assert_nothing_is_left(&context);
}

#[test]
fn never_ready_within_the_time_given() {
    let context = Context::new();
    context.write_service("sleep 100000 & wait", "    ready: { exec: [sh, -c, \"echo not yet; exit 1\"] }\n");
    let ran = context.run(&["up", "--wait-timeout", "5s"]);
    assert_eq!(ran.code, Some(3), "{ran:?}");
    assert!(screen(&ran).contains("web failed: not ready within 5s"), "{ran:?}");
    assert_nothing_is_left(&context);
}

#[test]
fn down_of_nothing() {
    let context = Context::new();
    for arguments in [&["down"][..], &["down", "--all"]] {
        let ran = context.run(arguments);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), ""), "{ran:?}");
        assert!(ran.stderr.starts_with("nothing to take down: no session is running "), "{ran:?}");
    }
}

#[test]
fn a_state_directory_without_permission() {
    if nix::unistd::geteuid().is_root() {
        // Root may write anywhere; this is the ordinary user's part.
        return;
    }
    let context = Context::new();
    context.write_service("sleep 100000", "");
    let state = context.state().path().to_owned();
    fs::create_dir_all(&state).unwrap();
    fs::set_permissions(&state, fs::Permissions::from_mode(0o500)).unwrap();
    let ran = context.run(&["up"]);
    fs::set_permissions(&state, fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(125), ""), "{ran:?}");
    insta::assert_snapshot!(ran.stderr, @r"
    error: cannot create HOME/state/sessions: Permission denied (os error 13)
    hint: make it writable, or set ENVCTL_STATE_DIR to a directory that is
    ");
    assert_nothing_is_left(&context);
}

/// A disk that is full while the session comes up: the record still fits, the services' logs and volumes don't.
#[test]
fn a_disk_that_fills_up() {
    if !require(program("unshare", "--version"), "unshare") {
        return;
    }
    let context = Context::new();
    context.write_service("echo started; sleep 100000 & wait", "");
    fs::create_dir_all(context.state().path()).unwrap();
    let mut failures = 0;
    // Pages left free: from none to more than is needed.
    for pages in [4, 6, 8, 12, 16] {
        let script = format!(
            "mount -t tmpfs -o size=256k,mode=700 tmpfs \"$ENVCTL_STATE_DIR\" || exit 99
            mkdir -m 700 \"$ENVCTL_STATE_DIR/sessions\"
            head -c $((4096 * (63 - {pages}))) /dev/zero >\"$ENVCTL_STATE_DIR/fill\"
            \"$0\" up --wait-timeout 15s; code=$?
            \"$0\" down >/dev/null 2>&1
            ls -A \"$ENVCTL_STATE_DIR/sessions\"
            exit $code"
        );
        let mut unshare = Command::new("unshare");
        let plain = context.command(&[]);
        unshare.args(if nix::unistd::geteuid().is_root() { ["-m"].as_slice() } else { &["-Urm"] });
        unshare.args(["sh", "-c", &script, ENVCTL]).env_clear().current_dir(context.project());
        unshare.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let ran = context.ran(&mut unshare);
        if !require(ran.code != Some(99) && ran.code != Some(1), "a mount namespace of one's own") {
            return;
        }
        eprintln!("{pages} pages free: {:?}", ran.code);
        assert_eq!(ran.stdout, "", "{pages}: {ran:?}");
        if ran.code != Some(0) {
            failures += 1;
            assert!(matches!(ran.code, Some(3 | 125)), "{pages}: {ran:?}");
            assert!(ran.stderr.contains("No space left on device"), "{pages}: {ran:?}");
        }
        assert_eq!(context.processes(), Vec::<String>::new());
    }
    assert!(failures > 0, "the disk was never full");
}

/// No user namespaces: `max_user_namespaces` is 0 inside, and nothing is permitted.
#[test]
fn namespaces_that_are_refused() {
    let cut_off = "echo 0 >/proc/sys/user/max_user_namespaces || exit 99
        exec setpriv --inh-caps=-all --bounding-set=-all \"$0\" \"$@\"";
    if !require(program("unshare", "--version") && program("setpriv", "--version"), "unshare and setpriv") {
        return;
    }
    let context = Context::new();
    context.write_service("sleep 100000", "");
    let inside = |arguments: &[&str]| {
        let mut unshare = Command::new("unshare");
        unshare.args(["-Ur", "sh", "-c", cut_off, ENVCTL]).args(arguments).env_clear().current_dir(context.project());
        let plain = context.command(&[]);
        unshare.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
        context.ran(&mut unshare)
    };
    let ran = inside(&["up"]);
    if !require(ran.code != Some(99) && ran.code != Some(1), "a user namespace of one's own") {
        return;
    }
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(4), ""), "{ran:?}");
    insta::assert_snapshot!("namespaces_refused", so_far(&ran));
    assert_nothing_is_left(&context);
    let ran = inside(&["doctor", "-o", "json"]);
    assert_eq!(ran.code, Some(4), "{ran:?}");
    let document: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(document["checks"][0]["verdict"], "failed", "{document}");
    assert_eq!(document["checks"][0]["cure"], "sudo sysctl user.max_user_namespaces=10000", "{document}");
}

/// In a container with its engine's default profile.
#[test]
fn a_container_engine_that_refuses_namespaces() {
    let context = Context::new();
    context.write_service("sleep 100000", "");
    let inside = |arguments: &[&str]| {
        let mut command = context.command(arguments);
        seccomp::confine(&mut command, Profile::Container);
        context.ran(&mut command)
    };
    let ran = inside(&["up"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(4), ""), "{ran:?}");
    insta::assert_snapshot!("namespaces_refused_by_seccomp", so_far(&ran));
    assert_nothing_is_left(&context);
    let ran = inside(&["doctor", "-o", "json"]);
    assert_eq!(ran.code, Some(4), "{ran:?}");
    let document: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(document["checks"][0]["verdict"], "failed", "{document}");
    assert!(
        document["checks"][0]["cure"].as_str().unwrap().contains("--security-opt seccomp=unconfined"),
        "{document}"
    );
}

/// Ubuntu's switch: a user namespace is given, but without any power. The switch itself stands in a `/proc` of the test's own.
#[test]
fn apparmor_that_refuses_namespaces() {
    if !require(program("unshare", "--version"), "unshare") {
        return;
    }
    let context = Context::new();
    context.write_service("sleep 100000", "");
    let switch = "mount -t tmpfs tmpfs /proc/sys/kernel && echo 1 >/proc/sys/kernel/apparmor_restrict_unprivileged_userns || exit 99
        exec \"$@\"";
    let inside = |arguments: &[&str]| {
        // The filter comes last: what it does to the shell's own mount would spoil the test.
        let mut unshare = Command::new("unshare");
        unshare.args(if nix::unistd::geteuid().is_root() { ["-m"].as_slice() } else { &["-Urm"] });
        unshare.args(["sh", "-c", switch, "sh"]).arg(std::env::current_exe().unwrap());
        unshare.args(["--exact", "bad::confined", "--include-ignored", "--nocapture"]);
        unshare.env_clear().current_dir(context.project());
        let plain = context.command(&[]);
        unshare.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
        unshare.env(CONFINED, arguments.join(" "));
        context.ran(&mut unshare)
    };
    let ran = inside(&["up"]);
    if !require(ran.code != Some(99) && ran.code != Some(1), "a mount namespace of one's own") {
        return;
    }
    assert_eq!(ran.code, Some(4), "{ran:?}");
    assert!(screen(&ran).contains("Operation not permitted"), "{ran:?}");
    assert!(screen(&ran).contains("\nhint: sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0\n"), "{ran:?}");
    assert_nothing_is_left(&context);
    let ran = inside(&["doctor"]);
    assert_eq!(ran.code, Some(4), "{ran:?}");
    assert!(ran.stdout.contains("sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0"), "{ran:?}");
}

/// What [`apparmor_that_refuses_namespaces`] runs inside, as this test binary: envctl's arguments.
const CONFINED: &str = "ENVCTL_TEST_CONFINED";

#[test]
#[ignore = "run by another test"]
fn confined() {
    let Ok(arguments) = std::env::var(CONFINED) else { return };
    let mut envctl = Command::new(ENVCTL);
    seccomp::confine(envctl.args(arguments.split(' ')).env_remove(CONFINED), Profile::PowerlessUserNamespace);
    std::process::exit(envctl.status().unwrap().code().unwrap_or(1));
}
