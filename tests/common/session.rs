//! One session for a whole test binary: brought up by the first test that asks, taken down as the program ends.

use std::path::PathBuf;
use std::sync::OnceLock;

#[path = "envctl.rs"]
mod envctl;

pub struct Session {
    pub directory: tempfile::TempDir,
    pub kubeconfig: PathBuf,
}

/// The session of this environment file ([`envctl::up`]).
pub fn of(environment: &str) -> &'static Session {
    static SESSION: OnceLock<Session> = OnceLock::new();
    extern "C" fn down() {
        if let Some(session) = SESSION.get() {
            envctl::envctl(session.directory.path(), &["down"]);
            // A static is never dropped; its directory must go all the same.
            let _ = std::fs::remove_dir_all(session.directory.path());
        }
    }
    SESSION.get_or_init(|| {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let kubeconfig = envctl::up(directory.path(), environment);
        // SAFETY: `down` is an `extern "C" fn()` that lives as long as the program.
        unsafe { libc::atexit(down) };
        Session { directory, kubeconfig }
    })
}
