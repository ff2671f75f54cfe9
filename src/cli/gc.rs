//! `envctl gc`: removes what sessions left on clusters whose agent is gone.
//!
//! What dead sessions of this machine left, wherever that is; with a cluster named (`--context`), also every session there whose lease
//! has expired, whoever started it. `--cluster kind` or `minikube` removes the cluster of that kind that sessions share, unless
//! one of them lives.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use futures::future::{join_all, try_join_all};
use serde::Serialize;

use super::conversation::runtime;
use super::duration::{duration, human};
use super::exit::Exit;
use super::output::Format;
use super::{Context, load};
use crate::cluster::by_tool::{self, By, Gone, KIND, MINIKUBE};
use crate::cluster::tenancy::record::Lodged;
use crate::cluster::{context::reach, kubeconfig};
use crate::error::Error;
use crate::plan::Cluster;
use crate::session::launch;
use crate::session::state::{SessionDirectory, StateDirectory};
use crate::teardown::abandoned::{self, AbandonedError};
use crate::teardown::{Removed, remove_namespace};

/// The flags of this verb.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Only say what would be removed
    #[arg(long, env = "ENVCTL_DRY_RUN", hide_env_values = true)]
    pub dry_run: bool,
    /// How long each may take to be gone before what holds it is reported
    #[arg(long, env = "ENVCTL_TIMEOUT", hide_env_values = true, value_name = "DURATION", default_value = "60s", value_parser = duration)]
    pub timeout: Duration,
}

/// `-o json`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    version: u32,
    dry_run: bool,
    sessions: Vec<Abandoned>,
    /// Clusters that envctl made and nobody uses.
    clusters: Vec<Gone>,
    /// Namespaces that look like a session's but have no lease: not touched.
    unaccounted: Vec<String>,
}

/// One abandoned session, and what became of it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Abandoned {
    /// The session's id.
    pub id: String,
    /// The cluster's address.
    pub server: String,
    /// Its namespace there.
    pub namespace: String,
    /// Why it is abandoned, for people.
    pub why: String,
    /// Whether it is gone now.
    pub removed: bool,
    /// What is still there, one sentence each.
    pub left: Vec<String>,
}

impl Abandoned {
    fn new(lodged: &Lodged, why: impl Into<String>) -> Self {
        Self {
            id: lodged.session.clone(),
            server: lodged.server.clone(),
            namespace: lodged.namespace.clone(),
            why: why.into(),
            removed: false,
            left: Vec::new(),
        }
    }

    /// With what removing it came to.
    fn tried(mut self, outcome: Result<Removed, AbandonedError>) -> Self {
        match outcome {
            Ok(Removed::Gone | Removed::NotOurs) => self.removed = true,
            Ok(Removed::Held(by)) => self.left = by,
            Err(error) => {
                let hint = match &error {
                    AbandonedError::Cluster(error) => error.hint(),
                    _ => None,
                };
                let hint = hint.map(|hint| format!(" ({hint})")).unwrap_or_default();
                self.left = vec![format!(
                    "namespace {} on {}: {error}{hint}; `envctl gc` tries again",
                    self.namespace, self.server
                )];
            }
        }
        self
    }

    /// Tells it.
    pub fn say(&self, context: &mut Context) {
        if self.removed {
            context.out.say(format!("removed namespace {} on {}: {}", self.namespace, self.server, self.why));
        }
        for left in &self.left {
            context.out.warn(&format!("still there: {left}"));
        }
    }
}

