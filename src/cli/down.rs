//! `envctl down`: takes a session away. Of nothing, says so.

use clap::Args;
use serde::Serialize;

use super::conversation::{Conversation, runtime};
use super::exit::Exit;
use super::output::Format;
use super::{Context, FileFlag};
use crate::cluster::Removal;
use crate::error::Error;
use crate::session::protocol::{Reply, Request};
use crate::session::record::Record;
use crate::session::state::StateDirectory;
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
    for id in &dead {
        context.out.say(format!("removed what a dead session left: {id}"));
    }
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
    if targets.is_empty() && dead.is_empty() {
        let none = nothing.unwrap_or_else(|| "no session is running on this machine".to_owned());
        context.out.say(format!("nothing to take down: {none}"));
    }
    let runtime = runtime()?;
    let mut document = Document { version: 1, ended: Vec::new() };
    for record in &targets {
        let removal = runtime.block_on(end(context, &state, record))?;
        context.out.say(format!("{} is down", record.id));
        document.ended.push(Ended { id: record.id.clone(), removal });
    }
    let clean = document.ended.iter().all(|ended| ended.removal.left.is_empty());
    match context.out.format {
        Format::Json | Format::Yaml => context.out.document(&document)?,
        Format::Name => document.ended.iter().for_each(|ended| context.out.data(&ended.id)),
        Format::Text | Format::Objects => {}
    }
    Ok(if clean { Exit::Ok } else { Exit::Leftovers })
}

/// Ends one session; returns when its agent, and with it everything it ran, is gone.
///
/// # Errors
/// When the agent refuses or the state directory does.
pub async fn end(context: &mut Context, state: &StateDirectory, record: &Record) -> Result<Removal, Error> {
    let directory = state.session(&record.id);
    // Opened first: the agent removes the file before it ends.
    let Ok(lock) = std::fs::File::open(directory.lock()) else {
        return Ok(Removal::default());
    };
    let mut removal = Removal::default();
    if let Ok(stream) = launch::connect(&directory) {
        let mut conversation = Conversation::new(stream, directory.clone())?;
        conversation.ask(Request::Down).await?;
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
