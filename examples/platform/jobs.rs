//! Jobs, kept as files so that several API replicas can share one volume.
//!
//! A job is `queued/ID`, then `taken/ID`, then `done/ID`; moving it is one atomic rename, so two
//! replicas can't hand it out twice. Whoever waits for a job is woken by inotify on `queued`, whichever
//! replica put it there; the same with `done`.

use std::io;
use std::path::{Path, PathBuf};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use serde_json::{Value, json};
use tokio::sync::watch;

const SCHEMA: &str = "1";
const STATES: [&str; 3] = ["queued", "taken", "done"];

/// Prepares the data directory: what `api` needs before it can start.
pub fn migrate(data: &Path) -> io::Result<()> {
    for state in STATES {
        std::fs::create_dir_all(data.join(state))?;
    }
    std::fs::create_dir_all(data.join("keys"))?;
    std::fs::write(data.join("schema"), SCHEMA)
}

/// The jobs in one data directory.
#[derive(Clone)]
pub struct Jobs {
    data: PathBuf,
    queued: watch::Receiver<()>,
    done: watch::Receiver<()>,
}

impl Jobs {
    /// Fails unless [`migrate`] was here.
    pub fn open(data: PathBuf) -> io::Result<Self> {
        match std::fs::read_to_string(data.join("schema")) {
            Ok(schema) if schema == SCHEMA => Ok(Self {
                queued: watch_directory(&data.join("queued"))?,
                done: watch_directory(&data.join("done"))?,
                data,
            }),
            _ => Err(io::Error::other(format!(
                "{} has no schema {SCHEMA}: run `platform migrate` first",
                data.display()
            ))),
        }
    }

    pub fn add(&self, job: &Value) -> io::Result<String> {
        let id = uuid::Uuid::new_v4().to_string();
        self.put("queued", &id, job)?;
        Ok(id)
    }

    pub fn get(&self, id: &str) -> io::Result<Option<Value>> {
        if uuid::Uuid::parse_str(id).is_err() {
            return Ok(None);
        }
        // In the order in which a job moves, so that one which moves meanwhile is still met.
        for state in STATES {
            match std::fs::read(self.data.join(state).join(id)) {
                Ok(bytes) => {
                    let mut job: Value = serde_json::from_slice(&bytes)?;
                    job["id"] = json!(id);
                    job["state"] = json!(state);
                    return Ok(Some(job));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Waits until a job is done; `None` if there is no such job. The caller owns the deadline.
    pub async fn wait(&self, id: &str) -> io::Result<Option<Value>> {
        let mut done = self.done.clone();
        loop {
            done.mark_unchanged();
            match self.get(id)? {
                Some(job) if job["state"] != "done" => done.changed().await.map_err(io::Error::other)?,
                found => return Ok(found),
            }
        }
    }

    /// Waits for a job and takes it. The caller owns the deadline.
    pub async fn take(&self) -> io::Result<Value> {
        let mut queued = self.queued.clone();
        loop {
            queued.mark_unchanged();
            if let Some(job) = self.try_take()? {
                return Ok(job);
            }
            queued.changed().await.map_err(io::Error::other)?;
        }
    }

    /// Stores what the worker found. `false`: no such job was taken.
    pub fn finish(&self, id: &str, result: &Value) -> io::Result<bool> {
        let Some(mut job) = self.get(id)?.filter(|job| job["state"] == "taken") else { return Ok(false) };
        job["result"] = result.clone();
        self.put("done", id, &job)?;
        std::fs::remove_file(self.data.join("taken").join(id))?;
        Ok(true)
    }

    fn try_take(&self) -> io::Result<Option<Value>> {
        for entry in std::fs::read_dir(self.data.join("queued"))? {
            let entry = entry?;
            let id = entry.file_name().to_string_lossy().into_owned();
            match std::fs::rename(entry.path(), self.data.join("taken").join(&id)) {
                Ok(()) => return self.get(&id),
                // Another worker was faster.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    fn put(&self, state: &str, id: &str, job: &Value) -> io::Result<()> {
        let new = self.data.join(format!("{id}.new"));
        std::fs::write(&new, job.to_string())?;
        std::fs::rename(new, self.data.join(state).join(id))
    }
}

/// Tells of every file that is moved into a directory, for as long as the program runs.
fn watch_directory(directory: &Path) -> io::Result<watch::Receiver<()>> {
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC)?;
    inotify.add_watch(directory, AddWatchFlags::IN_MOVED_TO)?;
    let (sender, receiver) = watch::channel(());
    std::thread::spawn(move || {
        while inotify.read_events().is_ok() {
            sender.send_replace(());
        }
    });
    Ok(receiver)
}
