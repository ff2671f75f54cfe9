//! A job as the runner has it, as far as composite actions see it: the `run` steps are taken from the action's own file and run by bash, with
//! the runner's files for variables, outputs and PATH. After actions/runner, `src/Runner.Worker/Handlers/CompositeActionHandler.cs`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::expression::{Surroundings, condition, text};

/// One job on one machine, with a project.
pub struct Job {
    pub home: TempDir,
    /// From `GITHUB_ENV`.
    pub env: BTreeMap<String, String>,
    path: Vec<String>,
    pub failed: bool,
}

/// What became of one step.
#[derive(Debug)]
pub struct Step {
    pub name: String,
    pub outcome: &'static str,
    pub said: String,
    /// Of a `uses` step, which isn't run: another's action.
    pub with: BTreeMap<String, String>,
}

impl Job {
    pub fn new() -> Self {
        let home = tempfile::Builder::new().prefix("envctl-test").tempdir().unwrap();
        for directory in ["project/envs", "temp"] {
            fs::create_dir_all(home.path().join(directory)).unwrap();
        }
        Self { home, env: BTreeMap::new(), path: Vec::new(), failed: false }
    }

    pub fn project(&self) -> PathBuf {
        self.home.path().join("project")
    }

    pub fn temp(&self) -> PathBuf {
        self.home.path().join("temp")
    }

    /// A command of the job, in the project.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let path = self.path.iter().cloned().chain(std::env::var("PATH")).collect::<Vec<_>>().join(":");
        command.env_clear().env("PATH", path).env("HOME", self.home.path()).envs(&self.env);
        command.env("CI", "true").env("GITHUB_ACTIONS", "true").env("RUNNER_TEMP", self.temp());
        command.env("ENVCTL_STATE_DIR", self.home.path().join("state")).current_dir(self.project());
        command
    }

    /// `uses:` of the action in this directory; what became of each of its steps, by name.
    pub fn uses(&mut self, directory: &Path, given: &[(&str, &str)]) -> Vec<Step> {
        let file: Value = serde_yaml::from_str(&fs::read_to_string(directory.join("action.yml")).unwrap()).unwrap();
        let declared = file["inputs"].as_object().unwrap();
        for (name, _) in given {
            assert!(declared.contains_key(*name), "{name} is an input");
        }
        let mut run = Running { job: self, inputs: BTreeMap::new(), outputs: BTreeMap::new(), failed: false };
        for (name, input) in declared {
            let value = given.iter().find(|(given, _)| given == name).map(|(_, value)| (*value).to_owned());
            let default = text(input["default"].as_str().unwrap_or_default(), &run);
            run.inputs.insert(name.clone(), value.unwrap_or(default));
        }
        let steps = file["runs"]["steps"].as_array().unwrap();
        let done = steps.iter().map(|step| run.step(directory, step)).collect();
        let failed = run.failed;
        self.failed |= failed;
        done
    }
}

/// One use of an action.
struct Running<'a> {
    job: &'a mut Job,
    inputs: BTreeMap<String, String>,
    /// `STEP.outputs.NAME` and `STEP.outcome`.
    outputs: BTreeMap<String, String>,
    failed: bool,
}

impl Surroundings for Running<'_> {
    fn value(&self, path: &str) -> String {
        let found = match path.split_once('.') {
            Some(("inputs", name)) => self.inputs.get(name),
            Some(("steps", rest)) => self.outputs.get(rest),
            Some(("env", name)) => self.job.env.get(name),
            _ => None,
        };
        match path {
            "job.status" => if self.job.failed { "failure" } else { "success" }.to_owned(),
            "github.job" => "job".to_owned(),
            "strategy.job-index" => "0".to_owned(),
            _ if path.starts_with("inputs.") || path.starts_with("steps.") || path.starts_with("env.") => {
                found.cloned().unwrap_or_default()
            }
            _ => panic!("{path} is a context"),
        }
    }

    /// Inside of an action they ask about it alone (`Expressions/FailureFunction.cs`).
    fn status(&self, function: &str) -> bool {
        match function {
            "always" => true,
            "failure" => self.failed,
            "success" => !self.failed,
            _ => false,
        }
    }
}

impl Running<'_> {
    fn step(&mut self, directory: &Path, step: &Value) -> Step {
        let name = step["name"].as_str().expect("a step has a name").to_owned();
        let mut done = Step { name, outcome: "skipped", said: String::new(), with: BTreeMap::new() };
        let expression = step.get("if").map(|condition| condition.as_str().unwrap());
        if condition(expression, self) {
            done.outcome = "success";
            match step["run"].as_str() {
                Some(script) => self.run(directory, step, script, &mut done),
                None => {
                    let with = step["with"].as_object().into_iter().flatten();
                    let value =
                        |value: &Value| value.as_str().map_or_else(|| value.to_string(), |value| text(value, self));
                    done.with = with.map(|(name, given)| (name.clone(), value(given))).collect();
                }
            }
        }
        self.failed |= done.outcome == "failure";
        if let Some(id) = step["id"].as_str() {
            self.outputs.insert(format!("{id}.outcome"), done.outcome.to_owned());
        }
        done
    }

    fn run(&mut self, directory: &Path, step: &Value, script: &str, done: &mut Step) {
        // As the runner does for `shell: bash`.
        assert_eq!(step["shell"], "bash");
        let temp = self.job.temp();
        let file = |name: &str| {
            let path = temp.join(name);
            fs::write(&path, "").unwrap();
            path
        };
        let (variables, outputs, path) = (file("env"), file("output"), file("path"));
        let script_file = temp.join("step.sh");
        fs::write(&script_file, text(script, self)).unwrap();
        let mut bash = self.job.command("bash");
        bash.args(["--noprofile", "--norc", "-eo", "pipefail"]).arg(script_file);
        bash.env("GITHUB_ENV", &variables).env("GITHUB_OUTPUT", &outputs).env("GITHUB_PATH", &path);
        bash.env("GITHUB_ACTION_PATH", directory);
        for (name, value) in step["env"].as_object().into_iter().flatten() {
            bash.env(name, text(value.as_str().unwrap(), self));
        }
        let place = step["working-directory"].as_str().map(|place| text(place, self)).unwrap_or_default();
        let ran = bash.current_dir(self.job.project().join(place)).output().unwrap();
        done.said = format!("{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
        done.outcome = if ran.status.success() { "success" } else { "failure" };
        self.job.env.extend(pairs(&variables));
        if let Some(id) = step["id"].as_str() {
            self.outputs
                .extend(pairs(&outputs).into_iter().map(|(name, value)| (format!("{id}.outputs.{name}"), value)));
        }
        let mut added: Vec<String> = fs::read_to_string(&path).unwrap().lines().map(str::to_owned).collect();
        added.append(&mut self.job.path);
        self.job.path = added;
    }
}

/// `NAME=value`, or `NAME<<END`, lines, `END`: `src/Runner.Worker/FileCommandManager.cs`.
fn pairs(file: &Path) -> Vec<(String, String)> {
    let written = fs::read_to_string(file).unwrap();
    let mut lines = written.lines();
    let mut all = Vec::new();
    while let Some(line) = lines.next() {
        let plain = line.find('=').unwrap_or(usize::MAX);
        match line.find("<<") {
            Some(at) if at < plain => {
                let value: Vec<&str> = lines.by_ref().take_while(|next| *next != &line[at + 2..]).collect();
                all.push((line[..at].to_owned(), value.join("\n")));
            }
            _ => all.push((line[..plain].to_owned(), line[plain + 1..].to_owned())),
        }
    }
    all
}
