//! The GitHub actions of this repository: their own steps, in order, with what a runner gives them; and files that GitHub understands.

mod expression;
mod job;
#[path = "../common/require.rs"]
mod require;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use job::{Job, Step};
use require::require;

const ENVCTL: &str = env!("CARGO_BIN_EXE_envctl");

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A project with a service that says a word.
fn project(serve: &str) -> Job {
    let job = Job::new();
    let program = job.project().join("serve");
    fs::write(&program, format!("#!/bin/sh\n{serve}\n")).unwrap();
    let file = format!(
        "images:\n  web: {{ entrypoint: [sh, {}], process: {{}} }}\nservices:\n  web: {{ image: web, ready: {{ exec: [test, -e, /tmp/serving] }} }}\n\
         keys:\n  API_KEY: {{ generate: {{ bytes: 16 }} }}\nexports:\n  TEXT: \"two\\nlines\"\n",
        program.display()
    );
    fs::write(job.project().join("envs/demo.yaml"), &file).unwrap();
    fs::write(job.project().join("envs/other.yaml"), file).unwrap();
    job
}

/// It is ready when it says so in its own `/tmp`.
const SERVING: &str = "trap 'exit 0' TERM\necho serving\n: >/tmp/serving\nsleep 100000 & wait";

/// The program as if it were downloaded, with its checksum.
fn program() -> [(&'static str, String); 2] {
    let sum = Command::new("sha256sum").arg(ENVCTL).output().unwrap();
    let sum = String::from_utf8(sum.stdout).unwrap().split(' ').next().unwrap().to_owned();
    [("program", format!("file://{ENVCTL}")), ("sha256", sum)]
}

fn up(job: &mut Job, more: &[(&str, &str)]) -> Vec<Step> {
    let program = program();
    let mut given: Vec<(&str, &str)> = program.iter().map(|(name, value)| (*name, value.as_str())).collect();
    given.push(("file", "demo"));
    given.extend(more);
    job.uses(root(), &given)
}

fn outcomes(steps: &[Step]) -> Vec<(&str, &str)> {
    let done = steps.iter().filter(|step| step.outcome != "skipped");
    done.map(|step| (step.name.as_str(), step.outcome)).collect()
}

fn step<'a>(steps: &'a [Step], name: &str) -> &'a Step {
    steps.iter().find(|step| step.name == name).unwrap()
}

fn nothing_is_left(job: &Job) {
    let sessions = fs::read_dir(job.home.path().join("state/sessions")).map_or(0, Iterator::count);
    assert_eq!(sessions, 0);
}

#[test]
fn a_command_gets_the_environment_which_goes_with_it() {
    let mut job = project(SERVING);
    let script =
        "test -n \"$API_KEY\" -a -f \"$KUBECONFIG\" -a \"$TEXT\" = $'two\\nlines'; envctl exec web -- echo hello";
    let steps = up(&mut job, &[("run", script)]);
    let expected = [
        ("Install envctl", "success"),
        ("Let pods have namespaces", "success"),
        ("Bring it up", "success"),
        ("Run what it is for", "success"),
        ("Take it away", "success"),
    ];
    assert_eq!(outcomes(&steps), expected, "{steps:?}");
    assert_eq!(step(&steps, "Run what it is for").said, "hello\n");
    // Masked for the steps that follow.
    let key = &job.env["API_KEY"];
    assert!(step(&steps, "Bring it up").said.contains(&format!("::add-mask::{key}")), "{steps:?}");
    nothing_is_left(&job);
}

#[test]
fn a_command_that_fails_leaves_a_dump_and_nothing_else() {
    let mut job = project(SERVING);
    let steps = up(&mut job, &[("run", "envctl exec web -- true; exit 3")]);
    let ends: Vec<(&str, &str)> = outcomes(&steps).split_off(3);
    let expected = [
        ("Run what it is for", "failure"),
        ("Dump what failed", "success"),
        ("Attach the dump", "success"),
        ("Take it away", "success"),
    ];
    assert_eq!(ends, expected, "{steps:?}");
    let upload = &step(&steps, "Attach the dump").with;
    assert_eq!(upload["name"], "envctl-dump-job-0");
    let listed = Command::new("tar").arg("-tzf").arg(&upload["path"]).output().unwrap();
    assert!(String::from_utf8_lossy(&listed.stdout).contains("logs/web-"), "{listed:?}");
    assert!(job.failed);
    nothing_is_left(&job);
}

#[test]
fn what_does_not_come_up_is_dumped_too() {
    let mut job = project("echo no such table; exit 1");
    let steps = up(&mut job, &[]);
    let ends: Vec<(&str, &str)> = outcomes(&steps).split_off(2);
    let expected = [
        ("Bring it up", "failure"),
        ("Dump what failed", "success"),
        ("Attach the dump", "success"),
        ("Take it away", "success"),
    ];
    assert_eq!(ends, expected, "{steps:?}");
    let dump = &step(&steps, "Attach the dump").with["path"];
    let failure = Command::new("tar").arg("-xzOf").arg(dump).arg("failure.txt").output().unwrap();
    assert!(String::from_utf8_lossy(&failure.stdout).contains("| no such table"), "{failure:?}");
    nothing_is_left(&job);
}

