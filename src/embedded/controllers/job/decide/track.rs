//! Counting the pods that have finished, each once, and with the last of them the job's own end.

use std::collections::HashSet;

use k8s_openapi::api::batch::v1::JobCondition;

use super::super::super::shared::events::Note;
use super::super::super::shared::meta::{self, nonzero};
use super::super::indexes;
use super::super::policy::{self, Verdict};
use super::super::status::{self, COMPLETE, FAILED, FAILURE_TARGET, SUCCESS_CRITERIA_MET};
use super::{MOST, Sync, is_tracked};

impl Sync<'_> {
    /// Counts finished pods (`trackJobStatusAndRemoveFinalizers`).
    pub(super) fn track(&mut self, mut changed: bool) {
        let mut tracked: HashSet<String> = self
            .observed
            .pods
            .iter()
            .filter(|pod| is_tracked(pod))
            .map(|pod| meta::uid(&pod.metadata).to_owned())
            .collect();
        // Pods that are being deleted uncounted lose their finalizer before the status is written.
        for (pod, strip) in &self.decision.delete {
            if *strip {
                tracked.remove(meta::uid(&pod.metadata));
            }
        }
        changed |= status::settle(&mut self.status, &tracked);
        changed |= self.count_finished(&tracked);
        if let Some(completions) = self.completions_if_indexed() {
            let text = Some(self.done.to_string()).filter(|text| !text.is_empty());
            changed |= text != self.status.completed_indexes || completions < 0;
            self.status.succeeded = nonzero(self.done.count());
            self.status.completed_indexes = text;
        }
        if let Some(target) = self.finished.take_if(|condition| condition.type_ == FAILURE_TARGET) {
            let failed = status::renamed(&target, FAILED);
            self.status.conditions.get_or_insert_default().push(target);
            self.finished = Some(failed);
            changed = true;
        }
        if let Some(met) = self.finished.take_if(|condition| condition.type_ == SUCCESS_CRITERIA_MET) {
            if status::find(&self.status, SUCCESS_CRITERIA_MET).is_none() {
                self.status.conditions.get_or_insert_default().push(met.clone());
                changed = true;
            }
            self.finished = Some(JobCondition {
                last_transition_time: Some(meta::seconds(self.observed.now)),
                last_probe_time: Some(meta::seconds(self.observed.now)),
                ..status::renamed(&met, COMPLETE)
            });
        }
        self.decision.counted = changed.then(|| Box::new(self.status.clone()));
        for pod in &self.decision.strip {
            tracked.remove(meta::uid(pod));
        }
        let settled = status::settle(&mut self.status, &tracked);
        if self.finish() || settled {
            self.decision.settled = Some(Box::new(self.status.clone()));
        }
    }

    fn count_finished(&mut self, tracked: &HashSet<String>) -> bool {
        let mut changed = false;
        let job = self.observed.job;
        let is_success = self.finished.as_ref().is_some_and(|condition| condition.type_ == SUCCESS_CRITERIA_MET);
        for pod in self.observed.pods.iter().filter(|pod| tracked.contains(meta::uid(&pod.metadata))) {
            let uid = meta::uid(&pod.metadata).to_owned();
            let failed = self.has_failed(pod);
            let ending = job.metadata.deletion_timestamp.is_some() || self.finished.is_some();
            if !(ending || pod.phase() == "Succeeded" || failed) {
                continue;
            }
            self.decision.strip.push(pod.metadata.clone());
            let index = self.completions_if_indexed().map(|completions| indexes::of_pod(pod, completions));
            let uncounted = self.status.uncounted_terminated_pods.get_or_insert_default();
            if pod.phase() == "Succeeded" && !self.uncounted.1.contains(&uid) {
                match index {
                    Some(index) => changed |= index.is_some_and(|index| !self.done_before.contains(index)),
                    None if !self.uncounted.0.contains(&uid) => {
                        uncounted.succeeded.get_or_insert_default().push(uid);
                        changed = true;
                    }
                    None => {}
                }
            } else if failed || (self.finished.is_some() && !is_success) {
                let counts = policy::judge(job, pod) != Verdict::Ignore && index != Some(None);
                if counts && !self.uncounted.1.contains(&uid) {
                    uncounted.failed.get_or_insert_default().push(uid);
                    changed = true;
                }
            }
            if self.decision.strip.len() >= MOST {
                break;
            }
        }
        changed
    }

    /// `enactJobFinished`: only when every pod is counted and gone or done. True if the job ended.
    fn finish(&mut self) -> bool {
        let Some(finished) = self.finished.take() else { return false };
        if !status::all_counted(&self.status) || self.terminating > 0 || self.decision.strip.len() >= MOST {
            return false;
        }
        let note = if finished.type_ == COMPLETE {
            self.status.completion_time = finished.last_transition_time.clone();
            Note::normal("Completed", "Job completed".to_owned())
        } else {
            let reason = status::known_reason(finished.reason.as_deref().unwrap_or_default());
            Note::warning(reason, finished.message.clone().unwrap_or_default())
        };
        self.decision.notes.push(note);
        self.status.conditions.get_or_insert_default().push(finished);
        self.decision.again = None;
        true
    }
}
