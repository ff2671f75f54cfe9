//! `envctl schema`: prints the JSON Schema of environment files.

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
pub fn run(_arguments: &Arguments, context: &mut Context) -> Result<Exit, Error> {
    context.out.document(&crate::envfile::schema())?;
    Ok(Exit::Ok)
}
