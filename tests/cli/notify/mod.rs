//! `notify:` and `--dump`, against real receivers (`receivers.py`): who is told what, and that nobody being there changes nothing.

mod receivers;

use std::fs;
use std::net::TcpListener;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::context::{Context, Ran};
use super::proxy::Proxy;
use super::require::require;
use receivers::{Authority, Receiver, aiosmtpd};

/// Nobody may see it.
const PASSWORD: &str = "sm+p/p@ss wörd";
const SECRET_PATH: &str = "/services/T0SECRET/xyzzy";

/// A project in git, with a service, a suite and this `notify`.
fn project(serve: &str, suite: &str, notify: &str) -> Context {
    let context = Context::new();
    context.write_service(serve, "    ready: { exec: [\"true\"] }\n");
    let mut file = fs::read_to_string(context.project().join("envctl.yaml")).unwrap();
    file.push_str(&format!(
        "suites:\n  smoke: {{ run: [sh, {}] }}\n{notify}",
        context.project().join("smoke").display()
    ));
    context.write("envctl.yaml", &file);
    context.write("smoke", suite);
    for arguments in [&["init", "-q"][..], &["commit", "-q", "--allow-empty", "-m", "Mend <it>"]] {
        let mut git = Command::new("git");
        git.args(["-c", "user.name=Ann", "-c", "user.email=ann@example.org"]).args(arguments);
        assert!(git.current_dir(context.project()).status().unwrap().success());
    }
    context
}

const SERVING: &str = "trap 'exit 0' TERM\necho serving \"$HOOK\"\nsleep 100000 & wait";
const WEBHOOK: &str = "notify:\n  webhook: { url: { fromEnv: HOOK } }\n";

fn run(context: &Context, arguments: &[&str], variables: &[(&str, &str)]) -> Ran {
    let mut command = context.command(arguments);
    command.env("CI", "true").envs(variables.iter().copied());
    context.ran(&mut command)
}

fn nothing_is_left(context: &Context) {
    assert!(context.session_directories().is_empty());
    assert_eq!(context.processes(), Vec::<String>::new());
}

fn field<'a>(message: &'a Value, title: &str) -> &'a str {
    let fields = message["attachments"][0]["fields"].as_array().unwrap();
    fields.iter().find(|field| field["title"] == title).map_or("", |field| field["value"].as_str().unwrap())
}

