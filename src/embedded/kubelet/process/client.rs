//! [`ProcessRuntime`]: the agent's side, implementing [`Runtime`].

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::sys::stat::Mode;
use nix::unistd::pipe2;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::super::runtime::{
    ContainerConfig, ExecConfig, Process, Runtime, RuntimeError, Sandbox, SandboxConfig, Signals,
};
use super::addresses::{MAX_PODS, NODE_IP, PodAddresses};
use super::link::Link;
use super::network::SocketPool;
use super::sys;
use super::wire::{Channel, Reply, Request, RequestId};

/// How to start the node.
#[derive(Debug, Clone)]
pub struct Options {
    /// The `envctl` program itself; `/proc/self/exe` in the agent.
    pub envctl: PathBuf,
    /// Directories that containers on the host's programs see and can write to (privately) wherever they are: the project.
    pub visible: Vec<PathBuf>,
}

impl Options {
    /// For the agent: this same program.
    pub fn new(visible: Vec<PathBuf>) -> Self {
        Self { envctl: PathBuf::from("/proc/self/exe"), visible }
    }
}

/// Why there is no node.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The program could not be started.
    #[error("starting the node process {program}: {source}")]
    Spawn {
        /// Which.
        program: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Namespaces, mounts or network were refused.
    #[error("the node process could not set itself up: {0}")]
    Refused(RuntimeError),
    /// It ended without a word.
    #[error("the node process ended before it was ready")]
    Ended,
    /// The two could not talk.
    #[error("talking to the node process: {0}")]
    Talk(#[from] std::io::Error),
}

/// Runs containers as sandboxed processes below a node process.
pub struct ProcessRuntime {
    link: Link,
    addresses: Mutex<PodAddresses>,
    pub(super) sockets: SocketPool,
    stop: CancellationToken,
    /// Cancelled by the task's end.
    ended: CancellationToken,
    task: tokio::sync::Mutex<Option<JoinHandle<()>>>,
    /// Ends the node when the runtime is dropped without having been stopped.
    _stop_on_drop: DropGuard,
}

impl ProcessRuntime {
    /// Starts the node process and waits until it is ready. Must be called in a tokio runtime.
    ///
    /// # Errors
    /// [`StartError`]; then nothing is left.
    pub async fn start(options: &Options) -> Result<Arc<Self>, StartError> {
        let (ours, nodes) = Channel::pair()?;
        let mut helper = Command::new(&options.envctl)
            .arg("__node")
            .args(&options.visible)
            // Nothing of the caller's environment may be found in a sandbox.
            .env_clear()
            .stdin(OwnedFd::from(nodes))
            .stdout(Stdio::null())
            .spawn()
            .map_err(|source| StartError::Spawn { program: options.envctl.clone(), source })?;
        fcntl(&ours, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(std::io::Error::from)?;
        let channel = sys::watch(ours)?;
        let first = channel.async_io(tokio::io::Interest::READABLE, Channel::try_receive::<Reply>).await;
        // It ends as soon as the node exists or can't: this doesn't wait for anything.
        helper.wait()?;
        let node = match first? {
            Some((Reply::Ready, mut fds)) if fds.len() == 1 => sys::watch(fds.remove(0))?,
            Some((Reply::Refused(failure), _)) => return Err(StartError::Refused(failure.into())),
            _ => return Err(StartError::Ended),
        };
        let (stop, ended) = (CancellationToken::new(), CancellationToken::new());
        let (link, task) = Link::new(channel, node, stop.clone());
        let end = ended.clone().drop_guard();
        let task = async move {
            task.await;
            drop(end);
        };
        let task = tokio::sync::Mutex::new(Some(tokio::spawn(task)));
        Ok(Arc::new(Self {
            sockets: SocketPool::new(link.clone()),
            link,
            addresses: Mutex::default(),
            _stop_on_drop: stop.clone().drop_guard(),
            stop,
            ended,
            task,
        }))
    }

    /// Resolves when the node process has ended and been reaped, for whatever reason: nothing runs any more.
    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// Ends the node and everything in it, and waits until all of it is gone.
    pub async fn stop(&self) {
        self.stop.cancel();
        if let Some(task) = self.task.lock().await.take() {
            let _panicked = task.await;
        }
    }

    fn addresses(&self) -> std::sync::MutexGuard<'_, PodAddresses> {
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An address for a pod that another runtime makes in the node's network; `None` when there are too many.
    pub fn assign_address(&self, pod_uid: &str) -> Option<std::net::Ipv4Addr> {
        self.addresses().assign(pod_uid)
    }

    /// Frees it.
    pub fn release_address(&self, pod_uid: &str) {
        self.addresses().release(pod_uid);
    }

    /// The node's network namespace.
    ///
    /// # Errors
    /// When the node has ended.
    pub async fn network_namespace(&self) -> Result<OwnedFd, RuntimeError> {
        let id = self.link.next_id();
        let answer = self.link.request(id, Request::Network { id }, Vec::new()).await?;
        answer.fds.into_iter().next().ok_or(RuntimeError::NodeGone)
    }

    async fn run(
        &self,
        stdin: bool,
        tty: bool,
        request: impl FnOnce(RequestId) -> Request,
    ) -> Result<Process, RuntimeError> {
        let id = self.link.next_id();
        let (streams, theirs) = Streams::new(stdin, tty)
            .map_err(|source| RuntimeError::Sandbox { what: "making the standard streams".to_owned(), source })?;
        let (answer, exit) = self.link.start(id, request(id), theirs).await?;
        let signals = Signals::new({
            let link = self.link.clone();
            move |signal| link.signal(id, signal)
        });
        let terminal = answer.fds.into_iter().next();
        let (stdin, stdout, stderr) = match (streams, terminal) {
            (Streams::Terminal, Some(terminal)) => {
                let input = if stdin { terminal.try_clone().ok() } else { None };
                (input, terminal, None)
            }
            (Streams::Pipes { stdin, stdout, stderr }, _) => (stdin, stdout, Some(stderr)),
            (Streams::Terminal, None) => return Err(RuntimeError::NodeGone),
        };
        Ok(Process { stdin, stdout, stderr, signals, resize: None, exit, warnings: answer.warnings })
    }
}

#[async_trait]
impl Runtime for ProcessRuntime {
    async fn run_pod_sandbox(&self, config: SandboxConfig) -> Result<Sandbox, RuntimeError> {
        let ip = if config.host_network { Some(NODE_IP) } else { self.addresses().assign(&config.pod_uid) };
        let Some(ip) = ip else {
            let source = std::io::Error::other(format!("there are {MAX_PODS} pods already"));
            return Err(RuntimeError::Sandbox { what: format!("giving {} an address", config.pod_name), source });
        };
        let id = self.link.next_id();
        let pod_uid = config.pod_uid.clone();
        let made = self.link.request(id, Request::Sandbox { id, config, ip }, Vec::new()).await;
        if made.is_err() {
            self.addresses().release(&pod_uid);
        }
        made.map(|_| Sandbox { ip })
    }

    async fn remove_pod_sandbox(&self, pod_uid: &str) -> Result<(), RuntimeError> {
        let id = self.link.next_id();
        self.link.request(id, Request::Remove { id, pod_uid: pod_uid.to_owned() }, Vec::new()).await?;
        self.addresses().release(pod_uid);
        Ok(())
    }

    async fn start_container(&self, config: ContainerConfig) -> Result<Process, RuntimeError> {
        let (stdin, tty) = (config.stdin, config.tty);
        self.run(stdin, tty, |id| Request::Start { id, config: Box::new(config) }).await
    }

    async fn exec(&self, container_id: &str, config: ExecConfig) -> Result<Process, RuntimeError> {
        let (stdin, tty, container) = (config.stdin, config.tty, container_id.to_owned());
        self.run(stdin, tty, |id| Request::Exec { id, container, config }).await
    }
}

/// Our ends of a program's standard streams.
enum Streams {
    Pipes {
        stdin: Option<OwnedFd>,
        stdout: OwnedFd,
        stderr: OwnedFd,
    },
    /// The container opens it.
    Terminal,
}

impl Streams {
    /// Ours, and those to send.
    fn new(stdin: bool, tty: bool) -> std::io::Result<(Self, Vec<OwnedFd>)> {
        if tty {
            return Ok((Self::Terminal, Vec::new()));
        }
        let (their_input, input) = if stdin {
            let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
            (read, Some(write))
        } else {
            (open("/dev/null", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?, None)
        };
        let (stdout, their_output) = pipe2(OFlag::O_CLOEXEC)?;
        let (stderr, their_error) = pipe2(OFlag::O_CLOEXEC)?;
        Ok((Self::Pipes { stdin: input, stdout, stderr }, vec![their_input, their_output, their_error]))
    }
}
