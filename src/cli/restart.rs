//! `envctl restart`: restarts services.

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
    /// The services (default: all)
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
}

/// Runs the verb.
///
/// # Errors
/// What it could not do.
pub fn run(_arguments: &Arguments, _context: &mut Context) -> Result<Exit, Error> {
    Err(Error::Failed { what: "`envctl restart` is not built yet".to_owned(), hint: None, exit: Exit::Failed })
}
