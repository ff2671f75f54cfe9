//! The sessions of a test's own state directory, and their agents.

use std::path::Path;

use envctl::session::launch::wait_until_gone;
use envctl::session::state::{SessionDirectory, StateDirectory};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The directories of sessions, dead ones too.
pub fn sessions(state: &Path) -> Vec<SessionDirectory> {
    StateDirectory::at(state.to_owned()).all().expect("readable")
}

/// `kill -9` of the only session's agent; returns when it is gone.
pub fn kill_only(state: &Path) {
    let sessions = sessions(state);
    let [session] = sessions.as_slice() else { panic!("{sessions:?}") };
    let agent = session.record().expect("a record").agent_pid;
    kill(Pid::from_raw(i32::try_from(agent).expect("a number")), Signal::SIGKILL).expect("killed");
    wait_until_gone(session).expect("gone");
}
