//! What to do about a job: `syncJob` of `pkg/controller/job/job_controller.go` as one pure function.
//!
//! A finished pod is counted in three steps, so that it is counted once whatever fails in between: its uid enters
//! `uncountedTerminatedPods` (first status), its finalizer goes, its uid leaves again and the counter rises (second status).
//! Left out: `backoffLimitPerIndex` (an Event says so), pod groups, and `managedBy` other controllers' jobs.

mod track;

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobCondition, JobSpec, JobStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::super::shared::events::Note;
use super::super::shared::meta::{self, nonzero};
use super::super::shared::pods::{deletion_order, wait_until};
use super::super::shared::view::Pod;
use super::backoff::Backoff;
use super::indexes::{self, Indexes};
use super::policy::{self, Verdict};
use super::status::{self, COMPLETE, FAILED, FAILURE_TARGET, SUCCESS_CRITERIA_MET};

/// The finalizer that keeps a pod until it is counted.
pub const FINALIZER: &str = "batch.kubernetes.io/job-tracking";
/// Upstream's `MaxPodCreateDeletePerSync`.
const MOST: usize = 500;

/// What the caches show.
pub struct Observed<'a> {
    /// The job.
    pub job: &'a Job,
    /// The pods it controls.
    pub pods: &'a [Arc<Pod>],
    /// Its failures so far.
    pub backoff: &'a Backoff,
    /// The time.
    pub now: Timestamp,
}

/// What to do, in the order of the fields.
#[derive(Debug, Default)]
pub struct Decision {
    /// Pods to delete; `true` strips the finalizer first, because they aren't to be counted.
    pub delete: Vec<(Arc<Pod>, bool)>,
    /// Pods to create, with their index if the job is Indexed.
    pub create: Vec<Option<i32>>,
    /// The first status to write.
    pub counted: Option<Box<JobStatus>>,
    /// The failures to remember once that is written.
    pub backoff: Backoff,
    /// Pods whose finalizer goes then.
    pub strip: Vec<ObjectMeta>,
    /// The second status to write.
    pub settled: Option<Box<JobStatus>>,
    /// Events, recorded at the end.
    pub notes: Vec<Note>,
    /// When to look again without an event.
    pub again: Option<Duration>,
}

/// Whether a pod carries the finalizer.
pub fn is_tracked(pod: &Pod) -> bool {
    pod.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == FINALIZER)
}

/// Whether it has a Complete or Failed condition.
pub fn is_finished(job: &Job) -> bool {
    let conditions = job.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|c| matches!(c.type_.as_str(), COMPLETE | FAILED) && c.status == "True")
}

struct Sync<'a> {
    observed: &'a Observed<'a>,
    spec: JobSpec,
    status: JobStatus,
    uncounted: (HashSet<String>, HashSet<String>),
    active: Vec<&'a Arc<Pod>>,
    active_count: i32,
    ready: i32,
    terminating: i32,
    succeeded: i32,
    done_before: Indexes,
    done: Indexes,
    finished: Option<JobCondition>,
    decision: Decision,
}

/// Decides.
pub fn decide(observed: &Observed<'_>) -> Decision {
    let Some(spec) = observed.job.spec.clone() else { return Decision::default() };
    if is_finished(observed.job) {
        return Decision { backoff: observed.backoff.clone(), ..Decision::default() };
    }
    let mut status = observed.job.status.clone().unwrap_or_default();
    let uncounted = status.uncounted_terminated_pods.get_or_insert_default();
    let set = |uids: &Option<Vec<String>>| uids.iter().flatten().cloned().collect::<HashSet<_>>();
    let uncounted = (set(&uncounted.succeeded), set(&uncounted.failed));
    let active: Vec<&Arc<Pod>> = observed.pods.iter().filter(|pod| pod.is_active()).collect();
    let mut sync = Sync {
        active_count: count(active.len()),
        ready: count(active.iter().filter(|pod| pod.is_ready()).count()),
        terminating: count(observed.pods.iter().filter(|pod| pod.is_terminating()).count()),
        succeeded: 0,
        done_before: Indexes::default(),
        done: Indexes::default(),
        finished: None,
        decision: Decision::default(),
        observed,
        spec,
        status,
        uncounted,
        active,
    };
    sync.run();
    sync.decision
}

fn count(of: usize) -> i32 {
    i32::try_from(of).unwrap_or(i32::MAX)
}

impl<'a> Sync<'a> {
    fn run(&mut self) {
        let before = self.status.clone();
        self.judge();
        self.manage();
        let suspension = self.finished.is_none() && self.complete_or_suspend();
        let changed = suspension
            || self.status.start_time != before.start_time
            || before.active.unwrap_or(0) != self.active_count
            || before.ready != Some(self.ready)
            || before.terminating != Some(self.terminating);
        self.status.active = nonzero(self.active_count);
        self.status.ready = Some(self.ready);
        self.status.terminating = Some(self.terminating);
        self.track(changed);
    }