/// Runs the verb.
///
/// # Errors
/// When the cluster named is not available, or the state directory refuses.
pub fn run(arguments: &Arguments, context: &mut Context) -> Result<Exit, Error> {
    let state = context.state()?;
    let runtime = runtime()?;
    let mut document = Document {
        version: 1,
        dry_run: arguments.dry_run,
        sessions: Vec::new(),
        clusters: Vec::new(),
        unaccounted: Vec::new(),
    };
    let patience = (!arguments.dry_run).then_some(arguments.timeout);
    let variables = load::variables(context)?;
    let chosen = load::chosen(context)?;
    // First: what sessions left on a cluster goes with it.
    document.clusters = runtime.block_on(by_tool::sweep(state.path(), &variables, arguments.dry_run));
    let by = match chosen {
        Some(Cluster::Kind { .. }) => Some(KIND),
        Some(Cluster::Minikube { .. }) => Some(MINIKUBE),
        _ => None,
    };
    let mut asked = Ok(());
    if let Some(by) = by {
        let gone = runtime.block_on(shared(by, arguments, &state, &variables));
        asked = gone.map(|gone| document.clusters.extend(gone));
    }
    let mut left = launch::left(&state)?;
    if !left.is_empty() && !arguments.dry_run {
        runtime.block_on(by_tool::forget_vanished(state.path(), &variables));
        left = launch::left(&state)?;
    }
    document.sessions = runtime.block_on(all(&state, &left, patience))?;
    if let Some(Cluster::Context(name)) = chosen {
        asked = runtime.block_on(cluster(arguments, context, &state, &name, &mut document));
    }
    // What this machine knew of is told, also when the cluster that was named can't be asked for more.
    let exit = report(context, &document)?;
    asked.map(|()| exit)
}

/// What dead sessions of this machine left, all at once. `patience`: none if it is only to be told.
///
/// # Errors
/// When the state directory refuses.
pub async fn all(
    state: &StateDirectory,
    directories: &[SessionDirectory],
    patience: Option<Duration>,
) -> Result<Vec<Abandoned>, Error> {
    let tried = try_join_all(directories.iter().map(|directory| one(state, directory, patience))).await?;
    Ok(tried.into_iter().flatten().collect())
}

/// Why what is left was left: its agent's last word, unless it was killed.
pub fn why(directory: &SessionDirectory) -> String {
    let word = std::fs::read_to_string(directory.why_ended()).ok();
    word.unwrap_or_else(|| "its agent on this machine is gone".to_owned())
}

async fn one(
    state: &StateDirectory,
    directory: &SessionDirectory,
    patience: Option<Duration>,
) -> Result<Option<Abandoned>, Error> {
    let lodged = match abandoned::on_disk(directory.path()) {
        Ok(lodged) => lodged,
        // Another command was faster.
        Err(_) if !directory.path().exists() => return Ok(None),
        Err(error) => {
            let name = directory.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
            let nowhere = Lodged::new("", "an unknown cluster", &name, &name);
            return Ok(Some(Abandoned::new(&nowhere, "its agent is gone").tried(Err(error))));
        }
    };
    let found = Abandoned::new(&lodged, why(directory));
    let Some(patience) = patience else { return Ok(Some(found)) };
    let tried = found.tried(abandoned::remove(directory.path(), &lodged, patience).await);
    if tried.removed {
        launch::forget_left(state, directory)?;
    }
    Ok(Some(tried))
}

/// The cluster of a tool that the sessions of this state directory share.
async fn shared(
    by: By,
    arguments: &Arguments,
    state: &StateDirectory,
    variables: &BTreeMap<String, String>,
) -> Result<Option<Gone>, Error> {
    let live = state.live()?.into_iter().filter(|record| {
        record.api.as_ref().is_some_and(|server| by_tool::is_shared(by, state.path(), server))
            // Its cluster is just being made.
            || (record.api.is_none() && record.cluster == by.name())
    });
    let live: Vec<String> = live.map(|record| record.id).collect();
    if !live.is_empty() {
        return Err(Error::Failed {
            what: format!("the {} cluster is used by {}", by.name(), live.join(", ")),
            hint: Some("`envctl down --session NAME` ends a session; then it can go".to_owned()),
            exit: Exit::Leftovers,
        });
    }
    let gone = by_tool::remove_shared(by, state.path(), variables, arguments.dry_run).await;
    gone.map_err(|error| Error::Failed {
        what: format!("the {} cluster cannot be removed: {error}", by.name()),
        hint: error.hint(),
        exit: Exit::NoCluster,
    })
}

