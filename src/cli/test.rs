//! `envctl test`: up, run suites, report, down. The exit code is the suite's.
//!
//! The session is this command's own, by a name that is never used again, and ends with this command by whatever end:
//! the agent holds a connection to it. With `--attach` it is a live one, which stays.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use nix::unistd::Pid;

use super::conversation::{Conversation, runtime};
use super::duration::{duration, human};
use super::exit::Exit;
use super::output::Format;
use super::up::{Outcome, milliseconds, new_record};
use super::{Context, FileFlag, load};
use crate::cluster::Removal;
use crate::error::Error;
use crate::images::build::display;
use crate::plan::{Plan, PortId, Suite, Viewpoint};
use crate::session::launch::{self, Agent};
use crate::session::protocol::{Reply, Request, UpRequest};
use crate::session::record::{Record, Shared};
use crate::session::state::StateDirectory;
use crate::suite::result::{Document, SessionPart, SuiteResult, judged};
use crate::suite::run::{End, Interrupts, Spec};
use crate::suite::select::{Asked, select};
use crate::suite::stream::Writer;
use crate::suite::{result, run as running};

/// How long the session is kept without use where `--keep` leaves it up.
const TTL: Duration = Duration::from_secs(4 * 3600);

/// The flags of this verb.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Which environment file.
    #[command(flatten)]
    pub file: FileFlag,
    /// The suites (default: all; with arguments after `--` and no suite, those are the command)
    #[arg(value_name = "SUITE")]
    pub suites: Vec<String>,
    /// All suites of this stage
    #[arg(long, env = "ENVCTL_STAGE", hide_env_values = true, value_name = "NAME")]
    pub stage: Option<String>,
    /// Use a live session, and leave it up
    #[arg(long, env = "ENVCTL_ATTACH", hide_env_values = true, conflicts_with_all = ["keep", "keep_on_failure"])]
    pub attach: bool,
    /// Leave the session up
    #[arg(long, env = "ENVCTL_KEEP", hide_env_values = true)]
    pub keep: bool,
    /// Leave the session up when something fails
    #[arg(long, env = "ENVCTL_KEEP_ON_FAILURE", hide_env_values = true)]
    pub keep_on_failure: bool,
    /// How long a suite may take, over the file's `timeout`
    #[arg(long, env = "ENVCTL_TIMEOUT", hide_env_values = true, value_name = "DURATION", value_parser = duration)]
    pub timeout: Option<Duration>,
    /// How long a suite gets to end when it is asked to, before it is killed
    #[arg(long, env = "ENVCTL_GRACE", hide_env_values = true, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    pub grace: Duration,
    /// How long to wait until everything is ready
    #[arg(long, env = "ENVCTL_WAIT_TIMEOUT", hide_env_values = true, value_name = "DURATION", default_value = "5m", value_parser = duration)]
    pub wait_timeout: Duration,
    /// Write what came of it, as JSON
    #[arg(long, env = "ENVCTL_RESULT", hide_env_values = true, value_name = "FILE")]
    pub result: Option<PathBuf>,
    /// Appended to the suite's command; without a suite, the command itself
    #[arg(last = true, value_name = "ARGS")]
    pub arguments: Vec<String>,
}

/// The session that the suites run in.
struct Session {
    state: StateDirectory,
    record: Record,
    /// Open for as long as it is used.
    conversation: Conversation,
    own: bool,
}

/// Runs the verb.
///
/// # Errors
/// When there is nothing to run, or the session could not be brought up or found.
pub fn run(arguments: &Arguments, context: &mut Context) -> Result<Exit, Error> {
    let plan = load::plan(context)?;
    let asked = Asked {
        names: &arguments.suites,
        stage: arguments.stage.as_deref().filter(|stage| !stage.is_empty()),
        arguments: &arguments.arguments,
        directory: &context.working_directory,
    };
    let suites = select(&plan, asked)
        .map_err(|error| Error::Usage { what: format!("{error} in {}", plan.file.display()), hint: error.hint() })?;
    runtime()?.block_on(test(arguments, context, &plan, suites))
}

