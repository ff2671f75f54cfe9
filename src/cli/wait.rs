//! `envctl wait`: waits for services, by watching.

use std::time::{Duration, Instant};

use clap::Args;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use kube::api::Api;
use kube::runtime::wait::{await_condition, conditions};

use super::conversation::{Conversation, runtime};
use super::duration::{duration, human};
use super::exit::Exit;
use super::{Context, FileFlag, cluster};
use crate::error::Error;
use crate::session::launch;
use crate::session::protocol::{Reply, Request};
use crate::session::record::Record;
use crate::session::state::StateDirectory;

/// The flags of this verb.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Which environment file.
    #[command(flatten)]
    pub file: FileFlag,
    /// The services or jobs (default: all services)
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
    /// Every replica of the service is ready
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
        let names = if arguments.services.is_empty() && arguments.condition != Condition::Complete {
            super::restart::services(&Api::<Deployment>::default_namespaced(client.clone()), &[]).await?
        } else {
            arguments.services.clone()
        };
        for name in &names {
            until(&client, name, arguments.condition, deadline).await?;
        }
        Ok(Exit::Ok)
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
                await_condition(deployments, name, ready).await.map(drop)
            }
            Condition::Complete => {
                let jobs: Api<Job> = Api::default_namespaced(client.clone());
                await_condition(jobs, name, conditions::is_job_completed()).await.map(drop)
            }
            Condition::Gone => {
                await_condition(deployments, name, |deployment: Option<&Deployment>| deployment.is_none())
                    .await
                    .map(drop)
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
