//! `envctl wait`: waits for services.

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
    /// The services (default: all)
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
    /// What for
    #[arg(long = "for", env = "ENVCTL_FOR", hide_env_values = true, value_enum, default_value_t = Condition::Ready)]
    pub condition: Condition,
    /// How long
    #[arg(long, env = "ENVCTL_TIMEOUT", hide_env_values = true, value_name = "DURATION", default_value = "5m", value_parser = duration)]
    pub timeout: Duration,
}

/// Runs the verb.
///
/// # Errors
/// What it could not do.
pub fn run(_arguments: &Arguments, _context: &mut Context) -> Result<Exit, Error> {
    Err(Error::Failed { what: "`envctl wait` is not built yet".to_owned(), hint: None, exit: Exit::Failed })
}

/// What `--for` can ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Condition {
    /// Every replica is ready.
    Ready,
    /// The job is complete.
    Complete,
    /// It is gone.
    Gone,
}
