//! `envctl test`: up, run suites, report, down. The exit code is the suite's.
//!
//! The session ([`session`]) is this command's own, by a name that is never used again, and ends with this command by
//! whatever end: the agent holds a connection to it. With `--attach` it is a live one, which stays. [`one`] runs a suite and
//! tells of it.

mod one;
mod session;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;

use super::aftermath::Aftermath;
use super::conversation::{Conversation, runtime};
use super::duration::duration;
use super::exit::Exit;
use super::output::Format;
use super::up::{Outcome, milliseconds};
use super::{Context, FileFlag, cluster, load};
use crate::error::Error;
use crate::plan::{Plan, Suite};
use crate::session::launch;
use crate::session::protocol::{Reply, Request};
use crate::session::record::{Mark, Record};
use crate::session::state::StateDirectory;
use crate::suite::leftovers::{self, Leftover, LeftoverError};
use crate::suite::report;
use crate::suite::result::{Document, Reason, SessionPart};
use crate::suite::run::Interrupts;
use crate::suite::select::{Asked, select};
use session::{NotUp, Session};

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
    /// Write what came of it, as JSON with a named reason
    #[arg(long, env = "ENVCTL_RESULT", hide_env_values = true, value_name = "FILE")]
    pub result: Option<PathBuf>,
    /// Where JUnit XML, and of a failed suite diagnosis and logs, go (default: .envctl/report)
    #[arg(long, env = "ENVCTL_REPORT", hide_env_values = true, value_name = "DIRECTORY")]
    pub report: Option<PathBuf>,
    /// When something fails, write a dump there before the session is taken down: a directory, or a file that ends in .tar or
    /// .tar.gz
    #[arg(long, env = "ENVCTL_DUMP", hide_env_values = true, value_name = "PATH")]
    pub dump: Option<PathBuf>,
    /// Fail with 125 when objects are left behind in the cluster
    #[arg(long, env = "ENVCTL_FAIL_ON_LEFTOVERS", hide_env_values = true)]
    pub fail_on_leftovers: bool,
    /// Appended to the suite's command; without a suite, the command itself
    #[arg(last = true, value_name = "ARGS")]
    pub arguments: Vec<String>,
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
    if let Some((name, suite)) = suites.iter().find(|(_, suite)| !suite.workdir.is_dir()) {
        let what = format!("suite {name}: there is no directory {}", suite.workdir.display());
        return Err(Error::Usage { what, hint: Some("correct its `workdir`".to_owned()) });
    }
    let mut aftermath = Aftermath::new(context, &plan, "envctl test", arguments.dump.as_deref())?;
    let ended = runtime()?.block_on(test(arguments, context, &plan, suites, &mut aftermath));
    aftermath.tell(context, &ended);
    ended
}

/// What a test does, in order.
async fn test(
    arguments: &Arguments,
    context: &mut Context,
    plan: &Plan,
    suites: Vec<(String, Suite)>,
    aftermath: &mut Aftermath<'_>,
) -> Result<Exit, Error> {
    let began = Instant::now();
    // From here on a signal is this command's to answer, so that whatever it began is taken away.
    let mut interrupts = Interrupts::new().map_err(Error::io("receive signals"))?;
    let found = if arguments.attach {
        session::attach(context, &mut interrupts).await?
    } else {
        session::own(arguments, context, plan, aftermath.wants_dump()).await?
    };
    let mut session = match found {
        Ok(session) => session,
        Err(failed) => return end_early(arguments, context, began, *failed, aftermath).await,
    };
    context.out.hide(&session.state.session(&session.record.id));
    let mut document = Document::new(part(&session.record, true));
    let around = Running { arguments, plan, suites: &suites };
    let ran = suites_in(&around, context, &mut session, &mut interrupts, &mut document, aftermath).await;
    // Whatever has gone wrong: what was begun is taken away.
    let mut exit = *ran.as_ref().unwrap_or(&Exit::Failed);
    if !matches!(exit, Exit::Ok | Exit::Interrupted) {
        aftermath.dump(context, &session.state.session(&session.record.id)).await;
    }
    let keep = arguments.keep || (arguments.keep_on_failure && exit != Exit::Ok);
    if session.own && !keep {
        let removal = session::down(context, &mut session, &mut interrupts).await?;
        if exit == Exit::Ok && !removal.left.is_empty() {
            exit = document.error("TeardownIncomplete");
        }
        document.session.kept = false;
        document.removal = Some(removal);
    } else if session.own {
        session::stay(context, &session).await?;
    }
    ran?;
    finish(arguments, context, began, document, exit, aftermath)
}

