//! Keys as a person meets them: issued, listed, shown, rotated, revoked, expired; and never seen where they must not be.

use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use nix::sys::signal::{Signal, kill};

use super::context::Context;

/// Newlines, quotes, what regular expressions and shells take for theirs, and what is not ASCII.
const NASTY: &str = "first-line-of-it\nit's \"q\" $HOME .*[x]+(y)? \\d é&<z>";

/// What would give `NASTY` away.
fn forms() -> Vec<String> {
    let json = serde_json::Value::from(NASTY).to_string();
    let percent: String = NASTY
        .bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect();
    let mut forms: Vec<String> = NASTY.lines().map(str::to_owned).collect();
    forms.extend([
        NASTY.to_owned(),
        json.trim_matches('"').to_owned(),
        percent,
        STANDARD.encode(NASTY),
        URL_SAFE_NO_PAD.encode(NASTY),
        NASTY.bytes().map(|byte| format!("{byte:02x}")).collect(),
    ]);
    // Encoded with something before it, all but its first and last characters are there.
    for before in ["u", "u:", "us:"] {
        let encoded = STANDARD.encode(format!("{before}{NASTY}"));
        forms.push(encoded[4..encoded.len() - 4].to_owned());
    }
    forms
}

fn assert_clean(text: &str, what: &str) {
    for form in forms() {
        assert!(!text.contains(&form), "{what} has the key as {form:?}:\n{text}");
    }
}

