//! What `up` says at its end: for people, and as a document.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::{Arguments, Outcome};
use crate::cli::Context;
use crate::cli::duration::human;
use crate::cli::exit::Exit;
use crate::cli::output::Format;
use crate::cluster::Removal;
use crate::error::Error;
use crate::plan::{ExportOrigin, Plan};
use crate::provision::Failure;
use crate::session::record::{Phase, Record};
use crate::session::state::SessionDirectory;

/// `-o json`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    version: u32,
    /// `ready`, `accepted` (with `--detach`), `failed` or `interrupted`.
    result: &'static str,
    /// The failure's stable name.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    took_milliseconds: Option<u64>,
    session: SessionPart<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<&'a Failure>,
    #[serde(skip_serializing_if = "Option::is_none")]
    removal: Option<&'a Removal>,
}

/// The session in the document: all of its record while it runs, else only who it was.
#[derive(Serialize)]
#[serde(untagged)]
enum SessionPart<'a> {
    Running(Box<Record>),
    Gone(Gone<'a>),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Gone<'a> {
    id: &'a str,
    root: &'a Path,
    environment: &'a str,
    session: &'a str,
    file: &'a Path,
    cluster: &'a str,
    namespace: &'a str,
}

impl<'a> SessionPart<'a> {
    fn of(record: &'a Record, directory: &SessionDirectory) -> Self {
        match directory.record().and_then(|running| running.shown(directory)) {
            Ok(running) if directory.is_live() && running.phase != Phase::Ending => Self::Running(Box::new(running)),
            _ => Self::Gone(Gone {
                id: &record.id,
                root: &record.root,
                environment: &record.environment,
                session: &record.session,
                file: &record.file,
                cluster: &record.cluster,
                namespace: &record.namespace,
            }),
        }
    }
}

/// Says it, and how to exit.
///
/// # Errors
/// When the session ended under it, or the document cannot be written.
pub fn report(
    arguments: &Arguments,
    context: &mut Context,
    plan: &Plan,
    started: &Record,
    directory: &SessionDirectory,
    outcome: &Outcome,
) -> Result<Exit, Error> {
    let (result, exit) = match outcome {
        Outcome::Ready { .. } => ("ready", Exit::Ok),
        Outcome::Accepted => ("accepted", Exit::Ok),
        Outcome::Failed { failure, .. } => ("failed", Exit::of_failure(failure)),
        Outcome::Interrupted(_) => ("interrupted", Exit::Interrupted),
        Outcome::TakenDown(_) | Outcome::Died(_) | Outcome::Again => ("failed", Exit::Failed),
    };
    match context.out.format {
        Format::Json | Format::Yaml => {
            let mut document = Document {
                version: 1,
                result,
                reason: None,
                took_milliseconds: None,
                session: SessionPart::of(started, directory),
                failure: None,
                removal: None,
            };
            match outcome {
                Outcome::Ready { record, took } => {
                    document.session = SessionPart::Running(Box::new(record.shown(directory)?));
                    document.took_milliseconds = Some(*took);
                }
                Outcome::Failed { failure, removal, kept } => {
                    document.reason = Some(failure.cause.reason());
                    document.failure = Some(failure);
                    document.removal = (!kept).then_some(removal);
                }
                Outcome::TakenDown(_) => document.reason = Some("TakenDown"),
                Outcome::Interrupted(removal) => {
                    document.reason = Some("Interrupted");
                    document.removal = removal.as_ref();
                }
                Outcome::Accepted | Outcome::Died(_) | Outcome::Again => {}
            }
            context.out.document(&document)?;
        }
        Format::Name if exit == Exit::Ok => context.out.data(&started.id),
        Format::Text | Format::Name | Format::Objects => {}
    }
    match outcome {
        Outcome::Ready { record, took } => ready(arguments, context, plan, record, *took),
        Outcome::Accepted => {
            context.out.say(format!("{} is coming up; `envctl wait` waits for it, `envctl ps` shows it", started.id));
        }
        Outcome::Failed { failure, kept, removal } => {
            context.out.say("");
            context.out.raw_err(&failure.render());
            if *kept {
                context.out.say(format!(
                    "\nsession {} stays up: `envctl ps`, `envctl logs`, `envctl exec`; `envctl down` removes it",
                    started.id
                ));
            } else {
                context.out.say("\nthe session was removed; `envctl up --keep` leaves it up to look at");
                left(context, removal);
            }
        }
        Outcome::TakenDown(why) => {
            let why = why.clone().unwrap_or_else(|| "it was taken down".to_owned());
            return Err(Error::Failed { what: format!("the session ended: {why}"), hint: None, exit: Exit::Failed });
        }
        Outcome::Interrupted(Some(removal)) => {
            context.out.say("the session was removed");
            left(context, removal);
        }
        Outcome::Interrupted(None) | Outcome::Died(_) | Outcome::Again => {}
    }
    Ok(exit)
}

fn ready(arguments: &Arguments, context: &mut Context, plan: &Plan, record: &Record, took: u64) {
    let out = &mut context.out;
    out.say(format!(
        "{} is ready in {}  (session {}, ends after {} unused)",
        record.environment,
        seconds(took),
        record.id,
        human(arguments.ttl)
    ));
    // Only addresses: a key must not be seen.
    for export in
        plan.exports.iter().filter(|export| export.origin == ExportOrigin::Service && export.name.ends_with("_URL"))
    {
        if let Some(value) = record.exports.get(&export.name) {
            out.say(format!("  {}={value}", export.name));
        }
    }
}

/// Milliseconds as people say them.
fn seconds(milliseconds: u64) -> String {
    format!("{:.2}s", Duration::from_millis(milliseconds).as_secs_f64())
}

/// Says what teardown could not remove.
pub fn left(context: &mut Context, removal: &Removal) {
    for killed in &removal.killed {
        context.out.warn(killed);
    }
    for left in &removal.left {
        context.out.warn(&format!("still there: {left}"));
    }
}
