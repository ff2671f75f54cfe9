//! `envctl run`: runs a command with the session's variables.
//!
//! The command takes this process's place (exec): signals, the terminal and the exit code are its own.

use std::os::unix::process::CommandExt;
use std::path::Path;
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
    let absent = source.kind() == std::io::ErrorKind::NotFound || !exists(program, &context.working_directory);
    let (exit, why) =
        if absent { (Exit::NotFound, "no such command".to_owned()) } else { (Exit::NotExecutable, source.to_string()) };
    Err(Error::Failed { what: format!("cannot run {}: {why}", program.display()), hint: None, exit })
}

/// Whether there is such a program at all. The kernel says "permission denied" also where a directory of `PATH` cannot
/// be searched; a shell says 127 then, and so does this.
pub fn exists(program: &std::ffi::OsStr, directory: &Path) -> bool {
    if Path::new(program).components().count() > 1 {
        return directory.join(program).exists();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).exists())
}
