//! `envctl wait`: waits for services, by watching.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use clap::Args;
use futures::StreamExt as _;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, ListParams};
use kube::runtime::wait::{await_condition, conditions};
use kube::runtime::watcher::{self, Event};
use kube::{Resource as _, ResourceExt as _};

use super::conversation::{Conversation, runtime};
use super::duration::{duration, human};
use super::exit::Exit;
use super::{Context, FileFlag, cluster};
use crate::cluster::refusal::in_words;
use crate::error::Error;
use crate::plan::NodeKind;
use crate::readiness::pods::is_ready;
use crate::session::launch;
use crate::session::protocol::{Reply, Request};
use crate::session::record::{Phase, Record};
use crate::session::state::StateDirectory;
use crate::{objects, reading};

/// The flags of this verb.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Which environment file.
    #[command(flatten)]
    pub file: FileFlag,
    /// The services or jobs (default: all services, with `--for complete` all jobs)
    #[arg(value_name = "NAME")]
    pub services: Vec<String>,
    /// What for
    #[arg(long = "for", env = "ENVCTL_FOR", hide_env_values = true, value_enum, default_value_t = Condition::Ready)]
    pub condition: Condition,
    /// How long
    #[arg(long, env = "ENVCTL_TIMEOUT", hide_env_values = true, value_name = "DURATION", default_value = "5m", value_parser = duration)]
    pub timeout: Duration,
}

/// What `--for` can ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Condition {
    /// Every replica of the service is ready; the job has completed
    Ready,
    /// The job has completed
    Complete,
    /// The service is gone
    Gone,
}

/// When the caller stops waiting.
#[derive(Debug, Clone, Copy)]
pub struct Deadline {
    at: Instant,
    after: Duration,
}

impl Deadline {
    /// So long from now.
    pub fn after(after: Duration) -> Self {
        Self { at: Instant::now() + after, after }
    }

    async fn bound<T>(self, what: &str, work: impl Future<Output = T>) -> Result<T, Error> {
        tokio::time::timeout_at(self.at.into(), work).await.map_err(|_elapsed| Error::Failed {
            what: format!("{what} within {}", human(self.after)),
            hint: Some("`envctl ps` shows what it is doing, `envctl logs` what it says".to_owned()),
            exit: Exit::NotReady,
        })
    }
}

/// Runs the verb.
///
/// # Errors
/// When it did not come to that in time.
pub fn run(arguments: &Arguments, context: &mut Context) -> Result<Exit, Error> {
    let (state, record) = context.session()?;
    let deadline = Deadline::after(arguments.timeout);
    runtime()?.block_on(async {
        let record = match arguments.condition {
            // What isn't applied yet cannot be watched for: the `up` at work comes first.
            Condition::Ready | Condition::Complete => {
                deadline.bound("the session was not ready", came_up(context, &state, &record)).await??
            }
            Condition::Gone => record,
        };
        let client = cluster::client(&record).await?;
        for (name, condition) in targets(&client, &arguments.services, arguments.condition).await? {
            until(&client, &name, condition, deadline).await?;
        }
        Ok(Exit::Ok)
    })
}

