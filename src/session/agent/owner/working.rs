//! An `up` at work: begun, what it reports, and what its end means for the session.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::super::connection::Caller;
use super::super::memory;
use super::super::work::{Outcome, bring_up};
use super::{Asked, End, EndedBy, GRACE, Owner, Working, milliseconds};
use crate::plan::NodeId;
use crate::provision::{Cause, Event, EventSink, Failure, NodeState};
use crate::session::SessionError;
use crate::session::protocol::{NodeStatus, Reply, UpRequest};
use crate::session::record::{Phase, Record, write_private};

impl Owner {
    pub(super) fn begin(&mut self, caller: Option<Caller>, request: Arc<UpRequest>) {
        info!(plan = %request.plan.file.display(), reissue = ?request.reissue, exchange = ?request.exchange, "up");
        if let Some(failure) = self.elsewhere(&request) {
            // Nothing of it is taken over: what the session is about goes on.
            warn!(message = failure.message, "refused");
            if let Some(caller) = caller {
                caller.reply(Reply::Failed { failure, kept: true });
            }
            return;
        }
        let (sink, events) = EventSink::channel();
        let cancel = CancellationToken::new();
        if !request.is_partial() {
            self.begin_all(&request);
        }
        self.held.clear();
        self.make_current();
        if let Some(caller) = &caller {
            caller.reply(Reply::Accepted);
        }
        self.working = Some(Working {
            by: caller.as_ref().map(|caller| caller.id),
            reissue: request.reissue.clone(),
            exchange: request.exchange.clone(),
            detached: request.detach,
            keep: request.keep || request.detach,
            hold: request.hold,
            began: Instant::now(),
            cancel: cancel.clone(),
            task: tokio::spawn(bring_up(
                self.environment.take(),
                (request.clone(), self.all_swaps(&request)),
                self.record.clone(),
                self.directory.clone(),
                self.redactor.clone(),
                sink,
                cancel,
            )),
            events,
            followers: caller.into_iter().chain(self.early.drain(..)).collect(),
        });
    }

    /// Why the session cannot do this, if it is to be on another cluster than it is.
    fn elsewhere(&self, request: &UpRequest) -> Option<Box<Failure>> {
        let environment = self.environment.as_ref()?;
        if *environment.cluster() == request.plan.cluster {
            return None;
        }
        let Record { id, cluster, .. } = &self.record;
        let message = format!("session {id} runs on {cluster}; it cannot move to another cluster");
        let hint = "`envctl down` first, or give this one another name: --session NAME";
        Some(Box::new(Failure::new(None, Cause::NotYet, message).with_hint(hint)))
    }

    /// What an `up` that is about everything changes of the session itself.
    pub(super) fn begin_all(&mut self, request: &Arc<UpRequest>) {
        self.ttl = Duration::from_millis(request.ttl);
        let waiting = |node: &crate::plan::Node| NodeStatus {
            node: node.id.clone(),
            state: NodeState::Waiting { needs: Vec::new() },
            detail: String::new(),
            at: 0,
        };
        self.nodes = request.plan.nodes.iter().map(waiting).collect();
        self.record.file = request.plan.file.clone();
        self.last = Some(request.clone());
        // For `envctl dump`, which is told nothing by an agent that is gone.
        let written = serde_json::to_vec_pretty(&request.plan)
            .map_err(|source| SessionError::Record { path: self.directory.plan(), source })
            .and_then(|text| write_private(&self.directory.plan(), &text));
        if let Err(error) = written {
            warn!(%error, "the plan could not be written for `envctl dump`");
        }
    }

    pub(super) fn happened(&mut self, mut event: Event) {
        if let Some(working) = &self.working {
            // The provisioner's clock starts when the cluster is there; a caller counts from its `up`.
            restamp(&mut event, milliseconds(working.began.elapsed()));
        }
        let event = self.redactor.get().of(event);
        self.remember("event", &event);
        match &event {
            Event::Node { node, state, detail, at } => {
                info!(%node, ?state, detail, at, "node");
                self.set_node(node, state, detail, *at);
            }
            Event::Warning { node, message, .. } => {
                warn!(node = node.as_ref().map(tracing::field::display), message, "warning");
            }
            other => info!(event = ?other, "up"),
        }
        if let Some(working) = &self.working {
            for follower in &working.followers {
                follower.reply(Reply::Event(event.clone()));
            }
        }
    }

    /// One more line of the timeline, for `envctl dump`.
    pub(super) fn remember(&mut self, what: &str, it: &impl serde::Serialize) {
        let path = self.directory.timeline();
        if self.timeline.is_none() {
            self.timeline = OpenOptions::new().create(true).append(true).mode(0o600).open(path).ok();
        }
        let line = serde_json::json!({"time": jiff::Timestamp::now().to_string(), what: it});
        if let Some(timeline) = &mut self.timeline
            && let Err(error) = timeline.write_all(format!("{line}\n").as_bytes())
        {
            warn!(%error, "the timeline could not be written");
        }
    }

