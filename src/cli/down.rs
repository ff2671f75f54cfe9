//! `envctl down`: takes a session away. Of nothing, says so.

use clap::Args;

use super::exit::Exit;
use super::{Context, FileFlag};
use crate::error::Error;

/// The flags of this verb.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Which environment file.
    #[command(flatten)]
    pub file: FileFlag,
    /// Every session of this machine
    #[arg(long, env = "ENVCTL_ALL", hide_env_values = true)]
    pub all: bool,
}

/// Runs the verb.
///
/// # Errors
/// What it could not do.
pub fn run(_arguments: &Arguments, _context: &mut Context) -> Result<Exit, Error> {
    Err(Error::Failed { what: "`envctl down` is not built yet".to_owned(), hint: None, exit: Exit::Failed })
}