/// A service that logs the key that it is given in every form that it can think of, and one that issues keys.
fn write(context: &Context) {
    let script = "printf '%s\\n' \"$KEY\"; printf %s \"$KEY\" | base64 -w0; echo; printf 'Basic '; printf 'u:%s' \"$KEY\" | base64 -w0; echo
        printf %s \"$KEY\" | od -An -v -tx1 | tr -d ' \\n'; echo; echo $$ > /tmp/pid; exec sleep 1000";
    let more = "    env: { KEY: { key: HOSTKEY } }
keys:
  HOSTKEY: { fromEnv: HOSTKEY }
  SIGNING: { generate: { bytes: 8 } }
  TOKEN:
    exec: { service: web, command: [sh, -c, \"echo sk-$$(cat /proc/sys/kernel/random/uuid)\"] }
    revoke: { exec: { command: [sh, -c, \"cat >> /tmp/revoked\"] } }
exports:
  DSN: \"x://${keys.HOSTKEY}@host\"
";
    context.write_service(script, more);
}

fn up(context: &Context) -> super::context::Ran {
    context.ran(context.command(&["up"]).env("HOSTKEY", NASTY))
}

#[test]
fn keys_are_listed_shown_rotated_and_the_old_one_revoked() {
    let context = Context::new();
    write(&context);
    let ran = up(&context);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let listed = context.run(&["keys"]);
    let columns: Vec<Vec<&str>> = listed
        .stdout
        .lines()
        .map(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect())
        .collect();
    assert_eq!(columns[0], ["NAME", "SOURCE", "AGE", "EXPIRES IN"]);
    assert_eq!(columns[1][..2], ["HOSTKEY", "variable HOSTKEY"]);
    assert_eq!(columns[2][..2], ["SIGNING", "generated, 8 bytes"]);
    assert_eq!(columns[3][..2], ["TOKEN", "command in web"]);
    assert_eq!(context.run(&["keys", "-o", "name"]).stdout, "HOSTKEY\nSIGNING\nTOKEN\n");

    let shown =
        |name: &str| String::from_utf8(context.command(&["keys", "show", name]).output().unwrap().stdout).unwrap();
    assert_eq!(shown("HOSTKEY"), format!("{NASTY}\n"));
    let first = shown("TOKEN");
    assert!(first.starts_with("sk-") && first.ends_with('\n'), "{first:?}");
    let unknown = context.run(&["keys", "show", "TOKE"]);
    assert_eq!((unknown.code, unknown.stdout.as_str()), (Some(2), ""));
    assert!(unknown.stderr.contains("there are HOSTKEY, SIGNING, TOKEN"), "{}", unknown.stderr);

    let pid = context.run(&["exec", "web", "--", "cat", "/tmp/pid"]).stdout;
    let rotated = context.run(&["keys", "rotate", "TOKEN"]);
    assert_eq!(rotated.code, Some(0), "{rotated:?}");
    assert!(rotated.stderr.contains("TOKEN is issued anew"), "{}", rotated.stderr);
    assert_ne!(shown("TOKEN"), first);
    // What doesn't use it was not restarted, and was told to revoke the old one, which is still nobody's to see.
    let raw = context.command(&["exec", "--raw", "web", "--", "cat", "/tmp/revoked", "/tmp/pid"]).output().unwrap();
    assert_eq!(String::from_utf8(raw.stdout).unwrap(), format!("{first}{pid}"));
    assert_eq!(context.run(&["exec", "web", "--", "cat", "/tmp/revoked"]).stdout, "[redacted TOKEN]\n");
    let exports = context.run(&["env", "--format", "json"]).stdout;
    assert!(exports.contains(shown("TOKEN").trim()), "{exports}");

    // A key of the host is the new variable's; what uses it is started again.
    let rotated = context.ran(context.command(&["keys", "rotate", "HOSTKEY"]).env("HOSTKEY", "another-one"));
    assert_eq!(rotated.code, Some(0), "{rotated:?}");
    assert!(context.run(&["logs", "web"]).stdout.contains("[redacted HOSTKEY]"));
    let used = context
        .command(&[
            "exec",
            "--raw",
            "web",
            "--",
            "sh",
            "-c",
            "tr '\\0' '\\n' < /proc/$(cat /tmp/pid)/environ | grep ^KEY=",
        ])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(used.stdout).unwrap(), "KEY=another-one\n");
    let unknown = context.run(&["keys", "rotate", "TOKEN", "NOPE"]);
    assert_eq!(unknown.code, Some(2), "{unknown:?}");
    let words = "the session has no key NOPE\nhint: there are HOSTKEY, SIGNING, TOKEN";
    assert!(unknown.stderr.contains(words), "{unknown:?}");
    let down = context.run(&["down"]);
    assert_eq!(down.code, Some(0), "{down:?}");
}

#[test]
fn a_key_is_nowhere_but_where_it_belongs() {
    let context = Context::new();
    write(&context);
    let ran = up(&context);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_clean(&ran.stderr, "up");
    for arguments in [
        &["logs"][..],
        &["ps", "-o", "json"],
        &["ls", "-o", "json"],
        &["keys", "-o", "json"],
        &["exec", "web", "--", "printenv", "KEY"],
    ] {
        let ran = context.run(arguments);
        assert_clean(&format!("{}{}", ran.stdout, ran.stderr), &arguments.join(" "));
    }
    for arguments in [&["up", "-o", "json"][..], &["config"], &["config", "-o", "objects"]] {
        let ran = context.ran(context.command(arguments).env("HOSTKEY", NASTY));
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert_clean(&format!("{}{}", ran.stdout, ran.stderr), &arguments.join(" "));
    }
    assert!(context.run(&["logs"]).stdout.matches("[redacted HOSTKEY]").count() >= 5);
    // Nor can the kernel's list of processes show it, nor anybody else read the files that have it.
    let session = &context.session_directories()[0];
    for (file, has_it) in [
        ("agent.log", false),
        ("timeline.jsonl", false),
        ("plan.json", false),
        ("keys.json", true),
        ("session.json", true),
    ] {
        let text = std::fs::read_to_string(session.join(file)).unwrap();
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(std::fs::metadata(session.join(file)).unwrap().permissions().mode() & 0o777, 0o600, "{file}");
        if has_it {
            let json = serde_json::Value::from(NASTY).to_string();
            assert!(text.contains(json.trim_matches('"')), "{file}");
        } else {
            assert_clean(&text, file);
        }
    }
    for process in context.processes() {
        assert_clean(&process, "a command line");
    }
}

#[test]
fn a_dump_explains_everything_and_has_no_key() {
    let context = Context::new();
    write(&context);
    assert_eq!(up(&context).code, Some(0));
    let ran = context.run(&["dump", "--to", "here", "-o", "json"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let index: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((&index["live"], &index["missing"]), (&true.into(), &serde_json::json!([])), "{index}");
    let here = context.project().join("here");
    let files = files(&here);
    for wanted in [
        "index.json",
        "versions.json",
        "session.json",
        "plan.json",
        "timeline.txt",
        "agent.log",
        "events.txt",
        "objects/secrets.yaml",
        "objects/deployments.apps.yaml",
        "objects/pods.yaml",
    ] {
        assert!(files.iter().any(|(path, _)| path == wanted), "{wanted} is missing: {index}");
    }
    let log = files.iter().find(|(path, _)| path.starts_with("logs/web-") && path.ends_with("/web.log"));
    assert!(log.is_some_and(|(_, text)| text.contains("[redacted HOSTKEY]")), "{index}");
    let token = context.command(&["keys", "show", "TOKEN"]).output().unwrap().stdout;
    let token = String::from_utf8(token).unwrap();
    for (path, text) in &files {
        assert_clean(text, path);
        assert!(!text.contains(token.trim()) && !text.contains(&STANDARD.encode(token.trim())), "{path}");
    }
    // Where something is, nothing is overwritten; where it cannot be written, nothing is left.
    let again = context.run(&["dump", "--to", "here"]);
    assert_eq!(again.code, Some(125), "{again:?}");
    assert!(again.stderr.contains("give another place with --to"), "{}", again.stderr);
    assert_eq!(context.run(&["dump", "--to", "no/such/place"]).code, Some(125));
    // The same as a tar, by tar.
    assert_eq!(context.run(&["dump", "--to", "it.tar"]).code, Some(0));
    let listed = Command::new("tar").arg("-tf").arg(context.project().join("it.tar")).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert_eq!(listed.lines().count(), files.len(), "{listed}");
}

#[test]
fn what_a_dead_session_left_can_be_dumped() {
    let context = Context::new();
    write(&context);
    assert_eq!(up(&context).code, Some(0));
    let agent = context.agent().expect("it runs");
    let lock = std::fs::File::open(context.session_directories()[0].join("lock")).unwrap();
    kill(agent, Signal::SIGKILL).unwrap();
    lock.lock_shared().unwrap();
    let ran = context.run(&["dump", "--to", "it"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stderr.contains("the session's agent is gone"), "{}", ran.stderr);
    let files = files(&context.project().join("it"));
    assert!(
        files.iter().any(|(path, text)| path.starts_with("logs/web-") && text.contains("[redacted HOSTKEY]")),
        "{files:?}"
    );
    assert!(files.iter().any(|(path, text)| path == "timeline.txt" && text.contains("service web ready")), "{files:?}");
    for (path, text) in &files {
        assert_clean(text, path);
    }
}

#[test]
fn a_key_that_is_not_issued_fails_the_up_with_code_5_and_can_be_dumped() {
    let context = Context::new();
    let keys =
        "keys:\n  TOKEN: { exec: { service: web, command: [sh, -c, \"echo half; echo no such user >&2; exit 4\"] } }\n";
    context.write_service("exec sleep 1000", keys);
    let ran = context.run(&["up", "--keep"]);
    assert_eq!(ran.code, Some(5), "{ran:?}");
    let screen = "key TOKEN failed: the command `sh -c echo half; echo no such user >&2; exit 4` in web exited with code 4 [KeyNotIssued]\n\n  it said\n  | no such user\n";
    assert!(ran.stderr.contains(screen), "{}", ran.stderr);
    assert_eq!(context.run(&["dump", "--to", "it"]).code, Some(0));
    let failure = std::fs::read_to_string(context.project().join("it/failure.txt")).unwrap();
    assert!(failure.starts_with("key TOKEN failed: "), "{failure}");
    let missing = context.run(&["keys", "show", "TOKEN"]);
    assert_eq!(missing.code, Some(2), "{missing:?}");
    let unset = Context::new();
    unset.write_service("exec sleep 1000", "keys: { HF_TOKEN: { fromEnv: HF_TOKEN } }\n");
    let ran = unset.run(&["up"]);
    assert_eq!(ran.code, Some(5), "{ran:?}");
    assert!(
        ran.stderr.contains(
            "key HF_TOKEN failed: it comes from the host's variable HF_TOKEN, which is not set [KeyNotIssued]"
        ),
        "{}",
        ran.stderr
    );
}

#[test]
fn a_key_is_issued_anew_when_its_time_is_over() {
    let context = Context::new();
    let keys = "    env: { KEY: { key: SHORT } }\nkeys: { SHORT: { generate: { bytes: 16 }, ttl: 2s } }\n";
    context.write_service("exec sleep 1000", keys);
    assert_eq!(context.run(&["up"]).code, Some(0));
    let path = context.session_directories()[0].join("keys.json");
    let first = std::fs::read_to_string(&path).unwrap();
    // The agent replaces the file when it has issued the key anew: that is what is waited for.
    let inotify = nix::sys::inotify::Inotify::init(nix::sys::inotify::InitFlags::empty()).unwrap();
    inotify.add_watch(path.parent().unwrap(), nix::sys::inotify::AddWatchFlags::IN_MOVED_TO).unwrap();
    while std::fs::read_to_string(&path).unwrap() == first {
        inotify.read_events().unwrap();
    }
    let value = |text: &str| {
        serde_json::from_str::<serde_json::Value>(text).unwrap()["SHORT"]["value"].as_str().unwrap().to_owned()
    };
    let record: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    assert_ne!(record["SHORT"]["value"], value(&first).as_str());
    // On a slow machine it was not the first by then.
    assert!(record["SHORT"]["former"].as_array().unwrap().contains(&value(&first).into()), "{record}");
}

/// Every file below a directory, by its path there.
fn files(root: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else {
                let name = path.strip_prefix(root).unwrap().display().to_string();
                found.push((name, String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned()));
            }
        }
    }
    found
}

#[test]
fn a_second_up_knows_the_keys_beside_the_secrets_of_notify() {
    let context = Context::new();
    write(&context);
    let file = std::fs::read_to_string(context.project().join("envctl.yaml")).unwrap();
    context.write("envctl.yaml", &format!("{file}notify:\n  webhook: {{ url: {{ fromEnv: HOOK }} }}\n"));
    let up =
        || context.ran(context.command(&["up"]).env("HOSTKEY", NASTY).env("HOOK", "http://127.0.0.1:1/secret-path"));
    for _ in 0..2 {
        assert_eq!(up().code, Some(0));
        assert_eq!(context.run(&["keys", "-o", "name"]).stdout, "HOSTKEY\nSIGNING\nTOKEN\n");
        let ran = context.run(&["exec", "web", "--", "sh", "-c", "cat /proc/$(cat /tmp/pid)/environ"]);
        assert!(ran.stdout.contains("[redacted HOSTKEY]"), "{ran:?}");
        assert_clean(&ran.stdout, "a second `up`'s session");
    }
}

#[test]
fn a_build_that_fails_before_any_key_is_issued_prints_none() {
    let context = Context::new();
    write(&context);
    let file = std::fs::read_to_string(context.project().join("envctl.yaml")).unwrap();
    let build = "process: { build: [sh, -c, 'printf \"%s\\n\" \"$HOSTKEY\" >&2; exit 7'] }";
    context.write("envctl.yaml", &file.replace("process: {}", build));
    let ran = up(&context);
    assert_eq!(ran.code, Some(3), "{ran:?}");
    assert!(ran.stderr.contains("could not be built") && ran.stderr.contains("[redacted HOSTKEY]"), "{ran:?}");
    assert_clean(&ran.stderr, "a failed build's screen");
}

#[test]
fn a_key_that_is_a_word_of_ours_or_a_services_name_changes_neither() {
    let context = Context::new();
    let more = "    env: { KEY: { key: TOKEN } }
    ready: { exec: [\"false\"] }
keys: { TOKEN: { fromEnv: TOKEN }, WORD: { fromEnv: WORD }, PW: { fromEnv: PW } }
";
    context.write_service("echo \"$KEY\" >&2; exit 1", more);
    let file = std::fs::read_to_string(context.project().join("envctl.yaml")).unwrap();
    context.write("envctl.yaml", &file.replace("\n  web:\n", "\n  webshop:\n"));
    let mut up = context.command(&["up", "--keep"]);
    let ran = context.ran(up.env("TOKEN", "sk-1234-5678").env("WORD", "service").env("PW", "webshop"));
    assert_eq!(ran.code, Some(3), "{ran:?}");
    assert_eq!(context.run(&["ps", "-o", "name"]).stdout, "TOKEN\nwebshop\nWORD\nPW\n");
    let timeline = std::fs::read_to_string(context.session_directories()[0].join("timeline.jsonl")).unwrap();
    assert!(timeline.contains("[redacted TOKEN]") && !timeline.contains("sk-1234-5678"), "{timeline}");
}
