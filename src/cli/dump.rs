//! `envctl dump`: everything that explains a session, as a directory or a tar, without its keys.

use std::path::{Path, PathBuf};

use clap::Args;

use super::conversation::runtime;
use super::exit::Exit;
use super::output::Format;
use super::{Context, FileFlag};
use crate::dump::{DumpError, dump};
use crate::error::Error;
use crate::session::lookup::{self, Query};
use crate::session::project;
use crate::session::state::{SessionDirectory, StateDirectory};

/// The flags of this verb.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Which environment file.
    #[command(flatten)]
    pub file: FileFlag,
    /// Where it goes: a directory that isn't there yet, or a file that ends in .tar or .tar.gz (default: envctl-dump-SESSION here)
    #[arg(long, env = "ENVCTL_TO", hide_env_values = true, value_name = "PATH")]
    pub to: Option<PathBuf>,
}

/// Runs the verb.
///
/// # Errors
/// When there is no session, its keys cannot be read, or the dump cannot be written.
pub fn run(arguments: &Arguments, context: &mut Context) -> Result<Exit, Error> {
    let state = context.state()?;
    let session = find(context, &state)?;
    let target = match &arguments.to {
        Some(path) => context.working_directory.join(path),
        None => {
            let id = session.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
            context.working_directory.join(format!("envctl-dump-{id}"))
        }
    };
    if !session.is_live() {
        context.out.warn("the session's agent is gone: the dump has what it left on disk");
    }
    let index = runtime()?.block_on(dump(&session, &target)).map_err(failed)?;
    for missing in &index.missing {
        context.out.warn(&format!("{} could not be had: {}", missing.what, missing.why));
    }
    match context.out.format {
        Format::Json | Format::Yaml => context.out.document(&index)?,
        Format::Text | Format::Name | Format::Objects => context.out.data(target.display().to_string()),
    }
    Ok(Exit::Ok)
}

/// The session that is meant. Unlike elsewhere, one whose agent is gone counts, and its files are not removed.
fn find(context: &Context, state: &StateDirectory) -> Result<SessionDirectory, Error> {
    let (named, file) = (context.named_session(), context.named_file()?);
    let start = file.as_deref().and_then(Path::parent).unwrap_or(&context.working_directory);
    let live = lookup::find(state, &Query { named, file: file.as_deref(), start });
    let not_found = match live {
        Ok(record) => return Ok(state.session(&record.id)),
        Err(error) => error,
    };
    let root = project::find_root(start);
    let is_meant = |session: &SessionDirectory| {
        session.record().is_ok_and(|record| match named {
            Some(name) => record.id == name || (record.session == name && record.root == root),
            None => record.root == root && file.as_ref().is_none_or(|file| *file == record.file),
        })
    };
    let mut dead: Vec<SessionDirectory> =
        state.all()?.into_iter().filter(|session| !session.is_live()).filter(is_meant).collect();
    dead.sort_by_key(|session| session.record().map(|record| record.created).unwrap_or_default());
    dead.pop().ok_or_else(|| not_found.into())
}

fn failed(error: DumpError) -> Error {
    let hint = match &error {
        DumpError::Keys(source) => source.hint(),
        DumpError::Unwritable { source, .. } => match source.kind() {
            std::io::ErrorKind::AlreadyExists => Some("give another place with --to".to_owned()),
            std::io::ErrorKind::NotFound => Some("its parent directory must be there".to_owned()),
            _ => crate::session::io_hint(source).map(|_of_sessions| "give another place with --to".to_owned()),
        },
    };
    Error::Failed { what: error.to_string(), hint, exit: Exit::Failed }
}
