//! The loop of a pod's actor: hears a message, notes it, acts on what follows, publishes the status.
//!
//! The life of a pod follows upstream's `pod_workers.go` and `kubelet.go` (`SyncPod`, `SyncTerminatingPod`,
//! `SyncTerminatedPod`). Invariants: one status write is under way at most, and the latest status wins; the object
//! is deleted only after its last status has been written; jobs never outlive the actor.
//! What is done about containers, sandbox and volumes, the API, and questions is in files of their own.

mod answers;
mod containers;
mod report;
mod surroundings;

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container as Spec, Pod, PodSpec, PodStatus};
use k8s_openapi::jiff::{Timestamp, ToSpan};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::super::downward::Facts;
use super::super::events::Kind as EventKind;
use super::super::runtime::RuntimeError;
use super::super::volumes::keeper::Prepared;
use super::decide::{decide, spec_of};
use super::messages::{Live, Message, Wish};
use super::state::{Container, Kind, Waiting};
use super::{Context, field_path};

/// A container always gets this long to end by itself (`minimumGracePeriodInSeconds`).
const MINIMUM_GRACE: Duration = Duration::from_secs(2);
/// When the kubelet stops: the session is going, nothing in it will be missed.
const STOP_GRACE: Duration = Duration::from_millis(30);
/// What couldn't be made is tried again after this (upstream's `backOffPeriod`).
const TRY_AGAIN: Duration = Duration::from_secs(10);
/// The first wait before writing to the API again, doubled up to [`TRY_AGAIN`].
const FIRST_RETRY: Duration = Duration::from_millis(100);

/// Why a pod is going.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Why {
    /// `activeDeadlineSeconds` is over: it stays as Failed.
    Deadline,
    /// It has a deletion timestamp.
    Deleted,
    /// Its object is gone.
    Gone,
    /// The kubelet stops.
    Stop,
}

#[derive(Debug)]
enum Sandbox {
    Absent,
    Creating,
    Up,
    Removing,
    Gone,
}

struct Running {
    live: Live,
    /// Ends the run's probes.
    probes: CancellationToken,
    /// When SIGKILL comes, once it is being ended.
    deadline: Option<watch::Sender<Instant>>,
    /// What shows after its end, if it is ended for a reason of its own.
    after: Option<Waiting>,
}

/// A pod's actor.
pub struct Actor {
    context: Arc<Context>,
    wishes: watch::Receiver<Wish>,
    tell: mpsc::Sender<Message>,
    mailbox: mpsc::Receiver<Message>,
    jobs: JoinSet<()>,
    work: CancellationToken,
    pod: Arc<Pod>,
    versions: watch::Sender<Arc<Pod>>,
    directory: PathBuf,
    containers: Vec<Container>,
    running: Vec<Option<Running>>,
    sandbox: Sandbox,
    sandbox_retry: Option<(Instant, Duration)>,
    pod_ip: Option<Ipv4Addr>,
    volumes: Option<Arc<Prepared>>,
    start_time: Timestamp,
    ending: Option<Why>,
    terminal: bool,
    status: PodStatus,
    dirty: bool,
    writing: bool,
    write_retry: Option<Instant>,
    write_delay: Duration,
    deleting: bool,
    deleted: bool,
}

impl Actor {
    /// An actor for the pod in `wishes`, and the way to write to it.
    pub fn new(context: Arc<Context>, wishes: watch::Receiver<Wish>) -> (Self, mpsc::Sender<Message>) {
        let (tell, mailbox) = mpsc::channel(8);
        let pod = Arc::clone(&wishes.borrow().pod);
        let directory = context.state_dir.join("pods").join(pod.metadata.uid.as_deref().unwrap_or_default());
        let containers = pod.spec.as_ref().map(Container::all).unwrap_or_default();
        let status = pod.status.clone().unwrap_or_default();
        let terminal = matches!(status.phase.as_deref(), Some("Failed" | "Succeeded"));
        let start_time = status.start_time.as_ref().map_or_else(Timestamp::now, |time| time.0);
        let actor = Self {
            wishes,
            tell: tell.clone(),
            mailbox,
            jobs: JoinSet::new(),
            work: CancellationToken::new(),
            versions: watch::Sender::new(Arc::clone(&pod)),
            directory,
            running: containers.iter().map(|_| None).collect(),
            containers,
            sandbox: if terminal { Sandbox::Gone } else { Sandbox::Absent },
            sandbox_retry: None,
            pod_ip: None,
            volumes: None,
            start_time,
            ending: None,
            terminal,
            status,
            dirty: false,
            writing: false,
            write_retry: None,
            write_delay: FIRST_RETRY,
            deleting: false,
            deleted: false,
            pod,
            context,
        };
        (actor, tell)
    }