/// Every session on a cluster whose lease has expired.
async fn cluster(
    arguments: &Arguments,
    context: &mut Context,
    state: &StateDirectory,
    name: &str,
    document: &mut Document,
) -> Result<(), Error> {
    let mut variables = load::variables(context)?;
    kubeconfig::make_absolute(&mut variables, &context.working_directory);
    let unavailable = |error: crate::cluster::ClusterError| Error::Failed {
        what: format!("the cluster is not available: {error}"),
        hint: error.hint(),
        exit: Exit::NoCluster,
    };
    let (access, client) = reach(name, "default", &variables, None).await.map_err(unavailable)?;
    let server = kubeconfig::server(&access.kubeconfig);
    let identity = match &access.tenancy {
        crate::cluster::Tenancy::Guest { cluster } => cluster.as_str(),
        crate::cluster::Tenancy::Owner => "",
    };
    let refused = |what: &str| super::cluster::refused(format!("{what} on {server}"));
    let known = abandoned::on_cluster(&client, identity, server).await.map_err(refused("list leases"))?;
    // An agent that was stopped for long is alive all the same: its lock says so.
    let live: Vec<String> = state.live()?.into_iter().map(|record| record.namespace).collect();
    let listed: Vec<String> = document.sessions.iter().map(|session| session.namespace.clone()).collect();
    let ours = |namespace: &String| live.contains(namespace) || listed.contains(namespace);
    let expired = known.iter().filter(|found| found.expired && !ours(&found.lodged.namespace));
    let reaped = join_all(expired.map(async |found| {
        let silent = human(Duration::from_secs(found.silent));
        let session = Abandoned::new(&found.lodged, format!("no sign of life of {} for {silent}", found.holder));
        if arguments.dry_run {
            return session;
        }
        let outcome = remove_namespace(&client, &found.lodged, arguments.timeout).await;
        session.tried(outcome.map_err(AbandonedError::from))
    }));
    document.sessions.extend(reaped.await);
    document.unaccounted = abandoned::unaccounted(&client, &known).await.map_err(refused("list namespaces"))?;
    document.unaccounted.retain(|namespace| !live.contains(namespace) && !listed.contains(namespace));
    Ok(())
}

fn report(context: &mut Context, document: &Document) -> Result<Exit, Error> {
    match context.out.format {
        Format::Json | Format::Yaml => context.out.document(document)?,
        Format::Name => {
            document.sessions.iter().for_each(|session| context.out.data(&session.namespace));
            document.clusters.iter().for_each(|gone| context.out.data(&gone.cluster));
        }
        Format::Text | Format::Objects if document.sessions.is_empty() && document.clusters.is_empty() => {
            context.out.say("nothing to remove");
        }
        Format::Text | Format::Objects if document.dry_run => {
            let row = |session: &Abandoned| {
                vec![session.id.clone(), session.namespace.clone(), session.server.clone(), session.why.clone()]
            };
            let rows: Vec<_> = document.sessions.iter().map(row).collect();
            if !rows.is_empty() {
                context.out.table(&["ID", "NAMESPACE", "CLUSTER", "WHY"], &rows);
            }
            document
                .clusters
                .iter()
                .for_each(|gone| context.out.say(format!("would remove {} cluster {}", gone.tool, gone.cluster)));
        }
        Format::Text | Format::Objects => {}
    }
    if !document.dry_run {
        document.sessions.iter().for_each(|session| session.say(context));
        for gone in &document.clusters {
            match gone.left {
                None => context.out.say(gone.to_string()),
                Some(_) => context.out.warn(&gone.to_string()),
            }
        }
    }
    for namespace in &document.unaccounted {
        context.out.warn(&format!(
            "namespace {namespace} looks like a session's but has no lease that says so: not touched; if it is nobody's: kubectl \
             delete namespace {namespace}"
        ));
    }
    let gone = document.clusters.iter().all(|gone| gone.left.is_none());
    let clean = document.dry_run || (gone && document.sessions.iter().all(|session| session.removed));
    Ok(if clean { Exit::Ok } else { Exit::Leftovers })
}
