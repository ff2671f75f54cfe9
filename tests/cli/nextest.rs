//! The real cargo-nextest: a process for each test, one session for all of a run, and what its setup script exports.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use super::context::{Context, ENVCTL};
use super::program::program;
use super::require::require;
use super::shared::{gone, project};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Tests as a user writes them, each of which says its session and its process.
const TESTS: &str = r#"
fn attached(test: &str) {
    let session = envctl::session::shared().expect("a session");
    assert!(std::env::var("EXPORTED").is_err() || std::env::var("ENVCTL_SESSION").is_ok(), "the setup script's");
    let line = format!("{test} {} {}\n", session.id(), std::process::id());
    let file = std::fs::OpenOptions::new().create(true).append(true).open("said");
    std::io::Write::write_all(&mut file.expect("a file"), line.as_bytes()).expect("written");
}
macro_rules! tests { ($($name:ident)*) => { $(#[test] fn $name() { attached(stringify!($name)); })* } }
tests! { a b c d e f g h }
"#;

/// nextest's own way to give tests variables (https://nexte.st, "Setup scripts").
const CONFIGURATION: &str = r#"
experimental = ["setup-scripts"]
[scripts.setup.session]
command = ["sh", "-c", 'test -z "$EXPORTED" || "$ENVCTL" env --format nextest >>"$NEXTEST_ENV"']
[[profile.default.scripts]]
filter = "all()"
setup = "session"
"#;

/// A package with those tests, in the project of the environment.
fn package(context: &Context) {
    context.write("tests/all.rs", TESTS);
    context.write("src/lib.rs", "");
    context.write(".config/nextest.toml", CONFIGURATION);
    let envctl = format!("envctl = {{ path = {ROOT:?}, default-features = false }}");
    let package = "[package]\nname = \"suite\"\nversion = \"0.0.0\"\nedition = \"2024\"\n[workspace]\n";
    context.write("Cargo.toml", &format!("{package}[dependencies]\n{envctl}\n"));
    // What it needs of it is downloaded already.
    fs::copy(Path::new(ROOT).join("Cargo.lock"), context.project().join("Cargo.lock")).unwrap();
}

/// Runs all tests; which sessions they had.
fn run(context: &Context, variables: &[(&str, &str)]) -> BTreeSet<String> {
    let said = context.project().join("said");
    let _none_yet = fs::remove_file(&said);
    let mut command = Command::new("cargo");
    let of_context = context.command(&[]);
    command.envs(of_context.get_envs().filter_map(|(name, value)| Some((name, value?))));
    // The toolchain and what was downloaded are the caller's, not those of the home of this test.
    let home = std::env::var("HOME").expect("a home");
    for (name, directory) in [("CARGO_HOME", ".cargo"), ("RUSTUP_HOME", ".rustup")] {
        command.env(name, std::env::var(name).unwrap_or_else(|_| format!("{home}/{directory}")));
    }
    command.env("CARGO_TARGET_DIR", Path::new(env!("CARGO_TARGET_TMPDIR")).join("nextest"));
    command.env("ENVCTL", ENVCTL).env("ENVCTL_LINGER", "2s").envs(variables.iter().copied());
    command.args(["nextest", "run", "--offline", "--test-threads", "4"]).current_dir(context.project());
    let output = command.output().expect("cargo");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = fs::read_to_string(said).expect("what they said");
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split(' ').collect()).collect();
    assert_eq!(lines.iter().map(|line| line[0]).collect::<BTreeSet<_>>().len(), 8, "{text}");
    assert_eq!(lines.iter().map(|line| line[2]).collect::<BTreeSet<_>>().len(), 8, "a process each: {text}");
    lines.iter().map(|line| line[1].to_owned()).collect()
}

#[test]
fn tests_of_a_run_share_one_session_and_a_setup_script_exports_what_is_up() {
    if !require(program("cargo-nextest", "--version"), "cargo-nextest") {
        return;
    }
    let context = project();
    package(&context);
    let mut sessions = run(&context, &[]);
    assert_eq!(sessions.len(), 1, "{sessions:?}");
    gone(&context, &sessions.pop_first().unwrap());
    assert!(context.session_directories().is_empty());

    // What `envctl up` left is what the tests use, and they leave it up.
    assert_eq!(context.run(&["up"]).code, Some(0));
    let sessions = run(&context, &[("EXPORTED", "yes")]);
    assert_eq!(sessions.len(), 1, "{sessions:?}");
    assert_eq!(context.run(&["ls", "-o", "name"]).stdout, "demo-ID\n");
    assert_eq!(context.run(&["down"]).code, Some(0));
}