/// What is waited for, by name, and what of it.
async fn targets(
    client: &kube::Client,
    named: &[String],
    condition: Condition,
) -> Result<Vec<(String, Condition)>, Error> {
    // What is gone may never have been.
    if condition == Condition::Gone && !named.is_empty() {
        return Ok(named.iter().map(|name| (name.clone(), condition)).collect());
    }
    let services: Api<Deployment> = Api::default_namespaced(client.clone());
    let jobs: Api<Job> = Api::default_namespaced(client.clone());
    // Also those that the environment's own programs made.
    let all = ListParams::default();
    let services = services.list(&all).await.map_err(cluster::refused("list services"))?;
    let jobs = jobs.list(&all).await.map_err(cluster::refused("list jobs"))?;
    let is_own = |meta: &ObjectMeta| meta.labels.as_ref().is_some_and(|labels| labels.contains_key(objects::NODE));
    let own_services = services.iter().map(Deployment::meta).filter(|meta| is_own(meta)).map(name);
    let own_jobs = jobs.iter().map(Job::meta).filter(|meta| is_own(meta)).map(name);
    if named.is_empty() {
        let own: Vec<String> =
            if condition == Condition::Complete { own_jobs.collect() } else { own_services.collect() };
        return Ok(own.into_iter().map(|name| (name, condition)).collect());
    }
    let own: Vec<String> = own_services.chain(own_jobs).collect();
    let services: Vec<String> = services.iter().map(Deployment::meta).map(name).collect();
    let jobs: Vec<String> = jobs.iter().map(Job::meta).map(name).collect();
    let target = |name: &String| {
        if jobs.contains(name) {
            return Ok((name.clone(), Condition::Complete));
        }
        if !services.contains(name) {
            return Err(Error::Usage {
                what: format!("no service and no job {name:?} in this session"),
                hint: (!own.is_empty()).then(|| format!("there are: {}", own.join(", "))),
            });
        }
        if condition == Condition::Complete {
            return Err(Error::Usage {
                what: format!("{name} is a service: it doesn't complete"),
                hint: Some("wait for it with `--for ready`".to_owned()),
            });
        }
        Ok((name.clone(), condition))
    };
    named.iter().map(target).collect()
}

fn name(meta: &ObjectMeta) -> String {
    meta.name.clone().unwrap_or_default()
}

/// The record to take variables from. While everything is coming up for the first time there are none: that is waited for.
///
/// # Errors
/// When it does not come up, or is up only as far as `--keep` left it.
pub fn with_variables(context: &mut Context, state: &StateDirectory, record: Record) -> Result<Record, Error> {
    if !record.exports.is_empty() {
        return Ok(record);
    }
    if record.phase == Phase::Starting {
        context.out.say(format!("session {} is not ready yet: waiting for it", record.id));
        let record = runtime()?.block_on(came_up(context, state, &record))?;
        context.out.hide(&state.session(&record.id));
        return Ok(record);
    }
    Err(Error::Failed {
        what: format!("session {} is {}, not ready: it has no variables yet", record.id, record.phase),
        hint: Some("`envctl wait` says why; mend that, then `envctl up`".to_owned()),
        exit: Exit::NotReady,
    })
}

/// The end of the `up` at work, if there is one.
async fn came_up(context: &mut Context, state: &StateDirectory, record: &Record) -> Result<Record, Error> {
    let directory = state.session(&record.id);
    let mut conversation = Conversation::new(launch::connect(&directory)?, directory)?;
    conversation.ask(Request::Wait).await?;
    loop {
        match conversation.next().await? {
            Reply::Up { record, .. } => return Ok(*record),
            Reply::Failed { failure, .. } => {
                context.out.raw_err(&failure.render());
                let exit = Exit::of_failure(&failure);
                return Err(Error::Failed { what: "the session did not come up".to_owned(), hint: None, exit });
            }
            Reply::Queued | Reply::Accepted | Reply::Event(_) => {}
            _ => return Err(super::ps::ending(record)),
        }
    }
}