    fn suspended(&self) -> bool {
        self.spec.suspend == Some(true)
    }

    /// Set for Indexed jobs.
    fn completions_if_indexed(&self) -> Option<i32> {
        (self.spec.completion_mode.as_deref() == Some("Indexed")).then(|| self.spec.completions.unwrap_or(0))
    }

    fn only_replaces_failed(&self) -> bool {
        self.spec.pod_replacement_policy.as_deref() == Some("Failed") || self.spec.pod_failure_policy.is_some()
    }

    /// `isPodFailed`: a pod that is going will never get to say that it failed.
    fn has_failed(&self, pod: &Pod) -> bool {
        pod.phase() == "Failed" || (!self.only_replaces_failed() && pod.is_going() && pod.phase() != "Succeeded")
    }

    /// Everything up to `manageJob`: counts, start time, and whether the job has reached its end.
    fn judge(&mut self) {
        let observed = self.observed;
        let new = |of: &HashSet<String>, pod: &Pod| is_tracked(pod) && !of.contains(meta::uid(&pod.metadata));
        let pods = || observed.pods.iter().map(|pod| &**pod);
        let succeeded: Vec<&Pod> = pods().filter(|p| new(&self.uncounted.0, p) && p.phase() == "Succeeded").collect();
        let failed: Vec<&Pod> = pods().filter(|p| new(&self.uncounted.1, p) && self.has_failed(p)).collect();
        let counting = failed.iter().filter(|pod| policy::judge(observed.job, pod) != Verdict::Ignore).count();
        let so_far =
            |counted: Option<i32>, new: usize, uncounted: usize| counted.unwrap_or(0) + count(new) + count(uncounted);
        self.succeeded = so_far(self.status.succeeded, succeeded.len(), self.uncounted.0.len());
        let failures = so_far(self.status.failed, counting, self.uncounted.1.len());
        self.decision.backoff = observed.backoff.after(&succeeded, &failed);
        if self.status.start_time.is_none() && !self.suspended() {
            self.status.start_time = Some(meta::seconds(observed.now));
        }
        self.finished = self.end(failures);
        if let Some(completions) = self.completions_if_indexed() {
            self.done_before =
                Indexes::parse(self.status.completed_indexes.as_deref().unwrap_or_default(), completions);
            self.done = self.done_before.clone();
            for pod in pods().filter(|pod| pod.phase() == "Succeeded" && is_tracked(pod)) {
                if let Some(index) = indexes::of_pod(pod, completions) {
                    self.done.insert(index);
                }
            }
            self.succeeded = self.done.count();
            if self.finished.is_none() {
                let policy = self.spec.success_policy.as_ref();
                self.finished = indexes::success_policy_met(policy, completions, &self.done)
                    .map(|message| status::condition(observed.now, SUCCESS_CRITERIA_MET, "SuccessPolicy", message));
            }
        }
    }

    /// What earlier syncs decided, then failures, in upstream's order.
    fn end(&mut self, failures: i32) -> Option<JobCondition> {
        let observed = self.observed;
        if let Some(met) = status::find(&self.status, SUCCESS_CRITERIA_MET) {
            return Some(met.clone());
        }
        if let Some(target) = status::find(&self.status, FAILURE_TARGET) {
            let (reason, message) = (target.reason.clone(), target.message.clone());
            return Some(status::condition(
                observed.now,
                FAILED,
                &reason.unwrap_or_default(),
                message.unwrap_or_default(),
            ));
        }
        let fail = |reason: &str, message: &str| {
            Some(status::condition(observed.now, FAILURE_TARGET, reason, message.to_owned()))
        };
        for pod in observed.pods.iter().filter(|pod| self.has_failed(pod)) {
            if let Verdict::FailJob(message) = policy::judge(observed.job, pod) {
                return fail("PodFailurePolicy", &message);
            }
        }
        let limit = self.spec.backoff_limit.unwrap_or(6);
        if failures > limit || self.restarts_exceed(limit) {
            return fail("BackoffLimitExceeded", "Job has reached the specified backoff limit");
        }
        if let (Some(seconds), Some(start), false) =
            (self.spec.active_deadline_seconds, &self.status.start_time, self.suspended())
        {
            let left = wait_until(start, seconds, observed.now);
            if left.is_zero() {
                return fail("DeadlineExceeded", "Job was active longer than specified deadline");
            }
            self.again(left);
        }
        None
    }

