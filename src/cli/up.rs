//! `envctl up`: brings the environment up, or applies what changed in a live session.

use clap::Args;
use std::time::Duration;

use super::duration::duration;
use super::exit::Exit;
use super::{Context, FileFlag};
use crate::error::Error;

/// The flags of this verb.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Which environment file.
    #[command(flatten)]
    pub file: FileFlag,
    /// How long to wait until everything is ready
    #[arg(long, env = "ENVCTL_WAIT_TIMEOUT", hide_env_values = true, value_name = "DURATION", default_value = "5m", value_parser = duration)]
    pub wait_timeout: Duration,
    /// Return at once; the agent goes on
    #[arg(short, long, env = "ENVCTL_DETACH", hide_env_values = true, conflicts_with = "attach")]
    pub detach: bool,
    /// Stay and stream the services' logs; Ctrl-C takes the session down
    #[arg(long, env = "ENVCTL_ATTACH", hide_env_values = true)]
    pub attach: bool,
    /// Leave everything up when something fails
    #[arg(long, env = "ENVCTL_KEEP", hide_env_values = true)]
    pub keep: bool,
    /// End the session after this time without a command or test
    #[arg(long, env = "ENVCTL_TTL", hide_env_values = true, value_name = "DURATION", default_value = "4h", value_parser = duration)]
    pub ttl: Duration,
}

/// Runs the verb.
///
/// # Errors
/// What it could not do.
pub fn run(_arguments: &Arguments, _context: &mut Context) -> Result<Exit, Error> {
    Err(Error::Failed { what: "`envctl up` is not built yet".to_owned(), hint: None, exit: Exit::Failed })
}
