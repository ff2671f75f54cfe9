//! What the kubelet asks of whatever runs containers: the Container Runtime Interface's words.
//!
//! Implemented by [`super::process`] (sandboxed processes) and [`super::docker`] (an engine's containers), and by
//! [`super::runtimes`], which knows which of the two a pod is for. The runtime owns addresses, namespaces and processes; it knows
//! nothing of the Kubernetes API.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::PodSpec;
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::watch;

use super::image::{Image, Rootfs};

/// Runs pod sandboxes and the containers in them. All calls may run concurrently.
#[async_trait]
pub trait Runtime: Send + Sync + 'static {
    /// Makes a pod's namespaces and network. The address is the runtime's to choose.
    async fn run_pod_sandbox(&self, config: SandboxConfig) -> Result<Sandbox, RuntimeError>;

    /// Ends what still runs in the pod and removes its namespaces, interfaces and writable layers. Idempotent.
    async fn remove_pod_sandbox(&self, pod_uid: &str) -> Result<(), RuntimeError>;

    /// Starts a container in a sandbox; returns when its program has been exec'd (or could not be).
    async fn start_container(&self, config: ContainerConfig) -> Result<Process, RuntimeError>;

    /// Starts another program in a running container.
    async fn exec(&self, container_id: &str, config: ExecConfig) -> Result<Process, RuntimeError>;

    /// What of a pod's spec is accepted without being enforced.
    fn not_enforced(&self, spec: &PodSpec) -> Vec<&'static str> {
        super::unenforced::not_enforced(spec)
    }

    /// An image that the node's table doesn't have, for a container of this pod. `None`: the pod is run by something that knows no
    /// other images.
    async fn image(&self, pod_uid: &str, name: &str, pull: Pull) -> Option<Result<Pulled, PullError>> {
        let _only_the_tables = (pod_uid, name, pull);
        None
    }
}

/// `imagePullPolicy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pull {
    /// Whatever is there already.
    Always,
    /// Only what isn't there.
    IfNotPresent,
    /// Nothing.
    Never,
}

/// An image that can be run.
#[derive(Debug, Clone)]
pub struct Pulled {
    /// It.
    pub image: Image,
    /// Whether it was pulled just now.
    pub fresh: bool,
}

/// Why there is no image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PullError {
    /// It isn't there and may not be pulled.
    #[error("it is not present and may not be pulled")]
    Absent,
    /// It could not be pulled, in the words of whoever tried.
    #[error("{0}")]
    Failed(String),
}

/// The node's own network, where pods and service addresses are: reached by the agent,
/// which stays in the host's network, through sockets that the runtime makes there.
#[async_trait]
pub trait NodeNetwork: Send + Sync + 'static {
    /// The address by which pods reach the node.
    fn node_ip(&self) -> Ipv4Addr;
    /// Connects to a pod or service address. The caller owns the deadline.
    async fn connect(&self, address: SocketAddrV4) -> std::io::Result<TcpStream>;
    /// Listens on an address of the node or of the service range.
    async fn listen(&self, address: SocketAddrV4) -> std::io::Result<TcpListener>;
    /// The same for UDP.
    async fn bind_udp(&self, address: SocketAddrV4) -> std::io::Result<UdpSocket>;
}

/// What a pod sandbox is made from.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SandboxConfig {
    /// The pod's `metadata.uid`, unique on the node for its life.
    pub pod_uid: String,
    /// For messages only: `namespace/name`.
    pub pod_name: String,
    /// The pod's host name in its UTS namespace.
    pub hostname: String,
    /// `hostNetwork: true`: the node's network instead of an own one.
    pub host_network: bool,
    /// The whole content of the pod's `/etc/resolv.conf`.
    pub resolv_conf: String,
    /// Lines to add to the pod's `/etc/hosts` (`hostAliases`); the runtime adds localhost and the pod's own.
    pub extra_hosts: Vec<(String, Vec<String>)>,
    /// `securityContext.sysctls`.
    pub sysctls: BTreeMap<String, String>,
    /// The images of all its containers, by which it is chosen what runs the pod.
    #[serde(skip)]
    pub images: Vec<String>,
}

/// A pod sandbox that runs.
#[derive(Debug, Clone)]
pub struct Sandbox {
    /// The pod's address.
    pub ip: Ipv4Addr,
}

/// What a container is made from, everything already resolved.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ContainerConfig {
    /// Unique on the node for ever: a restarted container has a new one.
    pub id: String,
    /// The sandbox it joins.
    pub pod_uid: String,
    /// Its root.
    pub rootfs: Rootfs,
    /// Program and arguments; the program is looked up in the `PATH` of `env`, inside the container.
    pub argv: Vec<String>,
    /// The whole environment.
    pub env: Vec<(String, String)>,
    /// Where it starts; created in the writable layer if absent.
    pub working_dir: PathBuf,
    /// Who it runs as.
    pub user: RunAs,
    /// Binds, in order; mount points are created in the writable layer.
    pub mounts: Vec<Mount>,
    /// `securityContext.readOnlyRootFilesystem`.
    pub read_only_root: bool,
    /// Whether standard input is a pipe rather than `/dev/null`.
    pub stdin: bool,
    /// Whether the standard streams are one pseudo-terminal.
    pub tty: bool,
    /// What it may use at most; enforced by an engine only.
    #[serde(skip)]
    pub limits: Limits,
}