async fn test(
    arguments: &Arguments,
    context: &mut Context,
    plan: &Plan,
    suites: Vec<(String, Suite)>,
) -> Result<Exit, Error> {
    let began = Instant::now();
    // From here on a signal is this command's to answer, so that whatever it began is taken away.
    let mut interrupts = Interrupts::new().map_err(Error::io("receive signals"))?;
    let mut session = match if arguments.attach { attach(context).await } else { own(arguments, context, plan).await }?
    {
        Ok(session) => session,
        Err(failed) => return end_early(arguments, context, began, *failed),
    };
    let mut document = Document {
        version: 1,
        result: "passed",
        reason: "Passed".to_owned(),
        exit_code: 0,
        took_milliseconds: 0,
        session: part(&session.record, true),
        suites: Vec::new(),
        failure: None,
        removal: None,
        problems: Vec::new(),
    };
    let mut exit = Exit::Ok;
    for (name, suite) in &suites {
        let (result, ended) = one(arguments, context, plan, &mut session, (name, suite), &mut interrupts).await?;
        if exit == Exit::Ok && ended != Exit::Ok {
            exit = ended;
            document.reason = result.reason.name().to_owned();
            document.result = if result.reason.is_suites() { "failed" } else { "error" };
        }
        let over = matches!(result.reason, result::Reason::Interrupted | result::Reason::SessionLost);
        document.suites.push(result);
        if over {
            break;
        }
    }
    let keep = arguments.keep || (arguments.keep_on_failure && exit != Exit::Ok);
    if session.own && !keep {
        let removal = down(context, &mut session, &mut interrupts).await?;
        if exit == Exit::Ok && !removal.left.is_empty() {
            exit = Exit::Leftovers.of_wrapper();
            "TeardownIncomplete".clone_into(&mut document.reason);
            document.result = "error";
        }
        document.session.kept = false;
        document.removal = Some(removal);
    } else if session.own {
        stay(context, &session).await?;
    }
    document.exit_code = exit.code();
    finish(arguments, context, began, document)?;
    Ok(exit)
}

/// Runs one suite and says how it went.
async fn one(
    arguments: &Arguments,
    context: &mut Context,
    plan: &Plan,
    session: &mut Session,
    (name, suite): (&str, &Suite),
    interrupts: &mut Interrupts,
) -> Result<(SuiteResult, Exit), Error> {
    if !suite.workdir.is_dir() {
        return Err(Error::Failed {
            what: format!("suite {name}: there is no directory {}", suite.workdir.display()),
            hint: Some("correct its `workdir`".to_owned()),
            exit: Exit::Failed,
        });
    }
    let variables = variables(plan, &session.record, suite)?;
    let structured = matches!(context.out.format, Format::Json | Format::Yaml);
    let writer = Writer::start(structured).map_err(Error::io("start a thread"))?;
    let spec = Spec {
        command: &suite.run,
        directory: &suite.workdir,
        variables: &variables,
        timeout: arguments.timeout.or(suite.timeout.map(|timeout| timeout.0)),
        grace: arguments.grace,
        except: i32::try_from(session.record.agent_pid).ok().filter(|pid| *pid > 0).map(Pid::from_raw),
    };
    context.out.say(format!("{name}: {}", display(&suite.run)));
    let conversation = &mut session.conversation;
    let lost = async {
        while let Ok(Some(reply)) = conversation.next_or_end().await {
            if matches!(reply, Reply::Ended { .. }) {
                return;
            }
        }
    };
    let out = &mut context.out;
    let ran = running::run(&spec, &writer.sender(), interrupts, lost, |sentence| out.say(sentence))
        .await
        .map_err(Error::io(format!("run suite {name}")))?;
    tokio::select! {
        () = writer.finish() => {}
        _ = interrupts.next() => {}
    }
    let program = suite.run.first().map(String::as_str).unwrap_or_default();
    let (reason, message, exit) = judged(&ran, super::run::exists(program.as_ref(), &suite.workdir));
    let after = match ran.end {
        End::NotStarted(_) => String::new(),
        _ => format!(" after {}", human(ran.took)),
    };
    context.out.say(format!("{name}: {message}{after}"));
    for process in &ran.left {
        context.out.warn(&format!("{name} left a process running, which was ended: {process}"));
    }
    for process in &ran.remain {
        context.out.warn(&format!("{name} left a process running that this user may not end: {process}"));
    }
    let result = SuiteResult {
        name: name.to_owned(),
        stage: suite.stage.clone(),
        command: display(&suite.run),
        reason,
        message,
        exit_code: exit.code(),
        started: jiff::Timestamp::try_from(ran.started).map(|time| time.to_string()).unwrap_or_default(),
        took_milliseconds: milliseconds(ran.took),
        ended_processes: ran.left,
        remaining_processes: ran.remain,
    };
    Ok((result, exit))
}

