//! Removes finished jobs `ttlSecondsAfterFinished` after their end.
//!
//! Ports `pkg/controller/ttlafterfinished/ttlafterfinished_controller.go`.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use kube::api::{DeleteParams, Preconditions, PropagationPolicy};
use kube::{Api, Client};

use super::super::shared::cache::Key;
use super::super::shared::caches::Caches;
use super::super::shared::pods::wait_until;
use super::super::shared::queue::Queue;
use super::super::shared::worker::{Doing, Next, SyncError, Syncer, code};
use super::status::{COMPLETE, FAILED};

/// The controller; its queue holds jobs' keys.
pub struct Ttl {
    client: Client,
    caches: Caches,
}

impl Ttl {
    /// Registers what enqueues a job.
    pub fn new(client: Client, caches: Caches, queue: &Arc<Queue<Key>>) -> Self {
        let on = queue.clone();
        caches.jobs.on_change(move |change| {
            if let Some(job) = change.states().last()
                && job.spec.as_ref().is_some_and(|spec| spec.ttl_seconds_after_finished.is_some())
            {
                on.add(Key::of(&job.metadata));
            }
        });
        Self { client, caches }
    }
}

/// How long until the job may go; `None` if it hasn't ended, has no limit, or is going already.
pub fn left(job: &Job, now: Timestamp) -> Option<Duration> {
    let ttl = job.spec.as_ref()?.ttl_seconds_after_finished?;
    if job.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    let ended = conditions.iter().find(|c| matches!(c.type_.as_str(), COMPLETE | FAILED) && c.status == "True")?;
    Some(wait_until(ended.last_transition_time.as_ref()?, ttl.into(), now))
}

impl Syncer for Ttl {
    type Key = Key;

    async fn sync(&self, key: &Key) -> Result<Next, SyncError> {
        let Some(job) = self.caches.jobs.get(key) else { return Ok(Next::OnEvent) };
        match left(&job, Timestamp::now()) {
            None => Ok(Next::OnEvent),
            Some(Duration::ZERO) => {
                let api: Api<Job> = Api::namespaced(self.client.clone(), &key.namespace);
                let preconditions = Preconditions {
                    uid: job.metadata.uid.clone(),
                    // Whoever changes the limit at the last moment wins.
                    resource_version: job.metadata.resource_version.clone(),
                };
                let params = DeleteParams {
                    propagation_policy: Some(PropagationPolicy::Foreground),
                    preconditions: Some(preconditions),
                    ..DeleteParams::default()
                };
                match api.delete(&key.name, &params).await {
                    Err(error) if code(&error) == 404 => {}
                    result => drop(result.doing("deleting a job past its time to live")?),
                }
                Ok(Next::OnEvent)
            }
            Some(left) => Ok(Next::After(left)),
        }
    }
}
