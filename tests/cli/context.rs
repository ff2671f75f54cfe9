//! A home, a project and a state directory of a test's own, and envctl run in them.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use envctl::session::state::StateDirectory;
use tempfile::TempDir;

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

    /// The session directories that exist.
    pub fn session_directories(&self) -> Vec<PathBuf> {
        match fs::read_dir(self.state().sessions()) {
            Ok(entries) => entries.map(|entry| entry.unwrap().path()).collect(),
            Err(_) => Vec::new(),
        }
    }

    /// The processes that have this context's home in their arguments, as the kernel lists them.
    pub fn processes(&self) -> Vec<String> {
        processes_with(self.home.path())
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        let _ = self.command(&["down", "--all"]).output();
    }
}

/// The command lines of all processes that name `path`.
pub fn processes_with(path: &Path) -> Vec<String> {
    let needle = path.as_os_str().as_encoded_bytes();
    fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter(|entry| entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit))
        .filter(|entry| entry.file_name() != OsStr::new(&std::process::id().to_string()))
        .filter_map(|entry| fs::read(entry.path().join("cmdline")).ok())
        .filter(|line| line.windows(needle.len()).any(|window| window == needle))
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .collect()
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
        } else if let Some((before, _port)) = core.split_once("127.0.0.1:") {
            out.push_str(before);
            out.push_str("ADDRESS");
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
