//! The session of a test: one of its own, or a live one; and its end.

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Duration;

use super::Arguments;
use crate::cli::conversation::Conversation;
use crate::cli::duration::human;
use crate::cli::exit::Exit;
use crate::cli::up::{Outcome, converse, milliseconds, new_record};
use crate::cli::{Context, load};
use crate::cluster::Removal;
use crate::error::Error;
use crate::plan::Plan;
use crate::session::launch::{self, Agent};
use crate::session::protocol::{Reply, Request, UpRequest};
use crate::session::record::{Phase, Record, Shared};
use crate::session::state::StateDirectory;
use crate::suite::run::Interrupts;

/// How long the session is kept without use where `--keep` leaves it up.
const TTL: Duration = Duration::from_secs(4 * 3600);

/// The session that the suites run in.
pub(super) struct Session {
    /// Where it is kept.
    pub state: StateDirectory,
    /// As it was when it was ready.
    pub record: Record,
    /// Open for as long as it is used.
    pub conversation: Conversation,
    /// Whether it ends with this command.
    pub own: bool,
}

/// A session that did not come up, for the report.
pub(super) struct NotUp {
    /// What it would have been.
    pub record: Record,
    /// Why not.
    pub outcome: Outcome,
    /// Open for as long as it is looked at.
    pub conversation: Conversation,
    /// Its agent's lock, opened while that lived.
    pub lock: io::Result<File>,
}

/// A session of this command's own.
pub(super) async fn own(
    arguments: &Arguments,
    context: &mut Context,
    plan: &Plan,
    hold: bool,
) -> Result<Result<Session, Box<NotUp>>, Error> {
    let state = context.state()?;
    let variables = load::variables(context)?;
    // Never the name of another: not the user's `--session`, which `--attach` is for.
    let unique = uuid::Uuid::new_v4().simple().to_string();
    let mut record = new_record(&state, plan, Some(&format!("test-{}", &unique[..8])));
    record.shared = (!arguments.keep).then_some(Shared { run: None, linger: 0, limit: u64::MAX });
    let Agent::Created(stream) = launch::open_or_create(&state, &record, Path::new(launch::THIS_PROGRAM))? else {
        return Err(Error::Failed {
            what: format!("there is a session {} already, though its name was just made up", record.id),
            hint: Some("try again".to_owned()),
            exit: Exit::Failed,
        });
    };
    let directory = state.session(&record.id);
    let lock = File::open(directory.lock());
    let mut conversation = Conversation::new(stream, directory)?;
    let up = UpRequest {
        plan: plan.clone(),
        environment: variables,
        timeout: milliseconds(arguments.wait_timeout),
        keep: arguments.keep || arguments.keep_on_failure,
        hold,
        detach: false,
        ttl: milliseconds(TTL),
        reissue: Default::default(),
        exchange: Default::default(),
        swap: Default::default(),
    };
    conversation.ask(Request::Attach { up: Some(Box::new(up)) }).await?;
    Ok(match converse(context, plan, &mut conversation, true, false).await? {
        Outcome::Ready { record, took } => {
            let took = human(Duration::from_millis(took));
            context
                .out
                .say(format!("{} is ready in {took}  (session {}, this test's own)", record.environment, record.id));
            Ok(Session { state, record: *record, conversation, own: true })
        }
        outcome => Err(Box::new(NotUp { record, outcome, conversation, lock })),
    })
}

/// A live session. An interruption ends the waiting for an `up` that is at work on it.
pub(super) async fn attach(
    context: &mut Context,
    interrupts: &mut Interrupts,
) -> Result<Result<Session, Box<NotUp>>, Error> {
    let (state, record) = context.session()?;
    let directory = state.session(&record.id);
    let lock = File::open(directory.lock());
    let mut conversation = Conversation::new(launch::connect(&directory)?, directory)?;
    conversation.ask(Request::Attach { up: None }).await?;
    if record.phase == Phase::Starting {
        context.out.say(format!("session {} is not ready yet: waiting for it", record.id));
    }
    loop {
        let reply = tokio::select! {
            reply = conversation.next() => reply?,
            _ = interrupts.next() => {
                return Ok(Err(Box::new(NotUp { record, outcome: Outcome::Interrupted(None), conversation, lock })));
            }
        };
        let outcome = match reply {
            Reply::Up { record, .. } => return Ok(Ok(Session { state, record: *record, conversation, own: false })),
            Reply::Queued | Reply::Accepted | Reply::Event(_) => continue,
            Reply::Failed { failure, .. } => Outcome::Failed { failure, kept: true, removal: Removal::default() },
            _ => return Err(crate::cli::ps::ending(&record)),
        };
        return Ok(Err(Box::new(NotUp { record, outcome, conversation, lock })));
    }
}

/// Takes the session down; an interruption meanwhile kills what is left of it.
pub(super) async fn down(
    context: &mut Context,
    session: &mut Session,
    interrupts: &mut Interrupts,
) -> Result<Removal, Error> {
    let Session { state, record, conversation, .. } = session;
    let ending = crate::cli::down::end(context, state, record, None);
    tokio::pin!(ending);
    loop {
        tokio::select! {
            removal = &mut ending => return removal,
            _ = interrupts.next() => conversation.ask(Request::Kill).await?,
        }
    }
}

/// Lets the session go on without this command.
pub(super) async fn stay(context: &mut Context, session: &Session) -> Result<(), Error> {
    let directory = session.state.session(&session.record.id);
    let mut conversation = Conversation::new(launch::connect(&directory)?, directory)?;
    conversation.ask(Request::Keep).await?;
    conversation.next().await?;
    kept_up(context, &session.record);
    Ok(())
}

pub(super) fn kept_up(context: &mut Context, record: &Record) {
    let id = &record.id;
    context.out.say(format!("session {id} stays up: `envctl ps --session {id}`, `envctl down --session {id}`"));
}
