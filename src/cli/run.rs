//! `envctl run`: runs a command with the session's variables.
//!
//! The command takes this process's place (exec): signals, the terminal and the exit code are its own.

use std::os::unix::process::CommandExt;
use std::process::Command;

use clap::Args;

use super::exit::Exit;
use super::{Context, FileFlag};
use crate::error::Error;
use crate::session::touch;

/// The flags of this verb.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Which environment file.
    #[command(flatten)]
    pub file: FileFlag,
    /// The command and its arguments
    #[arg(value_name = "COMMAND", trailing_var_arg = true, required = true)]
    pub command: Vec<std::ffi::OsString>,
}

/// Runs the verb; returns only when the command could not be started.
///
/// # Errors
/// When there is no session, or the command is not there or not executable.
pub fn run(arguments: &Arguments, context: &mut Context) -> Result<Exit, Error> {
    let (state, record) = context.session()?;
    touch(&state, &record.id);
    let Some((program, rest)) = arguments.command.split_first() else {
        return Err(Error::Usage { what: "no command given".to_owned(), hint: None });
    };
    let source = Command::new(program).args(rest).envs(&record.exports).exec();
    let exit = if source.kind() == std::io::ErrorKind::NotFound { Exit::NotFound } else { Exit::NotExecutable };
    Err(Error::Failed { what: format!("cannot run {}: {source}", program.display()), hint: None, exit })
}