    /// Runs the pod until it is over.
    pub async fn run(mut self) {
        self.begin();
        self.heed_wish();
        loop {
            let wake = self.act();
            if self.is_over() {
                break;
            }
            tokio::select! {
                changed = self.wishes.changed() => {
                    if changed.is_err() {
                        self.end(Why::Stop, STOP_GRACE);
                    } else {
                        self.heed_wish();
                    }
                }
                Some(message) = self.mailbox.recv() => {
                    self.hear(message);
                    while let Ok(message) = self.mailbox.try_recv() {
                        self.hear(message);
                    }
                }
                Some(joined) = self.jobs.join_next(), if !self.jobs.is_empty() => {
                    if let Err(error) = joined
                        && error.is_panic()
                    {
                        tracing::error!(%error, pod = self.name(), "a pod's job panicked");
                    }
                    continue;
                }
                () = tokio::time::sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {}
            }
            self.publish();
        }
        self.jobs.shutdown().await;
    }

    fn spec(&self) -> &PodSpec {
        static EMPTY: std::sync::LazyLock<PodSpec> = std::sync::LazyLock::new(PodSpec::default);
        self.pod.spec.as_ref().unwrap_or(&EMPTY)
    }

    fn container_spec(&self, index: usize) -> Spec {
        spec_of(self.spec(), index).cloned().unwrap_or_default()
    }

    fn name(&self) -> &str {
        self.pod.metadata.name.as_deref().unwrap_or_default()
    }

    fn uid(&self) -> String {
        self.pod.metadata.uid.clone().unwrap_or_default()
    }

    fn event(&self, container: Option<&str>, kind: EventKind, reason: &'static str, message: impl Into<String>) {
        let field = container.map(|container| field_path(&self.pod, container));
        self.context.recorder.pod(&self.pod, field, kind, reason, message);
    }

    fn facts(&self) -> Facts {
        let host_ip = self.context.network.node_ip();
        Facts { pod_ip: self.pod_ip.unwrap_or(host_ip), host_ip, allocatable: self.context.allocatable }
    }

    fn heed_wish(&mut self) {
        let wish = self.wishes.borrow_and_update().clone();
        if !Arc::ptr_eq(&wish.pod, &self.pod) {
            self.pod = Arc::clone(&wish.pod);
            let metadata = |pod: &Pod| (pod.metadata.labels.clone(), pod.metadata.annotations.clone());
            if metadata(&self.versions.borrow()) != metadata(&self.pod) {
                self.versions.send_replace(Arc::clone(&self.pod));
            }
        }
        if wish.stop {
            self.end(Why::Stop, STOP_GRACE);
        } else if wish.gone {
            self.end(Why::Gone, MINIMUM_GRACE);
        } else if self.pod.metadata.deletion_timestamp.is_some() {
            self.end(Why::Deleted, self.grace(self.pod.metadata.deletion_grace_period_seconds));
        }
    }

    fn grace(&self, seconds: Option<i64>) -> Duration {
        let seconds = seconds.or(self.spec().termination_grace_period_seconds).unwrap_or(30);
        Duration::from_secs(u64::try_from(seconds).unwrap_or(0)).max(MINIMUM_GRACE)
    }

    /// Begins to end the pod, or ends it sooner than begun.
    fn end(&mut self, why: Why, grace: Duration) {
        self.ending = Some(self.ending.map_or(why, |known| known.max(why)));
        self.work.cancel();
        for index in 0..self.containers.len() {
            let last = self.containers[index].kind == Kind::Sidecar && why != Why::Stop;
            if !last || self.running[index].as_ref().is_some_and(|running| running.deadline.is_some()) {
                self.stop_container(index, grace, None, None);
            }
        }
    }

