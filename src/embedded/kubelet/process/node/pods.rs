//! The node's state and its event loop: which pods there are, which children run, and what each answer means.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::libc;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use super::super::super::runtime::{ContainerConfig, ExecConfig, ExitStatus, SandboxConfig};
use super::super::addresses::NODE_IP;
use super::super::sys::{self, clone};
use super::super::wire::{Channel, During, Failure, Progress, Reply, Request, RequestId, SOCKETS_AT_ONCE, SocketKind};
use super::container::{self, Kept, Start, pod_files};
use super::launch::{KILL_PROGRAM, Stdio};
use super::namespaces::{PODS, PodNamespaces, Privilege, own};
use super::rootfs::layers::Step;
use super::{keep_only, sandbox};

/// The event of the control socket; the others are `Token`s.
const CONTROL: u64 = u64::MAX;

/// A pod.
#[derive(Debug)]
struct Pod {
    /// Absent while its child makes them.
    namespaces: Option<PodNamespaces>,
    files: Vec<(&'static str, String)>,
    directory: PathBuf,
    /// The request to remove it, while what runs in it ends.
    removal: Vec<RequestId>,
}

/// A child of the node, known by the request that made it.
#[derive(Debug)]
struct Child {
    pidfd: OwnedFd,
    /// Closed when the child has nothing more to say.
    channel: Channel,
    role: Role,
    pod_uid: String,
    stage: Stage,
}

#[derive(Debug)]
enum Role {
    Sandbox,
    Container { name: String, kept: Kept },
    Exec,
}

/// How far a child has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The request is not answered.
    Starting,
    /// Its program runs.
    Running,
    /// Its program has ended.
    Ended(ExitStatus),
    /// The request has been answered, and nothing is to be reported of the child's end.
    Done,
}

/// Everything the node knows.
pub struct Node<'a> {
    control: &'a Channel,
    epoll: Epoll,
    privilege: Privilege,
    host: Vec<Step>,
    pods: HashMap<String, Pod>,
    children: HashMap<RequestId, Child>,
    /// Running containers by their names.
    containers: HashMap<String, RequestId>,
}

impl<'a> Node<'a> {
    /// A node without pods.
    pub fn new(control: &'a Channel, privilege: Privilege, host: Vec<Step>) -> nix::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(control, EpollEvent::new(EpollFlags::EPOLLIN, CONTROL))?;
        let (pods, children, containers) = (HashMap::new(), HashMap::new(), HashMap::new());
        Ok(Self { control, epoll, privilege, host, pods, children, containers })
    }

    /// Handles events until the agent is gone.
    ///
    /// # Errors
    /// When the control socket or epoll breaks, which means the same.
    pub fn serve(&mut self) -> io::Result<()> {
        loop {
            let mut events = [EpollEvent::empty(); 32];
            let count = match self.epoll.wait(&mut events, EpollTimeout::NONE) {
                Ok(count) => count,
                Err(Errno::EINTR) => continue,
                Err(error) => return Err(error.into()),
            };
            for event in &events[..count] {
                if event.data() == CONTROL {
                    match self.control.receive::<Request>()? {
                        Some((request, fds)) => self.handle(request, fds)?,
                        None => return Ok(()),
                    }
                } else {
                    let (id, what) = (event.data() >> 1, event.data() & 1);
                    if what == 0 { self.hear(id)? } else { self.bury(id)? }
                }
            }
        }
    }

    fn reply(&self, reply: &Reply, fds: &[OwnedFd]) -> io::Result<()> {
        let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        self.control.send(reply, &fds)
    }

    fn handle(&mut self, request: Request, fds: Vec<OwnedFd>) -> io::Result<()> {
        let (id, outcome) = match request {
            Request::Sandbox { id, config, ip } => (id, self.make_pod(id, &config, ip)),
            Request::Start { id, config } => (id, self.start(id, &config, fds)),
            Request::Exec { id, container, config } => (id, self.exec(id, &container, &config, fds)),
            Request::Remove { id, pod_uid } => return self.remove(id, &pod_uid),
            Request::Signal { process, signal } => {
                self.signal(process, signal);
                return Ok(());
            }
            Request::Sockets { id, kind, count } => {
                return match sockets(kind, count) {
                    Ok(sockets) => self.reply(&Reply::Done { id }, &sockets),
                    Err(failure) => self.reply(&Reply::Failed { id, failure }, &[]),
                };
            }
            Request::Network { id } => {
                return match own(c"net") {
                    Ok(network) => self.reply(&Reply::Done { id }, &[network]),
                    Err(failure) => self.reply(&Reply::Failed { id, failure }, &[]),
                };
            }
        };
        match outcome {
            Ok(()) => Ok(()),
            Err(failure) => self.reply(&Reply::Failed { id, failure }, &[]),
        }
    }

