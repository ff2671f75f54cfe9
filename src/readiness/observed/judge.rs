//! What is wrong with an object that isn't ready, by its pods and events; if nothing is, what it waits for.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Event, Pod};
use serde_json::Value;

use super::super::pods::{self, Ended};
use super::super::status;
use super::super::{Finding, Limits, Patience, Role, Verdict};
use super::{Expected, ObjectKey, Observed, one_line};
use crate::cluster::refusal::Refusal;
use crate::provision::failure::Cause;

/// How long after a job's end its pod's may be seen.
const PODS_END: Duration = Duration::from_secs(1);

impl Observed {
    pub(super) fn pod_verdict(&self, key: &ObjectKey, expected: &Expected, role: Role, limits: &Limits) -> Verdict {
        let Some(pod) =
            self.pods.get(&key.name).filter(|pod| pod.metadata.uid.as_deref() == Some(expected.uid.as_str()))
        else {
            return Verdict::Waiting("applied".to_owned());
        };
        if let Some(finding) = self.finding(pod, role, limits) {
            return Verdict::Failing(Box::new(finding));
        }
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default();
        match (phase, role) {
            ("Succeeded", _) => Verdict::Ready,
            ("Failed", _) => Verdict::Failing(Box::new(Finding {
                cause: Cause::CrashLoop { restarts: 0, code: exit_code(pod).unwrap_or(1) },
                message: format!("the pod failed: {}", pods::progress(pod)),
                hint: None,
                patience: Patience::None,
                pod: pod.metadata.name.clone(),
            })),
            _ if pods::is_ready(pod) => Verdict::Ready,
            _ => Verdict::Waiting(self.detail(pod)),
        }
    }

    pub(super) fn failed(
        &self,
        key: &ObjectKey,
        object: &Value,
        reason: String,
        message: &str,
        limits: &Limits,
    ) -> Finding {
        // One that is being deleted was ended from outside: how it ends explains nothing.
        let mut pods = self.current_pods(object).filter(|pod| pod.metadata.deletion_timestamp.is_none());
        let worst = pods.find(|pod| exit_code(pod).is_some_and(|code| code != 0));
        // Whether the job's end or its pod's is seen first, a program that could not be started is the cause.
        let cause = worst.filter(|_| key.kind == "Job").and_then(|pod| self.finding(pod, Role::Complete, limits));
        if let Some(finding) = cause {
            return finding;
        }
        let code = worst.and_then(exit_code);
        let pod = worst.and_then(|pod| pod.metadata.name.clone());
        let finding = |cause, message| Finding { cause, message, hint: None, patience: Patience::None, pod };
        match key.kind.as_str() {
            "Job" => {
                let ended = worst.map(|pod| format!("; its last pod {}", pods::progress(pod))).unwrap_or_default();
                let cause = Cause::JobFailed { job_reason: reason.clone(), code };
                // Each kind has a watch of its own: the end of its pod, which says why, may be seen a moment later.
                let patience = if code.is_none() { Patience::For(PODS_END) } else { Patience::None };
                Finding { patience, ..finding(cause, format!("{reason}: {message}{ended}")) }
            }
            "Deployment" => finding(Cause::ProgressDeadlineExceeded, message.to_owned()),
            _ => finding(Cause::NeverReady, format!("{key} has given up ({reason}): {message}")),
        }
    }

    pub(super) fn in_progress(&self, object: &Value, role: Role, limits: &Limits, detail: String) -> Verdict {
        let observed = object["status"]["observedGeneration"].as_i64();
        if object["kind"] == "Deployment" && observed < object["metadata"]["generation"].as_i64() {
            return Verdict::Waiting(detail);
        }
        let mut findings: Vec<Finding> =
            self.current_pods(object).filter_map(|pod| self.finding(pod, role, limits)).collect();
        findings.extend(self.creation_refused(object, limits));
        // What waiting cannot help says more than what may pass.
        findings.sort_by_key(|finding| match finding.patience {
            Patience::None => 0,
            Patience::UntilGraphSettles { .. } => 1,
            Patience::For(_) => 2,
        });
        if let Some(finding) = findings.into_iter().next() {
            return Verdict::Failing(Box::new(finding));
        }
        let pod = self.current_pods(object).find(|pod| !pods::is_ready(pod));
        let said = pod.map(|pod| self.detail(pod)).filter(|said| !said.is_empty());
        Verdict::Waiting(match said {
            Some(said) if detail == "running" => said,
            Some(said) => format!("{detail}: {said}"),
            None => detail,
        })
    }

