//! Jobs: pods that must succeed so many times, and jobs' removal some time after their end.
//!
//! Ports `pkg/controller/job` and `pkg/controller/ttlafterfinished`. [`decide`](decide()) says everything; this file claims pods and acts.

pub mod backoff;
pub mod decide;
pub mod indexes;
pub mod policy;
pub mod status;
pub mod ttl;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobStatus};
use k8s_openapi::api::core::v1::{EnvVar, EnvVarSource, ObjectFieldSelector, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};

use self::backoff::Backoff;
use self::decide::{Decision, FINALIZER, Observed, decide, is_finished, is_tracked};
use super::shared::cache::Key;
use super::shared::caches::Caches;
use super::shared::events::{Note, Recorder};
use super::shared::meta::{self, Claim};
use super::shared::pods;
use super::shared::queue::Queue;
use super::shared::requests::create_raw;
use super::shared::view::{COMPLETION_INDEX, Pod};
use super::shared::worker::{Doing, Next, SyncError, Syncer, code, words};
use super::shared::written::Written;

const JOB_NAME: &str = "batch.kubernetes.io/job-name";

/// The controller; its queue holds jobs' keys.
pub struct Jobs {
    client: Client,
    caches: Caches,
    events: Recorder,
    written: Written,
    backoffs: Mutex<HashMap<Key, (String, Backoff)>>,
}

impl Jobs {
    /// Registers what enqueues a job.
    pub fn new(client: Client, caches: Caches, events: Recorder, queue: &Arc<Queue<Key>>) -> Self {
        let on = queue.clone();
        caches.jobs.on_change(move |change| {
            if let Some(job) = change.states().last() {
                on.add(Key::of(&job.metadata));
            }
        });
        let on = queue.clone();
        caches.pods.on_change(move |change| {
            for pod in change.states() {
                let namespace = meta::namespace(&pod.metadata);
                match meta::controller_of(&pod.metadata) {
                    Some(owner) if owner.kind == "Job" => on.add(Key::new(namespace, &owner.name)),
                    Some(_) => {}
                    // Orphaned with its finalizer, or up for adoption.
                    None => {
                        if let Some(job) = pod.metadata.labels.as_ref().and_then(|labels| labels.get(JOB_NAME)) {
                            on.add(Key::new(namespace, job));
                        }
                    }
                }
            }
        });
        Self { client, caches, events, written: Written::default(), backoffs: Mutex::default() }
    }

    fn pods(&self, namespace: &str) -> Api<Pod> {
        Api::namespaced(self.client.clone(), namespace)
    }

    async fn claim(&self, job: &Job) -> Result<Vec<Arc<Pod>>, SyncError> {
        let spec = job.spec.as_ref();
        let selector = meta::selector(&spec.and_then(|spec| spec.selector.clone()).unwrap_or_default())?;
        if selector.selects_all() {
            return Ok(self.caches.pods.controlled_by(meta::uid(&job.metadata)));
        }
        let namespace = meta::namespace(&job.metadata);
        let mut ours = Vec::new();
        for pod in self.caches.pods.in_namespace(namespace) {
            let name = meta::name(&pod.metadata);
            match meta::claim(&job.metadata, &selector, &pod.metadata) {
                Claim::Keep => ours.push(pod),
                Claim::Ignore => {}
                Claim::Adopt => {
                    let mut patch = meta::adoption(job, &pod.metadata);
                    patch["metadata"]["finalizers"] = serde_json::json!([FINALIZER]);
                    let adopted =
                        self.pods(namespace).patch(name, &PatchParams::default(), &Patch::Strategic(patch)).await;
                    ours.push(Arc::new(adopted.doing("adopting a pod")?));
                }
                Claim::Release => {
                    let mut patch = meta::release(&job.metadata, &pod.metadata);
                    patch["metadata"]["$deleteFromPrimitiveList/finalizers"] = serde_json::json!([FINALIZER]);
                    match self.pods(namespace).patch(name, &PatchParams::default(), &Patch::Strategic(patch)).await {
                        Err(error) if !matches!(code(&error), 404 | 422) => return Err(error).doing("releasing a pod"),
                        _ => {}
                    }
                }
            }
        }
        Ok(ours)
    }

