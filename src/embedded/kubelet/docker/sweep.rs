//! What a session left in the engine that was killed together with its gates: found by its record, removed by its label.

use std::io;
use std::path::{Path, PathBuf};

use super::{SESSION, http};

/// The file in a session's directory that says where its engine is.
pub const RECORD: &str = "docker";

/// Removes the containers of a session that is dead. One that never had any is nothing to do.
///
/// # Errors
/// When the engine doesn't answer, or refuses: then some may be left.
pub fn sweep(session: &Path) -> io::Result<()> {
    let address = match std::fs::read_to_string(session.join(RECORD)) {
        Ok(address) => address,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let Some(engine) = address.strip_prefix("unix://").map(PathBuf::from) else { return Ok(()) };
    let containers = match http::list(&engine, &format!("{SESSION}={}", session.display())) {
        Ok(containers) => containers,
        // No engine, no containers that run.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    containers.iter().try_for_each(|id| http::remove(&engine, id))?;
    http::forget_image(&engine, super::sandbox::IMAGE)
}
