//! A session: one live instance of an environment. Its identity, its record on disk, its agent.
//!
//! The part that is always built is the client for tests: which session is meant ([`find`], the same
//! rule as the command line's) and what it exports. With the `cli` feature come the agent, which owns a
//! session, and the protocol spoken with it.
//!
//! ```no_run
//! let session = envctl::session::find()?;
//! let base = session.export("API_URL").expect("envs/platform.yaml has a service `api`");
//! # Ok::<(), envctl::session::SessionError>(())
//! ```
//!
//! Where a runner starts a process for each test, [`shared`] attaches them all to one session, which the first brings up.
//!
//! Invariants: a session is live exactly as long as its agent holds the lock on `lock` in the session's
//! directory (the kernel drops it with the process; process ids are never compared). Directories come and
//! go only under the lock of the `sessions` directory, and appear already locked.

pub mod attach;
mod client;
mod error;
pub mod lookup;
pub mod project;
pub mod record;
mod socket;
pub mod state;

#[cfg(feature = "cli")]
pub mod agent;
#[cfg(feature = "cli")]
pub mod identity;
#[cfg(feature = "cli")]
pub mod launch;
#[cfg(feature = "cli")]
pub mod protocol;

pub use attach::{Attachment, attach, shared};
pub use client::{Session, find, find_named, touch};
pub use error::{SessionError, io_hint};
