//! `envctl up`: brings the environment up, or applies what changed in a live session.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::Path;
use std::time::{Duration, SystemTime};

use clap::Args;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

use super::conversation::{Conversation, runtime};
use super::display::Display;
use super::duration::{duration, human};
use super::exit::Exit;
use super::output::Format;
use super::{Context, FileFlag, load};
use crate::cluster::tenancy::LEASE_VARIABLE;
use crate::cluster::{Removal, kubeconfig};
use crate::envfile::TimeSpan;
use crate::error::Error;
use crate::plan::{Cluster, ExportOrigin, Plan};
use crate::provision::Failure;
use crate::session::identity::Identity;
use crate::session::launch::{self, Agent};
use crate::session::protocol::{Reply, Request, UpRequest};
use crate::session::record::{Phase, Record, VERSION};
use crate::session::state::{SessionDirectory, StateDirectory};

/// The flags of this verb.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Which environment file.
    #[command(flatten)]
    pub file: FileFlag,
    /// How long to wait until everything is ready
    #[arg(long, env = "ENVCTL_WAIT_TIMEOUT", hide_env_values = true, value_name = "DURATION", default_value = "5m", value_parser = duration)]
    pub wait_timeout: Duration,
    /// Return at once; the agent goes on
    #[arg(short, long, env = "ENVCTL_DETACH", hide_env_values = true, conflicts_with = "attach")]
    pub detach: bool,
    /// Stay and stream the services' logs; Ctrl-C takes the session down
    #[arg(long, env = "ENVCTL_ATTACH", hide_env_values = true)]
    pub attach: bool,
    /// Leave everything up when something fails
    #[arg(long, env = "ENVCTL_KEEP", hide_env_values = true)]
    pub keep: bool,
    /// End the session after this time without a command or test
    #[arg(long, env = "ENVCTL_TTL", hide_env_values = true, value_name = "DURATION", default_value = "4h", value_parser = duration)]
    pub ttl: Duration,
    /// On a cluster that is not the session's own: remove it from there this long after its agent's last sign of life
    #[arg(long, env = LEASE_VARIABLE, hide_env_values = true, value_name = "DURATION", default_value = "10m", value_parser = duration)]
    pub lease: Duration,
}

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

/// How one conversation with an agent ended.
pub enum Outcome {
    /// Everything is ready.
    Ready {
        /// What is on disk.
        record: Box<Record>,
        /// Milliseconds.
        took: u64,
    },
    /// It is at work, and the caller did not want to wait.
    Accepted,
    /// It did not come up.
    Failed {
        /// Why.
        failure: Box<Failure>,
        /// Whether the session stays.
        kept: bool,
        /// What removing it came to.
        removal: Removal,
    },
    /// This command was interrupted and, where it had created the session, took it down again.
    Interrupted(Option<Removal>),
    /// Someone else took the session down meanwhile.
    TakenDown(Option<String>),
    /// The agent is gone without a word.
    Died(Error),
    /// The session is being taken down: wait for its end, then start anew.
    Again,
}

