//! `envctl completion`: a completion script for a shell.

use clap::Args;
use clap_complete::Shell;

use super::Context;
use super::exit::Exit;
use crate::error::Error;

/// The flags of this verb.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The shell
    #[arg(value_enum)]
    pub shell: Shell,
}

/// Runs the verb.
///
/// # Errors
/// None: a closed stdout ends the process.
pub fn run(arguments: &Arguments, context: &mut Context) -> Result<Exit, Error> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut super::command(), "envctl", &mut script);
    context.out.bytes(&script);
    Ok(Exit::Ok)
}