/// What is run.
struct Running<'a> {
    arguments: &'a Arguments,
    plan: &'a Plan,
    suites: &'a [(String, Suite)],
}

/// Runs the suites and looks at what they left; the exit code so far.
async fn suites_in(
    Running { arguments, plan, suites }: &Running<'_>,
    context: &mut Context,
    session: &mut Session,
    interrupts: &mut Interrupts,
    document: &mut Document,
    aftermath: &mut Aftermath<'_>,
) -> Result<Exit, Error> {
    let client = cluster::client(&session.record).await?;
    let mark = leftovers::mark(&client, &session.record.namespace).await.map_err(unasked)?;
    let around = one::Around { arguments, plan, client: &client };
    let mut exit = Exit::Ok;
    for (name, suite) in *suites {
        let (result, ended) = one::run(&around, context, session, (name, suite), interrupts).await?;
        if exit == Exit::Ok && ended != Exit::Ok {
            exit = ended;
            result.reason.name().clone_into(&mut document.reason);
            document.result = if result.reason.is_suites() { "failed" } else { "error" };
        }
        if ended != Exit::Ok {
            let counts = result.junit.counts.as_ref();
            let cause =
                counts.map_or_else(|| result.message.clone(), |counts| format!("{} ({counts})", result.message));
            aftermath.failed(Some(name), cause, counts.map(|counts| counts.failed.clone()).unwrap_or_default());
        }
        let over = matches!(result.reason, Reason::Interrupted | Reason::SessionLost);
        document.problems.extend(result.junit.problem.clone());
        document.suites.push(result);
        if over {
            // Who is in a hurry, or has no cluster, is told nothing more.
            return Ok(exit);
        }
    }
    match left_behind(&client, &session.state, &session.record, &mark).await {
        Ok(left) => {
            for object in &left {
                context.out.say(format!("left behind: {object}"));
            }
            if arguments.fail_on_leftovers && exit == Exit::Ok && !left.is_empty() {
                context.out.say(
                    "failed, since --fail-on-leftovers: `envctl reset` deletes such objects from a session that stays",
                );
                exit = document.error("LeftBehind");
            }
            document.leftovers = Some(left);
        }
        Err(error) => {
            let problem = format!("what was left behind is not known: {error}");
            context.out.warn(&problem);
            document.problems.push(problem);
            if arguments.fail_on_leftovers && exit == Exit::Ok {
                exit = document.error("LeftoversUnknown");
            }
        }
    }
    Ok(exit)
}

/// What is in the cluster now and was not at the mark, with who created it.
///
/// # Errors
/// When the cluster or the session's agent cannot be asked.
pub async fn left_behind(
    client: &kube::Client,
    state: &StateDirectory,
    record: &Record,
    mark: &Mark,
) -> Result<Vec<Leftover>, Error> {
    let place = leftovers::Where {
        namespace: &record.namespace,
        whole_cluster: record.cluster == "embedded",
        session: &record.id,
    };
    let mut left = leftovers::since(client, mark, place).await.map_err(unasked)?;
    if left.is_empty() {
        return Ok(left);
    }
    let directory = state.session(&record.id);
    let mut conversation = Conversation::new(launch::connect(&directory)?, directory)?;
    conversation.ask(Request::Creators { uids: left.iter().map(|object| object.uid.clone()).collect() }).await?;
    if let Reply::Creators { mut accounts } = conversation.next().await? {
        for object in &mut left {
            object.account = accounts.remove(&object.uid);
        }
    }
    Ok(left)
}

/// For `map_err`: the cluster did not say what is in it.
pub fn unasked(error: LeftoverError) -> Error {
    Error::Failed { what: error.to_string(), hint: None, exit: Exit::NoCluster }
}