    /// Lets pods go that nobody will count: of a job that is gone, finished or another of that name.
    async fn free_orphans(&self, key: &Key, job: Option<&Job>) -> Result<(), SyncError> {
        let keeps = job.filter(|job| !is_finished(job)).map(|job| meta::uid(&job.metadata));
        let orphans = self.caches.pods.in_namespace(&key.namespace).into_iter().filter(|pod| {
            let named = match meta::controller_of(&pod.metadata) {
                Some(owner) => owner.kind == "Job" && owner.name == *key.name && Some(owner.uid.as_str()) != keeps,
                None => {
                    let label = pod.metadata.labels.as_ref().and_then(|labels| labels.get(JOB_NAME));
                    keeps.is_none() && label.is_some_and(|name| **name == *key.name)
                }
            };
            named && is_tracked(pod)
        });
        let all = orphans.map(|pod| async move { self.strip(key, &pod.metadata).await });
        join_all(all).await.into_iter().collect::<Result<(), _>>().doing("freeing orphaned pods")
    }

    async fn strip(&self, key: &Key, pod: &ObjectMeta) -> Result<(), kube::Error> {
        if !pod.finalizers.iter().flatten().any(|finalizer| finalizer == FINALIZER) {
            return Ok(());
        }
        let patch = serde_json::json!({
            "metadata": { "uid": meta::uid(pod), "$deleteFromPrimitiveList/finalizers": [FINALIZER] }
        });
        let api = self.pods(meta::namespace(pod));
        match api.patch(meta::name(pod), &PatchParams::default(), &Patch::Strategic(patch)).await {
            Ok(pod) => self.written.updated(key, self.caches.pods.clone(), &pod.metadata),
            Err(error) if matches!(code(&error), 404 | 422) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    async fn delete(&self, key: &Key, job: &Job, decision: &Decision) -> Result<(), kube::Error> {
        let all = decision.delete.iter().map(|(pod, strip)| async move {
            if *strip {
                self.strip(key, &pod.metadata).await?;
            }
            pods::delete(&self.client, &pod.metadata).await?;
            self.written.deleted(key, self.caches.pods.clone(), &pod.metadata);
            let message = format!("Deleted pod: {}", meta::name(&pod.metadata));
            self.events.note(job, Note::normal("SuccessfulDelete", message));
            Ok(())
        });
        join_all(all).await.into_iter().collect()
    }

    /// Creates in growing batches; how many were not created, and why.
    async fn create(&self, key: &Key, job: &Job, indexes: &[Option<i32>]) -> (usize, Option<kube::Error>) {
        let Some(spec) = &job.spec else { return (0, None) };
        let (mut done, mut batch) = (0, 1);
        while done < indexes.len() {
            batch = batch.min(indexes.len() - done);
            let one = |index: &Option<i32>| {
                let body = pod_of(job, &spec.template, *index);
                async move {
                    let body = serde_json::to_vec(&body).map_err(kube::Error::SerdeError)?;
                    create_raw::<Pod>(&self.client, &key.namespace, body).await
                }
            };
            let results = join_all(indexes[done..done + batch].iter().map(one)).await;
            done += batch;
            batch *= 2;
            let mut failure = (0, None);
            for result in results {
                match result {
                    Ok(pod) => {
                        self.written.created(key, self.caches.pods.clone(), &pod.metadata);
                        let message = format!("Created pod: {}", meta::name(&pod.metadata));
                        self.events.note(job, Note::normal("SuccessfulCreate", message));
                    }
                    Err(error) => failure = (failure.0 + 1, Some(error)),
                }
            }
            if let (failed, Some(error)) = failure {
                self.events.note(job, Note::warning("FailedCreate", format!("Error creating: {}", words(&error))));
                return (failed + indexes.len() - done, Some(error));
            }
        }
        (0, None)
    }

    /// Writes a status over the job as last written.
    async fn write(&self, key: &Key, latest: &mut Job, status: JobStatus) -> Result<(), SyncError> {
        latest.status = Some(status);
        let api: Api<Job> = Api::namespaced(self.client.clone(), &key.namespace);
        *latest =
            api.replace_status(&key.name, &PostParams::default(), latest).await.doing("updating the job's status")?;
        self.written.updated(key, self.caches.jobs.clone(), &latest.metadata);
        Ok(())
    }

    fn backoff(&self, key: &Key, job: &Job) -> Backoff {
        let backoffs = self.backoffs.lock().unwrap_or_else(PoisonError::into_inner);
        let of = backoffs.get(key).filter(|(uid, _)| Some(uid) == job.metadata.uid.as_ref());
        of.map(|(_, backoff)| backoff.clone()).unwrap_or_default()
    }

    fn remember(&self, key: &Key, job: Option<(&Job, Backoff)>) {
        let mut backoffs = self.backoffs.lock().unwrap_or_else(PoisonError::into_inner);
        match job {
            Some((job, backoff)) if backoff != Backoff::default() => {
                backoffs.insert(key.clone(), (meta::uid(&job.metadata).to_owned(), backoff));
            }
            _ => drop(backoffs.remove(key)),
        }
    }

    async fn act(&self, key: &Key, job: &Job, mut decision: Decision) -> Result<Next, SyncError> {
        self.delete(key, job, &decision).await.doing("deleting pods")?;
        let (missing, failure) = self.create(key, job, &decision.create).await;
        for status in [&mut decision.counted, &mut decision.settled].into_iter().flatten() {
            let active = status.active.unwrap_or(0) - i32::try_from(missing).unwrap_or(0);
            status.active = meta::nonzero(active.max(0));
        }
        let mut latest = job.clone();
        if let Some(status) = decision.counted.take() {
            self.write(key, &mut latest, *status).await?;
            self.remember(key, Some((job, decision.backoff.clone())));
        }
        let stripped = join_all(decision.strip.iter().map(|pod| self.strip(key, pod))).await;
        stripped.into_iter().collect::<Result<(), _>>().doing("removing pods' tracking finalizers")?;
        if let Some(status) = decision.settled.take() {
            self.write(key, &mut latest, *status).await?;
        }
        decision.notes.into_iter().for_each(|note| self.events.note(job, note));
        match failure {
            Some(error) => Err(error).doing("creating pods"),
            None => Ok(Next::after(decision.again)),
        }
    }
}

/// The pod of a job, with its index told in every way that upstream tells it.
fn pod_of(job: &Job, template: &PodTemplateSpec, index: Option<i32>) -> k8s_openapi::api::core::v1::Pod {
    let name = meta::name(&job.metadata);
    let prefix = index.map_or_else(|| name.to_owned(), |index| format!("{name}-{index}"));
    let mut pod = pods::from_template(template, &prefix, meta::controller_ref(job));
    let finalizers = pod.metadata.finalizers.get_or_insert_default();
    if !finalizers.iter().any(|finalizer| finalizer == FINALIZER) {
        finalizers.push(FINALIZER.to_owned());
    }
    let (Some(index), Some(spec)) = (index, &mut pod.spec) else { return pod };
    pod.metadata.annotations.get_or_insert_default().insert(COMPLETION_INDEX.to_owned(), index.to_string());
    pod.metadata.labels.get_or_insert_default().insert(COMPLETION_INDEX.to_owned(), index.to_string());
    spec.hostname = Some(prefix);
    for container in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
        let env = container.env.get_or_insert_default();
        if env.iter().any(|variable| variable.name == "JOB_COMPLETION_INDEX") {
            continue;
        }
        let field_path = format!("metadata.labels['{COMPLETION_INDEX}']");
        env.push(EnvVar {
            name: "JOB_COMPLETION_INDEX".to_owned(),
            value: None,
            value_from: Some(EnvVarSource {
                field_ref: Some(ObjectFieldSelector { api_version: None, field_path }),
                ..EnvVarSource::default()
            }),
        });
    }
    pod
}

impl Syncer for Jobs {
    type Key = Key;

    async fn sync(&self, key: &Key) -> Result<Next, SyncError> {
        if !self.written.caught_up(key) {
            return Ok(Next::OnEvent);
        }
        let job = self.caches.jobs.get(key);
        self.free_orphans(key, job.as_deref()).await?;
        let Some(job) = job.filter(|job| !is_finished(job)) else {
            self.remember(key, None);
            return Ok(Next::OnEvent);
        };
        let managed_by = job.spec.as_ref().and_then(|spec| spec.managed_by.as_deref());
        if managed_by.is_some_and(|by| by != "kubernetes.io/job-controller") {
            return Ok(Next::OnEvent);
        }
        let pods = self.claim(&job).await?;
        let backoff = self.backoff(key, &job);
        let decision = decide(&Observed { job: &job, pods: &pods, backoff: &backoff, now: Timestamp::now() });
        self.act(key, &job, decision).await
    }
}
