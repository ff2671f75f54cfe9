//! `envctl init`: writes a first environment file.

use clap::Args;

use super::Context;
use super::exit::Exit;
use crate::error::Error;

/// The flags of this verb.
#[derive(Debug, Args)]
pub struct Arguments {}

/// Runs the verb.
///
/// # Errors
/// What it could not do.
pub fn run(_arguments: &Arguments, _context: &mut Context) -> Result<Exit, Error> {
    Err(Error::Failed { what: "`envctl init` is not built yet".to_owned(), hint: None, exit: Exit::Failed })
}
