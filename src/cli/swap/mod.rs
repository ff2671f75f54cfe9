//! `envctl swap`: a process on this machine stands in for a service of a live session.
//!
//! The process is this command's ([`program`]), so that it has the terminal; what else changes is the agent's, for as long as this
//! command is connected to it. So whatever ends this command ends the process and brings the pods back.

mod ports;
mod program;

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};

pub use ports::{addresses, expected, host_ports, plan, service};

use super::conversation::{Conversation, runtime};
use super::duration::duration;
use super::exit::Exit;
use super::up::milliseconds;
use super::{Context, FileFlag, cluster, ps};
use crate::cluster::locality;
use crate::error::Error;
use crate::on_host::{self, Environment, OnHostError, listening};
use crate::plan::Plan;
use crate::provision::Event;
use crate::session::protocol::{Reply, Request, SwapRequest};
use crate::session::record::Record;
use crate::session::state::SessionDirectory;
use crate::session::{launch, touch};
use program::Program;

/// How long what the command left running, or a command that is asked to end, gets until it is killed.
const GRACE: Duration = Duration::from_secs(5);

/// The flags of this verb.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Which environment file.
    #[command(flatten)]
    pub file: FileFlag,
    /// The service
    #[arg(value_name = "SERVICE")]
    pub service: String,
    /// The port that the process listens on, on 127.0.0.1 (default: the service's own); NAME says which of several it stands for
    #[arg(long, env = "ENVCTL_PORT", hide_env_values = true, value_name = "[NAME=]NUMBER", value_delimiter = ',')]
    pub port: Vec<String>,
    /// How long the pods may take to step aside, and to come back
    #[arg(long, env = "ENVCTL_WAIT_TIMEOUT", hide_env_values = true, value_name = "DURATION", default_value = "5m", value_parser = duration)]
    pub wait_timeout: Duration,
    /// The command and its arguments
    #[arg(value_name = "COMMAND", last = true)]
    pub command: Vec<std::ffi::OsString>,
}

/// Runs the verb.
///
/// # Errors
/// When there is no such session or service, its command cannot be started, or the swap is refused.
pub fn run(arguments: &Arguments, context: &mut Context) -> Result<Exit, Error> {
    let (state, record) = context.session()?;
    touch(&state, &record.id);
    let directory = state.session(&record.id);
    let plan = plan(&directory, &record)?;
    let ports = host_ports(&plan, &arguments.service, &arguments.port)?;
    runtime()?.block_on(async {
        // Before anything is started.
        if ps::status(&state, &record).await?.swapped.contains(&arguments.service) {
            return Err(is_swapped(&arguments.service));
        }
        let environment = environment(&plan, &record, &directory, &arguments.service).await?;
        for missing in &environment.missing {
            context.out.warn(missing);
        }
        let mut swap = Swap {
            context,
            arguments,
            directory: &directory,
            ports: &ports,
            signals: Signals::new()?,
            program: None,
            asked: false,
        };
        swap.run(&environment).await
    })
}

fn is_swapped(service: &str) -> Error {
    Error::Failed {
        what: format!("{service} is swapped already: it runs on this machine"),
        hint: Some(
            "end that `envctl swap`; where it was `envctl up --swap`, `envctl up` brings the pods back".to_owned(),
        ),
        exit: Exit::Failed,
    }
}

/// What the process needs; refused first where pods could not reach it.
async fn environment(
    plan: &Plan,
    record: &Record,
    directory: &SessionDirectory,
    service: &str,
) -> Result<Environment, Error> {
    let client = cluster::client(record).await?;
    if record.cluster != "embedded" {
        locality::prove(&client).await.map_err(|error| failed(service, error.into()))?;
    }
    let keys: BTreeMap<String, String> = directory.keys()?.into_iter().map(|(name, key)| (name, key.value)).collect();
    let sources = on_host::Sources {
        plan,
        addresses: &addresses(record),
        keys: &keys,
        client: &client,
        namespace: &record.namespace,
        directory,
    };
    on_host::environment(&sources, service).await.map_err(|error| failed(service, error))
}

fn failed(service: &str, error: OnHostError) -> Error {
    Error::Failed {
        what: format!("cannot run {service} on this machine: {error}"),
        hint: error.hint(),
        exit: Exit::Failed,
    }
}

