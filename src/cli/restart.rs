//! `envctl restart`: restarts services, as `kubectl rollout restart` does, and waits until they are ready again.

use std::time::Duration;

use clap::Args;
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Api, ListParams, Patch, PatchParams};
use serde_json::json;

use super::conversation::runtime;
use super::duration::duration;
use super::exit::Exit;
use super::wait::{Condition, Deadline, until};
use super::{Context, FileFlag, cluster};
use crate::error::Error;
use crate::objects;

/// The flags of this verb.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Which environment file.
    #[command(flatten)]
    pub file: FileFlag,
    /// The services (default: all)
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
    /// How long to wait until they are ready again
    #[arg(long, env = "ENVCTL_WAIT_TIMEOUT", hide_env_values = true, value_name = "DURATION", default_value = "5m", value_parser = duration)]
    pub wait_timeout: Duration,
}

/// Runs the verb.
///
/// # Errors
/// When there is no such service, or the cluster refuses.
pub fn run(arguments: &Arguments, context: &mut Context) -> Result<Exit, Error> {
    let (_, record) = context.session()?;
    runtime()?.block_on(async {
        let client = cluster::client(&record).await?;
        let services = services(&client, &arguments.services).await?;
        restart(context, &client, &services, arguments.wait_timeout).await?;
        Ok(Exit::Ok)
    })
}

/// Restarts services and waits until they are ready again.
///
/// # Errors
/// When the cluster refuses, or they are not ready in time.
pub async fn restart(
    context: &mut Context,
    client: &kube::Client,
    services: &[String],
    within: Duration,
) -> Result<(), Error> {
    let deadline = Deadline::after(within);
    let api: Api<Deployment> = Api::default_namespaced(client.clone());
    // The annotation that kubectl sets: any change of the template is a new rollout.
    let at = jiff::Timestamp::now().to_string();
    let template =
        json!({"spec": {"template": {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": at}}}}});
    for service in services {
        api.patch(service, &PatchParams::default(), &Patch::Merge(&template))
            .await
            .map_err(cluster::refused(format!("restart {service}")))?;
    }
    for service in services {
        until(client, service, Condition::Ready, deadline).await?;
        context.out.say(format!("{service} is restarted"));
    }
    Ok(())
}

/// The named services, or all of the environment's that have pods.
///
/// # Errors
/// When one isn't there or has no pods, or the cluster refuses.
pub async fn services(client: &kube::Client, named: &[String]) -> Result<Vec<String>, Error> {
    let api: Api<Deployment> = Api::default_namespaced(client.clone());
    let swapped = cluster::swapped(client).await?;
    let all =
        api.list(&ListParams::default().labels(objects::NODE)).await.map_err(cluster::refused("list services"))?;
    let all: Vec<String> = all.items.into_iter().filter_map(|deployment| deployment.metadata.name).collect();
    if let Some(name) = named.iter().find(|name| swapped.contains(*name)) {
        return Err(cluster::has_no_pods(name));
    }
    match named.iter().find(|name| !all.contains(name)) {
        Some(unknown) => Err(Error::Usage {
            what: format!("no service {unknown:?} in this session"),
            hint: (!all.is_empty()).then(|| format!("there are: {}", all.join(", "))),
        }),
        None if named.is_empty() => Ok(all.into_iter().filter(|name| !swapped.contains(name)).collect()),
        None => Ok(named.to_vec()),
    }
}