/// Waits until a service or job is as asked.
///
/// # Errors
/// When the deadline passes or the cluster cannot be watched.
pub async fn until(client: &kube::Client, name: &str, condition: Condition, deadline: Deadline) -> Result<(), Error> {
    let deployments: Api<Deployment> = Api::default_namespaced(client.clone());
    let watched = async {
        match condition {
            Condition::Ready => {
                let ready = |deployment: Option<&Deployment>| deployment.is_some_and(is_rolled_out);
                let deployment = await_condition(deployments, name, ready).await.map_err(|error| error.to_string())?;
                match deployment {
                    Some(deployment) => until_led_to(client, name, &deployment).await,
                    None => Ok(()),
                }
                .map_err(|error| in_words(&error).into_owned())
            }
            Condition::Complete => {
                let jobs: Api<Job> = Api::default_namespaced(client.clone());
                let completed = await_condition(jobs, name, conditions::is_job_completed()).await;
                completed.map(drop).map_err(|error| error.to_string())
            }
            Condition::Gone => {
                let gone = |deployment: Option<&Deployment>| deployment.is_none();
                await_condition(deployments, name, gone).await.map(drop).map_err(|error| error.to_string())
            }
        }
    };
    let what = match condition {
        Condition::Ready => "was not ready",
        Condition::Complete => "did not complete",
        Condition::Gone => "was not gone",
    };
    deadline.bound(&format!("{name} {what}"), watched).await?.map_err(|error| Error::Failed {
        what: format!("watch {name}: {error}"),
        hint: None,
        exit: Exit::NoCluster,
    })
}

/// Returns once whoever goes by the service's name is led to its ready pods and to no others: the controller of its EndpointSlices and the
/// Deployment's know nothing of each other.
async fn until_led_to(client: &kube::Client, name: &str, deployment: &Deployment) -> kube::Result<()> {
    let spec = deployment.spec.as_ref();
    let containers = spec.and_then(|spec| spec.template.spec.as_ref()).map_or(&[][..], |pod| &pod.containers);
    // Without ports it has no Service; a manifest's may have none, or one that leads elsewhere.
    let is_service = deployment.labels().get(objects::NODE_KIND).is_some_and(|kind| kind == NodeKind::Service.word());
    if !is_service || containers.iter().all(|container| container.ports.is_none()) {
        return Ok(());
    }
    let selector = spec.and_then(|spec| spec.selector.match_labels.as_ref()).into_iter().flatten();
    let selected = selector.map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",");
    let (pods, selected) = (Api::<Pod>::default_namespaced(client.clone()), ListParams::default().labels(&selected));
    let config = watcher::Config::default().labels(&format!("kubernetes.io/service-name={name}"));
    let mut events = reading::watch::<EndpointSlice>(client.clone(), Some(client.default_namespace()), config);
    let (mut slices, mut listed) = (BTreeMap::new(), false);
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => (slices, listed) = (BTreeMap::new(), false),
            Ok(Event::InitApply(slice) | Event::Apply(slice)) => _ = slices.insert(slice.name_any(), slice),
            Ok(Event::Delete(slice)) => _ = slices.remove(&slice.name_any()),
            Ok(Event::InitDone) => listed = true,
            Err(error) => tracing::debug!(%error, "the watch of EndpointSlices ended and will be restarted"),
        }
        if !listed {
            continue;
        }
        let leads =
            |endpoint: &&Endpoint| endpoint.conditions.as_ref().and_then(|conditions| conditions.ready) != Some(false);
        let endpoints = slices.values().flat_map(|slice| slice.endpoints.iter().flatten()).filter(leads);
        let led: BTreeSet<String> =
            endpoints.filter_map(|endpoint| endpoint.target_ref.as_ref()?.name.clone()).collect();
        let ready = |pod: &&Pod| is_ready(pod) && pod.metadata.deletion_timestamp.is_none();
        if led == pods.list(&selected).await?.items.iter().filter(ready).map(Pod::name_any).collect() {
            break;
        }
    }
    Ok(())
}

/// As `kubectl rollout status` decides (kubectl `pkg/polymorphichelpers/rollout_status.go`), and every replica ready.
fn is_rolled_out(deployment: &Deployment) -> bool {
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    deployment.status.as_ref().is_some_and(|status| {
        status.observed_generation >= deployment.metadata.generation
            && status.updated_replicas.unwrap_or(0) >= wanted
            && status.replicas.unwrap_or(0) <= status.updated_replicas.unwrap_or(0)
            && status.ready_replicas.unwrap_or(0) >= wanted
            && status.available_replicas.unwrap_or(0) >= wanted
    })
}
