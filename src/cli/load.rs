//! The plan of the environment file that is meant, for the verbs that need one.

use super::Context;
use super::exit::Exit;
use crate::error::Error;
use crate::plan::Plan;

/// Reads and checks the environment file; all of its problems are reported.
///
/// # Errors
/// When there is no such file or it is not a valid environment: exit code 2.
pub fn plan(context: &Context) -> Result<Plan, Error> {
    let path = context.env_file()?;
    Err(Error::Failed { what: format!("reading {} is being built", path.display()), hint: None, exit: Exit::Failed })
}
