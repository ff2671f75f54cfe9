//! `envctl up`: brings the environment up, or applies what changed in a live session.
//!
//! [`converse`](mod@converse) follows the agent at work; [`report`](mod@report) says what came of it.

mod converse;
mod report;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use clap::Args;

pub use self::converse::{Outcome, converse};
pub use self::report::left;
use self::report::report;
use super::aftermath::Aftermath;
use super::conversation::{Conversation, runtime};
use super::duration::duration;
use super::exit::Exit;
use super::{Context, FileFlag, load};
use crate::cluster::kubeconfig;
use crate::cluster::tenancy::LEASE_VARIABLE;
use crate::envfile::TimeSpan;
use crate::error::Error;
use crate::plan::{Cluster, Plan};
use crate::session::identity::Identity;
use crate::session::launch::{self, Agent};
use crate::session::protocol::{Request, UpRequest};
use crate::session::record::{Phase, Record, VERSION};
use crate::session::state::StateDirectory;
use crate::suite::run::Interrupts;

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
    /// When it fails, write a dump there before the session is removed: a directory, or a file that ends in .tar or .tar.gz
    #[arg(long, env = "ENVCTL_DUMP", hide_env_values = true, value_name = "PATH")]
    pub dump: Option<PathBuf>,
    /// End the session after this time without a command or test
    #[arg(long, env = "ENVCTL_TTL", hide_env_values = true, value_name = "DURATION", default_value = "4h", value_parser = duration)]
    pub ttl: Duration,
    /// On a cluster that is not the session's own: remove it from there this long after its agent's last sign of life
    #[arg(long, env = LEASE_VARIABLE, hide_env_values = true, value_name = "DURATION", default_value = "10m", value_parser = duration)]
    pub lease: Duration,
    /// A service that you run yourself on this machine, under a debugger for example; its pods stay away. May be repeated
    ///
    /// `up` prints what to run and the file with its environment, and goes on when it listens: on 127.0.0.1 and the service's own port,
    /// or the one given here. PORT names one of several.
    #[arg(
        long,
        env = "ENVCTL_SWAP",
        hide_env_values = true,
        value_name = "SERVICE[:PORT][=NUMBER]",
        value_delimiter = ','
    )]
    pub swap: Vec<String>,
}

/// Runs the verb.
///
/// # Errors
/// A bad environment file, or state that cannot be kept.
pub fn run(arguments: &Arguments, context: &mut Context) -> Result<Exit, Error> {
    let plan = load::plan(context)?;
    let mut aftermath = Aftermath::new(context, &plan, "envctl up", arguments.dump.as_deref())?;
    let ended = bring_up(arguments, context, &plan, &mut aftermath);
    aftermath.tell(context, &ended);
    ended
}

fn bring_up(
    arguments: &Arguments,
    context: &mut Context,
    plan: &Plan,
    aftermath: &mut Aftermath<'_>,
) -> Result<Exit, Error> {
    let swap = super::swap::expected(plan, &arguments.swap)?;
    let mut variables = load::variables(context)?;
    kubeconfig::make_absolute(&mut variables, &context.working_directory);
    variables.insert(LEASE_VARIABLE.to_owned(), TimeSpan(arguments.lease).to_string());
    let state = context.state()?;
    let name = session_name(context, &state, plan)?;
    let record = new_record(&state, plan, name.as_deref());
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
                let mut request = arguments.request(plan, &variables, &swap);
                request.hold = aftermath.wants_dump();
                conversation.ask(Request::Up(Box::new(request))).await?;
                let outcome = converse(context, plan, &mut conversation, created, arguments.detach).await?;
                dumped(arguments, context, aftermath, (&state, &record), created, outcome).await
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
            launch::wait_for_end(&lock, &directory)?;
        }
        if let Outcome::Died(error) = outcome {
            launch::sweep(&state)?;
            return Err(error);
        }
        let exit = report(arguments, context, plan, &record, &directory, &outcome)?;
        if arguments.attach
            && let Outcome::Ready { record, .. } = &outcome
        {
            return runtime.block_on(attached(context, &state, record, created));
        }
        return Ok(exit);
    }
}

/// Where it failed: the dump that is wanted, and the end of what was only left up for that.
async fn dumped(
    arguments: &Arguments,
    context: &mut Context,
    aftermath: &mut Aftermath<'_>,
    (state, record): (&StateDirectory, &Record),
    created: bool,
    mut outcome: Outcome,
) -> Result<Outcome, Error> {
    if let Outcome::Failed { failure, kept, removal } = &mut outcome {
        aftermath.failed(None, failure.message.clone(), Vec::new());
        if *kept && aftermath.wants_dump() {
            aftermath.dump(context, &state.session(&record.id)).await;
            if created && !arguments.keep {
                *removal = super::down::ended(state, record, None).await?;
                *kept = false;
            }
        }
    }
    Ok(outcome)
}

impl Arguments {
    /// What the agent is asked.
    fn request(
        &self,
        plan: &Plan,
        variables: &BTreeMap<String, String>,
        swap: &BTreeMap<String, BTreeMap<String, u16>>,
    ) -> UpRequest {
        UpRequest {
            plan: plan.clone(),
            environment: variables.clone(),
            timeout: milliseconds(self.wait_timeout),
            keep: self.keep,
            hold: false,
            detach: self.detach,
            ttl: milliseconds(self.ttl),
            reissue: BTreeSet::new(),
            exchange: BTreeSet::new(),
            swap: swap.clone(),
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
    } else if let Some(name) =
        session.as_deref().and_then(|id| Identity::of_id(&plan.project_root, &plan.environment, id))
    {
        // It is gone, and its shell has it still.
        session = Some(name);
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

/// `--attach`: logs until Ctrl-C, which takes down what this command created.
async fn attached(
    context: &mut Context,
    state: &StateDirectory,
    record: &Record,
    created: bool,
) -> Result<Exit, Error> {
    let mut interrupts = Interrupts::new().map_err(Error::io("receive signals"))?;
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
        _ = interrupts.next() => {}
    }
    drop(presence);
    if !created {
        return Ok(Exit::Interrupted);
    }
    context.out.say("interrupted: taking the session down");
    super::down::end(context, state, record, None).await?;
    Ok(Exit::Interrupted)
}