    pub(super) fn set_node(&mut self, node: &NodeId, state: &NodeState, detail: &str, at: u64) {
        let status = NodeStatus { node: node.clone(), state: state.clone(), detail: detail.to_owned(), at };
        match self.nodes.iter_mut().find(|known| known.node == *node) {
            Some(known) if known.state == *state => status.detail.clone_into(&mut known.detail),
            Some(known) => *known = status,
            None => self.nodes.push(status),
        }
    }

    /// The record as an `up` wrote it. Whether the session is shared may have changed meanwhile, which only the owner knows.
    fn take_over(&mut self, record: Record) {
        let stale = record.shared != self.record.shared;
        self.record = Record { shared: self.record.shared.take(), ..record };
        if stale && let Err(error) = self.record.write(&self.directory.record_path()) {
            warn!(%error, "the record could not be written");
        }
    }

    pub(super) fn finish(&mut self, outcome: Outcome) -> Option<End> {
        // What was sent before the end is told before it.
        while let Some(event) = self.working.as_mut().and_then(|working| working.events.try_recv().ok()) {
            self.happened(event);
        }
        let Working { keep, hold, began, followers, reissue, exchange, .. } = self.working.take()?;
        let partial = !reissue.is_empty() || !exchange.is_empty();
        let first = self.environment.is_none() && self.record.phase == Phase::Starting;
        self.environment = outcome.environment;
        if self.lost.is_empty()
            && let Some(environment) = &self.environment
        {
            self.lost.spawn(environment.lost());
        }
        let took = milliseconds(began.elapsed());
        if outcome.result.is_err()
            && let Ok(record) = self.directory.record()
        {
            self.take_over(record);
        }
        match outcome.result {
            Ok(record) => {
                self.nodes.retain(|node| node.state != NodeState::Removed);
                info!(took, "ready");
                self.take_over(record);
                if !partial {
                    self.failure = None;
                }
                for follower in followers {
                    follower.reply(Reply::Up { record: Box::new(self.record.clone()), took });
                }
                memory::give_back_program();
            }
            Err(failure) if partial => {
                let failure = self.redactor.get().of(failure);
                self.remember("failure", &failure);
                self.not_reissued(&reissue, &failure);
                self.not_exchanged(&exchange, &failure);
                for follower in followers {
                    follower.reply(Reply::Failed { failure: failure.clone(), kept: true });
                }
            }
            Err(failure) => {
                let failure = self.redactor.get().of(failure);
                self.remember("failure", &failure);
                warn!(reason = failure.cause.reason(), message = failure.message, "up failed");
                let kept = keep || hold || !first;
                // One that is only held is still its creator's, who takes it along by going.
                if keep && first {
                    // Before it is told: who was told may look at the record.
                    self.record.phase = Phase::Failed;
                    self.record.shared = None;
                    if let Err(error) = self.record.write(&self.directory.record_path()) {
                        warn!(%error, "the record could not be written");
                    }
                }
                for follower in &followers {
                    follower.reply(Reply::Failed { failure: failure.clone(), kept });
                }
                if hold && !keep && first {
                    // An open connection each: the creator's end is the session's.
                    self.held.clone_from(&followers);
                }
                if !kept {
                    self.ended_for.extend(followers);
                    return Some(End { why: None, by: EndedBy::Request, grace: GRACE });
                }
                self.failure = Some(failure);
            }
        }
        if self.bring_back() {
            return None;
        }
        // One that is refused begins nothing: the next one must not wait for its end.
        while self.working.is_none()
            && let Some((caller, asked)) = self.queue.pop_front()
        {
            match asked {
                Asked::Up(request) => self.begin(Some(caller), request.into()),
                Asked::Rotate(request) => self.ask_rotate(caller, request),
                Asked::Swap(request) => self.ask_swap(caller, request),
            }
        }
        None
    }
}

fn restamp(event: &mut Event, now: u64) {
    match event {
        Event::ClusterReady { at, .. }
        | Event::ClusterProgress { at, .. }
        | Event::ImageProgress { at, .. }
        | Event::BuildStarted { at, .. }
        | Event::BuildFinished { at, .. }
        | Event::Node { at, .. }
        | Event::Expected { at, .. }
        | Event::Warning { at, .. }
        | Event::Ready { at, .. } => *at = now,
    }
}

/// What comes next of the `up` at work; pending for ever while there is none.
pub(super) async fn progress(working: &mut Option<Working>) -> Progress {
    let Some(working) = working else {
        return std::future::pending().await;
    };
    tokio::select! {
        biased;
        Some(event) = working.events.recv() => Progress::Event(event),
        outcome = &mut working.task => Progress::Finished(Box::new(outcome.unwrap_or_else(|error| Outcome {
            environment: None,
            result: Err(Box::new(Failure::new(
                None,
                Cause::ClusterUnavailable,
                format!("the agent failed: {error}; its log says more"),
            ))),
        }))),
    }
}

/// What an `up` at work gives.
pub(super) enum Progress {
    Event(Event),
    Finished(Box<Outcome>),
}