/// The suite's variables: the session's exports, and its own over them.
fn variables(plan: &Plan, record: &Record, suite: &Suite) -> Result<BTreeMap<String, String>, Error> {
    let mut variables = record.exports.clone();
    let addresses: BTreeMap<PortId, std::net::SocketAddr> = record
        .addresses
        .iter()
        .filter_map(|(name, address)| {
            let (service, port) = name.rsplit_once('.')?;
            Some((PortId { service: service.to_owned(), port: port.to_owned() }, address.parse().ok()?))
        })
        .collect();
    for (name, template) in &suite.env {
        // Every key is exported under its own name.
        let value = template.resolve(plan, Viewpoint::Host(&addresses), &record.exports).map_err(|error| {
            Error::Failed { what: format!("the suite's variable {name}: {error}"), hint: None, exit: Exit::Failed }
        })?;
        variables.insert(name.clone(), value);
    }
    Ok(variables)
}

/// A session that did not come up, for the report.
struct NotUp {
    record: Record,
    outcome: Outcome,
}

/// A session of this command's own.
async fn own(arguments: &Arguments, context: &mut Context, plan: &Plan) -> Result<Result<Session, Box<NotUp>>, Error> {
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
    let mut conversation = Conversation::new(stream, directory)?;
    let up = UpRequest {
        plan: plan.clone(),
        environment: variables,
        timeout: milliseconds(arguments.wait_timeout),
        keep: arguments.keep || arguments.keep_on_failure,
        detach: false,
        ttl: milliseconds(TTL),
    };
    conversation.ask(Request::Attach { up: Some(Box::new(up)) }).await?;
    Ok(match super::up::converse(context, plan, &mut conversation, true, false).await? {
        Outcome::Ready { record, took } => {
            let took = human(Duration::from_millis(took));
            context
                .out
                .say(format!("{} is ready in {took}  (session {}, this test's own)", record.environment, record.id));
            Ok(Session { state, record: *record, conversation, own: true })
        }
        outcome => Err(Box::new(NotUp { record, outcome })),
    })
}

/// A live session.
async fn attach(context: &mut Context) -> Result<Result<Session, Box<NotUp>>, Error> {
    let (state, record) = context.session()?;
    let directory = state.session(&record.id);
    let mut conversation = Conversation::new(launch::connect(&directory)?, directory)?;
    conversation.ask(Request::Attach { up: None }).await?;
    loop {
        let outcome = match conversation.next().await? {
            Reply::Up { record, .. } => return Ok(Ok(Session { state, record: *record, conversation, own: false })),
            Reply::Queued | Reply::Accepted | Reply::Event(_) => continue,
            Reply::Failed { failure, .. } => Outcome::Failed { failure, kept: true, removal: Removal::default() },
            _ => return Err(super::ps::ending(&record)),
        };
        return Ok(Err(Box::new(NotUp { record, outcome })));
    }
}

