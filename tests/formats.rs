//! What `envctl env` prints, read back by those it is for: sh, bash, fish, docker compose's own dotenv package, python-dotenv. GitHub's runner and
//! nextest have no reader that runs alone: their few lines are ported here from upstream.

#[path = "common/require.rs"]
mod require;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use envctl::cli::env::{Style, write};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use require::require;

/// Values of everything that quoting stumbles on, many at once: a process for each would take minutes.
fn values() -> impl Strategy<Value = Vec<String>> {
    let pieces = prop_oneof![
        8 => "[a-z0-9]{1,3}".boxed(),
        1 => proptest::sample::select(vec!["'", "\"", "\\", "$", "${HOME}", "$(id)", "`id`", "\n", "\r", "\t", " ", "#", " #", "=", "!", "é", "日本", "🦀", ";", "&", "*", "~", "%", "\\n", "\\'", "\\\\", "ENVCTL_END", "<<", "-n"])
            .prop_map(str::to_owned).boxed(),
    ];
    let harsh = vec(pieces, 0..8).prop_map(|pieces| pieces.concat());
    vec(prop_oneof![3 => harsh.boxed(), 1 => "[^\0]{0,12}".boxed()], 1..40)
}

fn named(values: &[String]) -> BTreeMap<String, String> {
    values.iter().enumerate().map(|(index, value)| (format!("V{index:03}"), value.clone())).collect()
}

/// Every value comes back from `reader`, which is given the file; `expected` may leave out what the format says it cannot carry.
fn round_trip(style: Style, cases: u32, reader: impl Fn(&Path) -> BTreeMap<String, String>) {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("env");
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&values(), |values| {
        let variables = named(&values);
        let written = match write(style, &variables) {
            Ok(written) => written,
            Err(_) => {
                // One that cannot be carried refuses all; the others must still come back.
                let some: BTreeMap<_, _> =
                    variables.clone().into_iter().filter(|(_, value)| !value.contains(['\n', '\r'])).collect();
                prop_assert!(some.len() < variables.len(), "refused for no reason");
                let written = write(style, &some).expect("it can carry these");
                std::fs::write(&file, written.text).expect("written");
                prop_assert_eq!(only(reader(&file)), some);
                return Ok(());
            }
        };
        std::fs::write(&file, &written.text).expect("written");
        let mut read = only(reader(&file));
        let mut expected = variables;
        if READS_LESS.get() {
            for name in &written.only_compose {
                read.remove(name);
                expected.remove(name);
            }
        }
        prop_assert_eq!(read, expected, "{}", written.text);
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}

thread_local! {
    /// Whether this reader is not docker compose: what only that reads is said by `envctl env`.
    static READS_LESS: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

fn only(read: BTreeMap<String, String>) -> BTreeMap<String, String> {
    read.into_iter().filter(|(name, _)| name.len() == 4 && name.starts_with('V')).collect()
}

fn there(program: &str) -> bool {
    Command::new(program).arg("-c").arg("true").stdin(Stdio::null()).output().is_ok()
}

fn succeeded(output: Output) -> Vec<u8> {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// What a process that read the file has in its environment.
fn environment(output: Output) -> BTreeMap<String, String> {
    let text = String::from_utf8(succeeded(output)).expect("text");
    let pairs = text.split('\0').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn shell(program: &str, options: &[&str], style: Style, read: &str) {
    if !require(there(program), program) {
        return;
    }
    round_trip(style, 24, |file| {
        let mut command = Command::new(program);
        command.args(options).arg("-c").arg(format!("{read}; env -0")).env("FILE", file);
        environment(command.output().expect("it runs"))
    });
}

#[test]
fn sh() {
    shell("sh", &[], Style::Sh, r#"eval "$(cat "$FILE"; echo x=)""#);
}

#[test]
fn bash() {
    shell("bash", &["--norc"], Style::Sh, r#"source "$FILE""#);
}

#[test]
fn fish() {
    shell("fish", &["--no-config"], Style::Fish, "source $FILE");
}

#[test]
fn docker_compose() {
    if !require(Command::new("go").arg("version").output().is_ok(), "go") {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let reader = directory.path().join("reader");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/formats");
    let built = Command::new("go").args(["build", "-o"]).arg(&reader).arg(".").current_dir(source).output();
    succeeded(built.expect("go runs"));
    round_trip(Style::Dotenv, 48, |file| {
        let output = Command::new(&reader).arg(file).output().expect("it runs");
        serde_json::from_slice(&succeeded(output)).expect("JSON")
    });
}

#[test]
fn python_dotenv() {
    let script = "import dotenv, json, sys; print(json.dumps(dotenv.dotenv_values(sys.argv[1], encoding='utf-8')))";
    // Debian's package is for Debian's interpreter, which need not be the first.
    let has_it = |python: &&str| {
        let asked = Command::new(python).args(["-c", "import dotenv; dotenv.dotenv_values"]).output();
        asked.is_ok_and(|output| output.status.success())
    };
    let found = ["python3", "/usr/bin/python3"].into_iter().find(has_it);
    if !require(found.is_some(), "python-dotenv") {
        return;
    }
    let python = found.unwrap_or_default();
    READS_LESS.set(true);
    round_trip(Style::Dotenv, 48, |file| {
        let output = Command::new(python).args(["-c", script]).arg(file).env_remove("HOME").output().expect("it runs");
        serde_json::from_slice(&succeeded(output)).expect("JSON")
    });
}

#[test]
fn json() {
    round_trip(Style::Json, 48, |file| serde_json::from_slice(&std::fs::read(file).expect("there")).expect("JSON"));
}

/// actions/runner `src/Runner.Worker/FileCommandManager.cs`, `SetEnvFileCommand.ProcessCommand`, on Linux.
#[test]
fn github() {
    round_trip(Style::Github, 200, |file| {
        let text = std::fs::read_to_string(file).expect("there");
        let mut lines = text.split_inclusive('\n').map(|line| line.strip_suffix('\n').unwrap_or(line));
        let mut read = BTreeMap::new();
        while let Some(line) = lines.next() {
            let (equals, heredoc) = (line.find('='), line.find("<<"));
            match (equals, heredoc) {
                _ if line.is_empty() => {}
                (Some(equals), heredoc) if heredoc.is_none_or(|heredoc| equals < heredoc) => {
                    read.insert(line[..equals].to_owned(), line[equals + 1..].to_owned());
                }
                (_, Some(heredoc)) => {
                    let end = &line[heredoc + 2..];
                    let value: Vec<&str> = lines.by_ref().take_while(|line| *line != end).collect();
                    read.insert(line[..heredoc].to_owned(), value.join("\n"));
                }
                _ => panic!("Invalid environment variable format '{line}'"),
            }
        }
        read
    });
}

/// nextest-runner `src/runner/script_helpers.rs`, which reads by `AsyncBufReadExt::lines`.
#[test]
fn nextest() {
    round_trip(Style::Nextest, 200, |file| {
        let text = std::fs::read_to_string(file).expect("there");
        let pairs = text.lines().map(|line| line.split_once('=').expect("a pair"));
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    });
}