    fn hear(&mut self, message: Message) {
        match message {
            Message::Sandbox(Ok(sandbox)) => {
                self.sandbox = Sandbox::Up;
                self.sandbox_retry = None;
                self.pod_ip = Some(sandbox.ip);
            }
            Message::Sandbox(Err(error)) => {
                self.event(
                    None,
                    EventKind::Warning,
                    "FailedCreatePodSandBox",
                    format!("Failed to create pod sandbox: {error}"),
                );
                self.sandbox = Sandbox::Absent;
                let delay = self.sandbox_retry.map_or(Duration::from_secs(1), |(_, delay)| (delay * 2).min(TRY_AGAIN));
                self.sandbox_retry = Some((Instant::now() + delay, delay));
            }
            Message::Volumes(prepared) => self.volumes = Some(Arc::new(prepared)),
            Message::Stuck(index, waiting) => self.containers[index].waiting = Some(waiting),
            Message::Start(index, outcome) => self.started(index, outcome),
            Message::Hooked(index, result) => self.hooked(index, result),
            Message::Ended(index, end, words) => self.ended(index, &end, words),
            Message::Probe(index, id, kind, report) => {
                if self.containers[index].id.as_ref() == Some(&id) {
                    self.probed(index, kind, report);
                }
            }
            Message::StatusWritten(result) => {
                self.writing = false;
                match result {
                    Ok(()) => self.write_delay = FIRST_RETRY,
                    Err(error) if matches!(&*error, kube::Error::Api(status) if status.code == 404 || status.code == 409) =>
                    {
                        // It is gone or another of the same name: the watch says so.
                        tracing::debug!(%error, pod = self.name(), "a status had no pod to go to");
                    }
                    Err(error) => {
                        tracing::warn!(%error, pod = self.name(), "a status could not be written; trying again");
                        self.retry_write();
                        self.dirty = true;
                    }
                }
            }
            Message::SandboxRemoved(Ok(()) | Err(RuntimeError::NodeGone | RuntimeError::NotFound(_))) => {
                self.sandbox = Sandbox::Gone
            }
            Message::SandboxRemoved(Err(error)) => {
                self.event(None, EventKind::Warning, "FailedKillPod", format!("error killing pod: {error}"));
                self.sandbox = Sandbox::Up;
                self.sandbox_retry = Some((Instant::now() + Duration::from_secs(1), Duration::from_secs(1)));
            }
            Message::Deleted(Ok(())) => self.deleted = true,
            Message::Deleted(Err(error)) => {
                if matches!(&*error, kube::Error::Api(status) if status.code == 404 || status.code == 409) {
                    self.deleted = true;
                } else {
                    tracing::warn!(%error, pod = self.name(), "a pod could not be deleted; trying again");
                    self.deleting = false;
                    self.retry_write();
                }
            }
            Message::InputEnded(id) => {
                if let Some(running) = self.running.iter_mut().flatten().find(|running| running.live.id == id) {
                    running.live.stdin = None;
                }
            }
            Message::Find(container, reply) => {
                let _ = reply.send(self.find(&container));
            }
            Message::Log(container, previous, reply) => {
                let _ = reply.send(self.log(&container, previous));
            }
        }
    }

    /// Starts and ends what should be. When to look again.
    fn act(&mut self) -> Option<Instant> {
        let now = Instant::now();
        let mut wake: Option<Instant> = None;
        let mut wake_at = |at: Instant| wake = Some(wake.map_or(at, |known| known.min(at)));
        if self.ending.is_none()
            && !self.terminal
            && let Some(seconds) = self.spec().active_deadline_seconds
        {
            let left = Duration::try_from(
                self.start_time
                    .saturating_add(seconds.seconds())
                    .unwrap_or(Timestamp::MAX)
                    .duration_since(Timestamp::now()),
            );
            match left {
                Ok(left) if !left.is_zero() => wake_at(now + left),
                _ => {
                    self.event(None, EventKind::Normal, "DeadlineExceeded", DEADLINE);
                    self.end(Why::Deadline, self.grace(None));
                }
            }
        }
        if let (Sandbox::Absent, None, Some((at, _))) = (&self.sandbox, self.ending, self.sandbox_retry) {
            if at <= now { self.make_sandbox() } else { wake_at(at) }
        }
        let ready = matches!(self.sandbox, Sandbox::Up) && self.volumes.is_some();
        if (ready || self.ending.is_some()) && !self.terminal {
            let decision = decide(self.spec(), &self.containers, self.ending.is_some(), now);
            for (index, delay) in decision.backing_off {
                self.back_off(index, delay);
            }
            for index in decision.start {
                self.start(index, now);
            }
            for index in decision.stop {
                let grace = self.grace(self.pod.metadata.deletion_grace_period_seconds);
                self.stop_container(index, grace, None, None);
            }
            if decision.terminal {
                self.terminal = true;
                self.work.cancel();
            }
            if let Some(at) = decision.wake {
                wake_at(at);
            }
        }
        if self.terminal {
            match self.sandbox {
                Sandbox::Up => match self.sandbox_retry {
                    Some((at, _)) if at > now => wake_at(at),
                    _ => self.remove_sandbox(),
                },
                Sandbox::Absent => self.sandbox = Sandbox::Gone,
                Sandbox::Creating | Sandbox::Removing | Sandbox::Gone => {}
            }
        }
        if let Some(at) = self.write_retry {
            if at <= now {
                self.write_retry = None;
                self.write();
            } else {
                wake_at(at);
            }
        }
        if self.terminal && matches!(self.sandbox, Sandbox::Gone) && self.ending == Some(Why::Deleted) && !self.deleting
        {
            self.publish();
            if !self.dirty && !self.writing && self.write_retry.is_none() {
                self.delete();
            }
        }
        wake
    }

    fn is_over(&self) -> bool {
        let settled = self.terminal && matches!(self.sandbox, Sandbox::Gone);
        match self.ending {
            Some(Why::Gone | Why::Stop) => settled,
            Some(Why::Deleted) => settled && self.deleted,
            _ => false,
        }
    }
}

/// Upstream's words (`active_deadline.go`).
const DEADLINE: &str = "Pod was active on the node longer than the specified deadline";
