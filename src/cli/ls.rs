//! `envctl ls`: every session of this machine.

use std::time::{Duration, SystemTime};

use clap::Args;
use serde::Serialize;

use super::Context;
use super::duration;
use super::exit::Exit;
use super::output::Format;
use crate::error::Error;
use crate::session::record::Record;

/// The flags of this verb.
#[derive(Debug, Args)]
pub struct Arguments {}

/// `-o json`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    version: u32,
    sessions: Vec<Row>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    id: String,
    environment: String,
    session: String,
    root: std::path::PathBuf,
    cluster: String,
    phase: crate::session::record::Phase,
    created: u64,
}

/// Runs the verb.
///
/// # Errors
/// When the state directory cannot be read.
pub fn run(_arguments: &Arguments, context: &mut Context) -> Result<Exit, Error> {
    let state = context.state()?;
    for dead in crate::session::launch::sweep(&state)? {
        context.out.warn(&format!("{} ended: {}", dead.id, dead.why));
    }
    let live = state.live()?;
    let left = crate::session::launch::left(&state)?.len();
    if left > 0 {
        let (sessions, verb) = if left == 1 { ("session", "has") } else { ("sessions", "have") };
        context.out.warn(&format!("{left} dead {sessions} {verb} left something on a cluster: `envctl gc` removes it"));
    }
    match context.out.format {
        Format::Json | Format::Yaml => {
            let sessions = live
                .into_iter()
                .map(|record| Row {
                    id: record.id,
                    environment: record.environment,
                    session: record.session,
                    root: record.root,
                    cluster: record.cluster,
                    phase: record.phase,
                    created: record.created,
                })
                .collect();
            context.out.document(&Document { version: 1, sessions })?;
        }
        Format::Name => live.iter().for_each(|record| context.out.data(&record.id)),
        Format::Text | Format::Objects if live.is_empty() => context.out.say("no sessions"),
        Format::Text | Format::Objects => {
            let rows: Vec<_> = live.iter().map(row).collect();
            context.out.table(&["ID", "ENVIRONMENT", "CLUSTER", "STATE", "AGE", "ROOT"], &rows);
        }
    }
    Ok(Exit::Ok)
}

fn row(record: &Record) -> Vec<String> {
    vec![
        record.id.clone(),
        record.environment.clone(),
        record.cluster.clone(),
        record.phase.to_string(),
        duration::age(age(record).as_secs()),
        record.root.display().to_string(),
    ]
}

/// How long ago a session was started.
pub fn age(record: &Record) -> Duration {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    now.saturating_sub(Duration::from_secs(record.created))
}