    /// `pastBackoffLimitOnFailure`: with OnFailure, restarts of containers count.
    fn restarts_exceed(&self, limit: i32) -> bool {
        let policy = self.spec.template.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref());
        if policy != Some("OnFailure") {
            return false;
        }
        let running = self.observed.pods.iter().filter(|pod| matches!(pod.phase(), "Running" | "Pending"));
        let statuses =
            running.flat_map(|pod| pod.status.container_statuses.iter().chain(&pod.status.init_container_statuses));
        let restarts: i32 = statuses.map(|status| status.restart_count).sum();
        if limit == 0 { restarts > 0 } else { restarts >= limit }
    }

    fn again(&mut self, after: Duration) {
        self.decision.again = Some(self.decision.again.map_or(after, |before| before.min(after)));
    }

    /// Deletes and creates pods (`deleteActivePods`, `manageJob`).
    fn manage(&mut self) {
        if self.finished.is_some() {
            // These are counted as failed, so they keep their finalizer until then.
            let doomed = self.active.clone();
            self.delete(doomed, false);
            return;
        }
        if self.observed.job.metadata.deletion_timestamp.is_some() {
            return;
        }
        let parallelism = self.spec.parallelism.unwrap_or(1);
        let wanted = match self.spec.completions {
            _ if self.suspended() => 0,
            None if self.succeeded > 0 => self.active_count,
            None => parallelism,
            Some(completions) => (completions - self.succeeded).min(parallelism).max(0),
        };
        let doomed = self.excess(usize::try_from(self.active_count - wanted).unwrap_or(0));
        if !doomed.is_empty() || self.suspended() {
            self.delete(doomed, true);
            return;
        }
        let terminating = if self.only_replaces_failed() { self.terminating } else { 0 };
        let missing = usize::try_from(wanted - terminating - self.active_count).unwrap_or(0).min(MOST);
        if missing == 0 {
            return;
        }
        let wait = self.decision.backoff.remaining(self.observed.now);
        if !wait.is_zero() {
            self.active_count = 0;
            self.again(wait);
            return;
        }
        self.decision.create = match self.completions_if_indexed() {
            None => vec![None; missing],
            Some(completions) => {
                let busy = self
                    .observed
                    .pods
                    .iter()
                    .filter(|pod| pod.is_active() || (self.only_replaces_failed() && pod.is_terminating()));
                let busy: BTreeSet<i32> = busy.filter_map(|pod| indexes::of_pod(pod, completions)).collect();
                self.done.first_missing(&busy, completions, missing).into_iter().map(Some).collect()
            }
        };
        self.active_count += count(self.decision.create.len());
        if self.spec.backoff_limit_per_index.is_some() {
            let message = "spec.backoffLimitPerIndex is not enforced by this cluster".to_owned();
            self.decision.notes.push(Note::warning("NotEnforced", message));
        }
    }

    /// `activePodsForRemoval`: second pods of one index first, then those whose loss costs least.
    fn excess(&self, at_least: usize) -> Vec<&'a Arc<Pod>> {
        let mut left = self.active.clone();
        left.sort_by(|a, b| deletion_order((a, 0), (b, 0), self.observed.now));
        let mut doomed = Vec::new();
        if let Some(completions) = self.completions_if_indexed() {
            let mut taken = BTreeSet::new();
            let mut kept = Vec::new();
            // The best pod of each index, at the end of the order, stays.
            for pod in left.into_iter().rev() {
                match indexes::of_pod(pod, completions) {
                    Some(index) if taken.insert(index) => kept.push(pod),
                    _ => doomed.push(pod),
                }
            }
            kept.reverse();
            left = kept;
        }
        let more = at_least.saturating_sub(doomed.len());
        doomed.extend(left.into_iter().take(more));
        doomed.truncate(MOST);
        doomed
    }

    fn delete(&mut self, doomed: Vec<&'a Arc<Pod>>, strip: bool) {
        self.active_count -= count(doomed.len());
        self.terminating += count(doomed.len());
        self.ready -= count(doomed.iter().filter(|pod| pod.is_ready()).count());
        let doomed: Vec<_> = doomed.into_iter().map(|pod| (pod.clone(), strip)).collect();
        self.decision.delete = doomed;
    }

    /// The end by success, or the Suspended condition. True if the latter changed.
    fn complete_or_suspend(&mut self) -> bool {
        let now = self.observed.now;
        let enough = self.spec.completions.map_or(self.succeeded > 0, |completions| self.succeeded >= completions);
        if enough && self.active_count == 0 {
            let message = "Reached expected number of succeeded pods".to_owned();
            self.finished = Some(status::condition(now, SUCCESS_CRITERIA_MET, "CompletionsReached", message));
            return false;
        }
        if self.observed.job.metadata.deletion_timestamp.is_some() {
            return false;
        }
        let suspended = self.suspended();
        let changed = status::suspend(&mut self.status, now, suspended);
        if changed && suspended {
            self.status.start_time = None;
            self.decision.notes.push(Note::normal("Suspended", "Job suspended".to_owned()));
        } else if changed {
            self.status.start_time = Some(meta::seconds(now));
            self.decision.notes.push(Note::normal("Resumed", "Job resumed".to_owned()));
        }
        changed
    }
}