/// SIGINT, SIGTERM and SIGHUP of this process.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Signals {
    fn new() -> Result<Self, Error> {
        let of = |kind| signal(kind).map_err(Error::io("receive signals"));
        Ok(Self {
            interrupt: of(SignalKind::interrupt())?,
            terminate: of(SignalKind::terminate())?,
            hang_up: of(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> SignalKind {
        tokio::select! {
            _ = self.interrupt.recv() => SignalKind::interrupt(),
            _ = self.terminate.recv() => SignalKind::terminate(),
            _ = self.hang_up.recv() => SignalKind::hangup(),
        }
    }
}

struct Swap<'a> {
    context: &'a mut Context,
    arguments: &'a Arguments,
    directory: &'a SessionDirectory,
    ports: &'a BTreeMap<String, u16>,
    signals: Signals,
    program: Option<Program>,
    /// The command was asked to end.
    asked: bool,
}

/// What ended a wait.
enum Ended {
    /// What was waited for is there.
    There,
    /// The command has ended, with this code.
    Program(u8),
    /// There is no command, and the user wants no more.
    Interrupted,
    /// The session has ended.
    Session,
}

impl Swap<'_> {
    async fn run(&mut self, environment: &Environment) -> Result<Exit, Error> {
        let service = self.arguments.service.clone();
        self.begin(environment)?;
        match self.until_listening().await? {
            Ended::There | Ended::Session => {}
            Ended::Interrupted => return Ok(Exit::Interrupted),
            Ended::Program(code) => {
                if !self.ports.is_empty() {
                    self.context
                        .out
                        .warn(&format!("the command ended before it listened; the pods of {service} go on"));
                }
                self.program_done().await;
                return Ok(Exit::Command(code));
            }
        }
        let mut conversation = Conversation::new(launch::connect(self.directory)?, self.directory.clone())?;
        let timeout = milliseconds(self.arguments.wait_timeout);
        conversation
            .ask(Request::Swap(SwapRequest { service: service.clone(), ports: self.ports.clone(), timeout }))
            .await?;
        let swapped = self.until_up(&mut conversation).await;
        let ended = match swapped {
            Ok(Ended::There) => {
                let places: Vec<String> =
                    self.ports.iter().map(|(name, port)| format!("{name} on 127.0.0.1:{port}")).collect();
                let places = if places.is_empty() { String::new() } else { format!(" ({})", places.join(", ")) };
                let until = if self.program.is_some() { "until the command ends" } else { "Ctrl-C ends it" };
                self.context
                    .out
                    .say(format!("{service} runs on this machine now{places}, its pods have stepped aside; {until}"));
                self.until_ended(&mut conversation).await?
            }
            Ok(ended) => ended,
            Err(error) => {
                self.end_program().await;
                return Err(error);
            }
        };
        let exit = match ended {
            Ended::Program(code) => Exit::Command(code),
            Ended::Interrupted => Exit::Interrupted,
            Ended::There | Ended::Session => return self.session_ended().await,
        };
        conversation.ask(Request::Cancel).await?;
        tokio::join!(program_done(&mut self.program), async {
            match back(&mut conversation).await {
                Ok(true) => self.context.out.say(format!("the pods of {service} are back")),
                Ok(false) => self.context.out.warn("the session has ended"),
                Err(error) => self.context.out.error(&error),
            }
        });
        Ok(exit)
    }

    /// Starts the command, or says what to start.
    fn begin(&mut self, environment: &Environment) -> Result<(), Error> {
        let service = &self.arguments.service;
        let mut missing = Vec::new();
        for (name, port) in self.ports {
            if !listening::now(*port).map_err(|error| failed(service, error))? {
                missing.push(format!("127.0.0.1:{port}"));
            } else if !self.arguments.command.is_empty() {
                return Err(Error::Failed {
                    what: format!("127.0.0.1:{port} is taken: another process of this machine listens there"),
                    hint: Some(format!(
                        "end that, or let the command listen elsewhere and say where: --port {name}=NUMBER"
                    )),
                    exit: Exit::Failed,
                });
            }
        }
        if let Some((program, rest)) = self.arguments.command.split_first() {
            self.program = Some(Program::start(program, rest, environment, &self.context.working_directory)?);
        } else if !missing.is_empty() {
            let file = environment.write(self.directory).map_err(|error| failed(service, error))?;
            let command = environment.command_line();
            let command = if command.is_empty() { "COMMAND" } else { &command };
            self.context.out.say(format!(
                "{service} is expected on {}; run it, for example: . '{}' && {command}",
                missing.join(", "),
                file.display()
            ));
        }
        Ok(())
    }

    async fn until_listening(&mut self) -> Result<Ended, Error> {
        let (ports, service) = (self.ports, &self.arguments.service);
        let all = async {
            for port in ports.values() {
                listening::until(*port).await.map_err(|error| failed(service, error))?;
            }
            Ok(Ended::There)
        };
        tokio::pin!(all);
        loop {
            tokio::select! {
                there = &mut all => return there,
                code = ended(&mut self.program) => return code.map(Ended::Program),
                kind = self.signals.next() => if self.signalled(kind).await { return Ok(Ended::Interrupted) },
            }
        }
    }

    /// Until the agent says that it is done.
    async fn until_up(&mut self, conversation: &mut Conversation) -> Result<Ended, Error> {
        loop {
            let reply = tokio::select! {
                reply = conversation.next_or_end() => reply?,
                code = ended(&mut self.program) => return code.map(Ended::Program),
                kind = self.signals.next() => {
                    if self.signalled(kind).await {
                        return Ok(Ended::Interrupted);
                    }
                    continue;
                }
            };
            match reply {
                Some(Reply::Up { .. }) => return Ok(Ended::There),
                Some(Reply::Event(Event::Warning { message, .. })) => self.context.out.warn(&message),
                Some(Reply::Queued) => {
                    self.context.out.say("another command is at work on this session; waiting for it")
                }
                Some(Reply::Failed { failure, .. }) => {
                    return Err(Error::Report {
                        text: failure.render().trim_end().to_owned(),
                        exit: Exit::of_failure(&failure),
                    });
                }
                Some(Reply::Ended { .. } | Reply::Ending) | None => return Ok(Ended::Session),
                Some(_) => {}
            }
        }
    }

    /// While it is swapped.
    async fn until_ended(&mut self, conversation: &mut Conversation) -> Result<Ended, Error> {
        loop {
            tokio::select! {
                reply = conversation.next_or_end() => match reply? {
                    Some(Reply::Ended { .. } | Reply::Ending) | None => return Ok(Ended::Session),
                    Some(_) => {}
                },
                code = ended(&mut self.program) => return code.map(Ended::Program),
                kind = self.signals.next() => if self.signalled(kind).await { return Ok(Ended::Interrupted) },
            }
        }
    }

    /// What a signal means; `true`: that is the end of it.
    async fn signalled(&mut self, kind: SignalKind) -> bool {
        let Some(program) = &mut self.program else { return true };
        if kind == SignalKind::interrupt() {
            // The terminal has told the command as well, which may be a debugger: what Ctrl-C means is its to say.
            if !std::io::stdin().is_terminal() {
                program.ask(program::Ask::Interrupt).await;
            }
        } else if std::mem::replace(&mut self.asked, true) {
            program.ask(program::Ask::Kill).await;
        } else {
            program.ask(program::Ask::Terminate).await;
        }
        false
    }

    async fn session_ended(&mut self) -> Result<Exit, Error> {
        let what = "the session has ended".to_owned();
        match &mut self.program {
            Some(_) => {
                self.context.out.warn("the session has ended; the command goes on without it");
                let code = loop {
                    tokio::select! {
                        code = ended(&mut self.program) => break code?,
                        kind = self.signals.next() => {
                            self.signalled(kind).await;
                        }
                    }
                };
                self.program_done().await;
                Ok(Exit::Command(code))
            }
            None => Err(Error::Failed { what, hint: None, exit: Exit::Failed }),
        }
    }

    async fn end_program(&mut self) {
        if let Some(program) = &mut self.program {
            program.ask(program::Ask::Terminate).await;
        }
        self.program_done().await;
    }

    async fn program_done(&mut self) {
        program_done(&mut self.program).await;
    }
}

/// Until nothing of the command runs; what outlasts its grace is killed.
async fn program_done(program: &mut Option<Program>) {
    let Some(program) = program else { return };
    if tokio::time::timeout(GRACE, program.done()).await.is_err() {
        program.ask(program::Ask::Kill).await;
        program.done().await;
    }
}

/// The command's end; pending for ever while there is none.
async fn ended(program: &mut Option<Program>) -> Result<u8, Error> {
    match program {
        Some(program) => program.ended().await,
        None => std::future::pending().await,
    }
}

/// Until the pods are back; `false`: the session is gone.
async fn back(conversation: &mut Conversation) -> Result<bool, Error> {
    let mut failed = None;
    loop {
        match conversation.next_or_end().await? {
            Some(Reply::Up { .. }) => return Ok(true),
            // The first may be of the swap itself, which did not come about.
            Some(Reply::Failed { failure, .. }) => failed = Some(failure),
            Some(Reply::Ended { .. } | Reply::Ending) => return Ok(false),
            Some(_) => {}
            None => {
                return match failed {
                    Some(failure) => Err(Error::Report {
                        text: failure.render().trim_end().to_owned(),
                        exit: Exit::of_failure(&failure),
                    }),
                    None => Ok(false),
                };
            }
        }
    }
}
