//! The agent's end of the control socket: one task that sends requests, routes answers, and outlives the node
//! only to reap it.

use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::super::runtime::{ExitStatus, RuntimeError};
use super::wire::{Channel, Reply, Request, RequestId};

/// What the node says to a request that it could do.
#[derive(Debug, Default)]
pub struct Answer {
    /// Descriptors that came with it.
    pub fds: Vec<OwnedFd>,
    /// Of a program that was started.
    pub warnings: Vec<String>,
}

struct Outgoing {
    request: Request,
    fds: Vec<OwnedFd>,
}

/// Who waits for what.
#[derive(Default)]
struct Waiting {
    answers: HashMap<RequestId, oneshot::Sender<Result<Answer, RuntimeError>>>,
    exits: HashMap<RequestId, watch::Sender<Option<ExitStatus>>>,
}

/// Sends requests; cheap to clone.
#[derive(Clone)]
pub struct Link {
    requests: mpsc::UnboundedSender<Outgoing>,
    waiting: Arc<Mutex<Waiting>>,
    next: Arc<AtomicU64>,
}

impl Link {
    /// The link and the task that serves it, which ends when `stop` is cancelled or the node has ended, and then has reaped the node.
    pub fn new(
        channel: AsyncFd<Channel>,
        node: AsyncFd<OwnedFd>,
        stop: CancellationToken,
    ) -> (Self, impl Future<Output = ()>) {
        let (requests, incoming) = mpsc::unbounded_channel();
        let link = Self { requests, waiting: Arc::default(), next: Arc::new(AtomicU64::new(1)) };
        let waiting = Arc::clone(&link.waiting);
        let task = async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = drive(&channel, incoming, &waiting) => {}
            }
            // The node ends when it sees this.
            drop(channel);
            let exits = give_up(&waiting);
            // Readable when the last process of its pid namespace is gone.
            let _readable = node.readable().await;
            let _reaped = waitid(Id::PIDFd(node.get_ref().as_fd()), WaitPidFlag::WEXITED);
            for exit in exits.into_values() {
                exit.send_replace(Some(ExitStatus::Signal(nix::libc::SIGKILL)));
            }
        };
        (link, task)
    }

    /// A number for the next request.
    pub fn next_id(&self) -> RequestId {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    /// What the node says, or that it has ended.
    pub async fn request(&self, id: RequestId, request: Request, fds: Vec<OwnedFd>) -> Result<Answer, RuntimeError> {
        let (answer, answered) = oneshot::channel();
        lock(&self.waiting).answers.insert(id, answer);
        if self.requests.send(Outgoing { request, fds }).is_err() {
            lock(&self.waiting).answers.remove(&id);
            return Err(RuntimeError::NodeGone);
        }
        answered.await.unwrap_or(Err(RuntimeError::NodeGone))
    }

    /// The same for a program to start: also gives how it will have ended.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub async fn start(
        &self,
        id: RequestId,
        request: Request,
        fds: Vec<OwnedFd>,
    ) -> Result<(Answer, watch::Receiver<Option<ExitStatus>>), RuntimeError> {
        let (exit, exited) = watch::channel(None);
        lock(&self.waiting).exits.insert(id, exit);
        match self.request(id, request, fds).await {
            Ok(answer) => Ok((answer, exited)),
            Err(error) => {
                lock(&self.waiting).exits.remove(&id);
                Err(error)
            }
        }
    }

    /// Sends a signal to a program, if it still runs.
    pub fn signal(&self, process: RequestId, signal: i32) {
        let _node_gone = self.requests.send(Outgoing { request: Request::Signal { process, signal }, fds: Vec::new() });
    }
}

/// Moves messages both ways until the node is gone.
async fn drive(channel: &AsyncFd<Channel>, mut incoming: mpsc::UnboundedReceiver<Outgoing>, waiting: &Mutex<Waiting>) {
    let mut unsent: VecDeque<Outgoing> = VecDeque::new();
    loop {
        tokio::select! {
            ready = channel.readable() => {
                let Ok(mut ready) = ready else { return };
                loop {
                    match ready.try_io(|channel| channel.get_ref().try_receive::<Reply>()) {
                        Ok(Ok(Some((reply, fds)))) => route(reply, fds, waiting),
                        Ok(Ok(None) | Err(_)) => return,
                        Err(_would_block) => break,
                    }
                }
            }
            ready = channel.ready(Interest::WRITABLE), if !unsent.is_empty() => {
                let Ok(mut ready) = ready else { return };
                let Some(next) = unsent.front() else { continue };
                if let Ok(sent) = ready.try_io(|channel| send(channel.get_ref(), next)) {
                    if sent.is_err() {
                        return;
                    }
                    unsent.pop_front();
                }
            }
            next = incoming.recv(), if unsent.is_empty() => {
                let Some(next) = next else { return };
                match send(channel.get_ref(), &next) {
                    Ok(()) => {}
                    Err(error) if error.raw_os_error() == Some(Errno::EAGAIN as i32) => unsent.push_back(next),
                    Err(_) => return,
                }
            }
        }
    }
}

fn send(channel: &Channel, outgoing: &Outgoing) -> std::io::Result<()> {
    let fds: Vec<_> = outgoing.fds.iter().map(AsFd::as_fd).collect();
    channel.send(&outgoing.request, &fds)
}

fn route(reply: Reply, fds: Vec<OwnedFd>, waiting: &Mutex<Waiting>) {
    let mut waiting = lock(waiting);
    let (id, answer) = match reply {
        Reply::Done { id } => (id, Ok(Answer { fds, warnings: Vec::new() })),
        Reply::Started { id, warnings } => (id, Ok(Answer { fds, warnings })),
        Reply::Failed { id, failure } => (id, Err(failure.into())),
        Reply::Exited { process, status } => {
            if let Some(exit) = waiting.exits.remove(&process) {
                exit.send_replace(Some(status));
            }
            return;
        }
        Reply::Ready | Reply::Refused(_) => return,
    };
    if let Some(waiter) = waiting.answers.remove(&id) {
        // A caller that has given up removes its pod, and with it what this was about.
        let _given_up = waiter.send(answer);
    }
}

/// Fails what is unanswered; gives those who wait for programs, which are about to end.
fn give_up(waiting: &Mutex<Waiting>) -> HashMap<RequestId, watch::Sender<Option<ExitStatus>>> {
    let mut waiting = lock(waiting);
    waiting.answers.clear();
    std::mem::take(&mut waiting.exits)
}

/// The map is consistent after every statement, so a panic elsewhere doesn't matter.
fn lock(waiting: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}
