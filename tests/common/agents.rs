//! The sessions of a test's own state directory, and their agents.

use std::path::Path;

use envctl::session::launch::wait_until_gone;
use envctl::session::record::Record;
use envctl::session::state::{SessionDirectory, StateDirectory};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The directories of sessions, dead ones too.
pub fn sessions(state: &Path) -> Vec<SessionDirectory> {
    StateDirectory::at(state.to_owned()).all().expect("readable")
}

/// The only session with an agent.
pub fn only(state: &Path) -> Record {
    let mut live = StateDirectory::at(state.to_owned()).live().expect("readable");
    assert_eq!(live.len(), 1, "{live:?}");
    live.remove(0)
}

/// `kill -9` of its agent; returns when that is gone.
pub fn kill_agent(state: &Path, session: &Record) {
    kill(Pid::from_raw(session.agent_pid.cast_signed()), Signal::SIGKILL).expect("killed");
    wait_until_gone(&StateDirectory::at(state.to_owned()).session(&session.id)).expect("gone");
}