/// `resources.limits`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// Bytes.
    pub memory: Option<u64>,
    /// Thousandths of a processor.
    pub milli_cpus: Option<u64>,
}

/// Another program in a running container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ExecConfig {
    /// Program and arguments. Environment, directory and user are the container's.
    pub argv: Vec<String>,
    /// Whether standard input is a pipe rather than `/dev/null`.
    pub stdin: bool,
    /// Whether the standard streams are one pseudo-terminal.
    pub tty: bool,
}

/// Who a process runs as.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RunAs {
    /// A user name or number; `None` is the caller's own.
    pub user: Option<String>,
    /// `runAsGroup`; `None` is the user's own group.
    pub gid: Option<u32>,
    /// `supplementalGroups` and `fsGroup`.
    pub supplemental_groups: Vec<u32>,
}

/// A host directory or file seen in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// On the host; must exist.
    pub source: PathBuf,
    /// In the container, absolute.
    pub target: PathBuf,
    /// Whether writes fail with EROFS.
    pub read_only: bool,
}

/// A program that was started. Dropping it does not end the program.
#[derive(Debug)]
pub struct Process {
    /// Write end, if asked for. With a tty, the terminal's other side.
    pub stdin: Option<OwnedFd>,
    /// Read end. With a tty, the terminal's other side.
    pub stdout: OwnedFd,
    /// Read end; `None` with a tty.
    pub stderr: Option<OwnedFd>,
    /// Sends signals to it.
    pub signals: Signals,
    /// Sets the terminal's size, where the descriptors above are no terminal themselves.
    pub resize: Option<Resize>,
    /// Set once, when it has ended and (for a container) everything it started is gone.
    pub exit: watch::Receiver<Option<ExitStatus>>,
    /// Where what was asked for could not be given (for example another uid without root): one sentence each, for an Event.
    pub warnings: Vec<String>,
}

/// Sets the size of a terminal that is elsewhere: columns and rows.
#[derive(Clone)]
pub struct Resize(std::sync::Arc<dyn Fn(u16, u16) + Send + Sync>);

impl Resize {
    /// `resize` is given columns and rows; a terminal that is gone is not an error.
    pub fn new(resize: impl Fn(u16, u16) + Send + Sync + 'static) -> Self {
        Self(std::sync::Arc::new(resize))
    }

    /// Does it.
    pub fn to(&self, columns: u16, rows: u16) {
        (self.0)(columns, rows);
    }
}

impl std::fmt::Debug for Resize {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Resize")
    }
}

/// Sends signals to one process, as long as it runs.
#[derive(Clone)]
pub struct Signals(std::sync::Arc<dyn Fn(i32) + Send + Sync>);

impl Signals {
    /// `send` is given the signal's number; a process that is gone is not an error.
    pub fn new(send: impl Fn(i32) + Send + Sync + 'static) -> Self {
        Self(std::sync::Arc::new(send))
    }

    /// Sends `signal` to the program itself; `SIGKILL` ends everything in the container.
    pub fn send(&self, signal: i32) {
        (self.0)(signal);
    }
}

impl std::fmt::Debug for Signals {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Signals")
    }
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExitStatus {
    /// By itself.
    Code(i32),
    /// By a signal.
    Signal(i32),
    /// By the kernel, for using more memory than it may.
    OutOfMemory,
}

impl ExitStatus {
    /// As a shell and Kubernetes count: 128 + signal.
    pub fn code(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128 + signal,
            Self::OutOfMemory => 128 + libc::SIGKILL,
        }
    }
}

fn not_found(program: &str) -> String {
    if program.contains('/') {
        return format!("stat {program}: no such file or directory");
    }
    "executable file not found in $PATH".to_owned()
}

/// A kernel's answer as Go says it (`syscall.Errno.Error`): in small letters, without its number.
fn go_words(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

/// Why the runtime could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The program is not in the container's `PATH`, or its path does not exist: in the words of Go's `os/exec.LookPath`, as runc has them.
    #[error("exec: \"{program}\": {}", not_found(program))]
    CommandNotFound {
        /// As given.
        program: String,
        /// `$PATH`'s value, or the directory.
        searched: String,
    },
    /// It exists but the kernel would not run it.
    #[error("exec: \"{program}\": {}", go_words(source))]
    NotExecutable {
        /// As given.
        program: String,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// No such user on this machine.
    #[error("unable to find user {0}: no matching entries in passwd file")]
    NoSuchUser(String),
    /// No such container or sandbox.
    #[error("{0} not found")]
    NotFound(String),
    /// Namespaces, mounts or network could not be made.
    #[error("{what}: {source}")]
    Sandbox {
        /// What was being attempted, and on what.
        what: String,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// The node process has ended: nothing runs any more.
    #[error("the node process has ended")]
    NodeGone,
}
