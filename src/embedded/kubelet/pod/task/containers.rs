//! Containers of the pod: started, probed, ended, each by a job that answers with a message.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ContainerStateTerminated;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::super::super::events::Kind as EventKind;
use super::super::super::logs;
use super::super::super::probe::check::{Site, Trouble};
use super::super::super::probe::{self, ProbeKind, Report};
use super::super::super::restart::go_seconds;
use super::super::super::runtime::ExitStatus;
use super::super::container::End;
use super::super::field_path;
use super::super::messages::{Message, StartOutcome};
use super::super::start::{Start, termination_file};
use super::super::state::{Run, Waiting};
use super::super::stop::{self, Stop};
use super::super::supervision::Supervision;
use super::super::words;
use super::{Actor, Running, STOP_GRACE, TRY_AGAIN, Why};

impl Actor {
    pub(super) fn start(&mut self, index: usize, now: Instant) {
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

    pub(super) fn started(&mut self, index: usize, outcome: StartOutcome) {
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
            // Nobody's failure: with the node every pod has ended, which is told elsewhere.
            StartOutcome::NodeGone => {
                container.run = if container.ended.is_some() { Run::Ended { at: now } } else { Run::Idle };
                container.hold = Some(now + TRY_AGAIN);
            }
            StartOutcome::Dropped => {
                container.run = if container.ended.is_some() { Run::Ended { at: now } } else { Run::Idle };
            }
        }
    }

    pub(super) fn hooked(&mut self, index: usize, result: Result<(), String>) {
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

    pub(super) fn look_after(&mut self, supervision: Supervision) {
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

    pub(super) fn ended(&mut self, index: usize, end: &End, words: Option<String>) {
        let running = self.running[index].take();
        let container = &mut self.containers[index];
        let since = match &container.run {
            Run::Running { since, .. } => Some(since.clone()),
            _ => None,
        };
        let exit_code = end.status.code();
        let ended = ContainerStateTerminated {
            exit_code,
            reason: Some(
                match end.status {
                    ExitStatus::OutOfMemory => "OOMKilled",
                    _ if exit_code == 0 => "Completed",
                    _ => "Error",
                }
                .to_owned(),
            ),
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

    /// Ends one container's run, or brings its deadline forward.
    pub(super) fn stop_container(
        &mut self,
        index: usize,
        grace: Duration,
        message: Option<String>,
        after: Option<Waiting>,
    ) {
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

    pub(super) fn back_off(&mut self, index: usize, delay: Duration) {
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

    pub(super) fn site(&self, index: usize) -> Site {
        Site {
            runtime: Arc::clone(&self.context.runtime),
            network: Arc::clone(&self.context.network),
            pod_ip: self.facts().pod_ip,
            container_id: self.containers[index].id.clone().unwrap_or_default(),
        }
    }

    pub(super) fn probe(&mut self, index: usize, kind: ProbeKind) {
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

    pub(super) fn probed(&mut self, index: usize, kind: ProbeKind, report: Report) {
        let spec = self.container_spec(index);
        let container = &mut self.containers[index];
        let Run::Running { stopping, .. } = container.run else { return };
        let name = container.name.clone();
        match report {
            // As upstream: quiet while it is being ended.
            Report::Trouble(_) if stopping => {}
            Report::Trouble(trouble) => {
                let said = match trouble {
                    Trouble::Failed(words) => format!("failed: {words}"),
                    Trouble::Errored(words) => format!("errored and resulted in unknown state: {words}"),
                };
                let message = format!("{} probe {said}", kind.word());
                self.event(Some(&name), EventKind::Warning, "Unhealthy", message);
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
}
