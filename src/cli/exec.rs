//! `envctl exec`: runs a command inside a service.

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
    /// The service
    #[arg(value_name = "SERVICE")]
    pub service: String,
    /// Pass standard input
    #[arg(short = 'i', long, env = "ENVCTL_STDIN", hide_env_values = true)]
    pub stdin: bool,
    /// On a terminal
    #[arg(short = 't', long, env = "ENVCTL_TTY", hide_env_values = true)]
    pub tty: bool,
    /// The command and its arguments
    #[arg(value_name = "COMMAND", last = true, required = true)]
    pub command: Vec<String>,
}

/// Runs the verb.
///
/// # Errors
/// What it could not do.
pub fn run(_arguments: &Arguments, _context: &mut Context) -> Result<Exit, Error> {
    Err(Error::Failed { what: "`envctl exec` is not built yet".to_owned(), hint: None, exit: Exit::Failed })
}
