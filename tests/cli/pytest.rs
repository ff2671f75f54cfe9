//! The pytest plugin, with the real pytest and pytest-xdist, in a virtual environment of the test's own.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use envctl::session::launch::wait_until_gone;
use envctl::session::state::SessionDirectory;

use super::context::{Context, ENVCTL};
use super::require::require;

const TESTS: &str = r#"
import os, urllib.request, pytest

@pytest.mark.parametrize("number", range(8))
def test_shares_the_session(number, envctl_session, envctl_url, envctl_key, tmp_path_factory):
    with open("sessions", "a") as file:
        file.write(f"{envctl_session.id} {os.getpid()}\n")
    assert envctl_url("web") == envctl_url("web", "http") == f"http://127.0.0.1:{envctl_session.export('WEB_PORT')}"
    assert urllib.request.urlopen(envctl_url("web")).status == 200
    assert len(envctl_key("SIGNING_KEY")) == 64
    assert os.path.exists(envctl_session.kubeconfig)
    with pytest.raises(LookupError, match="exports no NOPE; it exports: .*SIGNING_KEY"):
        envctl_key("NOPE")
"#;

/// A virtual environment with pytest, pytest-xdist and the plugin.
fn environment(context: &Context) -> Option<PathBuf> {
    let home = context.home().join("venv");
    let made = Command::new("python3").args(["-m", "venv"]).arg(&home).output();
    if !require(made.is_ok_and(|output| output.status.success()), "python3 with venv (Debian: python3-venv)") {
        return None;
    }
    let plugin = Path::new(env!("CARGO_MANIFEST_DIR")).join("integrations/pytest");
    let installed = Command::new(home.join("bin/python"))
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "pytest", "pytest-xdist"])
        .arg(plugin)
        .output();
    let installed = installed.unwrap();
    let said = String::from_utf8_lossy(&installed.stderr).into_owned();
    require(installed.status.success(), &format!("pytest, pytest-xdist and flit_core from a package index ({said})"))
        .then_some(home)
}

#[test]
fn workers_of_one_run_share_one_session() {
    let context = Context::new();
    let Some(venv) = environment(&context) else { return };
    super::hello::build("hello");
    let hello = super::hello::directory();
    context.write(
        "envctl.yaml",
        &format!(
            "name: demo\nimages:\n  web: {{ entrypoint: [hello], process: {{ path: [{}] }} }}\nkeys:\n  SIGNING_KEY: {{ generate: {{ bytes: 32 }} }}\n\
             services:\n  web: {{ image: web, ports: {{ http: 8080 }}, env: {{ PORT: 8080 }}, ready: {{ http: {{ path: /, port: http }} }} }}\n",
            hello.display()
        ),
    );
    context.write("test_it.py", TESTS);
    let pytest = |arguments: &[&str]| {
        let mut given = context.command(&[]);
        given.env("ENVCTL", ENVCTL).env("ENVCTL_LINGER", "500ms");
        let mut command = Command::new(venv.join("bin/python"));
        command.env_clear().envs(given.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.args(["-m", "pytest", "-q", "-p", "no:cacheprovider"]).args(arguments).current_dir(context.project());
        let ran = context.ran(&mut command);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        let text = fs::read_to_string(context.project().join("sessions")).unwrap();
        fs::remove_file(context.project().join("sessions")).unwrap();
        let columns = |index: usize| -> BTreeSet<String> {
            text.lines().map(|line| line.split(' ').nth(index).unwrap().to_owned()).collect()
        };
        (columns(0), columns(1))
    };
    let (sessions, workers) = pytest(&["-n", "4"]);
    assert_eq!(sessions.len(), 1, "{sessions:?}");
    assert!(workers.len() > 1, "{workers:?}");
    for session in &sessions {
        wait_until_gone(&SessionDirectory::at(context.state().sessions().join(session))).unwrap();
    }
    let (alone, workers) = pytest(&[]);
    assert!(alone.len() == 1 && workers.len() == 1 && alone != sessions);
    for session in &alone {
        wait_until_gone(&SessionDirectory::at(context.state().sessions().join(session))).unwrap();
    }
    assert_eq!(context.processes(), Vec::<String>::new());
}
