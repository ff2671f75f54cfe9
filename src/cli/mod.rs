//! The command line: one file a verb, each `run(arguments, context) → exit code`.
//!
//! It only asks and displays: what executes is the agent ([`crate::session::agent`]) and, for logs and exec,
//! the session's API server. [`output`] is the only writer to stdout and stderr, [`exit`] lists the exit codes.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::builder::{BoolishValueParser, Resettable};
use clap::{ArgAction, Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::error::Error;
use crate::session::lookup::{self, Query};
use crate::session::record::Record;
use crate::session::state::StateDirectory;
use crate::session::{SessionError, project};
use exit::Exit;
use output::{Format, Output};

pub mod aftermath;
pub mod cluster;
pub mod completion;
pub mod config;
pub mod conversation;
pub mod display;
pub mod doctor;
pub mod down;
pub mod dump;
pub mod duration;
pub mod env;
pub mod exec;
pub mod exit;
pub mod gc;
pub mod init;
pub mod keys;
pub mod load;
pub mod logs;
pub mod ls;
pub mod output;
pub mod port;
pub mod ps;
pub mod reset;
pub mod restart;
pub mod run;
pub mod schema;
pub mod suites;
pub mod swap;
pub mod test;
pub mod up;
pub mod validate;
pub mod wait;

/// Brings up a whole, private, short-lived copy of a system from one file, and takes it away again.
#[derive(Debug, Parser)]
#[command(name = "envctl", version, after_help = exit::HELP, max_term_width = 110, disable_help_subcommand = true)]
pub struct Cli {
    #[command(flatten)]
    file: FileFlag,
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    verb: Verb,
}

/// Which environment file: its own struct because `logs -f` means something else.
#[derive(Debug, Clone, Args)]
pub struct FileFlag {
    /// The environment file, or its name in envs/ [env: ENVCTL_FILE]
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
}

/// Flags of every verb.
#[derive(Debug, Clone, Args)]
pub struct Globals {
    /// The session's name (default: the environment's) or id
    #[arg(long, global = true, env = "ENVCTL_SESSION", hide_env_values = true, value_name = "NAME")]
    pub session: Option<String>,
    /// Profiles to apply, in order
    #[arg(
        long,
        global = true,
        env = "ENVCTL_PROFILE",
        hide_env_values = true,
        value_name = "NAME",
        value_delimiter = ','
    )]
    pub profile: Vec<String>,
    /// A dotenv file for the variables of the environment file
    #[arg(long, global = true, env = "ENVCTL_ENV_FILE", hide_env_values = true, value_name = "FILE")]
    pub env_file: Option<PathBuf>,
    /// The kind of cluster, over the file's
    #[arg(long, global = true, env = "ENVCTL_CLUSTER", hide_env_values = true, value_name = "KIND")]
    pub cluster: Option<String>,
    /// An existing cluster, by its kubeconfig context: short for `--cluster context:NAME`, and wins over it
    #[arg(long, global = true, env = "ENVCTL_CONTEXT", hide_env_values = true, value_name = "NAME")]
    pub context: Option<String>,
    /// How the result is printed
    #[arg(short, long, global = true, env = "ENVCTL_OUTPUT", hide_env_values = true, value_name = "FORMAT", value_enum, default_value_t = Format::Text, hide_default_value = true)]
    pub output: Format,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Write a first environment file
    Init(init::Arguments),
    /// Bring the environment up, or apply what changed
    Up(up::Arguments),
    /// Take a session away
    Down(down::Arguments),
    /// Remove what sessions left on clusters whose agent is gone
    Gc(gc::Arguments),
    /// Restart services
    Restart(restart::Arguments),
    /// Delete what was made in the cluster since the session was ready, and restart the services
    ///
    /// Jobs do not run again and volumes keep their data: what a suite wrote into a database stays there.
    Reset(reset::Arguments),
    /// Show what runs in the session
    Ps(ps::Arguments),
    /// List every session of this machine
    Ls(ls::Arguments),
    /// Show logs
    Logs(logs::Arguments),
    /// Run a command inside a service
    Exec(exec::Arguments),
    /// Wait for services
    Wait(wait::Arguments),
    /// Run test suites in a session of their own: up, run, report, down
    Test(test::Arguments),
    /// List the suites: stage, what runs it, the local command, CI's command
    Suites(suites::Arguments),
    /// Run a command with the session's variables
    Run(run::Arguments),
    /// Let a process on this machine stand in for a service, to debug it; its pods step aside until it ends
    ///
    /// The command gets the service's own environment, keys and references as this machine sees them, and a kubeconfig of its
    /// service account. Everything else goes on using the service by its name. Without a command it waits for a process of yours, and
    /// Ctrl-C ends the swap.
    Swap(swap::Arguments),
    /// Print where a service's ports are on this machine, or hold one at a port of your choice
    Port(port::Arguments),
    /// List the session's keys, print one, or issue them anew
    Keys(keys::Arguments),
    /// Print the session's variables
    Env(env::Arguments),
    /// Write everything that explains the session to a directory or a tar, without its keys
    Dump(dump::Arguments),
    /// Print the resolved environment, or with `-o objects` its Kubernetes YAML
    Config(config::Arguments),
    /// Check the environment file
    Validate(validate::Arguments),
    /// Say what this machine can do, and what would improve it
    Doctor(doctor::Arguments),
    /// Print the JSON Schema of environment files
    Schema(schema::Arguments),
    /// Print a completion script for a shell
    Completion(completion::Arguments),
}

