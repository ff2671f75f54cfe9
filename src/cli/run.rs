//! `envctl run`: runs a command with the session's variables.
//!
//! The command takes this process's place (exec): signals, the terminal and the exit code are its own. With `--shared` it
//! takes over the connection to the agent as well, so it is attached until it ends, by whatever end.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use clap::Args;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use sha2::{Digest as _, Sha256};

use super::duration::duration;
use super::exit::Exit;
use super::up::{milliseconds, new_record};
use super::wait::with_variables;
use super::{Context, FileFlag, load};
use crate::error::Error;
use crate::session::attach::{self, AttachError, Attachment};
use crate::session::launch::{self, Agent};
use crate::session::protocol::{Call, Reply, Request, UpRequest};
use crate::session::record::{Record, Shared};
use crate::session::state::StateDirectory;
use crate::session::{SessionError, lookup, touch};

/// The flags of this verb.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Which environment file.
    #[command(flatten)]
    pub file: FileFlag,
    /// Share one session with the other processes of this test run; the first brings it up, the last takes it down
    ///
    /// Where `envctl up` left a session in this project, that is used instead, unless --run-id names a run.
    #[arg(long, env = "ENVCTL_SHARED", hide_env_values = true)]
    pub shared: bool,
    /// Which test run (default: NEXTEST_RUN_ID, PYTEST_XDIST_TESTRUNUID, else the parent process)
    #[arg(long, env = "ENVCTL_RUN_ID", hide_env_values = true, value_name = "ID", requires = "shared")]
    pub run_id: Option<String>,
    /// How long a shared session stays after the last process
    #[arg(long, env = "ENVCTL_LINGER", hide_env_values = true, value_name = "DURATION", default_value = "5s", value_parser = duration)]
    pub linger: Duration,
    /// When a shared session ends, whoever uses it
    #[arg(long, env = "ENVCTL_TIME_LIMIT", hide_env_values = true, value_name = "DURATION", default_value = "4h", value_parser = duration)]
    pub time_limit: Duration,
    /// How long to wait until everything is ready, where this process brings the shared session up
    #[arg(long, env = "ENVCTL_WAIT_TIMEOUT", hide_env_values = true, value_name = "DURATION", default_value = "5m", value_parser = duration)]
    pub wait_timeout: Duration,
    /// The command and its arguments
    #[arg(value_name = "COMMAND", trailing_var_arg = true, required = true)]
    pub command: Vec<std::ffi::OsString>,
}

/// Runs the verb; returns only when the command could not be started.
///
/// # Errors
/// When there is no session, or the command is not there or not executable.
pub fn run(arguments: &Arguments, context: &mut Context) -> Result<Exit, Error> {
    let Some((program, rest)) = arguments.command.split_first() else {
        return Err(Error::Usage { what: "no command given".to_owned(), hint: None });
    };
    // Until the exec, and through it: the command has the connection then.
    let attachment;
    let record = if arguments.shared {
        attachment = join(arguments, context)?;
        let kept = fcntl(attachment.stream().as_fd(), FcntlArg::F_SETFD(FdFlag::empty()));
        kept.map_err(std::io::Error::from).map_err(Error::io("hand the session's connection over"))?;
        attachment.record().clone()
    } else {
        let (state, record) = context.session()?;
        touch(&state, &record.id);
        with_variables(context, &state, record)?
    };
    let source = Command::new(program).args(rest).envs(&record.exports).exec();
    let absent = source.kind() == std::io::ErrorKind::NotFound || !exists(program, &context.working_directory);
    let (exit, why) =
        if absent { (Exit::NotFound, "no such command".to_owned()) } else { (Exit::NotExecutable, source.to_string()) };
    Err(Error::Failed { what: format!("cannot run {}: {why}", program.display()), hint: None, exit })
}