/// Runs the verb.
///
/// # Errors
/// A bad environment file, or state that cannot be kept.
pub fn run(arguments: &Arguments, context: &mut Context) -> Result<Exit, Error> {
    let plan = load::plan(context)?;
    let mut variables = load::variables(context)?;
    kubeconfig::make_absolute(&mut variables, &context.working_directory);
    variables.insert(LEASE_VARIABLE.to_owned(), TimeSpan(arguments.lease).to_string());
    let state = context.state()?;
    let name = session_name(context, &state, &plan)?;
    let record = new_record(&state, &plan, name.as_deref());
    let directory = state.session(&record.id);
    let runtime = runtime()?;
    loop {
        let (stream, created) = match launch::open_or_create(&state, &record, Path::new(launch::THIS_PROGRAM))? {
            Agent::Created(stream) => (Some(stream), true),
            Agent::Found(stream) => (Some(stream), false),
            Agent::Ending => (None, false),
        };
        // Opened now: the agent removes the file before it ends.
        let lock = File::open(directory.lock());
        let outcome = match stream {
            Some(stream) => runtime.block_on(async {
                let mut conversation = Conversation::new(stream, directory.clone())?;
                let request = arguments.request(&plan, &variables);
                conversation.ask(Request::Up(Box::new(request))).await?;
                converse(context, &plan, &mut conversation, created, arguments.detach).await
            })?,
            None => Outcome::Again,
        };
        if let Outcome::Again = outcome {
            context.out.say("the session is being taken down by another command; waiting for its end");
            launch::wait_until_gone(&directory)?;
            continue;
        }
        if !created && let Outcome::Interrupted(_) = outcome {
            context.out.say("interrupted; the session was there before and goes on");
        }
        if matches!(
            outcome,
            Outcome::Failed { kept: false, .. }
                | Outcome::TakenDown(_)
                | Outcome::Interrupted(Some(_))
                | Outcome::Died(_)
        ) {
            match &lock {
                Ok(lock) => launch::wait_until_free(lock, &directory)?,
                Err(_already_gone) => launch::wait_until_gone(&directory)?,
            }
        }
        if let Outcome::Died(error) = outcome {
            launch::sweep(&state)?;
            return Err(error);
        }
        let exit = report(arguments, context, &plan, &record, &directory, &outcome)?;
        if arguments.attach
            && let Outcome::Ready { record, .. } = &outcome
        {
            return runtime.block_on(attached(context, &state, record, created));
        }
        return Ok(exit);
    }
}

impl Arguments {
    /// What the agent is asked.
    fn request(&self, plan: &Plan, variables: &BTreeMap<String, String>) -> UpRequest {
        UpRequest {
            plan: plan.clone(),
            environment: variables.clone(),
            timeout: milliseconds(self.wait_timeout),
            keep: self.keep,
            detach: self.detach,
            ttl: milliseconds(self.ttl),
            reissue: BTreeSet::new(),
        }
    }
}

/// The name of the session that is meant, by flag or variable.
fn session_name(context: &mut Context, state: &StateDirectory, plan: &Plan) -> Result<Option<String>, Error> {
    let mut session = context.globals.session.clone().filter(|name| !name.is_empty());
    // ENVCTL_SESSION may hold the id of a session, by `eval "$(envctl env)"`.
    if let Some(known) = state.live()?.into_iter().find(|record| Some(&record.id) == session.as_ref()) {
        if known.root == plan.project_root && known.environment == plan.environment {
            session = Some(known.session);
        } else {
            context.out.warn(&format!("ENVCTL_SESSION is {}, a session of something else: ignored", known.id));
            session = None;
        }
    }
    Ok(session)
}

/// What the session's record starts as, should there be none.
pub fn new_record(state: &StateDirectory, plan: &Plan, session: Option<&str>) -> Record {
    let identity = Identity::new(&plan.project_root, &plan.environment, session);
    let id = identity.id();
    let cluster = match &plan.cluster {
        Cluster::Embedded => "embedded".to_owned(),
        Cluster::Kind { .. } => "kind".to_owned(),
        Cluster::Minikube { .. } => "minikube".to_owned(),
        Cluster::Context(name) => format!("context:{name}"),
    };
    let namespace = match &plan.cluster {
        Cluster::Embedded => identity.namespace(),
        _ => identity.shared_namespace(),
    };
    Record {
        version: VERSION,
        kubeconfig: state.session(&id).kubeconfig(),
        namespace,
        id,
        root: identity.root,
        environment: identity.environment,
        session: identity.session,
        file: plan.file.clone(),
        cluster,
        phase: Phase::Starting,
        created: SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs(),
        agent_pid: 0,
        api: None,
        addresses: BTreeMap::new(),
        exports: BTreeMap::new(),
        shared: None,
        ready: None,
    }
}