impl Verb {
    /// The verb's own `-f/--file`.
    fn file(&self) -> Option<&FileFlag> {
        match self {
            Self::Up(arguments) => Some(&arguments.file),
            Self::Down(arguments) => Some(&arguments.file),
            Self::Restart(arguments) => Some(&arguments.file),
            Self::Ps(arguments) => Some(&arguments.file),
            Self::Exec(arguments) => Some(&arguments.file),
            Self::Wait(arguments) => Some(&arguments.file),
            Self::Reset(arguments) => Some(&arguments.file),
            Self::Suites(arguments) => Some(&arguments.file),
            Self::Test(arguments) => Some(&arguments.file),
            Self::Run(arguments) => Some(&arguments.file),
            Self::Env(arguments) => Some(&arguments.file),
            Self::Dump(arguments) => Some(&arguments.file),
            Self::Keys(arguments) => Some(&arguments.file),
            Self::Swap(arguments) => Some(&arguments.file),
            Self::Port(arguments) => Some(&arguments.file),
            Self::Config(arguments) => Some(&arguments.file),
            Self::Validate(arguments) => Some(&arguments.file),
            Self::Init(_)
            | Self::Gc(_)
            | Self::Ls(_)
            | Self::Logs(_)
            | Self::Doctor(_)
            | Self::Schema(_)
            | Self::Completion(_) => None,
        }
    }

    /// Whether the command's own exit code passes through, so that envctl's own failures are 124 and up.
    fn wraps(&self) -> bool {
        matches!(self, Self::Test(_) | Self::Run(_) | Self::Exec(_) | Self::Swap(_))
    }
}

/// What every verb is given.
#[derive(Debug)]
pub struct Context {
    /// Where its words go.
    pub out: Output,
    /// The flags of every verb.
    pub globals: Globals,
    /// `--file`, wherever it stood.
    pub file: Option<PathBuf>,
    /// The working directory.
    pub working_directory: PathBuf,
    /// The project's root.
    pub root: PathBuf,
}

impl Context {
    fn new(cli: &Cli, out: Output) -> Result<Self, Error> {
        let working_directory = std::env::current_dir().map_err(project::ProjectError::NoWorkingDirectory)?;
        let file = cli.verb.file().and_then(|flag| flag.file.clone()).or_else(|| cli.file.file.clone());
        let file = file.or_else(|| variable("ENVCTL_FILE").map(PathBuf::from));
        Ok(Self {
            out,
            globals: cli.globals.clone(),
            file,
            root: project::find_root(&working_directory),
            working_directory,
        })
    }

    /// The path of the environment file that is meant.
    ///
    /// # Errors
    /// When there is none, or several and none was named.
    pub fn env_file(&self) -> Result<PathBuf, Error> {
        Ok(project::find_file(&self.root, &self.working_directory, self.file.as_deref())?)
    }

    /// What `--session` says, if it says anything.
    pub fn named_session(&self) -> Option<&str> {
        self.globals.session.as_deref().filter(|name| !name.is_empty())
    }

    /// The path of the environment file, if one was named.
    ///
    /// # Errors
    /// When it isn't there.
    pub fn named_file(&self) -> Result<Option<PathBuf>, Error> {
        self.file.as_ref().map(|_named| self.env_file()).transpose()
    }

    /// Where sessions are kept.
    ///
    /// # Errors
    /// When no variable says where.
    pub fn state(&self) -> Result<StateDirectory, Error> {
        Ok(StateDirectory::from_env()?)
    }

