//! `envctl down`: takes a session away. Of nothing, says so.

use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::conversation::{Conversation, runtime};
use super::duration::duration;
use super::exit::Exit;
use super::output::Format;
use super::{Context, FileFlag};
use crate::cluster::Removal;
use crate::error::Error;
use crate::session::protocol::{Reply, Request};
use crate::session::record::Record;
use crate::session::state::{SessionDirectory, StateDirectory};
use crate::session::{SessionError, launch};

/// The flags of this verb.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Which environment file.
    #[command(flatten)]
    pub file: FileFlag,
    /// Every session of this machine
    #[arg(long, env = "ENVCTL_ALL", hide_env_values = true)]
    pub all: bool,
    /// How long what is on a cluster may take to be gone before what holds it is reported
    #[arg(long, env = "ENVCTL_TIMEOUT", hide_env_values = true, value_name = "DURATION", default_value = "60s", value_parser = duration)]
    pub timeout: Duration,
}

/// `-o json`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    version: u32,
    ended: Vec<Ended>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Ended {
    id: String,
    removal: Removal,
}

/// Runs the verb.
///
/// # Errors
/// When several sessions could be meant, or the state directory refuses.
pub fn run(arguments: &Arguments, context: &mut Context) -> Result<Exit, Error> {
    let state = context.state()?;
    let dead = launch::sweep(&state)?;
    for session in &dead {
        context.out.say(format!("removed what a dead session left: {} ({})", session.id, session.why));
    }
    let left: Vec<_> = launch::left(&state)?;
    let left: Vec<_> = left.into_iter().filter(|directory| is_meant(arguments, context, directory)).collect();
    let mut nothing = None;
    let targets = if arguments.all {
        state.live()?
    } else {
        match context.session() {
            Ok((_, record)) => vec![record],
            // With every live session of the machine, since one of another directory may be meant.
            Err(Error::Session(error @ (SessionError::NotFound { .. } | SessionError::NoStateDirectory))) => {
                nothing = Some(error.to_string());
                Vec::new()
            }
            Err(error) => return Err(error),
        }
    };
    if targets.is_empty() && dead.is_empty() && left.is_empty() {
        let none = nothing.unwrap_or_else(|| "no session is running on this machine".to_owned());
        context.out.say(format!("nothing to take down: {none}"));
    }
    let runtime = runtime()?;
    let mut document = Document { version: 1, ended: Vec::new() };
    for record in &targets {
        let removal = runtime.block_on(end(context, &state, record, Some(arguments.timeout)))?;
        if removal.left.is_empty() {
            context.out.say(format!("{} is down", record.id));
        } else {
            context.out.say(format!("{} has ended; `envctl gc` looks again at what is still there", record.id));
        }
        document.ended.push(Ended { id: record.id.clone(), removal });
    }
    for tried in runtime.block_on(super::gc::all(&state, &left, Some(arguments.timeout)))? {
        tried.say(context);
        let removal = Removal { killed: Vec::new(), left: tried.left };
        document.ended.push(Ended { id: tried.id, removal });
    }
    let clean = document.ended.iter().all(|ended| ended.removal.left.is_empty());
    match context.out.format {
        Format::Json | Format::Yaml => context.out.document(&document)?,
        Format::Name => document.ended.iter().for_each(|ended| context.out.data(&ended.id)),
        Format::Text | Format::Objects => {}
    }
    Ok(if clean { Exit::Ok } else { Exit::Leftovers })
}

/// Whether what a dead session left is of the session that is meant here.
fn is_meant(arguments: &Arguments, context: &Context, left: &SessionDirectory) -> bool {
    // One whose record cannot be read is of any.
    let Ok(record) = left.record() else { return arguments.all };
    let named = context.globals.session.as_deref().filter(|name| !name.is_empty());
    arguments.all
        || named == Some(record.id.as_str())
        || (named.is_none_or(|name| name == record.session)
            && match context.file.as_ref().map(|_named| context.env_file()) {
                Some(file) => file.is_ok_and(|file| file == record.file),
                None => record.root == context.root,
            })
}

/// Ends one session; returns when its agent, and with it everything it ran, is gone.
///
/// # Errors
/// When the agent refuses or the state directory does.
pub async fn end(
    context: &mut Context,
    state: &StateDirectory,
    record: &Record,
    timeout: Option<Duration>,
) -> Result<Removal, Error> {
    let directory = state.session(&record.id);
    // Opened first: the agent removes the file before it ends.
    let Ok(lock) = std::fs::File::open(directory.lock()) else {
        return Ok(Removal::default());
    };
    let mut removal = Removal::default();
    if let Ok(stream) = launch::connect(&directory) {
        let mut conversation = Conversation::new(stream, directory.clone())?;
        conversation.ask(Request::Down { timeout: timeout.map(super::up::milliseconds) }).await?;
        while let Some(reply) = conversation.next_or_end().await? {
            if let Reply::Ended { removal: removed, .. } = reply {
                removal = removed;
            }
        }
        super::up::left(context, &removal);
    }
    launch::wait_until_free(&lock, &directory)?;
    launch::sweep(state)?;
    Ok(removal)
}
