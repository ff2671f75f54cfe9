//! `envctl logs`: logs straight from the session's API server, one prefix and colour a service.

use clap::Args;
use std::time::Duration;

use super::Context;
use super::duration::duration;
use super::exit::Exit;
use crate::error::Error;

/// The flags of this verb.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The services (default: all)
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
    /// Go on as lines come
    #[arg(short, long, env = "ENVCTL_FOLLOW", hide_env_values = true)]
    pub follow: bool,
    /// Only the last lines of each container
    #[arg(long, env = "ENVCTL_TAIL", hide_env_values = true, value_name = "LINES")]
    pub tail: Option<i64>,
    /// Only what is younger
    #[arg(long, env = "ENVCTL_SINCE", hide_env_values = true, value_name = "DURATION", value_parser = duration)]
    pub since: Option<Duration>,
    /// Of the container before the last restart
    #[arg(short, long, env = "ENVCTL_PREVIOUS", hide_env_values = true)]
    pub previous: bool,
    /// With the time of each line
    #[arg(long, env = "ENVCTL_TIMESTAMPS", hide_env_values = true)]
    pub timestamps: bool,
}

/// Runs the verb.
///
/// # Errors
/// What it could not do.
pub fn run(_arguments: &Arguments, _context: &mut Context) -> Result<Exit, Error> {
    Err(Error::Failed { what: "`envctl logs` is not built yet".to_owned(), hint: None, exit: Exit::Failed })
}
