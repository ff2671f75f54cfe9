//! `envctl keys`: the session's keys by name; `show` prints one, `rotate` issues some anew.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use clap::{Args, Subcommand};
use serde::Serialize;

use super::conversation::{Conversation, runtime};
use super::display::Display;
use super::duration::{duration, human};
use super::exit::Exit;
use super::output::Format;
use super::swap::plan;
use super::{Context, FileFlag, load, ps};
use crate::error::Error;
use crate::plan::NodeKind;
use crate::session::launch;
use crate::session::protocol::{Reply, Request, RotateRequest};
use crate::session::record::KeyRecord;
use crate::session::touch;

/// The flags of this verb.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Which environment file.
    #[command(flatten)]
    pub file: FileFlag,
    /// Without one, the list of them.
    #[command(subcommand)]
    pub action: Option<Action>,
}

/// What to do with keys.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Print one key's value, and nothing else
    Show {
        /// The key
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Issue keys anew, restart what uses them, revoke the old ones
    Rotate {
        /// The keys
        #[arg(value_name = "NAME", required = true)]
        names: Vec<String>,
        /// How long to wait until what uses them is ready again
        #[arg(long, env = "ENVCTL_WAIT_TIMEOUT", hide_env_values = true, value_name = "DURATION", default_value = "5m", value_parser = duration)]
        wait_timeout: Duration,
    },
}

/// `-o json`: everything but the values.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    version: u32,
    session: String,
    keys: Vec<Row>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    name: String,
    source: String,
    /// RFC 3339.
    issued: String,
    age_seconds: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_in_seconds: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

/// Runs the verb.
///
/// # Errors
/// When there is no session, no such key, or it could not be issued.
pub fn run(arguments: &Arguments, context: &mut Context) -> Result<Exit, Error> {
    match &arguments.action {
        None => list(context),
        Some(Action::Show { name }) => show(context, name),
        Some(Action::Rotate { names, wait_timeout }) => rotate(context, names, *wait_timeout),
    }
}

fn list(context: &mut Context) -> Result<Exit, Error> {
    let (state, record) = context.session()?;
    let keys = state.session(&record.id).keys()?;
    let now = now();
    let rows: Vec<Row> =
        keys.iter().filter(|(_, key)| !key.value.is_empty()).map(|(name, key)| row(name, key, now)).collect();
    match context.out.format {
        Format::Json | Format::Yaml => {
            context.out.document(&Document { version: 1, session: record.id, keys: rows })?;
        }
        Format::Name => rows.iter().for_each(|row| context.out.data(&row.name)),
        Format::Text | Format::Objects => {
            let cells: Vec<_> = rows.iter().map(cells).collect();
            context.out.table(&["NAME", "SOURCE", "AGE", "EXPIRES IN"], &cells);
            for row in rows {
                if let Some(problem) = row.problem {
                    context.out.warn(&format!("{} could not be issued anew: {problem}", row.name));
                }
            }
        }
    }
    Ok(Exit::Ok)
}

fn show(context: &mut Context, name: &str) -> Result<Exit, Error> {
    let (state, record) = context.session()?;
    touch(&state, &record.id);
    let keys = state.session(&record.id).keys()?;
    match keys.get(name).filter(|key| !key.value.is_empty()) {
        Some(key) => {
            context.out.data(&key.value);
            Ok(Exit::Ok)
        }
        None => {
            let names: Vec<&str> =
                keys.iter().filter(|(_, key)| !key.value.is_empty()).map(|(name, _)| name.as_str()).collect();
            Err(no_key(name, &names))
        }
    }
}

fn no_key(name: &str, there: &[&str]) -> Error {
    let hint = if there.is_empty() {
        "none was issued; `keys:` in the environment file says which there are".to_owned()
    } else {
        format!("there are {}", there.join(", "))
    };
    Error::Usage { what: format!("the session has no key {name}"), hint: Some(hint) }
}

fn rotate(context: &mut Context, names: &[String], timeout: Duration) -> Result<Exit, Error> {
    let (state, record) = context.session()?;
    touch(&state, &record.id);
    let request = RotateRequest {
        keys: names.iter().cloned().collect::<BTreeSet<_>>(),
        environment: load::variables(context)?,
        timeout: u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX),
    };
    let directory = state.session(&record.id);
    let plan = plan(&directory, &record)?;
    let known =
        || plan.nodes.iter().map(|node| &node.id).filter(|id| id.kind == NodeKind::Key).map(|id| id.name.as_str());
    if let Some(unknown) = names.iter().find(|name| !known().any(|known| known == *name)) {
        return Err(no_key(unknown, &known().collect::<Vec<_>>()));
    }
    let out = &mut context.out;
    runtime()?.block_on(async {
        let mut conversation = Conversation::new(launch::connect(&directory)?, directory)?;
        conversation.ask(Request::Rotate(request)).await?;
        let mut display = Display::new(out, &record.environment, std::iter::empty());
        loop {
            match conversation.next().await? {
                Reply::Event(event) => display.event(out, &event),
                Reply::Queued => display.say(out, "another command is at work on this session; waiting for it"),
                Reply::Up { .. } => {
                    display.close();
                    for name in names {
                        out.say(format!("{name} is issued anew"));
                    }
                    // What has it in its environment is not the agent's to start again.
                    for service in ps::status(&state, &record).await?.swapped {
                        out.warn(&format!("{service} runs on this machine: if it uses that, start it again"));
                    }
                    return Ok(Exit::Ok);
                }
                Reply::Failed { failure, .. } => {
                    display.close();
                    out.say("");
                    out.raw_err(&failure.render());
                    return Ok(Exit::of_failure(&failure));
                }
                Reply::Accepted => {}
                _ => return Err(ps::ending(&record)),
            }
        }
    })
}

fn row(name: &str, key: &KeyRecord, now: u64) -> Row {
    Row {
        name: name.to_owned(),
        source: key.source.clone(),
        issued: timestamp(key.issued),
        age_seconds: now.saturating_sub(key.issued) / 1000,
        expires: key.expires.map(timestamp),
        expires_in_seconds: key.expires.map(|expires| expires.saturating_sub(now).div_ceil(1000)),
        problem: key.problem.clone(),
    }
}

fn cells(row: &Row) -> Vec<String> {
    let expires = row.expires_in_seconds.map(|seconds| human(Duration::from_secs(seconds)));
    vec![
        row.name.clone(),
        row.source.clone(),
        human(Duration::from_secs(row.age_seconds)),
        expires.unwrap_or_else(|| "-".to_owned()),
    ]
}

fn timestamp(milliseconds: u64) -> String {
    let time = i64::try_from(milliseconds).ok().and_then(|time| jiff::Timestamp::from_millisecond(time).ok());
    time.unwrap_or_default().to_string()
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