/// Reports a session that did not come up.
async fn end_early(
    arguments: &Arguments,
    context: &mut Context,
    began: Instant,
    failed: NotUp,
    aftermath: &mut Aftermath<'_>,
) -> Result<Exit, Error> {
    let NotUp { record, outcome, conversation, lock } = failed;
    let mut document = Document::new(part(&record, false));
    let exit = match outcome {
        Outcome::Failed { failure, mut kept, mut removal } => {
            aftermath.failed(None, failure.message.clone(), Vec::new());
            if kept {
                let state = context.state()?;
                aftermath.dump(context, &state.session(&record.id)).await;
                if !(arguments.attach || arguments.keep || arguments.keep_on_failure) {
                    // Left up only to be dumped.
                    removal = super::down::ended(&state, &record, None).await?;
                    kept = false;
                }
            }
            drop(conversation);
            context.out.say("");
            context.out.raw_err(&failure.render());
            context.out.say("\nno suite was run: the environment did not come up");
            document.error(failure.cause.reason());
            let exit = Exit::of_failure(&failure).of_wrapper();
            document.failure = Some(failure);
            document.session.kept = kept;
            if !kept {
                super::up::left(context, &removal);
                document.removal = Some(removal);
            } else if !arguments.attach {
                session::kept_up(context, &record);
            }
            exit
        }
        Outcome::Interrupted(removal) => {
            document.error("Interrupted");
            document.removal = removal;
            // What is somebody else's goes on without this command.
            document.session.kept = arguments.attach;
            Exit::Interrupted
        }
        Outcome::Died(error) => return Err(error),
        Outcome::Ready { .. } | Outcome::Accepted | Outcome::TakenDown(_) | Outcome::Again => {
            context.out.warn("the session was taken down by another command before it was ready");
            document.error("SessionLost")
        }
    };
    if !document.session.kept {
        // Its last moments: when this returns, nothing of it is left.
        launch::wait_for_end(&lock, &context.state()?.session(&record.id))?;
    }
    finish(arguments, context, began, document, exit, aftermath)
}

fn part(record: &Record, kept: bool) -> SessionPart {
    SessionPart {
        id: record.id.clone(),
        namespace: record.namespace.clone(),
        environment: record.environment.clone(),
        kept,
    }
}

/// Writes the document where it is wanted; what cannot be written is this command's failure, unless a suite's comes first.
fn finish(
    arguments: &Arguments,
    context: &mut Context,
    began: Instant,
    mut document: Document,
    mut exit: Exit,
    aftermath: &mut Aftermath<'_>,
) -> Result<Exit, Error> {
    document.took_milliseconds = milliseconds(began.elapsed());
    let asked_for = arguments.report.as_deref().is_some_and(|path| path != Path::new(""));
    if asked_for && exit == Exit::Ok && document.suites.iter().any(|suite| suite.junit.path.is_none()) {
        exit = document.error("ReportNotWritten");
    }
    document.exit_code = exit.code();
    if let Some(path) = arguments.result.as_deref().filter(|path| *path != Path::new("")) {
        let text = serde_json::to_vec_pretty(&shown(context, &document)?).map_err(std::io::Error::other);
        let text = text.map_err(Error::io("write the result"))?;
        if let Err(error) = report::write(&context.working_directory.join(path), &text) {
            context.out.error(&Error::Failed {
                what: error.to_string(),
                hint: crate::session::io_hint(&error.source)
                    .map(|_| "free some space, or name another place with --result".to_owned()),
                exit: Exit::Failed,
            });
            document.problems.push(error.to_string());
            if exit == Exit::Ok {
                exit = document.error("ReportNotWritten");
                document.exit_code = exit.code();
            }
        }
    }
    if matches!(context.out.format, Format::Json | Format::Yaml) {
        context.out.document(&shown(context, &document)?)?;
    }
    if exit != Exit::Ok && !aftermath.knows() {
        aftermath.failed(None, unnamed(&document), Vec::new());
    }
    Ok(exit)
}

/// Why a test failed that no suite and no `up` made fail.
fn unnamed(document: &Document) -> String {
    let listed = |what: &str, all: Vec<String>| format!("{what}: {}", all.join(", "));
    match (document.reason.as_str(), &document.leftovers, &document.removal) {
        ("LeftBehind", Some(left), _) => {
            listed("left behind in the cluster", left.iter().map(ToString::to_string).collect())
        }
        ("TeardownIncomplete", _, Some(removal)) => listed("teardown left something", removal.left.clone()),
        (reason, ..) if document.problems.is_empty() => reason.to_owned(),
        (reason, ..) => listed(reason, document.problems.clone()),
    }
}

/// The document without keys: a suite's command or a test's name may hold one.
fn shown(context: &Context, document: &Document) -> Result<serde_json::Value, Error> {
    let value = serde_json::to_value(document).map_err(std::io::Error::other);
    let mut value = value.map_err(Error::io("write the result"))?;
    context.out.hidden().value(&mut value);
    Ok(value)
}