/// Reports a session that did not come up.
fn end_early(arguments: &Arguments, context: &mut Context, began: Instant, failed: NotUp) -> Result<Exit, Error> {
    let NotUp { record, outcome } = failed;
    let mut document = Document {
        version: 1,
        result: "error",
        reason: "Interrupted".to_owned(),
        exit_code: 0,
        took_milliseconds: 0,
        session: part(&record, false),
        suites: Vec::new(),
        failure: None,
        removal: None,
        problems: Vec::new(),
    };
    let exit = match outcome {
        Outcome::Failed { failure, kept, removal } => {
            context.out.say("");
            context.out.raw_err(&failure.render());
            context.out.say("\nno suite was run: the environment did not come up");
            failure.cause.reason().clone_into(&mut document.reason);
            let exit = Exit::of_failure(&failure).of_wrapper();
            document.failure = Some(failure);
            document.session.kept = kept;
            if kept {
                kept_up(context, &record);
            } else {
                super::up::left(context, &removal);
                document.removal = Some(removal);
            }
            exit
        }
        Outcome::Interrupted(removal) => {
            document.removal = removal;
            Exit::Interrupted
        }
        Outcome::Died(error) => return Err(error),
        Outcome::Ready { .. } | Outcome::Accepted | Outcome::TakenDown(_) | Outcome::Again => {
            "SessionLost".clone_into(&mut document.reason);
            context.out.warn("the session was taken down by another command before it was ready");
            Exit::Failed
        }
    };
    if !document.session.kept {
        // Its last moments: when this returns, nothing of it is left.
        launch::wait_until_gone(&context.state()?.session(&record.id))?;
    }
    document.exit_code = exit.code();
    finish(arguments, context, began, document)?;
    Ok(exit)
}

/// Takes the session down; an interruption meanwhile kills what is left of it.
async fn down(context: &mut Context, session: &mut Session, interrupts: &mut Interrupts) -> Result<Removal, Error> {
    let Session { state, record, conversation, .. } = session;
    let ending = super::down::end(context, state, record);
    tokio::pin!(ending);
    loop {
        tokio::select! {
            removal = &mut ending => return removal,
            _ = interrupts.next() => conversation.ask(Request::Kill).await?,
        }
    }
}

/// Lets the session go on without this command.
async fn stay(context: &mut Context, session: &Session) -> Result<(), Error> {
    let directory = session.state.session(&session.record.id);
    let mut conversation = Conversation::new(launch::connect(&directory)?, directory)?;
    conversation.ask(Request::Keep).await?;
    conversation.next().await?;
    kept_up(context, &session.record);
    Ok(())
}

fn kept_up(context: &mut Context, record: &Record) {
    let id = &record.id;
    context.out.say(format!("session {id} stays up: `envctl ps --session {id}`, `envctl down --session {id}`"));
}

fn part(record: &Record, kept: bool) -> SessionPart {
    SessionPart {
        id: record.id.clone(),
        namespace: record.namespace.clone(),
        environment: record.environment.clone(),
        kept,
    }
}

/// Writes the document where it is wanted.
fn finish(arguments: &Arguments, context: &mut Context, began: Instant, mut document: Document) -> Result<(), Error> {
    document.took_milliseconds = milliseconds(began.elapsed());
    if let Some(path) = arguments.result.as_deref().filter(|path| *path != Path::new("")) {
        let text = serde_json::to_vec_pretty(&document)
            .map_err(std::io::Error::other)
            .map_err(Error::io("write the result"))?;
        crate::session::record::write_private(&context.working_directory.join(path), &text)?;
    }
    if matches!(context.out.format, Format::Json | Format::Yaml) {
        context.out.document(&document)?;
    }
    Ok(())
}
