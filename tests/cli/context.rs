//! A home, a project and a state directory of a test's own, and envctl run in them.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Output, Stdio};

use envctl::session::state::StateDirectory;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::traces;

/// The program under test.
pub const ENVCTL: &str = env!("CARGO_BIN_EXE_envctl");

/// Gone, with every session started in it, when dropped.
pub struct Context {
    home: TempDir,
}

/// What a run of envctl gave.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Context {
    pub fn new() -> Self {
        let home = tempfile::Builder::new().prefix("envctl-test").tempdir().unwrap();
        fs::create_dir_all(home.path().join("project/envs")).unwrap();
        Self { home }
    }

    pub fn project(&self) -> PathBuf {
        self.home.path().join("project")
    }

    pub fn state(&self) -> StateDirectory {
        StateDirectory::at(self.home.path().join("state"))
    }

    /// Writes a file of the project.
    pub fn write(&self, path: &str, text: &str) {
        let path = self.project().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// envctl in the project, with nothing of the caller's environment but `PATH`.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(ENVCTL);
        command
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.home.path())
            .env("ENVCTL_STATE_DIR", self.state().path())
            .current_dir(self.project())
            .stdin(Stdio::null());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Ran {
        self.ran(&mut self.command(arguments))
    }

    pub fn ran(&self, command: &mut Command) -> Ran {
        let Output { status, stdout, stderr } = command.output().unwrap();
        Ran { code: status.code(), stdout: self.masked(&stdout), stderr: self.masked(&stderr) }
    }

    /// Paths, ids, times and ports replaced by words.
    pub fn masked(&self, text: &[u8]) -> String {
        let text = String::from_utf8_lossy(text).replace(&*self.home.path().to_string_lossy(), "HOME");
        let mut out = String::new();
        for line in text.split_inclusive('\n') {
            out.push_str(&masked_words(line));
        }
        out
    }

    /// `envctl.yaml` with one service `web` and what `more` says of it and of others; its program names this context's home.
    pub fn write_service(&self, script: &str, more: &str) {
        self.write("serve", &format!("#!/bin/sh\n{script}\n"));
        let program = self.project().join("serve");
        let file = format!(
            "name: demo\nimages:\n  web: {{ entrypoint: [sh, {}], process: {{}} }}\nservices:\n  web:\n    image: web\n{more}",
            program.display()
        );
        self.write("envctl.yaml", &file);
    }

    /// Starts envctl with its stderr to be read.
    pub fn start(&self, arguments: &[&str]) -> Started {
        Self::started(&mut self.command(arguments))
    }

    /// The same for a command of this context.
    pub fn started(command: &mut Command) -> Started {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap());
        Started { child, lines }
    }

    /// The agent's process, if there is one.
    pub fn agent(&self) -> Option<Pid> {
        let mut all = traces::processes_with(self.home.path()).into_iter();
        all.find(|process| process.arguments.contains(" __agent ")).map(|process| process.pid)
    }

    /// The directory that all of this context's processes name.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// The session directories that exist.
    pub fn session_directories(&self) -> Vec<PathBuf> {
        match fs::read_dir(self.state().sessions()) {
            Ok(entries) => entries.map(|entry| entry.unwrap().path()).collect(),
            Err(_) => Vec::new(),
        }
    }

    /// The processes that have this context's home in their arguments, as the kernel lists them.
    pub fn processes(&self) -> Vec<String> {
        traces::processes_with(self.home.path()).into_iter().map(|process| process.arguments).collect()
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        let _ = self.command(&["down", "--all"]).output();
    }
}

/// An envctl that runs.
pub struct Started {
    pub child: Child,
    lines: BufReader<ChildStderr>,
}

impl Started {
    /// Reads its stderr up to a line with `words`; all lines so far.
    pub fn until(&mut self, words: &str) -> String {
        let mut text = String::new();
        while self.lines.read_line(&mut text).unwrap() > 0 {
            if text.lines().last().is_some_and(|line| line.contains(words)) {
                return text;
            }
        }
        panic!("it never said {words:?}:\n{text}");
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    /// Its exit code, stdout and the rest of its stderr.
    pub fn end(mut self, context: &Context) -> Ran {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        self.lines.read_to_end(&mut stderr).unwrap();
        self.child.stdout.take().unwrap().read_to_end(&mut stdout).unwrap();
        let code = self.child.wait().unwrap().code();
        Ran { code, stdout: context.masked(&stdout), stderr: context.masked(&stderr) }
    }
}

/// `1.23s` becomes `TIME`, `127.0.0.1:4321` `ADDRESS`, an id's digits `ID`.
fn masked_words(line: &str) -> String {
    let mut out = String::new();
    for word in line.split_inclusive(|c: char| c.is_whitespace() || "()[]=,".contains(c)) {
        let end = word.trim_end_matches(|c: char| c.is_whitespace() || "()[]=,;:".contains(c)).len();
        let (core, rest) = word.split_at(end);
        let seconds =
            core.strip_suffix('s').is_some_and(|number| number.parse::<f64>().is_ok() && number.contains('.'));
        if seconds {
            out.push_str("TIME");
        } else if let Some((before, port)) = core.split_once("127.0.0.1:") {
            out.push_str(before);
            out.push_str("ADDRESS");
            // The quote at a text's end.
            out.push_str(if port.ends_with('"') { "\"" } else { "" });
        } else if let Some((name, digits)) = core.rsplit_once('-')
            && digits.len() == 8
            && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
        {
            out.push_str(name);
            out.push_str("-ID");
        } else {
            out.push_str(core);
        }
        out.push_str(rest);
    }
    out
}
