//! A registry of one test's own, Debian's: on this machine's loopback for the Docker engine, and on a node's for its containerd. Both treat a
//! registry there as plain HTTP. They are two processes over one directory, since the node is in a network of its own.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::require::require;

/// Who may, where not everyone may.
pub const USER: &str = "pusher";
pub const PASSWORD: &str = "pushed";
/// That password's, by bcrypt.
const HASHED: &str = "$2b$05$abcdefghijklmnopqrstuu.TGJmWK6w8U/snQe4w8JBeCH2WNUeTm";

/// Whom a registry answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Open {
    ToAll,
    ToUser,
}

pub struct Registry {
    /// What images' names begin with.
    pub host: String,
    here: Process,
    _in_node: Option<Process>,
    _directory: TempDir,
}

impl Registry {
    /// Open as said on this machine, and for the processes of a node, which one of its processes leads to. `None` where there is none to start.
    pub fn new(here: Open, node: Option<(u32, Open)>) -> Option<Self> {
        let there = Command::new("docker-registry").arg("--version").stdout(Stdio::null()).status().is_ok();
        if !require(there, "a registry (Debian's docker-registry)") {
            return None;
        }
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join("htpasswd"), format!("{USER}:{HASHED}\n")).expect("written");
        let here = Process::start(&[], directory.path(), "127.0.0.1:0", here);
        let in_node = node.map(|(process, open)| {
            let enter = ["nsenter", "--target", &process.to_string(), "--net"];
            Process::start(&enter, directory.path(), &here.address, open)
        });
        Some(Self { host: here.address.clone(), here, _in_node: in_node, _directory: directory })
    }

    /// How many layers and configurations were sent so far.
    pub fn uploads(&self) -> usize {
        let log = self.here.log.lock().expect("whole");
        log.lines().filter(|line| line.contains("http.request.method=PUT") && line.contains("/blobs/uploads/")).count()
    }

    /// A Docker configuration with a password for it.
    pub fn login(&self, password: &str) -> Value {
        json!({ "auths": { &self.host: { "username": USER, "password": password } } })
    }
}

/// One that dies with its test, in whatever way that ends.
struct Process {
    child: Child,
    address: String,
    log: Arc<Mutex<String>>,
    reading: Option<JoinHandle<()>>,
}

impl Process {
    /// Listens when this returns.
    fn start(enter: &[&str], directory: &Path, address: &str, open: Open) -> Self {
        let mut configuration = json!({
            "version": 0.1,
            "log": { "accesslog": { "disabled": true } },
            "storage": { "filesystem": { "rootdirectory": directory.join("store") } },
            "http": { "addr": address, "secret": "shared" },
        });
        if open == Open::ToUser {
            configuration["auth"] = json!({ "htpasswd": { "realm": "test", "path": directory.join("htpasswd") } });
        }
        let file = directory.join(if enter.is_empty() { "here.yml" } else { "node.yml" });
        std::fs::write(&file, configuration.to_string()).expect("written");
        let mut child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .args(enter)
            .args(["docker-registry", "serve"])
            .arg(file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let said = BufReader::new(child.stderr.take().expect("piped"));
        let log = Arc::new(Mutex::new(String::new()));
        let (listens, address) = channel();
        let kept = log.clone();
        let reading = std::thread::spawn(move || {
            for line in said.lines().map_while(Result::ok) {
                if let Some((_, rest)) = line.split_once("msg=\"listening on ") {
                    _ = listens.send(rest.split('"').next().unwrap_or_default().to_owned());
                }
                let mut kept = kept.lock().expect("whole");
                kept.push_str(&line);
                kept.push('\n');
            }
        });
        let address = address.recv().unwrap_or_else(|_ended| panic!("{}", log.lock().expect("whole")));
        Self { child, address, log, reading: Some(reading) }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
        _ = self.reading.take().map(JoinHandle::join);
    }
}