    /// The live session that is meant. Files of dead ones are removed on the way.
    ///
    /// # Errors
    /// When there is none or several.
    pub fn session(&self) -> Result<(StateDirectory, Record), Error> {
        let state = self.state()?;
        let (named, file) = (self.named_session(), self.named_file()?);
        let dead = crate::session::launch::sweep(&state)?;
        // A file of another project has its sessions there, as `up` makes them.
        let start = file.as_deref().and_then(Path::parent).unwrap_or(&self.working_directory);
        let query = Query { named, file: file.as_deref(), start };
        match lookup::find(&state, &query) {
            Ok(record) => {
                self.out.hide(&state.session(&record.id));
                Ok((state, record))
            }
            Err(SessionError::NotFound { wanted, live, .. }) => {
                let root = project::find_root(start);
                let ours = dead.into_iter().filter(|session| session.root.as_deref() == Some(&root));
                let ended = ours.map(|session| format!("{} ended: {}", session.id, session.why)).collect();
                Err(SessionError::NotFound { wanted, live, ended }.into())
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// A variable of this process that is set and not empty.
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// The clap command. A variable that is set to nothing is as if it were not set: CI systems set what nobody gave that way. What is a flag takes what
/// people write for yes and no.
pub fn command() -> clap::Command {
    by_variables(Cli::command())
}

/// What [`BoolishValueParser`] takes for no.
const NO: [&str; 6] = ["0", "n", "no", "f", "false", "off"];

fn by_variables(command: clap::Command) -> clap::Command {
    let given = |argument: clap::Arg| {
        let Some(value) = argument.get_env().map(std::env::var_os) else { return argument };
        let is_flag = matches!(argument.get_action(), ArgAction::SetTrue);
        // A flag that is said not to be given is none that another could contradict.
        let is_unset = value
            .is_some_and(|value| value.is_empty() || (is_flag && NO.iter().any(|no| value.eq_ignore_ascii_case(no))));
        let argument = if is_unset { argument.env(Resettable::Reset) } else { argument };
        if is_flag { argument.value_parser(BoolishValueParser::new()) } else { argument }
    };
    command.mut_args(given).mut_subcommands(by_variables)
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = match command().try_get_matches().and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(error) => {
            // clap knows which of the two streams its message belongs to, and its colours.
            let _gone = error.print();
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Ok };
            return ExitCode::from(exit.code());
        }
    };
    let wraps = cli.verb.wraps();
    let mut fallback = Output::new(cli.globals.output);
    let exit = match Context::new(&cli, fallback.twin()).and_then(|mut context| dispatch(cli.verb, &mut context)) {
        Ok(exit) => exit,
        Err(error) => {
            fallback.error(&error);
            if wraps { error.exit().of_wrapper() } else { error.exit() }
        }
    };
    ExitCode::from(exit.code())
}

fn dispatch(verb: Verb, context: &mut Context) -> Result<Exit, Error> {
    if context.globals.output == Format::Objects && !matches!(verb, Verb::Config(_)) {
        return Err(Error::Usage { what: "`-o objects` is for `envctl config`".to_owned(), hint: None });
    }
    match verb {
        Verb::Init(arguments) => init::run(&arguments, context),
        Verb::Up(arguments) => up::run(&arguments, context),
        Verb::Down(arguments) => down::run(&arguments, context),
        Verb::Gc(arguments) => gc::run(&arguments, context),
        Verb::Restart(arguments) => restart::run(&arguments, context),
        Verb::Ps(arguments) => ps::run(&arguments, context),
        Verb::Ls(arguments) => ls::run(&arguments, context),
        Verb::Logs(arguments) => logs::run(&arguments, context),
        Verb::Exec(arguments) => exec::run(&arguments, context),
        Verb::Wait(arguments) => wait::run(&arguments, context),
        Verb::Reset(arguments) => reset::run(&arguments, context),
        Verb::Suites(arguments) => suites::run(&arguments, context),
        Verb::Test(arguments) => test::run(&arguments, context),
        Verb::Run(arguments) => run::run(&arguments, context),
        Verb::Env(arguments) => env::run(&arguments, context),
        Verb::Dump(arguments) => dump::run(&arguments, context),
        Verb::Swap(arguments) => swap::run(&arguments, context),
        Verb::Port(arguments) => port::run(&arguments, context),
        Verb::Keys(arguments) => keys::run(&arguments, context),
        Verb::Config(arguments) => config::run(&arguments, context),
        Verb::Validate(arguments) => validate::run(&arguments, context),
        Verb::Doctor(arguments) => doctor::run(&arguments, context),
        Verb::Schema(arguments) => schema::run(&arguments, context),
        Verb::Completion(arguments) => completion::run(&arguments, context),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_flags_do_not_contradict_each_other() {
        super::command().debug_assert();
    }
}
