//! `envctl down`: takes a session away. Of nothing, says so.

use std::time::Duration;

use clap::Args;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
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
    for session in dead.iter().filter(|session| !session.left) {
        context.out.say(format!("removed what a dead session left: {} ({})", session.id, session.why));
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
    if targets.is_empty() {
        // One that died between those two looks.
        launch::sweep(&state)?;
    }
    let left: Vec<_> = launch::left(&state)?;
    let mut left: Vec<_> = left.into_iter().filter(|directory| is_meant(arguments, context, directory)).collect();
    if targets.is_empty() && dead.is_empty() && left.is_empty() {
        let none = nothing.unwrap_or_else(|| "no session is running on this machine".to_owned());
        context.out.say(format!("nothing to take down: {none}"));
    }
    let runtime = runtime()?;
    let mut document = Document { version: 1, ended: Vec::new() };
    let mut failed = None;
    // All at once: on a cluster each takes seconds, and the trouble of one is not the others'.
    let mut ending: FuturesUnordered<_> =
        targets.iter().map(async |record| (record, ended(&state, record, Some(arguments.timeout)).await)).collect();
    while let Some((record, removed)) = runtime.block_on(ending.next()) {
        let removal = match removed {
            Ok(removal) => removal,
            Err(error) => {
                if let Some(earlier) = failed.replace(error) {
                    context.out.warn(&earlier.to_string());
                }
                continue;
            }
        };
        super::up::left(context, &removal);
        let of_it = |directory: &SessionDirectory| directory.record().is_ok_and(|left| left.id == record.id);
        if removal.left.is_empty() {
            // Its agent may have been killed over it: what it had not taken away yet is taken away below.
            let by_it: Vec<_> = launch::left(&state)?.into_iter().filter(of_it).collect();
            if !by_it.is_empty() {
                left.retain(|directory| !of_it(directory));
                left.extend(by_it);
                continue;
            }
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
    if let Some(error) = failed {
        return Err(error);
    }
    Ok(if clean { Exit::Ok } else { Exit::Leftovers })
}

/// Whether what a dead session left is of the session that is meant here.
fn is_meant(arguments: &Arguments, context: &Context, left: &SessionDirectory) -> bool {
    // One whose record cannot be read is of any.
    let Ok(record) = left.record() else { return arguments.all };
    let named = context.named_session();
    arguments.all
        || named == Some(record.id.as_str())
        || (named.is_none_or(|name| name == record.session)
            && match context.named_file() {
                Ok(Some(file)) => file == record.file,
                Ok(None) => record.root == context.root,
                Err(_not_there) => false,
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
    let removal = ended(state, record, timeout).await?;
    super::up::left(context, &removal);
    Ok(removal)
}

/// The same; what could not be removed is the caller's to tell. Several sessions may end at once.
pub async fn ended(state: &StateDirectory, record: &Record, timeout: Option<Duration>) -> Result<Removal, Error> {
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
    }
    let waiting = tokio::task::spawn_blocking(move || launch::wait_until_free(&lock, &directory));
    waiting.await.map_err(std::io::Error::other).map_err(Error::io("wait for the session's agent"))??;
    launch::sweep(state)?;
    Ok(removal)
}