#[test]
fn a_webhook_is_told_of_a_failed_suite() {
    let Some(mut receiver) = Receiver::start("http", None) else { return };
    // The suite prints the secret, too.
    let context = project(SERVING, "echo \"$HOOK\"; echo \"$HOOK\" >&2; exit 3", WEBHOOK);
    let event = context.home().join("event.json");
    fs::write(&event, r#"{"pull_request": {"number": 12, "title": "A thing"}}"#).unwrap();
    let hook = format!("http://127.0.0.1:{}{SECRET_PATH}", receiver.port);
    let variables = [
        ("HOOK", hook.as_str()),
        ("GITHUB_SERVER_URL", "https://example.org"),
        ("GITHUB_REPOSITORY", "o/r"),
        ("GITHUB_RUN_ID", "9"),
        ("GITHUB_HEAD_REF", "topic"),
        ("GITHUB_EVENT_PATH", event.to_str().unwrap()),
    ];
    let ran = run(&context, &["test"], &variables);
    assert_eq!(ran.code, Some(3), "{ran:?}");
    assert!(ran.stderr.contains("told of the failure: webhook (HOOK)"), "{ran:?}");
    let got = receiver.next();
    assert_eq!((&got["path"], &got["type"]), (&SECRET_PATH.into(), &"application/json".into()));
    let message = &got["body"];
    assert_eq!(message["text"], "demo: suite smoke failed");
    assert_eq!(message["attachments"][0]["text"], "suite smoke: exited with code 3");
    assert!(field(message, "commit").ends_with(" Mend &lt;it&gt; (Ann)"), "{message}");
    assert_eq!(field(message, "pull request"), "#12 A thing https://example.org/o/r/pull/12");
    assert_eq!(field(message, "run"), "https://example.org/o/r/actions/runs/9");
    let dump = context.project().join(".envctl/report/dump.tar.gz");
    assert!(field(message, "dump").starts_with(dump.to_str().unwrap()), "{message}");
    // The dump is one, and has no secret, as nothing else has.
    let listed = Command::new("tar").arg("-tzf").arg(&dump).output().unwrap();
    assert!(String::from_utf8_lossy(&listed.stdout).contains("logs/web-"), "{listed:?}");
    let unpacked = Command::new("tar").arg("-xzOf").arg(&dump).output().unwrap();
    let report = fs::read(context.project().join(".envctl/report/smoke/junit.xml")).unwrap();
    for text in
        [message.to_string().as_bytes(), ran.stdout.as_bytes(), ran.stderr.as_bytes(), &unpacked.stdout, &report]
    {
        assert!(!String::from_utf8_lossy(text).contains("T0SECRET"), "{}", String::from_utf8_lossy(text));
    }
    assert!(ran.stdout.contains("[redacted HOOK]"), "{ran:?}");
    nothing_is_left(&context);
}

#[test]
fn nobody_is_told_of_what_passed_or_is_not_ci() {
    let Some(mut receiver) = Receiver::start("http", None) else { return };
    let hook = format!("http://127.0.0.1:{}/x", receiver.port);
    let context = project(SERVING, "exit $WANTED", WEBHOOK);
    let passed = run(&context, &["test"], &[("HOOK", &hook), ("WANTED", "0")]);
    assert_eq!(passed.code, Some(0), "{passed:?}");
    let at_home = run(&context, &["test"], &[("HOOK", &hook), ("WANTED", "4"), ("CI", "false")]);
    assert_eq!(at_home.code, Some(4), "{at_home:?}");
    assert!(!context.project().join(".envctl/report/dump.tar.gz").exists());
    // A pull request of a fork has no secrets.
    let fork = run(&context, &["test"], &[("WANTED", "5")]);
    assert_eq!(fork.code, Some(5), "{fork:?}");
    let line = "warning: not told of the failure: webhook (HOOK): the variable HOOK is not set\n";
    assert!(fork.stderr.ends_with(line), "{fork:?}");
    // The first that comes is this one.
    run(&context, &["test"], &[("HOOK", &hook), ("WANTED", "6")]);
    assert_eq!(receiver.next()["body"]["attachments"][0]["text"], "suite smoke: exited with code 6");
    nothing_is_left(&context);
}

#[test]
fn a_webhook_that_refuses_or_is_not_there_is_one_line() {
    let Some(mut receiver) = Receiver::start("http", None) else { return };
    let context = project(SERVING, "exit 7", WEBHOOK);
    // A port that was just free.
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let port = receiver.port;
    for (hook, says) in [
        (format!("http://127.0.0.1:{port}/broken{SECRET_PATH}"), "it answered 500 Internal Server Error: no_service"),
        (format!("http://127.0.0.1:{port}/moved{SECRET_PATH}"), "it answered 302 Found"),
        (format!("http://{closed}{SECRET_PATH}"), "Connection refused"),
        (format!("ftp://127.0.0.1{SECRET_PATH}"), "what the variable HOOK holds is not the address of a webhook"),
    ] {
        let ran = run(&context, &["test"], &[("HOOK", &hook)]);
        assert_eq!(ran.code, Some(7), "{ran:?}");
        let lines: Vec<&str> = ran.stderr.lines().filter(|line| line.contains("told of the failure")).collect();
        assert!(lines.len() == 1 && lines[0].starts_with("warning: not told") && lines[0].contains(says), "{ran:?}");
        assert!(!ran.stderr.contains("T0SECRET"), "{ran:?}");
    }
    receiver.next();
    assert_eq!(receiver.next()["path"], format!("/moved{SECRET_PATH}"));
    nothing_is_left(&context);
}

#[test]
fn a_webhook_is_told_through_the_proxy_that_the_variables_name() {
    let context = project(SERVING, "exit 7", WEBHOOK);
    let authority = Authority::new();
    // A name that only the proxy knows.
    let (certificate, key) = authority.certificate("hook.test");
    let Some(mut receiver) = Receiver::start("https", Some((&certificate, &key))) else { return };
    let proxy = Proxy::start(Some(receiver.port));
    let through = format!("http://ann:p%40ss@127.0.0.1:{}", proxy.port);
    let hook = format!("https://hook.test{SECRET_PATH}");
    let trusted = authority.root.to_str().unwrap();
    let variables = [("HOOK", hook.as_str()), ("HTTPS_PROXY", &through), ("SSL_CERT_FILE", trusted)];
    let ran = run(&context, &["test"], &variables);
    assert_eq!(ran.code, Some(7), "{ran:?}");
    assert!(ran.stderr.contains("told of the failure: webhook (HOOK)"), "{ran:?}");
    let asked = proxy.asked();
    assert!(asked.starts_with("CONNECT hook.test:443 HTTP/1.1\r\n"), "{asked}");
    // `ann:p@ss`
    assert!(
        asked.to_ascii_lowercase().contains("proxy-authorization: basic ") && asked.contains("YW5uOnBAc3M="),
        "{asked}"
    );
    assert_eq!(receiver.next()["path"], SECRET_PATH);
    // One that is not asked, and one that cannot be.
    for (name, value, says) in [
        ("NO_PROXY", "hook.test", "lookup address"),
        ("HTTPS_PROXY", "socks5://127.0.0.1:1", "is of a kind that is not supported (socks5://)"),
    ] {
        let ran = run(&context, &["test"], &[&variables[..], &[(name, value)]].concat());
        assert_eq!(ran.code, Some(7), "{ran:?}");
        let lines: Vec<&str> = ran.stderr.lines().filter(|line| line.contains("told of the failure")).collect();
        assert!(lines.len() == 1 && lines[0].starts_with("warning: not told") && lines[0].contains(says), "{ran:?}");
        assert!(!ran.stderr.contains("T0SECRET") && !ran.stderr.contains("p%40ss"), "{ran:?}");
    }
    nothing_is_left(&context);
}

/// Both take the connection and never say a word.
#[test]
fn receivers_that_hang_cost_ten_seconds_together() {
    let (web, mail) = (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
    let notify = format!(
        "{WEBHOOK}  email: {{ from: ci@example.org, to: [team@example.org], host: 127.0.0.1, port: {}, tls: none }}\n",
        mail.local_addr().unwrap().port()
    );
    let context = project(SERVING, "exit 7", &notify);
    let hook = format!("http://{}{SECRET_PATH}", web.local_addr().unwrap());
    let mut command = context.command(&["test"]);
    command.env("CI", "true").env("HOOK", hook);
    let mut started = Context::started(&mut command);
    started.until("dump: ");
    let since = Instant::now();
    let ran = started.end(&context);
    let took = since.elapsed();
    assert_eq!(ran.code, Some(7), "{ran:?}");
    assert!(ran.stderr.contains("webhook (HOOK): it took longer than 10s\n"), "{ran:?}");
    assert!(ran.stderr.contains("mail to team@example.org: it took longer than 10s\n"), "{ran:?}");
    assert!(took > Duration::from_secs(9) && took < Duration::from_secs(20), "{took:?}");
    nothing_is_left(&context);
}

fn mail(port: u16, host: &str, more: &str) -> String {
    format!(
        "notify:\n  email:\n    {{ from: CI <ci@example.org>, to: [team@example.org, ann@example.org], host: {host}, port: {port}{more} }}\n"
    )
}

#[test]
fn a_mail_is_sent_in_the_clear_only_where_the_file_says_so() {
    let Some(python) = aiosmtpd() else { return };
    let Some(mut receiver) = Receiver::start_with(&python, "smtp", None) else { return };
    let context = project(SERVING, "exit 7", &mail(receiver.port, "127.0.0.1", ", tls: none"));
    let ran = run(&context, &["test"], &[]);
    assert_eq!(ran.code, Some(7), "{ran:?}");
    assert!(ran.stderr.contains("told of the failure: mail to team@example.org, ann@example.org"), "{ran:?}");
    let got = receiver.next();
    assert_eq!(got["recipients"], serde_json::json!(["team@example.org", "ann@example.org"]));
    let content = got["content"].as_str().unwrap().replace("\r\n", "\n");
    for part in [
        "From: CI <ci@example.org>",
        "To: team@example.org, ann@example.org",
        "Subject: demo: suite smoke failed\n",
        "Auto-Submitted: auto-generated",
        "\n\nenvctl test of the environment demo failed.\n\nsuite smoke: exited with code 7\n\ncommit: ",
        "Mend <it> (Ann)",
        ".envctl/report/dump.tar.gz",
    ] {
        assert!(content.contains(part), "{part:?} is missing:\n{content}");
    }
    // The same server, which has no STARTTLS: nothing is sent.
    let context = project(SERVING, "exit 7", &mail(receiver.port, "127.0.0.1", ""));
    let ran = run(&context, &["test"], &[]);
    assert_eq!(ran.code, Some(7), "{ran:?}");
    assert!(
        ran.stderr.contains("warning: not told of the failure: mail to") && ran.stderr.contains("STARTTLS"),
        "{ran:?}"
    );
}

#[test]
fn a_mail_goes_through_tls_with_a_login() {
    let Some(python) = aiosmtpd() else { return };
    let authority = Authority::new();
    let (certificate, key) = authority.certificate("localhost");
    let login = ", username: ci, password: { fromEnv: MAIL_PASSWORD }";
    for (kind, tls) in [("smtp", ""), ("smtps", ", tls: implicit")] {
        let Some(mut receiver) = Receiver::start_with(&python, kind, Some((&certificate, &key))) else { return };
        let context = project(SERVING, "exit 7", &mail(receiver.port, "localhost", &format!("{tls}{login}")));
        let trusted = authority.root.to_str().unwrap();
        let right = [("SSL_CERT_FILE", trusted), ("MAIL_PASSWORD", PASSWORD)];
        let ran = run(&context, &["test"], &right);
        assert!(ran.stderr.contains("told of the failure: mail to team"), "{kind}: {ran:?}");
        let got = receiver.next();
        assert_eq!((&got["tls"], &got["login"]), (&true.into(), &true.into()), "{kind}: {got}");
        // Wrong password, a server that nobody vouches for, another server's name: told in a line without the password.
        let wrong = run(&context, &["test"], &[("SSL_CERT_FILE", trusted), ("MAIL_PASSWORD", "wr0ng-passw0rd")]);
        assert!(wrong.stderr.contains("not told of the failure: mail to") && wrong.stderr.contains("535"), "{wrong:?}");
        let unknown = run(&context, &["test"], &[("MAIL_PASSWORD", PASSWORD)]);
        assert!(
            unknown.stderr.contains("not told of the failure: mail to") && unknown.stderr.contains("ertificate"),
            "{unknown:?}"
        );
        let other = project(SERVING, "exit 7", &mail(receiver.port, "127.0.0.1", &format!("{tls}{login}")));
        let other = run(&other, &["test"], &right);
        assert!(other.stderr.contains("not told of the failure: mail to"), "{other:?}");
        for ran in [&ran, &wrong, &unknown, &other] {
            assert_eq!(ran.code, Some(7), "{ran:?}");
            assert!(!ran.stderr.contains(PASSWORD) && !ran.stderr.contains("wr0ng-passw0rd"), "{ran:?}");
        }
        receiver.has_no_more();
    }
}

#[test]
fn a_webhooks_certificate_is_verified() {
    let authority = Authority::new();
    let (certificate, key) = authority.certificate("localhost");
    let Some(mut receiver) = Receiver::start("https", Some((&certificate, &key))) else { return };
    let context = project(SERVING, "exit 7", WEBHOOK);
    let hook = format!("https://localhost:{}{SECRET_PATH}", receiver.port);
    let ran = run(&context, &["test"], &[("HOOK", &hook)]);
    assert!(ran.code == Some(7) && ran.stderr.contains("not told of the failure: webhook (HOOK): "), "{ran:?}");
    let ran = run(&context, &["test"], &[("HOOK", &hook), ("SSL_CERT_FILE", authority.root.to_str().unwrap())]);
    assert!(ran.code == Some(7) && ran.stderr.contains("\ntold of the failure: webhook (HOOK)"), "{ran:?}");
    assert_eq!(receiver.next()["path"], SECRET_PATH);
    receiver.has_no_more();
}

#[test]
fn an_up_that_fails_is_told_and_dumped_before_it_goes() {
    let Some(mut receiver) = Receiver::start("http", None) else { return };
    let context = project("echo no such table; exit 1", "true", WEBHOOK);
    // Never ready, however late its end is noticed on a busy machine.
    let file = fs::read_to_string(context.project().join("envctl.yaml")).unwrap();
    context.write("envctl.yaml", &file.replace("exec: [\"true\"]", "exec: [\"false\"]"));
    let hook = format!("http://127.0.0.1:{}{SECRET_PATH}", receiver.port);
    let ran = run(&context, &["up", "--dump", "it"], &[("HOOK", &hook)]);
    assert_eq!(ran.code, Some(3), "{ran:?}");
    assert!(ran.stderr.contains("the session was removed"), "{ran:?}");
    nothing_is_left(&context);
    let message = &receiver.next()["body"];
    assert_eq!(message["text"], "demo: envctl up failed");
    assert!(message["attachments"][0]["text"].as_str().unwrap().contains("web"), "{message}");
    assert!(field(message, "dump").ends_with("/project/it"), "{message}");
    let failure = fs::read_to_string(context.project().join("it/failure.txt")).unwrap();
    assert!(failure.contains("| no such table"), "{failure}");
    assert!(context.project().join("it/objects/pods.yaml").exists());
    // The same by a test, whose environment does not come up.
    let ran = run(&context, &["test", "--dump", "it.tgz", "--result", "r.json"], &[("HOOK", &hook)]);
    assert_eq!(ran.code, Some(125), "{ran:?}");
    let message = &receiver.next()["body"];
    assert_eq!(message["text"], "demo: envctl test failed");
    let unpacked = Command::new("tar").arg("-xzOf").arg(context.project().join("it.tgz")).arg("failure.txt").output();
    assert!(String::from_utf8_lossy(&unpacked.unwrap().stdout).contains("| no such table"));
    let result: Value = serde_json::from_slice(&fs::read(context.project().join("r.json")).unwrap()).unwrap();
    assert_eq!((&result["reason"], &result["session"]["kept"]), (&"CrashLoop".into(), &false.into()));
    // A later run replaces it, and nothing else.
    let ran = context.run(&["test", "--dump", "it.tgz", "--wait-timeout", "100ms"]);
    assert!(ran.stderr.contains("\ndump: HOME/project/it.tgz\n"), "{ran:?}");
    let ran = context.run(&["test", "--dump", "envctl.yaml", "--wait-timeout", "100ms"]);
    assert!(ran.stderr.contains("warning: cannot write the dump to HOME/project/envctl.yaml: File exists"), "{ran:?}");
    nothing_is_left(&context);
}

/// A disk that is full where the dump goes: told, nothing half is left, and the run ends as it would have.
#[test]
fn a_dump_on_a_full_disk() {
    if !require(nix::unistd::geteuid().is_root(), "root (to mount a small file system)") {
        return;
    }
    let context = project(SERVING, "exit 9", "");
    let small = context.project().join("small");
    fs::create_dir(&small).unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=4k", "tmpfs"]).arg(&small).status();
    if !require(mounted.is_ok_and(|status| status.success()), "the right to mount") {
        return;
    }
    assert_eq!(context.run(&["up"]).code, Some(0));
    let dumps: Vec<Ran> =
        ["small/d", "small/d.tar", "small/d.tar.gz"].iter().map(|to| context.run(&["dump", "--to", to])).collect();
    let down = context.run(&["down"]);
    let test = context.run(&["test", "--dump", "small/d.tar.gz"]);
    let left: Vec<_> = fs::read_dir(&small).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(Command::new("umount").arg(&small).status().unwrap().success());
    for ran in &dumps {
        assert_eq!(ran.code, Some(125), "{ran:?}");
        assert!(ran.stderr.contains("error: cannot write the dump to HOME/project/small/d"), "{ran:?}");
        assert!(
            ran.stderr.contains("No space left on device") && ran.stderr.contains("another place with --to"),
            "{ran:?}"
        );
    }
    assert_eq!((down.code, test.code), (Some(0), Some(9)), "{test:?}");
    assert!(
        test.stderr.contains("warning: cannot write the dump to HOME/project/small/d.tar.gz: No space left"),
        "{test:?}"
    );
    assert_eq!(left, Vec::<std::ffi::OsString>::new());
    nothing_is_left(&context);
}
