//! What a pod's actor knows of its containers, and how that reads in the API. Plain data.
//!
//! Follows upstream's `convertToAPIContainerStatuses` (`pkg/kubelet/kubelet_pods.go`) and
//! `prober_manager.go` (`UpdatePodStatus`).

use k8s_openapi::api::core::v1::{
    Container as Spec, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
    ContainerStatus, PodSpec, VolumeMountStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use tokio::time::Instant;

use super::super::restart::{Backoff, should_restart};
use super::super::status::is_sidecar;

/// How a container takes part in its pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Runs to its end before the next.
    Init,
    /// Starts in order and keeps running.
    Sidecar,
    /// One of `spec.containers`.
    Regular,
}

/// A reason with its words, as in `state.waiting`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// `ErrImagePull`, `CrashLoopBackOff`, …
    pub reason: &'static str,
    /// For people.
    pub message: String,
}

/// A container's run.
#[derive(Debug, Clone, PartialEq)]
pub enum Run {
    /// Never started, or not since its last end.
    Idle,
    /// Its start is under way.
    Starting,
    /// Its program runs.
    Running {
        /// Since when.
        since: Time,
        /// Its postStart hook is done; before, it shows as waiting.
        hooked: bool,
        /// It is being ended.
        stopping: bool,
    },
    /// It has ended and not been started again.
    Ended {
        /// When, on the monotonic clock.
        at: Instant,
    },
}

/// One container of the pod.
#[derive(Debug, Clone)]
pub struct Container {
    /// As in the spec.
    pub name: String,
    /// How it takes part.
    pub kind: Kind,
    /// What it is doing.
    pub run: Run,
    /// The id of the current or last run.
    pub id: Option<String>,
    /// How the last finished run ended.
    pub ended: Option<ContainerStateTerminated>,
    /// How the one before ended.
    pub before: Option<ContainerStateTerminated>,
    /// Runs so far, the current one included.
    pub runs: u32,
    /// Its readiness probe says so, or it has none.
    pub ready: bool,
    /// Its startup probe says so, or it has none.
    pub started: bool,
    /// Between runs.
    pub backoff: Backoff,
    /// Why it isn't running.
    pub waiting: Option<Waiting>,
    /// Nothing is started before.
    pub hold: Option<Instant>,
}

impl Container {
    fn new(spec: &Spec, kind: Kind) -> Self {
        Self {
            name: spec.name.clone(),
            kind,
            run: Run::Idle,
            id: None,
            ended: None,
            before: None,
            runs: 0,
            ready: false,
            started: false,
            backoff: Backoff::default(),
            waiting: None,
            hold: None,
        }
    }

    /// All containers of a pod: init containers and sidecars in order, then the regular ones.
    pub fn all(spec: &PodSpec) -> Vec<Self> {
        let init = spec.init_containers.iter().flatten();
        init.map(|spec| Self::new(spec, if is_sidecar(spec) { Kind::Sidecar } else { Kind::Init }))
            .chain(spec.containers.iter().map(|spec| Self::new(spec, Kind::Regular)))
            .collect()
    }

    /// Whether a program of it runs.
    pub fn is_running(&self) -> bool {
        matches!(self.run, Run::Running { .. })
    }

    /// Takes note of an end.
    pub fn end(&mut self, terminated: ContainerStateTerminated, at: Instant) {
        self.before = self.ended.replace(terminated);
        self.run = Run::Ended { at };
        self.ready = false;
        self.started = false;
    }