    fn make_pod(&mut self, id: RequestId, config: &SandboxConfig, ip: Ipv4Addr) -> Result<(), Failure> {
        let ip = if config.host_network { NODE_IP } else { ip };
        if self.pods.contains_key(&config.pod_uid) {
            let what = format!("making pod {} ({}) again", config.pod_name, config.pod_uid);
            return Err(Failure::Sandbox { what, errno: libc::EEXIST });
        }
        let directory = Path::new(PODS).join(id.to_string());
        let shm = directory.join("shm");
        fs::create_dir_all(&shm)
            .and_then(|()| fs::set_permissions(&shm, fs::Permissions::from_mode(0o1777)))
            .during(|| format!("creating {}", shm.display()))?;
        let uid = config.pod_uid.clone();
        self.fork(id, 0, Role::Sandbox, uid.clone(), |channel| {
            keep_only(channel, []);
            sandbox::run(channel, config, ip)
        })?;
        let pod = Pod { namespaces: None, files: pod_files(config, ip), directory, removal: Vec::new() };
        self.pods.insert(uid, pod);
        Ok(())
    }

    fn start(&mut self, id: RequestId, config: &ContainerConfig, fds: Vec<OwnedFd>) -> Result<(), Failure> {
        let missing = || Failure::NotFound(format!("pod sandbox {}", config.pod_uid));
        let pod = self.pods.get(&config.pod_uid).filter(|pod| pod.removal.is_empty()).ok_or_else(missing)?;
        let namespaces = pod.namespaces.as_ref().ok_or_else(missing)?;
        let shm = pod.directory.join("shm");
        let stdio = streams(config.tty, fds)?;
        let start =
            Start { config, namespaces, files: &pod.files, shm: &shm, host: &self.host, privilege: self.privilege };
        let role = Role::Container { name: config.id.clone(), kept: Kept::from(config) };
        let mut keep: Vec<i32> = [Some(&namespaces.ipc), Some(&namespaces.uts), namespaces.net.as_ref()]
            .into_iter()
            .flatten()
            .map(AsRawFd::as_raw_fd)
            .collect();
        keep.extend(stdio_numbers(&stdio));
        let child = fork(clone::NEWNS | clone::NEWPID, role, config.pod_uid.clone(), |channel| {
            let _cosmetic = nix::sys::prctl::set_name(c"envctl-reaper");
            keep_only(channel, keep);
            container::run(channel, &start, stdio)
        })?;
        self.adopt(id, child)?;
        self.containers.insert(config.id.clone(), id);
        Ok(())
    }

    fn exec(&mut self, id: RequestId, container: &str, config: &ExecConfig, fds: Vec<OwnedFd>) -> Result<(), Failure> {
        let running = self
            .containers
            .get(container)
            .and_then(|id| self.children.get(id))
            .filter(|child| child.stage == Stage::Running)
            .ok_or_else(|| Failure::NotFound(format!("container {container}")))?;
        let Role::Container { kept, .. } = &running.role else {
            return Err(Failure::NotFound(format!("container {container}")));
        };
        let stdio = streams(config.tty, fds)?;
        let (pidfd, privilege) = (running.pidfd.as_fd(), self.privilege);
        let mut keep = vec![pidfd.as_raw_fd()];
        keep.extend(stdio_numbers(&stdio));
        let child = fork(0, Role::Exec, running.pod_uid.clone(), |channel| {
            keep_only(channel, keep);
            container::exec(channel, pidfd, kept, config, privilege, stdio)
        })?;
        self.adopt(id, child)
    }

    fn fork(
        &mut self,
        id: RequestId,
        flags: u64,
        role: Role,
        pod_uid: String,
        body: impl FnOnce(&Channel) -> i32,
    ) -> Result<(), Failure> {
        let child = fork(flags, role, pod_uid, body)?;
        self.adopt(id, child)
    }

    fn adopt(&mut self, id: RequestId, child: Child) -> Result<(), Failure> {
        self.epoll
            .add(&child.channel, EpollEvent::new(EpollFlags::EPOLLIN, id << 1))
            .and_then(|()| self.epoll.add(&child.pidfd, EpollEvent::new(EpollFlags::EPOLLIN, (id << 1) | 1)))
            .during(|| "watching a child".to_owned())?;
        self.children.insert(id, child);
        Ok(())
    }

    fn signal(&self, process: RequestId, signal: i32) {
        let Some(child) = self.children.get(&process) else { return };
        let signal = match child.role {
            Role::Exec if signal == libc::SIGKILL => KILL_PROGRAM,
            _ => signal,
        };
        let _ended = sys::pidfd_send_signal(child.pidfd.as_fd(), signal);
    }

