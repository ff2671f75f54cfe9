//! `envctl reset`: deletes what was made in the cluster since the session was ready, and restarts the services.
//!
//! Jobs do not run again and volumes keep their data: what a suite wrote into a database stays there.

use std::time::Duration;

use clap::Args;
use kube::api::{Api, DynamicObject};
use kube::runtime::wait::{await_condition, conditions};
use serde::Serialize;

use super::conversation::runtime;
use super::duration::{duration, human};
use super::exit::Exit;
use super::output::Format;
use super::test::left_behind;
use super::{Context, FileFlag, cluster, restart};
use crate::error::Error;
use crate::suite::leftovers::Leftover;
use crate::teardown;

/// The flags of this verb.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Which environment file.
    #[command(flatten)]
    pub file: FileFlag,
    /// Only say what would be deleted
    #[arg(long, env = "ENVCTL_DRY_RUN", hide_env_values = true)]
    pub dry_run: bool,
    /// How long to wait until everything is gone, and ready again
    #[arg(long, env = "ENVCTL_WAIT_TIMEOUT", hide_env_values = true, value_name = "DURATION", default_value = "5m", value_parser = duration)]
    pub wait_timeout: Duration,
}

/// `-o json`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    version: u32,
    deleted: Vec<Leftover>,
    restarted: Vec<String>,
}

/// Runs the verb.
///
/// # Errors
/// When there is no session, it was never ready, or the cluster refuses.
pub fn run(arguments: &Arguments, context: &mut Context) -> Result<Exit, Error> {
    let (state, record) = context.session()?;
    let Some(mark) = &record.ready else {
        return Err(Error::Failed {
            what: format!(
                "session {} was never ready: nothing tells its own objects from what was made later",
                record.id
            ),
            hint: Some("`envctl down` and `envctl up` start anew".to_owned()),
            exit: Exit::NotReady,
        });
    };
    let (deleted, restarted) = runtime()?.block_on(async {
        let client = cluster::client(&record).await?;
        let left = left_behind(&client, &state, &record, mark).await?;
        let verb = if arguments.dry_run { "would be deleted" } else { "deleted" };
        let deadline = tokio::time::Instant::now() + arguments.wait_timeout;
        if !arguments.dry_run {
            for object in &left {
                let asked = teardown::delete(&api(&client, object), &object.name, &object.uid).await;
                asked.map_err(cluster::refused(format!("delete {object}")))?;
            }
        }
        for object in &left {
            if !arguments.dry_run {
                gone(&client, object, deadline, arguments.wait_timeout).await?;
            }
            context.out.say(format!("{verb}: {object}"));
        }
        if left.is_empty() {
            context.out.say("nothing was left behind");
        }
        let mut restarted = Vec::new();
        if !arguments.dry_run {
            restarted = restart::services(&client, &[]).await?;
            restart::restart(context, &client, &restarted, arguments.wait_timeout).await?;
        }
        Ok::<_, Error>((left, restarted))
    })?;
    match context.out.format {
        Format::Json | Format::Yaml => context.out.document(&Document { version: 1, deleted, restarted })?,
        Format::Name => {
            deleted.iter().for_each(|object| context.out.data(format!("{}/{}", object.kind.kind, object.name)))
        }
        Format::Text | Format::Objects => {}
    }
    Ok(Exit::Ok)
}

fn api(client: &kube::Client, object: &Leftover) -> Api<DynamicObject> {
    let resource = object.kind.resource();
    match &object.namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    }
}

async fn gone(
    client: &kube::Client,
    object: &Leftover,
    deadline: tokio::time::Instant,
    allowed: Duration,
) -> Result<(), Error> {
    let deleted = await_condition(api(client, object), &object.name, conditions::is_deleted(&object.uid));
    match tokio::time::timeout_at(deadline, deleted).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => {
            Err(Error::Failed { what: format!("watch {object}: {error}"), hint: None, exit: Exit::NoCluster })
        }
        Err(_elapsed) => Err(Error::Failed {
            what: format!("{object} is still being deleted after {}", human(allowed)),
            hint: Some("a finalizer may hold it: `kubectl get -o yaml` shows `metadata.finalizers`".to_owned()),
            exit: Exit::Leftovers,
        }),
    }
}
