//! The one task that holds a session's state: serves callers one `up` at a time, and ends the session.
//!
//! A session ends by `down`, by SIGTERM, when its creator goes away or cancels before it was ever ready, when its
//! first `up` fails (without `--keep`), when its cluster is lost, or after an idle time. A shared one ends when nobody
//! has been attached for its linger, or at its time limit; whose process is gone is not attached: the kernel says so.

mod keys;

use std::collections::{BTreeSet, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::AgentError;
use super::connection::{Caller, CallerId, Connection, Message};
use super::environment::Environment;
use super::work::{Outcome, bring_up};
use crate::cluster::Removal;
use crate::cluster::tenancy::record::Lodged;
use crate::plan::NodeId;
use crate::provision::{Cause, Event, EventSink, Failure, NodeState};
use crate::redact::Shared;
use crate::session::protocol::{NodeStatus, Reply, Request, RotateRequest, Status, UpRequest};
use crate::session::record::{Phase, Record, write_private};
use crate::session::state::{SessionDirectory, StateDirectory};
use crate::session::{SessionError, launch, lookup};

/// How long services get between SIGTERM and SIGKILL at `down`, at most.
const GRACE: Duration = Duration::from_secs(10);
/// How long a session's things on a cluster may take to be gone before what holds them is reported, unless `down` says.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long replies that are under way may take to be written before the process ends.
const FLUSH: Duration = Duration::from_secs(1);

/// An `up` at work.
struct Working {
    /// None: the agent itself, when the time of a key has come.
    by: Option<CallerId>,
    /// The keys that it is about, where it isn't about everything.
    reissue: BTreeSet<String>,
    detached: bool,
    keep: bool,
    began: Instant,
    cancel: CancellationToken,
    task: JoinHandle<Outcome>,
    events: mpsc::UnboundedReceiver<Event>,
    followers: Vec<Caller>,
}

/// What waits for the `up` at work.
enum Asked {
    Up(Box<UpRequest>),
    Rotate(RotateRequest),
}

/// Why the main loop was left.
struct End {
    why: Option<String>,
    by: EndedBy,
    grace: Duration,
}

/// Who ended it.
enum EndedBy {
    /// A person or a command, who knows.
    Request,
    /// Nobody asked for it: the next command says why it is gone.
    Itself,
}

/// The session's state.
pub struct Owner {
    state: StateDirectory,
    directory: SessionDirectory,
    record: Record,
    environment: Option<Environment>,
    working: Option<Working>,
    queue: VecDeque<(Caller, Asked)>,
    /// The last `up` that was about everything: what keys are issued anew by.
    last: Option<Arc<UpRequest>>,
    redactor: Shared,
    timeline: Option<File>,
    nodes: Vec<NodeStatus>,
    failure: Option<Box<Failure>>,
    creator: Option<CallerId>,
    ended_for: Vec<Caller>,
    /// Who waits for an `up` that has not been asked for yet.
    early: Vec<Caller>,
    open: usize,
    /// Who uses the session for as long as their connection is open.
    attached: Vec<Caller>,
    /// Since when a shared session has had no user.
    alone_since: Option<Instant>,
    born: Instant,
    ttl: Duration,
    last_use: SystemTime,
    lost: JoinSet<String>,
    patience: Duration,
}

impl Owner {
    /// For the session in this directory.
    ///
    /// # Errors
    /// When its record cannot be read or written.
    pub fn new(state: StateDirectory, directory: SessionDirectory, redactor: Shared) -> Result<Self, AgentError> {
        let mut record = directory.record()?;
        record.agent_pid = std::process::id();
        record.write(&directory.record_path())?;
        Ok(Self {
            state,
            directory,
            record,
            environment: None,
            working: None,
            queue: VecDeque::new(),
            last: None,
            redactor,
            timeline: None,
            nodes: Vec::new(),
            failure: None,
            creator: None,
            ended_for: Vec::new(),
            early: Vec::new(),
            open: 0,
            attached: Vec::new(),
            alone_since: None,
            born: Instant::now(),
            ttl: Duration::from_secs(4 * 3600),
            last_use: SystemTime::now(),
            lost: JoinSet::new(),
            patience: PATIENCE,
        })
    }

    /// Serves until the session ends, then takes everything away.
    ///
    /// # Errors
    /// When signals cannot be received or files not removed.
    pub async fn run(mut self, listener: UnixListener, creator: UnixStream) -> Result<(), AgentError> {
        let mut terminate = signal(SignalKind::terminate())?;
        let (to_owner, mut messages) = mpsc::unbounded_channel();
        let mut connections = JoinSet::new();
        let first = Connection::new(creator, to_owner.clone());
        self.creator = Some(first.id);
        self.open += 1;
        connections.spawn(first.serve());
        let end = loop {
            let due = tokio::time::sleep(self.until_due());
            let key_due = keys::sleep(self.until_key_due());
            let ended = tokio::select! {
                Some(message) = messages.recv() => self.hear(message),
                accepted = listener.accept() => {
                    match accepted {
                        Ok((stream, _)) => {
                            self.open += 1;
                            connections.spawn(Connection::new(stream, to_owner.clone()).serve());
                        }
                        Err(cause) => warn!(%cause, "a caller could not be accepted"),
                    }
                    None
                }
                next = progress(&mut self.working) => match next {
                    Progress::Event(event) => {
                        self.happened(event);
                        None
                    }
                    Progress::Finished(outcome) => self.finish(*outcome),
                },
                Some(lost) = self.lost.join_next() => Some(End { why: Some(lost.unwrap_or_default()), by: EndedBy::Itself, grace: Duration::ZERO }),
                _ = terminate.recv() => Some(End { why: Some("its agent was told to end (SIGTERM)".to_owned()), by: EndedBy::Request, grace: GRACE }),
                () = due => self.due(),
                () = key_due => {
                    self.reissue();
                    None
                }
                Some(_) = connections.join_next() => None,
            };
            if let Some(end) = ended {
                break end;
            }
        };
        self.end(end, &mut messages).await?;
        drop((self, messages));
        let flushed = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(FLUSH, flushed).await.is_err() {
            warn!("a caller did not take its last reply");
        }
        Ok(())
    }

    fn hear(&mut self, message: Message) -> Option<End> {
        self.last_use = SystemTime::now();
        match message {
            Message::Request(caller, Request::Up(request)) => {
                self.ask_up(caller, request);
                None
            }
            Message::Request(caller, Request::Rotate(request)) => {
                self.ask_rotate(caller, request);
                None
            }
            Message::Request(caller, Request::Down { timeout }) => {
                info!("asked to end");
                self.patience = timeout.map_or(self.patience, Duration::from_millis);
                self.ended_for.push(caller);
                Some(End {
                    why: Some("it was taken down by another command".to_owned()),
                    by: EndedBy::Request,
                    grace: GRACE,
                })
            }
            Message::Request(caller, Request::Status) => {
                caller.reply(Reply::Status(Box::new(self.status())));
                None
            }
            Message::Request(caller, Request::Wait) => {
                self.ask_wait(caller);
                None
            }
            Message::Request(caller, Request::Attach { up }) => {
                self.ask_attach(caller, up);
                None
            }
            Message::Request(caller, Request::Creators { uids }) => {
                let accounts = self.environment.as_ref().map(|environment| environment.provider().creators(&uids));
                caller.reply(Reply::Creators { accounts: accounts.unwrap_or_default() });
                None
            }
            Message::Request(caller, Request::Keep) => {
                self.keep(&caller);
                None
            }
            // These two never open a conversation: the connection passes them on as `Message::Cancel`.
            Message::Request(_, Request::Cancel | Request::Kill) => None,
            Message::Cancel(caller, at_once) => self.gone(caller, if at_once { Duration::ZERO } else { GRACE }),
            Message::Gone(caller) => {
                self.open = self.open.saturating_sub(1);
                self.queue.retain(|(queued, _)| queued.id != caller);
                self.gone(caller, GRACE)
            }
        }
    }

    /// The creator went away or cancelled: before the session was ever ready, it goes too.
    fn gone(&mut self, caller: CallerId, grace: Duration) -> Option<End> {
        if self.record.shared.is_some() {
            return self.detached(caller, grace);
        }
        self.attached.retain(|attached| attached.id != caller);
        if self.creator != Some(caller) || self.record.phase != Phase::Starting {
            return None;
        }
        match &self.working {
            Some(working) if working.detached => None,
            Some(working) if working.by != Some(caller) => None,
            _ => Some(End {
                why: Some("the command that created it was ended before it was ready".to_owned()),
                by: EndedBy::Request,
                grace,
            }),
        }
    }

    fn ask_up(&mut self, caller: Caller, request: Box<UpRequest>) {
        if self.working.is_some() {
            caller.reply(Reply::Queued);
            self.queue.push_back((caller, Asked::Up(request)));
        } else {
            self.begin(Some(caller), request.into());
        }
    }

    /// Someone stops using a shared session. One who cancels while nobody else uses it takes it along at once.
    fn detached(&mut self, caller: CallerId, grace: Duration) -> Option<End> {
        let was = self.creator == Some(caller) || self.attached.iter().any(|attached| attached.id == caller);
        let canceller = self.attached.iter().find(|attached| attached.id == caller).cloned();
        self.attached.retain(|attached| attached.id != caller);
        if let Some(working) = &mut self.working {
            working.followers.retain(|follower| follower.id != caller);
        }
        if !was || !self.attached.is_empty() {
            return None;
        }
        self.alone_since.get_or_insert_with(Instant::now);
        let linger = self.record.shared.as_ref().map_or(0, |shared| shared.linger);
        // Whose connection is gone is told nothing by this; whose is open has cancelled.
        self.ended_for.extend(canceller);
        let now = linger == 0 || self.record.phase == Phase::Starting;
        now.then(|| End { why: Some("nobody uses it any more".to_owned()), by: EndedBy::Request, grace })
    }

    fn ask_attach(&mut self, caller: Caller, up: Option<Box<UpRequest>>) {
        self.attached.push(caller.clone());
        self.alone_since = None;
        let nothing_yet = self.working.is_none() && self.record.phase == Phase::Starting;
        match up {
            Some(request) if nothing_yet => self.begin(Some(caller), request.into()),
            _ => self.ask_wait(caller),
        }
    }

    fn keep(&mut self, caller: &Caller) {
        self.record.shared = None;
        if let Err(error) = self.record.write(&self.directory.record_path()) {
            warn!(%error, "the record could not be written");
        }
        self.make_current();
        caller.reply(Reply::Accepted);
    }

    /// It becomes the session that is meant in its project, unless it is some test's own.
    fn make_current(&self) {
        if self.record.shared.is_some() {
            return;
        }
        if let Err(error) = lookup::write_current(&self.record.root, &self.record.id) {
            // Lookup falls back on the project's only session; a read-only checkout is no reason not to work.
            warn!(%error, "the project cannot be written");
        }
    }

    fn ask_wait(&mut self, caller: Caller) {
        if let Some(working) = &mut self.working {
            working.followers.push(caller);
        } else if self.record.phase == Phase::Starting {
            self.early.push(caller);
        } else if let Some(failure) = &self.failure {
            caller.reply(Reply::Failed { failure: failure.clone(), kept: true });
        } else {
            caller.reply(Reply::Up { record: Box::new(self.record.clone()), took: 0 });
        }
    }

    fn begin(&mut self, caller: Option<Caller>, request: Arc<UpRequest>) {
        info!(plan = %request.plan.file.display(), reissue = ?request.reissue, "up");
        let (sink, events) = EventSink::channel();
        let cancel = CancellationToken::new();
        if request.reissue.is_empty() {
            self.begin_all(&request);
        }
        self.make_current();
        if let Some(caller) = &caller {
            caller.reply(Reply::Accepted);
        }
        self.working = Some(Working {
            by: caller.as_ref().map(|caller| caller.id),
            reissue: request.reissue.clone(),
            detached: request.detach,
            keep: request.keep || request.detach,
            began: Instant::now(),
            cancel: cancel.clone(),
            task: tokio::spawn(bring_up(
                self.environment.take(),
                request,
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

    /// What an `up` that is about everything changes of the session itself.
    fn begin_all(&mut self, request: &Arc<UpRequest>) {
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

    fn happened(&mut self, mut event: Event) {
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
    fn remember(&mut self, what: &str, it: &impl serde::Serialize) {
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

    fn set_node(&mut self, node: &NodeId, state: &NodeState, detail: &str, at: u64) {
        let status = NodeStatus { node: node.clone(), state: state.clone(), detail: detail.to_owned(), at };
        match self.nodes.iter_mut().find(|known| known.node == *node) {
            Some(known) if known.state == *state => status.detail.clone_into(&mut known.detail),
            Some(known) => *known = status,
            None => self.nodes.push(status),
        }
    }

    fn finish(&mut self, outcome: Outcome) -> Option<End> {
        // What was sent before the end is told before it.
        while let Some(event) = self.working.as_mut().and_then(|working| working.events.try_recv().ok()) {
            self.happened(event);
        }
        let Working { keep, began, followers, reissue, .. } = self.working.take()?;
        let first = self.environment.is_none() && self.record.phase == Phase::Starting;
        self.environment = outcome.environment;
        if self.lost.is_empty()
            && let Some(environment) = &self.environment
        {
            self.lost.spawn(environment.lost());
        }
        let took = milliseconds(began.elapsed());
        match outcome.result {
            Ok(record) => {
                self.nodes.retain(|node| node.state != NodeState::Removed);
                info!(took, "ready");
                self.record = record;
                if reissue.is_empty() {
                    self.failure = None;
                }
                for follower in followers {
                    follower.reply(Reply::Up { record: Box::new(self.record.clone()), took });
                }
            }
            Err(failure) if !reissue.is_empty() => {
                let failure = self.redactor.get().of(failure);
                self.remember("failure", &failure);
                self.not_reissued(&reissue, &failure);
                for follower in followers {
                    follower.reply(Reply::Failed { failure: failure.clone(), kept: true });
                }
            }
            Err(failure) => {
                let failure = self.redactor.get().of(failure);
                self.remember("failure", &failure);
                warn!(reason = failure.cause.reason(), message = failure.message, "up failed");
                let kept = keep || !first;
                if kept && first {
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
                if !kept {
                    self.ended_for.extend(followers);
                    return Some(End { why: None, by: EndedBy::Request, grace: GRACE });
                }
                self.failure = Some(failure);
            }
        }
        match self.queue.pop_front() {
            Some((caller, Asked::Up(request))) => self.begin(Some(caller), request.into()),
            Some((caller, Asked::Rotate(request))) => self.ask_rotate(caller, request),
            None => {}
        }
        None
    }

    fn status(&self) -> Status {
        Status { record: self.record.clone(), nodes: self.nodes.clone(), idle_end: milliseconds(self.until_idle_end()) }
    }

    /// Tests say that they use the session by the time of the lock file.
    fn last_use(&self) -> SystemTime {
        let touched = std::fs::metadata(self.directory.lock()).and_then(|lock| lock.modified());
        touched.map_or(self.last_use, |touched| touched.max(self.last_use))
    }

    fn until_idle_end(&self) -> Duration {
        let unused = SystemTime::now().duration_since(self.last_use()).unwrap_or_default();
        self.ttl.saturating_sub(unused)
    }

    /// Until the session may have to end by itself.
    fn until_due(&self) -> Duration {
        let idle = self.until_idle_end();
        let Some(shared) = &self.record.shared else { return idle };
        let left = |milliseconds, since: Instant| Duration::from_millis(milliseconds).saturating_sub(since.elapsed());
        let linger = self.alone_since.map_or(Duration::MAX, |since| left(shared.linger, since));
        idle.min(linger).min(left(shared.limit, self.born))
    }

    fn due(&mut self) -> Option<End> {
        let Some(shared) = &self.record.shared else { return self.idle() };
        let passed = |milliseconds, since: Instant| since.elapsed() >= Duration::from_millis(milliseconds);
        let (why, by) = if passed(shared.limit, self.born) {
            ("its time limit was over", EndedBy::Itself)
        } else if self.alone_since.is_some_and(|since| passed(shared.linger, since)) {
            ("nobody uses it any more", EndedBy::Request)
        } else {
            return self.idle();
        };
        Some(End { why: Some(why.to_owned()), by, grace: GRACE })
    }

    fn idle(&mut self) -> Option<End> {
        if self.open > 0 || self.working.is_some() {
            self.last_use = SystemTime::now();
            return None;
        }
        if !self.until_idle_end().is_zero() {
            return None;
        }
        Some(End { why: Some("nothing used it for its idle time".to_owned()), by: EndedBy::Itself, grace: GRACE })
    }

    /// What was not waited for on a cluster that isn't the session's own.
    fn lodged(&self) -> Vec<String> {
        match Lodged::read(self.directory.path()) {
            Ok(Some(lodged)) => {
                vec![format!("namespace {} on {}: `envctl gc` removes it", lodged.namespace, lodged.server)]
            }
            _ => Vec::new(),
        }
    }

    /// Takes everything away and says so to everyone who waits.
    async fn end(&mut self, mut end: End, messages: &mut mpsc::UnboundedReceiver<Message>) -> Result<(), AgentError> {
        info!(why = end.why, "ending");
        self.record.phase = Phase::Ending;
        if let Err(error) = self.record.write(&self.directory.record_path()) {
            warn!(%error, "the record could not be written");
        }
        let mut others = Vec::new();
        let removal = {
            let mine = (self.working.take(), self.environment.take());
            let removing = take_away(mine, self.last.take(), end.grace, self.patience, &mut others);
            tokio::pin!(removing);
            loop {
                tokio::select! {
                    removal = &mut removing => break removal,
                    Some(message) = messages.recv() => match message {
                        Message::Request(caller, Request::Down { .. }) => self.ended_for.push(caller),
                        Message::Request(caller, Request::Status) => caller.reply(Reply::Status(Box::new(self.status()))),
                        Message::Request(caller, _) => caller.reply(Reply::Ending),
                        Message::Cancel(_, true) => {
                            end.why = Some("it was killed".to_owned());
                            break Removal { killed: Vec::new(), left: self.lodged() };
                        }
                        Message::Cancel(_, false) | Message::Gone(_) => {}
                    },
                }
            }
        };
        others.append(&mut self.attached);
        lookup::clear_current(&self.record.root, &self.record.id);
        match (&end.by, &end.why) {
            (EndedBy::Itself, Some(why)) => launch::leave_word(&self.state, &self.directory, why)?,
            _ => launch::remove_own(&self.state, &self.directory)?,
        }
        for caller in self.ended_for.drain(..) {
            caller.reply(Reply::Ended { removal: removal.clone(), why: None });
        }
        for caller in others.into_iter().chain(self.early.drain(..)) {
            caller.reply(Reply::Ended { removal: removal.clone(), why: end.why.clone() });
        }
        for (caller, _) in self.queue.drain(..) {
            caller.reply(Reply::Ending);
        }
        info!("ended");
        Ok(())
    }
}

/// Stops an `up` at work and removes what is there. The callers of the `up` go to `others`.
async fn take_away(
    (working, mut environment): (Option<Working>, Option<Environment>),
    last: Option<Arc<UpRequest>>,
    grace: Duration,
    patience: Duration,
    others: &mut Vec<Caller>,
) -> Removal {
    if let Some(mut working) = working {
        working.cancel.cancel();
        others.append(&mut working.followers);
        match working.task.await {
            Ok(outcome) => environment = outcome.environment,
            Err(error) => warn!(%error, "the up at work ended badly"),
        }
    }
    match environment {
        Some(environment) => environment.remove(last.as_ref().map(|request| &request.plan), grace, patience).await,
        None => Removal::default(),
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn restamp(event: &mut Event, now: u64) {
    match event {
        Event::ClusterReady { at, .. }
        | Event::BuildStarted { at, .. }
        | Event::BuildFinished { at, .. }
        | Event::Node { at, .. }
        | Event::Warning { at, .. }
        | Event::Ready { at, .. } => *at = now,
    }
}

/// What comes next of the `up` at work; pending for ever while there is none.
async fn progress(working: &mut Option<Working>) -> Progress {
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
enum Progress {
    Event(Event),
    Finished(Box<Outcome>),
}