#[test]
fn the_steps_that_follow_have_it_until_the_teardown() {
    for failing in [false, true] {
        let mut job = project(SERVING);
        let steps = up(&mut job, &[]);
        assert_eq!(outcomes(&steps).last(), Some(&("Bring it up", "success")), "{steps:?}");
        let mut follows = job.command("envctl");
        assert!(follows.args(["exec", "web", "--", "true"]).status().unwrap().success());
        job.failed = failing;
        let steps = job.uses(&root().join("teardown"), &[]);
        let expected: &[_] = if failing {
            &[("Dump what failed", "success"), ("Attach the dump", "success"), ("Take it away", "success")]
        } else {
            &[("Take it away", "success")]
        };
        assert_eq!(outcomes(&steps), expected, "{steps:?}");
        nothing_is_left(&job);
        // Again, and with nothing there: as after an `up` that was never reached.
        let steps = job.uses(&root().join("teardown"), &[]);
        assert_eq!(outcomes(&steps).last(), Some(&("Take it away", "success")), "{steps:?}");
    }
}

#[test]
fn a_program_that_is_not_the_one_is_not_run() {
    let mut job = project(SERVING);
    let program = format!("file://{ENVCTL}");
    let none = job.uses(root(), &[("program", &program), ("run", "true")]);
    assert_eq!(outcomes(&none), [("Install envctl", "failure")], "{none:?}");
    assert!(none[2].said.contains("`program` needs `sha256`"), "{none:?}");
    let other = job.uses(root(), &[("program", &program), ("sha256", &"0".repeat(64)), ("run", "true")]);
    assert_eq!(outcomes(&other), [("Install envctl", "failure")], "{other:?}");
    assert!(other[2].said.contains("not the program with this sha256"), "{other:?}");
    assert_eq!(fs::read_dir(job.temp().join("envctl-program")).unwrap().count(), 0);
}

/// As the cache puts it back; its key changes with the source.
#[test]
fn a_program_from_the_cache_is_not_built_again() {
    let mut job = project(SERVING);
    let place = job.temp().join("envctl-program");
    fs::create_dir(&place).unwrap();
    fs::copy(ENVCTL, place.join("envctl")).unwrap();
    let steps = job.uses(root(), &[("up", "false")]);
    let cache = &step(&steps, "Take an envctl that was built before").with;
    assert_eq!(Path::new(&cache["path"]), place);
    let key = cache["key"].rsplit('-').next().unwrap();
    assert!(key.len() == 32 && key.bytes().all(|byte| byte.is_ascii_hexdigit()), "{cache:?}");
    assert!(step(&steps, "Install envctl").said.starts_with("envctl 0."), "{steps:?}");
    assert_eq!(outcomes(&steps).last(), Some(&("Let pods have namespaces", "success")), "{steps:?}");
    assert!(job.command("envctl").arg("--version").stdout(Stdio::null()).status().unwrap().success());
}

/// GitHub's own schemas, as `check-jsonschema` carries them.
#[test]
fn the_files_are_what_github_takes() {
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("check-jsonschema");
    let check = home.join("bin/check-jsonschema");
    if !check.exists() {
        let _told_below = Command::new("python3").args(["-m", "venv"]).arg(&home).output();
        let mut pip = Command::new(home.join("bin/python"));
        let _told_below =
            pip.args(["-m", "pip", "install", "-q", "--disable-pip-version-check", "check-jsonschema"]).output();
    }
    if !require(check.exists(), "check-jsonschema (PyPI)") {
        return;
    }
    let workflows = fs::read_dir(root().join(".github/workflows")).unwrap().map(|entry| entry.unwrap().path());
    let workflows: Vec<PathBuf> = workflows.collect();
    let actions = vec![root().join("action.yml"), root().join("teardown/action.yml")];
    for (schema, files) in [("vendor.github-actions", actions), ("vendor.github-workflows", workflows)] {
        let checked = Command::new(&check).args(["--builtin-schema", schema]).args(files).output().unwrap();
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
    }
}

/// Inputs, contexts, expressions and cron of the workflows, by actionlint.
#[test]
fn actionlint_finds_nothing() {
    let has_go = Command::new("go").arg("version").stdout(Stdio::null()).status().is_ok();
    if !require(has_go, "go") {
        return;
    }
    let lint = |arguments: &[&str]| {
        let mut go = Command::new("go");
        go.args(["run", "github.com/rhysd/actionlint/cmd/actionlint@v1.7.12"]).args(arguments);
        go.current_dir(root()).output().unwrap()
    };
    if !require(lint(&["-version"]).status.success(), "actionlint from the Go module proxy") {
        return;
    }
    let workflow = ".github/workflows/integration.yml";
    let linted = lint(&["-color=false", workflow]);
    assert!(linted.status.success(), "{}", String::from_utf8_lossy(&linted.stdout));
}