    /// Its status in the API. `initializing`: the pod has init containers, which changes the words of waiting.
    pub fn status(&self, pod: &PodSpec, spec: &Spec, initializing: bool) -> ContainerStatus {
        let terminated = |ended: &Option<ContainerStateTerminated>| {
            ended.clone().map(|ended| ContainerState { terminated: Some(ended), ..ContainerState::default() })
        };
        let waiting = |reason: &str, message: Option<String>| ContainerState {
            waiting: Some(ContainerStateWaiting { reason: Some(reason.to_owned()), message }),
            ..ContainerState::default()
        };
        let waiting_now = || match &self.waiting {
            Some(why) => waiting(why.reason, Some(why.message.clone()).filter(|message| !message.is_empty())),
            None => waiting(if initializing { "PodInitializing" } else { "ContainerCreating" }, None),
        };
        let restarts = self.ended.as_ref().is_some_and(|ended| {
            let again = self.kind != Kind::Init || ended.exit_code != 0;
            again && should_restart(pod, spec, ended.exit_code)
        });
        let (state, last) = match &self.run {
            Run::Running { since, hooked: true, .. } => {
                let running = ContainerState {
                    running: Some(ContainerStateRunning { started_at: Some(since.clone()) }),
                    ..ContainerState::default()
                };
                (running, terminated(&self.ended))
            }
            Run::Running { .. } => (waiting_now(), terminated(&self.ended)),
            Run::Idle => (waiting_now(), None),
            Run::Starting | Run::Ended { .. } => match (terminated(&self.ended), &self.waiting) {
                (Some(ended), None) => (ended, terminated(&self.before)),
                // It will not start again: what it waited for no longer matters.
                (Some(ended), Some(_)) if !restarts => (ended, terminated(&self.before)),
                (ended, _) => (waiting_now(), ended),
            },
        };
        let image = spec.image.clone().unwrap_or_default();
        let init_done = self.kind == Kind::Init && self.ended.as_ref().is_some_and(|ended| ended.exit_code == 0);
        ContainerStatus {
            name: self.name.clone(),
            image_id: if self.id.is_some() { format!("envctl://{image}") } else { String::new() },
            image,
            container_id: self.id.as_ref().map(|id| format!("envctl://{id}")),
            restart_count: i32::try_from(self.runs.saturating_sub(1)).unwrap_or(i32::MAX),
            ready: init_done || self.ready && self.started && matches!(self.run, Run::Running { hooked: true, .. }),
            started: Some(self.started && matches!(self.run, Run::Running { hooked: true, .. })),
            state: Some(state),
            last_state: Some(last.unwrap_or_default()),
            volume_mounts: spec.volume_mounts.as_ref().map(|mounts| {
                let status = mounts.iter().map(|mount| VolumeMountStatus {
                    name: mount.name.clone(),
                    mount_path: mount.mount_path.clone(),
                    read_only: mount.read_only,
                    recursive_read_only: mount.read_only.filter(|read_only| *read_only).map(|_| "Disabled".to_owned()),
                    ..VolumeMountStatus::default()
                });
                status.collect()
            }),
            ..ContainerStatus::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(policy: &str) -> PodSpec {
        serde_json::from_value(json!({"restartPolicy": policy, "containers": [{"name": "c", "image": "i"}]})).unwrap()
    }

    fn ended(exit_code: i32) -> ContainerStateTerminated {
        ContainerStateTerminated { exit_code, ..ContainerStateTerminated::default() }
    }

    #[test]
    fn a_life_as_the_api_shows_it() {
        let pod = pod("Always");
        let spec = &pod.containers[0];
        let mut container = Container::all(&pod).remove(0);
        let reason =
            |status: &ContainerStatus| status.state.clone().unwrap().waiting.and_then(|waiting| waiting.reason);
        assert_eq!(reason(&container.status(&pod, spec, false)).as_deref(), Some("ContainerCreating"));
        assert_eq!(reason(&container.status(&pod, spec, true)).as_deref(), Some("PodInitializing"));

        container.waiting = Some(Waiting { reason: "ErrImagePull", message: "no".to_owned() });
        assert_eq!(reason(&container.status(&pod, spec, true)).as_deref(), Some("ErrImagePull"));

        container.waiting = None;
        container.runs = 1;
        container.id = Some("x".to_owned());
        container.run =
            Run::Running { since: Time(k8s_openapi::jiff::Timestamp::UNIX_EPOCH), hooked: true, stopping: false };
        (container.ready, container.started) = (true, true);
        let status = container.status(&pod, spec, false);
        assert!(status.ready && status.started == Some(true) && status.state.unwrap().running.is_some());
        assert_eq!(status.restart_count, 0);

        container.end(ended(1), Instant::now());
        let status = container.status(&pod, spec, false);
        assert!(!status.ready);
        assert_eq!(status.state.unwrap().terminated.unwrap().exit_code, 1);
        assert!(status.last_state.unwrap().terminated.is_none());

        container.waiting = Some(Waiting { reason: "CrashLoopBackOff", message: String::new() });
        let status = container.status(&pod, spec, false);
        assert_eq!(reason(&status).as_deref(), Some("CrashLoopBackOff"));
        assert_eq!(status.last_state.unwrap().terminated.unwrap().exit_code, 1);
        let never = self::pod("Never");
        assert!(container.status(&never, spec, false).state.unwrap().terminated.is_some(), "it will not start again");
    }
}