    /// Takes in what a child reports.
    fn hear(&mut self, id: RequestId) -> io::Result<()> {
        loop {
            let Some(child) = self.children.get_mut(&id) else { return Ok(()) };
            let (progress, mut fds) = match child.channel.try_receive::<Progress>() {
                Ok(Some(message)) => message,
                Ok(None) => {
                    // Its pidfd tells the rest.
                    let _gone = self.epoll.delete(&child.channel);
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            match progress {
                Progress::Made => {
                    child.stage = Stage::Done;
                    let pod = self.pods.get_mut(&child.pod_uid);
                    if let (Some(pod), 3) = (pod, fds.len()) {
                        let (uts, ipc, net) = (fds.remove(2), fds.remove(1), Some(fds.remove(0)));
                        pod.namespaces = Some(PodNamespaces { net, ipc, uts });
                    }
                    self.reply(&Reply::Done { id }, &[])?;
                }
                Progress::Started { warnings } => {
                    child.stage = Stage::Running;
                    self.reply(&Reply::Started { id, warnings }, &fds)?;
                }
                Progress::Failed(failure) => {
                    child.stage = Stage::Done;
                    self.fail(id, failure)?;
                }
                Progress::Ended(status) => child.stage = Stage::Ended(status),
            }
        }
    }

    /// Answers the request of a child that could not do it.
    fn fail(&mut self, id: RequestId, failure: Failure) -> io::Result<()> {
        if let Some(child) = self.children.get(&id)
            && matches!(child.role, Role::Sandbox)
            && let Some(pod) = self.pods.remove(&child.pod_uid)
        {
            let _best_effort = fs::remove_dir_all(&pod.directory);
            for removal in pod.removal {
                self.reply(&Reply::Done { id: removal }, &[])?;
            }
        }
        self.reply(&Reply::Failed { id, failure }, &[])
    }

    /// A child has ended, and with a container's all that was in it.
    fn bury(&mut self, id: RequestId) -> io::Result<()> {
        self.hear(id)?;
        let Some(child) = self.children.get(&id) else { return Ok(()) };
        if child.stage == Stage::Starting {
            let what = "a child was killed while setting up".to_owned();
            self.fail(id, Failure::Sandbox { what, errno: libc::ECHILD })?;
        }
        let Some(child) = self.children.remove(&id) else { return Ok(()) };
        let _gone = self.epoll.delete(&child.channel);
        let _gone = self.epoll.delete(&child.pidfd);
        if let Role::Container { name, .. } = &child.role {
            self.containers.remove(name);
        }
        let exited = match child.stage {
            Stage::Running => Some(ExitStatus::Signal(libc::SIGKILL)),
            Stage::Ended(status) => Some(status),
            Stage::Starting | Stage::Done => None,
        };
        if let Some(status) = exited {
            self.reply(&Reply::Exited { process: id, status }, &[])?;
        }
        let pod_uid = child.pod_uid.clone();
        drop(child);
        self.finish_removal(&pod_uid)
    }

    fn remove(&mut self, id: RequestId, pod_uid: &str) -> io::Result<()> {
        let Some(pod) = self.pods.get_mut(pod_uid) else { return self.reply(&Reply::Done { id }, &[]) };
        pod.removal.push(id);
        for child in self.children.values().filter(|child| child.pod_uid == pod_uid) {
            // An exec ends with its container, and then says so itself.
            if !matches!(child.role, Role::Exec) {
                let _ended = sys::pidfd_send_signal(child.pidfd.as_fd(), libc::SIGKILL);
            }
        }
        self.finish_removal(pod_uid)
    }

    fn finish_removal(&mut self, pod_uid: &str) -> io::Result<()> {
        if self.pods.get(pod_uid).is_none_or(|pod| pod.removal.is_empty())
            || self.children.values().any(|child| child.pod_uid == pod_uid)
        {
            return Ok(());
        }
        let Some(Pod { namespaces, directory, removal, .. }) = self.pods.remove(pod_uid) else { return Ok(()) };
        // Before the answer: whoever gets it may count on the pod's being gone.
        drop(namespaces);
        let _best_effort = fs::remove_dir_all(&directory);
        for id in removal {
            self.reply(&Reply::Done { id }, &[])?;
        }
        Ok(())
    }
}

fn fork(flags: u64, role: Role, pod_uid: String, body: impl FnOnce(&Channel) -> i32) -> Result<Child, Failure> {
    let (channel, childs) = Channel::pair().during(|| "making a socket pair".to_owned())?;
    let (_pid, pidfd) = sys::fork(flags, || {
        sys::reap_children_oneself();
        body(&childs)
    })
    .during(|| "forking a child".to_owned())?;
    Ok(Child { pidfd, channel, role, pod_uid, stage: Stage::Starting })
}

fn streams(tty: bool, fds: Vec<OwnedFd>) -> Result<Stdio, Failure> {
    if tty {
        return Ok(Stdio::Terminal);
    }
    let fds = fds.try_into();
    fds.map(Stdio::Pipes)
        .map_err(|_| Failure::Sandbox { what: "receiving standard streams".to_owned(), errno: libc::EINVAL })
}

fn stdio_numbers(stdio: &Stdio) -> Vec<i32> {
    match stdio {
        Stdio::Pipes(pipes) => pipes.iter().map(AsRawFd::as_raw_fd).collect(),
        Stdio::Terminal => Vec::new(),
    }
}

/// Unconnected sockets in the node's network, non-blocking.
fn sockets(kind: SocketKind, count: usize) -> Result<Vec<OwnedFd>, Failure> {
    let kind = match kind {
        SocketKind::Tcp => SockType::Stream,
        SocketKind::Udp => SockType::Datagram,
    };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    (0..count.min(SOCKETS_AT_ONCE))
        .map(|_| socket(AddressFamily::Inet, kind, flags, None))
        .collect::<nix::Result<_>>()
        .during(|| "making sockets".to_owned())
}