/// A duration as the protocol has it.
pub fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Shows what an `up` or `attach` that was just asked for is doing, to its end. An interruption cancels what this
/// command `created`.
///
/// # Errors
/// When the agent refuses, or signals cannot be received.
pub async fn converse(
    context: &mut Context,
    plan: &Plan,
    conversation: &mut Conversation,
    created: bool,
    detach: bool,
) -> Result<Outcome, Error> {
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::io("receive signals"))?;
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::io("receive signals"))?;
    let out = &mut context.out;
    let mut display = Display::new(out, &plan.environment, plan.nodes.iter().map(|node| node.id.clone()));
    // Only so that the live table's clocks go on; nothing waits for it.
    let mut clock = tokio::time::interval(Duration::from_millis(500));
    let mut interrupted = 0;
    let mut failed: Option<Box<Failure>> = None;
    loop {
        let reply = tokio::select! {
            reply = conversation.next_or_end() => reply?,
            _ = clock.tick(), if out.live() && failed.is_none() && interrupted == 0 => {
                display.tick(out);
                continue;
            }
            _ = first(&mut interrupt, &mut terminate) => {
                interrupted += 1;
                if !created {
                    return Ok(Outcome::Interrupted(None));
                }
                display.close();
                if interrupted == 1 {
                    out.say("interrupted: taking the session down (again to kill it)");
                    conversation.ask(Request::Cancel).await?;
                } else {
                    conversation.ask(Request::Kill).await?;
                }
                continue;
            }
        };
        match reply {
            Some(Reply::Event(event)) if interrupted == 0 => display.event(out, &event),
            Some(Reply::Event(_) | Reply::Status(_) | Reply::Creators { .. }) => {}
            Some(Reply::Queued) => {
                display.say(out, "another `up` is at work on this session; waiting for it, then applying what changed");
            }
            Some(Reply::Accepted) if detach => return Ok(Outcome::Accepted),
            Some(Reply::Accepted) => {}
            Some(Reply::Up { record, took }) => {
                display.close();
                return Ok(Outcome::Ready { record, took });
            }
            Some(Reply::Failed { failure, kept: true }) => {
                return Ok(Outcome::Failed { failure, kept: true, removal: Removal::default() });
            }
            Some(Reply::Failed { failure, kept: false }) => failed = Some(failure),
            Some(Reply::Ending) => return Ok(Outcome::Again),
            Some(Reply::Ended { removal, why }) => {
                return Ok(match failed {
                    Some(failure) => Outcome::Failed { failure, kept: false, removal },
                    None if interrupted > 0 => Outcome::Interrupted(Some(removal)),
                    None => Outcome::TakenDown(why),
                });
            }
            None if interrupted > 0 => return Ok(Outcome::Interrupted(Some(Removal::default()))),
            Some(Reply::Mismatch { .. } | Reply::Refused { .. }) | None => {
                return Ok(Outcome::Died(conversation.died()));
            }
        }
    }
}

/// Whichever of two signals comes first.
pub async fn first(one: &mut tokio::signal::unix::Signal, other: &mut tokio::signal::unix::Signal) {
    tokio::select! {
        _ = one.recv() => {}
        _ = other.recv() => {}
    }
}

fn report(
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

/// `--attach`: logs until Ctrl-C, which takes down what this command created.
async fn attached(
    context: &mut Context,
    state: &StateDirectory,
    record: &Record,
    created: bool,
) -> Result<Exit, Error> {
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::io("receive signals"))?;
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::io("receive signals"))?;
    let stream = launch::connect(&state.session(&record.id))?;
    // Held open: a session that someone looks at is in use, and its end is seen.
    let mut presence = Conversation::new(stream, state.session(&record.id))?;
    tokio::select! {
        followed = super::logs::follow_all(context, record) => {
            followed?;
        }
        ended = presence.next_or_end() => {
            ended?;
            return Err(Error::Failed { what: "the session ended".to_owned(), hint: None, exit: Exit::Failed });
        }
        () = first(&mut interrupt, &mut terminate) => {}
    }
    drop(presence);
    if !created {
        return Ok(Exit::Interrupted);
    }
    context.out.say("interrupted: taking the session down");
    super::down::end(context, state, record, None).await?;
    Ok(Exit::Interrupted)
}