/// Attaches this process to the session of its run, which is brought up if need be.
fn join(arguments: &Arguments, context: &mut Context) -> Result<Attachment, Error> {
    let state = context.state()?;
    launch::sweep(&state)?;
    let live = state.live()?;
    // Under `envctl test` or another `envctl run`, that session is the one.
    let given = context.named_file()?;
    if let Some(named) = context.named_session() {
        let query = lookup::Query { named: Some(named), file: given.as_deref(), start: &context.working_directory };
        let record = lookup::find(&state, &query)?;
        return attach::attach_to(&state, &record).map_err(refused);
    }
    // Where `envctl up` left a session, tests use that: the same rule as the clients'.
    if let Some(current) = lookup::read_current(&context.working_directory)
        && let Some(record) = live.iter().find(|record| record.id == current.id)
        && given.as_ref().is_none_or(|file| *file == record.file)
        && arguments.run_id.as_deref().is_none_or(str::is_empty)
    {
        return attach::attach_to(&state, record).map_err(refused);
    }
    let run = arguments.run_id.clone().filter(|id| !id.is_empty()).unwrap_or_else(attach::run_id);
    let file = context.env_file()?;
    // The usual case needs no plan: the session is there.
    if let Some(record) = attach::of_run(&live, file.parent().unwrap_or(&context.root), &run, Some(&file)) {
        match attach::attach_to(&state, record) {
            Err(AttachError::Ending | AttachError::Session(SessionError::Io { .. })) => {}
            answered => return answered.map_err(refused),
        }
    }
    first_in(arguments, context, &state, &run)
}

/// Creates the run's session or finds it just created, until one is ready.
fn first_in(
    arguments: &Arguments,
    context: &mut Context,
    state: &StateDirectory,
    run: &str,
) -> Result<Attachment, Error> {
    let plan = load::plan(context)?;
    let record = Record {
        shared: Some(Shared {
            run: Some(run.to_owned()),
            linger: milliseconds(arguments.linger),
            limit: milliseconds(arguments.time_limit),
        }),
        ..new_record(state, &plan, Some(&session_name(run)))
    };
    let up = UpRequest {
        environment: load::variables(context)?,
        plan,
        timeout: milliseconds(arguments.wait_timeout),
        keep: false,
        hold: false,
        detach: false,
        ttl: milliseconds(arguments.time_limit),
        reissue: Default::default(),
        exchange: Default::default(),
        swap: Default::default(),
    };
    let call = serde_json::to_string(&Call::new(Request::Attach { up: Some(Box::new(up)) }))
        .map_err(std::io::Error::other)
        .map_err(Error::io("write a request for the session's agent"))?;
    let directory = state.session(&record.id);
    loop {
        let (stream, created) = match launch::open_or_create(state, &record, Path::new(launch::THIS_PROGRAM))? {
            Agent::Created(stream) => (stream, true),
            Agent::Found(stream) => (stream, false),
            Agent::Ending => {
                launch::wait_until_gone(&directory)?;
                continue;
            }
        };
        // Opened now: the agent removes the file before it ends.
        let lock = File::open(directory.lock());
        match attach::ask(stream, &call) {
            // Its last user had just gone.
            Err(AttachError::Ending) if !created => launch::wait_for_end(&lock, &directory)?,
            Err(error) => {
                if takes_the_session(&error) {
                    launch::wait_for_end(&lock, &directory)?;
                }
                return Err(refused(error));
            }
            Ok(attachment) => {
                if created {
                    context.out.say(format!("session {} is up, shared by run {run}", attachment.id()));
                }
                return Ok(attachment);
            }
        }
    }
}

/// A session's name for a run, whose own id may be long.
fn session_name(run: &str) -> String {
    let digest = Sha256::digest(run.as_bytes());
    let short: String = digest[..4].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("run-{short}")
}

/// Whether the session goes with this failure.
fn takes_the_session(error: &AttachError) -> bool {
    let AttachError::Failed { line, .. } = error else { return false };
    matches!(serde_json::from_str(line), Ok(Reply::Failed { kept: false, .. }))
}

/// What an attachment's failure is to this verb.
fn refused(error: AttachError) -> Error {
    if let AttachError::Failed { line, .. } = &error
        && let Ok(Reply::Failed { failure, .. }) = serde_json::from_str(line)
    {
        return Error::Report { text: failure.render().trim_end().to_owned(), exit: Exit::of_failure(&failure) };
    }
    match error {
        AttachError::Session(error) => Error::Session(error),
        error => Error::Failed { what: error.to_string(), hint: error.hint(), exit: Exit::Failed },
    }
}

/// Whether there is such a program at all. The kernel says "permission denied" also where a directory of `PATH` cannot
/// be searched; a shell says 127 then, and so does this.
pub fn exists(program: &std::ffi::OsStr, directory: &Path) -> bool {
    if Path::new(program).components().count() > 1 {
        return directory.join(program).exists();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).exists())
}
