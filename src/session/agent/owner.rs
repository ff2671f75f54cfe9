//! The one task that holds a session's state: serves callers one `up` at a time, and ends the session.
//!
//! A session ends by `down`, by SIGTERM, when its creator goes away or cancels before it was ever ready, when its
//! first `up` fails (without `--keep`), when its cluster is lost, or after an idle time. A shared one ends when nobody
//! has been attached for its linger, or at its time limit; whose process is gone is not attached: the kernel says so.

mod ending;
mod keys;
mod swap;
mod working;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::File;
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
use super::work::Outcome;
use crate::provision::{Event, Failure};
use crate::redact::Shared;
use crate::session::lookup;
use crate::session::protocol::{NodeStatus, Reply, Request, RotateRequest, Status, SwapRequest, UpRequest};
use crate::session::record::{Phase, Record};
use crate::session::state::{SessionDirectory, StateDirectory};
use swap::HeldSwap;
use working::{Progress, progress};

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
    /// The services that it is about, likewise.
    exchange: BTreeSet<String>,
    detached: bool,
    keep: bool,
    /// Instead of `keep`: until the creator has gone.
    hold: bool,
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
    Swap(SwapRequest),
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
    /// Who may look at what failed, for as long as they are connected.
    held: Vec<Caller>,
    /// Since when a shared session has had no user.
    alone_since: Option<Instant>,
    /// Services that a caller's process stands in for, by name.
    swaps: BTreeMap<String, HeldSwap>,
    /// Services whose pods are to come back, with who waits for that.
    returning: BTreeMap<String, Option<Caller>>,
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
            held: Vec::new(),
            attached: Vec::new(),
            alone_since: None,
            swaps: BTreeMap::new(),
            returning: BTreeMap::new(),
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
            Message::Request(caller, Request::Swap(request)) => {
                self.ask_swap(caller, request);
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
            Message::Cancel(caller, _) if self.is_swapper(caller) => {
                self.end_swap(caller, true);
                None
            }
            Message::Cancel(caller, at_once) => self.gone(caller, if at_once { Duration::ZERO } else { GRACE }),
            Message::Gone(caller) => {
                self.open = self.open.saturating_sub(1);
                self.queue.retain(|(queued, _)| queued.id != caller);
                self.end_swap(caller, false);
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

    fn status(&self) -> Status {
        Status {
            record: self.record.clone(),
            nodes: self.nodes.clone(),
            swapped: self.last.iter().flat_map(|last| self.all_swaps(last).into_keys()).collect(),
            idle_end: milliseconds(self.until_idle_end()),
        }
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