    /// What a pod is doing, and what its probe said last.
    fn detail(&self, pod: &Pod) -> String {
        let progress = pods::progress(pod);
        let probe = self.events_of(pod).rfind(|event| event.reason.as_deref() == Some("Unhealthy"));
        match probe.and_then(|event| event.message.as_deref()) {
            Some(message) if progress.starts_with("running") => one_line(message),
            _ => progress,
        }
    }

    /// How a pod of the object ended that was restarted and now looks fine.
    pub fn crashed(&self, object: &Value) -> Option<Finding> {
        self.current_pods(object).find_map(|pod| pods::crashed(pod, self.ended_by(pod)))
    }

    fn finding(&self, pod: &Pod, role: Role, limits: &Limits) -> Option<Finding> {
        let found = pods::finding(pod, role, limits, self.ended_by(pod));
        found.or_else(|| self.full_disk(pod)).or_else(|| self.unmountable(pod))
    }

    fn ended_by(&self, pod: &Pod) -> Ended {
        let by_probe = |event: &Event| {
            event.reason.as_deref() == Some("Killing")
                && event.message.as_deref().is_some_and(|message| message.contains("probe"))
        };
        if self.events_of(pod).any(by_probe) { Ended::ByProbe } else { Ended::ByItself }
    }

    /// The node's disk is full: it goes on trying, but only the user can help.
    fn full_disk(&self, pod: &Pod) -> Option<Finding> {
        if pods::is_started(pod) {
            return None;
        }
        let full = |event: &&Event| {
            event.message.as_deref().is_some_and(|message| message.contains("No space left on device"))
        };
        let event = self.events_of(pod).rfind(full)?;
        Some(Finding {
            cause: Cause::StateUnwritable,
            message: one_line(event.message.as_deref()?),
            hint: Some("free some space, or set ENVCTL_STATE_DIR to a directory on another disk".to_owned()),
            patience: Patience::None,
            pod: pod.metadata.name.clone(),
        })
    }

    /// A volume whose ConfigMap or Secret doesn't exist: only an event says so, the pod stays `ContainerCreating`.
    fn unmountable(&self, pod: &Pod) -> Option<Finding> {
        if pods::is_started(pod) {
            return None;
        }
        let event = self.events_of(pod).rfind(|event| event.reason.as_deref() == Some("FailedMount"))?;
        let message = event.message.as_deref()?;
        // The cluster's own: a controller makes it in each new namespace, maybe a moment after the first pod.
        let is_made = message.contains("configmap \"kube-root-ca.crt\" not found");
        (message.contains("not found") && !is_made).then(|| Finding {
            cause: Cause::MissingConfig,
            message: format!("a volume cannot be mounted: {}", one_line(message)),
            hint: None,
            patience: Patience::UntilGraphSettles { backs_off: true },
            pod: pod.metadata.name.clone(),
        })
    }

    /// The API refused the pods themselves: quota, policy, a service account that isn't there (yet).
    fn creation_refused(&self, object: &Value, limits: &Limits) -> Option<Finding> {
        let owner = match object["kind"].as_str() {
            Some("Deployment") => self.newest_replica_set(object)?,
            _ => object,
        };
        // With pods that are there, an event may be an old one; the condition is taken back when they can be created.
        let condition = status::condition(owner, "ReplicaFailure").filter(|failure| failure.status == "True");
        let by_event = || {
            let none_yet = self.current_pods(object).next().is_none();
            let events = self.events.get(owner["metadata"]["uid"].as_str().filter(|_| none_yet)?)?;
            events.iter().rfind(|event| event.reason.as_deref() == Some("FailedCreate"))?.message.clone()
        };
        let message = condition.map(|failure| failure.message.to_owned()).or_else(by_event)?;
        let refusal = Refusal::by_words(&message);
        let patience = match refusal {
            // Room may be made, a policy or a right be given a moment later; a namespace doesn't come back.
            Refusal::Policy { .. } | Refusal::QuotaUnspecified { .. } | Refusal::NamespaceLost { .. } => Patience::None,
            _ => Patience::For(limits.settling),
        };
        Some(Finding {
            cause: Cause::of_refusal(&refusal).unwrap_or(Cause::Forbidden { denied: None }),
            message: format!("its pods cannot be created: {}", one_line(&message)),
            hint: refusal.hint(),
            patience,
            pod: None,
        })
    }
}

/// The last exit code of the pod's first container that ended.
fn exit_code(pod: &Pod) -> Option<i32> {
    pods::loudest_container(pod).and_then(|status| {
        let states = [&status.state, &status.last_state];
        states.into_iter().flatten().find_map(|state| state.terminated.as_ref().map(|ended| ended.exit_code))
    })
}
