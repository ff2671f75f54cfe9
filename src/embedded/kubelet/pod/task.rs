//! The loop of a pod's actor: hears a message, notes it, acts on what follows, publishes the status.
//!
//! The life of a pod follows upstream's `pod_workers.go` and `kubelet.go` (`SyncPod`, `SyncTerminatingPod`,
//! `SyncTerminatedPod`). Invariants: one status write is under way at most, and the latest status wins; the object
//! is deleted only after its last status has been written; jobs never outlive the actor.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container as Spec, ContainerStateTerminated, Pod, PodSpec, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{Timestamp, ToSpan};
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use serde_json::json;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::super::downward::Facts;
use super::super::events::Kind as EventKind;
use super::super::logs;
use super::super::probe::{self, ProbeKind, Report, check::Site};
use super::super::resolv;
use super::super::restart::go_seconds;
use super::super::runtime::{RuntimeError, SandboxConfig};
use super::super::status::{self, Observed};
use super::super::volumes::keeper::{Keeper, Prepared};
use super::container::End;
use super::decide::{decide, spec_of};
use super::messages::{Found, Handle, Live, LogRefusal, Message, StartOutcome, Wish};
use super::start::{Start, Supervision, termination_file};
use super::state::{Container, Kind, Run, Waiting};
use super::stop::{self, Stop};
use super::words;
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

    /// Sandbox and volumes at once.
    fn begin(&mut self) {
        if self.terminal || self.pod.metadata.deletion_timestamp.is_some() {
            return;
        }
        let ignored = words::not_enforced(self.spec());
        if !ignored.is_empty() {
            self.event(
                None,
                EventKind::Warning,
                "NotEnforced",
                format!("this node accepts but doesn't enforce: {}", ignored.join(", ")),
            );
        }
        self.make_sandbox();
        let keeper = Keeper {
            client: self.context.client.clone(),
            objects: Arc::clone(&self.context.objects),
            recorder: self.context.recorder.clone(),
            pod: self.versions.subscribe(),
            directory: self.directory.clone(),
            facts: self.facts(),
        };
        if self.spec().volumes.as_ref().is_none_or(Vec::is_empty) {
            self.volumes = Some(Arc::default());
            return;
        }
        let (tell, work) = (self.tell.clone(), self.work.clone());
        self.jobs.spawn(async move {
            let (ready, prepared) = oneshot::channel();
            let told = async {
                if let Ok(prepared) = prepared.await {
                    let _ = tell.send(Message::Volumes(prepared)).await;
                }
            };
            // Content is kept current until the pod's containers have ended.
            tokio::select! {
                _ = async { tokio::join!(keeper.keep(ready), told) } => {}
                () = work.cancelled() => {}
            }
        });
    }

    fn make_sandbox(&mut self) {
        self.sandbox = Sandbox::Creating;
        let spec = self.spec();
        let config = SandboxConfig {
            pod_uid: self.uid(),
            pod_name: format!("{}/{}", self.pod.metadata.namespace.as_deref().unwrap_or_default(), self.name()),
            hostname: resolv::hostname(&self.pod),
            host_network: spec.host_network.unwrap_or(false),
            resolv_conf: resolv::resolv_conf(&self.pod, &self.context.cluster_domain, self.context.dns_ip),
            extra_hosts: spec
                .host_aliases
                .iter()
                .flatten()
                .map(|alias| (alias.ip.clone(), alias.hostnames.clone().unwrap_or_default()))
                .collect(),
            sysctls: spec
                .security_context
                .as_ref()
                .and_then(|context| context.sysctls.as_ref())
                .into_iter()
                .flatten()
                .map(|sysctl| (sysctl.name.clone(), sysctl.value.clone()))
                .collect(),
        };
        let (context, tell) = (Arc::clone(&self.context), self.tell.clone());
        self.jobs.spawn(async move {
            let _ = tell.send(Message::Sandbox(context.runtime.run_pod_sandbox(config).await)).await;
        });
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

    /// Ends one container's run, or brings its deadline forward.
    fn stop_container(&mut self, index: usize, grace: Duration, message: Option<String>, after: Option<Waiting>) {
        let deadline = Instant::now() + grace;
        let spec = self.container_spec(index);
        let facts = self.facts();
        let container = &mut self.containers[index];
        let Some(running) = &mut self.running[index] else { return };
        if let Some(known) = &running.deadline {
            known.send_if_modified(|known| std::mem::replace(known, deadline.min(*known)) > deadline);
            return;
        }
        if let Run::Running { stopping, .. } = &mut container.run {
            *stopping = true;
        }
        let (send, receive) = watch::channel(deadline);
        running.deadline = Some(send);
        running.after = after;
        let stop = Stop {
            site: Site {
                runtime: Arc::clone(&self.context.runtime),
                network: Arc::clone(&self.context.network),
                pod_ip: facts.pod_ip,
                container_id: running.live.id.clone(),
            },
            spec,
            with_hook: self.ending != Some(Why::Stop),
            signals: running.live.signals.clone(),
            exit: running.live.exit.clone(),
            deadline: receive,
        };
        let name = container.name.clone();
        if self.ending != Some(Why::Stop) {
            self.event(
                Some(&name),
                EventKind::Normal,
                "Killing",
                message.unwrap_or_else(|| format!("Stopping container {name}")),
            );
        }
        let (recorder, pod) = (self.context.recorder.clone(), Arc::clone(&self.pod));
        self.jobs.spawn(async move {
            if let Err(error) = stop.stop().await {
                tracing::debug!(error, container = name, "a preStop hook failed");
                recorder.pod(
                    &pod,
                    Some(field_path(&pod, &name)),
                    EventKind::Warning,
                    "FailedPreStopHook",
                    "PreStopHook failed",
                );
            }
        });
    }

    fn look_after(&mut self, supervision: Supervision) {
        let index = supervision.index();
        let (id, run) = (supervision.id().to_owned(), supervision.run());
        let spec = self.container_spec(index);
        let file = termination_file(&self.directory, &spec.name, &id);
        let log = logs::run_file(&logs::pod_directory(&self.context.state_dir, &self.pod), &spec.name, run);
        let fall_back = spec.termination_message_policy.as_deref() == Some("FallbackToLogsOnError");
        let tell = self.tell.clone();
        supervision
            .spawn(&mut self.jobs, tell, move |end| words::last_words(&file, &log, fall_back, end.status.code() != 0));
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
            Message::Find(container, reply) => {
                let _ = reply.send(self.find(&container));
            }
            Message::Log(container, previous, reply) => {
                let _ = reply.send(self.log(&container, previous));
            }
        }
    }

    fn started(&mut self, index: usize, outcome: StartOutcome) {
        let now = Instant::now();
        let spec = self.container_spec(index);
        let container = &mut self.containers[index];
        match outcome {
            StartOutcome::Started(started) => {
                let (live, supervision) = *started;
                let post_start = spec.lifecycle.as_ref().and_then(|lifecycle| lifecycle.post_start.clone());
                container.id = Some(live.id.clone());
                container.runs += 1;
                container.waiting = None;
                container.started = false;
                container.ready = false;
                container.run = Run::Running { since: Time(Timestamp::now()), hooked: false, stopping: false };
                self.running[index] =
                    Some(Running { live, probes: CancellationToken::new(), deadline: None, after: None });
                self.look_after(supervision);
                if self.ending.is_some() {
                    let grace = if self.ending == Some(Why::Stop) {
                        STOP_GRACE
                    } else {
                        self.grace(self.pod.metadata.deletion_grace_period_seconds)
                    };
                    self.stop_container(index, grace, None, None);
                    return;
                }
                let Some(handler) = post_start else { return self.hooked(index, Ok(())) };
                let (site, tell) = (self.site(index), self.tell.clone());
                self.jobs.spawn(async move {
                    let result = stop::hook(&site, &spec, &handler).await;
                    let _ = tell.send(Message::Hooked(index, result)).await;
                });
            }
            StartOutcome::NotRun { id, why } => {
                container.runs += 1;
                container.id = Some(id.clone());
                let ended = ContainerStateTerminated {
                    exit_code: 128,
                    reason: Some("StartError".to_owned()),
                    message: Some(why.clone()),
                    started_at: Some(Time(Timestamp::UNIX_EPOCH)),
                    finished_at: Some(Time(Timestamp::now())),
                    container_id: Some(format!("envctl://{id}")),
                    signal: None,
                };
                container.end(ended, now);
                container.waiting = Some(Waiting { reason: "RunContainerError", message: why });
            }
            StartOutcome::NotMade(waiting) => {
                container.run = if container.ended.is_some() { Run::Ended { at: now } } else { Run::Idle };
                container.hold = Some(now + TRY_AGAIN);
                container.waiting = Some(waiting);
            }
            StartOutcome::Dropped => {
                container.run = if container.ended.is_some() { Run::Ended { at: now } } else { Run::Idle };
            }
        }
    }

    fn hooked(&mut self, index: usize, result: Result<(), String>) {
        let spec = self.container_spec(index);
        let container = &mut self.containers[index];
        let Run::Running { hooked, .. } = &mut container.run else { return };
        if let Err(message) = result {
            let name = container.name.clone();
            let waiting = Waiting { reason: "PostStartHookError", message };
            container.waiting = Some(waiting.clone());
            self.event(Some(&name), EventKind::Warning, "FailedPostStartHook", "PostStartHook failed");
            let grace = self.grace(None);
            return self.stop_container(index, grace, Some("FailedPostStartHook".to_owned()), Some(waiting));
        }
        *hooked = true;
        container.started = spec.startup_probe.is_none();
        container.ready = container.started && spec.readiness_probe.is_none();
        if container.started {
            self.probe(index, ProbeKind::Readiness);
            self.probe(index, ProbeKind::Liveness);
        } else {
            self.probe(index, ProbeKind::Startup);
        }
    }

    fn site(&self, index: usize) -> Site {
        Site {
            runtime: Arc::clone(&self.context.runtime),
            network: Arc::clone(&self.context.network),
            pod_ip: self.facts().pod_ip,
            container_id: self.containers[index].id.clone().unwrap_or_default(),
        }
    }

    fn probe(&mut self, index: usize, kind: ProbeKind) {
        let spec = self.container_spec(index);
        let Some(running) = &self.running[index] else { return };
        if kind.of(&spec).is_none() {
            return;
        }
        let (site, tell, id, stop) =
            (self.site(index), self.tell.clone(), running.live.id.clone(), running.probes.clone());
        self.jobs.spawn(async move {
            let report = |report| {
                let (tell, id) = (tell.clone(), id.clone());
                async move { tell.send(Message::Probe(index, id, kind, report)).await.is_ok() }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = probe::run(kind, site, spec, report) => {}
            }
        });
    }

    fn probed(&mut self, index: usize, kind: ProbeKind, report: Report) {
        let spec = self.container_spec(index);
        let container = &mut self.containers[index];
        let Run::Running { stopping, .. } = container.run else { return };
        let name = container.name.clone();
        match report {
            // As upstream: quiet while it is being ended.
            Report::Failed(_) if stopping => {}
            Report::Failed(words) => {
                self.event(
                    Some(&name),
                    EventKind::Warning,
                    "Unhealthy",
                    format!("{} probe failed: {words}", kind.word()),
                );
            }
            Report::Settled(ready) if kind == ProbeKind::Readiness => container.ready = ready,
            Report::Settled(true) if kind == ProbeKind::Startup => {
                container.started = true;
                container.ready = spec.readiness_probe.is_none();
                self.probe(index, ProbeKind::Readiness);
                self.probe(index, ProbeKind::Liveness);
            }
            Report::Settled(true) => {}
            Report::Settled(false) if stopping => {}
            Report::Settled(false) => {
                let own = kind.of(&spec).and_then(|probe| probe.termination_grace_period_seconds);
                let grace = self.grace(own);
                let message =
                    format!("Container {name} failed {} probe, will be restarted", kind.word().to_lowercase());
                self.stop_container(index, grace, Some(message), None);
            }
        }
    }

    fn ended(&mut self, index: usize, end: &End, words: Option<String>) {
        let running = self.running[index].take();
        let container = &mut self.containers[index];
        let since = match &container.run {
            Run::Running { since, .. } => Some(since.clone()),
            _ => None,
        };
        let exit_code = end.status.code();
        let ended = ContainerStateTerminated {
            exit_code,
            reason: Some(if exit_code == 0 { "Completed" } else { "Error" }.to_owned()),
            message: words,
            started_at: since,
            finished_at: Some(Time(end.at)),
            container_id: container.id.as_ref().map(|id| format!("envctl://{id}")),
            signal: None,
        };
        container.end(ended, Instant::now());
        let name = container.name.clone();
        if let Some(running) = running {
            running.probes.cancel();
            container.waiting = running.after;
        }
        if let Some(error) = &end.log_error {
            self.event(
                Some(&name),
                EventKind::Warning,
                "FailedLog",
                format!("the container's log is incomplete: {error}"),
            );
        }
    }

    fn find(&self, name: &str) -> Found {
        let Some(index) = self.containers.iter().position(|container| container.name == name) else {
            return Found::NoSuchContainer;
        };
        match &self.running[index] {
            Some(Running { live, .. }) => Found::Running(Handle {
                id: live.id.clone(),
                attach: live.attach.clone(),
                stdin: live.stdin.clone(),
                terminal: live.terminal.clone(),
                exit: live.exit.clone(),
            }),
            None => Found::NotRunning,
        }
    }

    fn log(&self, name: &str, previous: bool) -> Result<logs::reader::Target, LogRefusal> {
        let (container_name, pod) = (name.to_owned(), self.name().to_owned());
        let Some(index) = self.containers.iter().position(|container| container.name == name) else {
            return Err(LogRefusal::NoSuchContainer { container: container_name, pod });
        };
        let container = &self.containers[index];
        let directory = logs::pod_directory(&self.context.state_dir, &self.pod);
        // While nothing runs after an end, the last run is the current one, as upstream has it.
        let current = container.runs.checked_sub(1);
        match (previous, current) {
            (false, Some(run)) => Ok(logs::reader::Target {
                path: logs::run_file(&directory, name, run),
                progress: self.running[index].as_ref().and_then(|running| running.live.log.clone()),
            }),
            (false, None) => {
                let status =
                    container.status(self.spec(), &self.container_spec(index), self.spec().init_containers.is_some());
                let reason =
                    status.state.and_then(|state| state.waiting).and_then(|waiting| waiting.reason).unwrap_or_default();
                Err(LogRefusal::Waiting { container: container_name, pod, reason })
            }
            (true, Some(run)) if container.is_running() && run > 0 => {
                Ok(logs::reader::Target { path: logs::run_file(&directory, name, run - 1), progress: None })
            }
            (true, Some(run))
                if !container.is_running()
                    && matches!(container.run, Run::Ended { .. } | Run::Starting)
                    && container.ended.is_some() =>
            {
                Ok(logs::reader::Target { path: logs::run_file(&directory, name, run), progress: None })
            }
            _ => Err(LogRefusal::NoPrevious { container: container_name, pod }),
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

    fn back_off(&mut self, index: usize, delay: Duration) {
        let id =
            format!("{}_{}({})", self.name(), self.pod.metadata.namespace.as_deref().unwrap_or_default(), self.uid());
        let container = &mut self.containers[index];
        if container.waiting.as_ref().is_some_and(|waiting| waiting.reason == "CrashLoopBackOff") {
            return;
        }
        let name = container.name.clone();
        let message = format!("back-off {} restarting failed container={name} pod={id}", go_seconds(delay));
        container.waiting = Some(Waiting { reason: "CrashLoopBackOff", message });
        self.event(
            Some(&name),
            EventKind::Warning,
            "BackOff",
            format!("Back-off restarting failed container {name} in pod {id}"),
        );
    }

    fn start(&mut self, index: usize, now: Instant) {
        let Some(volumes) = self.volumes.clone() else { return };
        let container = &mut self.containers[index];
        if let Run::Ended { at } = container.run {
            container.backoff.next(at, now);
        }
        container.run = Run::Starting;
        container.hold = None;
        let run = container.runs;
        let start = Start {
            context: Arc::clone(&self.context),
            pod: Arc::clone(&self.pod),
            index,
            spec: self.container_spec(index),
            run,
            volumes,
            facts: self.facts(),
            directory: self.directory.clone(),
            work: self.work.clone(),
            tell: self.tell.clone(),
        };
        let tell = self.tell.clone();
        self.jobs.spawn(async move {
            let outcome = start.start().await;
            let _ = tell.send(Message::Start(index, outcome)).await;
        });
    }

    fn remove_sandbox(&mut self) {
        self.sandbox = Sandbox::Removing;
        let (context, tell, uid, directory) =
            (Arc::clone(&self.context), self.tell.clone(), self.uid(), self.directory.clone());
        let keep_files = self.ending == Some(Why::Stop);
        let log = logs::pod_directory(&self.context.state_dir, &self.pod);
        let keep_log = self.ending.is_none() || self.ending == Some(Why::Deadline);
        self.jobs.spawn(async move {
            let result = context.runtime.remove_pod_sandbox(&uid).await;
            // At the session's end the whole state directory goes at once.
            if result.is_ok() && !keep_files {
                let _ = tokio::task::spawn_blocking(move || {
                    remove(&directory);
                    if !keep_log {
                        remove(&log);
                    }
                })
                .await;
            }
            let _ = tell.send(Message::SandboxRemoved(result)).await;
        });
    }

    fn observed(&self) -> Observed {
        let initializing = self.spec().init_containers.as_ref().is_some_and(|list| !list.is_empty());
        let mut init = Vec::new();
        let mut regular = Vec::new();
        for (index, container) in self.containers.iter().enumerate() {
            let Some(spec) = spec_of(self.spec(), index) else { continue };
            let status = container.status(self.spec(), spec, initializing);
            if container.kind == Kind::Regular { regular.push(status) } else { init.push(status) }
        }
        Observed {
            init,
            regular,
            sandbox: matches!(self.sandbox, Sandbox::Up),
            pod_ip: self.pod_ip.map(|ip| ip.to_string()),
            host_ip: self.context.network.node_ip().to_string(),
            start_time: Time(self.start_time),
            terminal: self.terminal,
            has_initialized: self
                .containers
                .iter()
                .any(|container| container.kind == Kind::Regular && container.runs > 0),
            failed: (self.ending == Some(Why::Deadline)).then_some(("DeadlineExceeded", DEADLINE)),
        }
    }

    /// Makes the status and writes it, if it is another than the last.
    fn publish(&mut self) {
        if matches!(self.ending, Some(Why::Gone | Why::Stop)) || self.deleting {
            return;
        }
        let started =
            !matches!(self.sandbox, Sandbox::Gone) || self.status.container_statuses.is_some() || self.ending.is_some();
        if !started {
            return;
        }
        let status = status::generate(&self.pod, &self.status, &self.observed(), Time(Timestamp::now()));
        if status != self.status {
            self.status = status;
            self.dirty = true;
        }
        if self.dirty && self.write_retry.is_none() {
            self.write();
        }
    }

    fn retry_write(&mut self) {
        self.write_retry = Some(Instant::now() + self.write_delay);
        self.write_delay = (self.write_delay * 2).min(TRY_AGAIN);
    }

    fn write(&mut self) {
        if self.writing || !self.dirty {
            return;
        }
        self.writing = true;
        self.dirty = false;
        let mut status = serde_json::to_value(&self.status).unwrap_or_default();
        for field in ["reason", "message"] {
            if status.get(field).is_none() {
                status[field] = serde_json::Value::Null;
            }
        }
        let patch = json!({"metadata": {"uid": self.uid()}, "status": status});
        let api: Api<Pod> =
            Api::namespaced(self.context.client.clone(), self.pod.metadata.namespace.as_deref().unwrap_or_default());
        let (name, tell) = (self.name().to_owned(), self.tell.clone());
        self.jobs.spawn(async move {
            let result = api.patch_status(&name, &PatchParams::default(), &Patch::Strategic(patch)).await;
            let _ = tell.send(Message::StatusWritten(result.map(drop).map_err(Box::new))).await;
        });
    }

    fn delete(&mut self) {
        self.deleting = true;
        let api: Api<Pod> =
            Api::namespaced(self.context.client.clone(), self.pod.metadata.namespace.as_deref().unwrap_or_default());
        let parameters = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(Preconditions { uid: Some(self.uid()), resource_version: None }),
            ..DeleteParams::default()
        };
        let (name, tell) = (self.name().to_owned(), self.tell.clone());
        self.jobs.spawn(async move {
            let result = api.delete(&name, &parameters).await;
            let _ = tell.send(Message::Deleted(result.map(drop).map_err(Box::new))).await;
        });
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

fn remove(directory: &std::path::Path) {
    if let Err(error) = std::fs::remove_dir_all(directory)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(%error, directory = %directory.display(), "a pod's files could not be removed");
    }
}
