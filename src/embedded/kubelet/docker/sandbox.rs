//! A pod's gate: made before its containers, removed after them.

use std::fs;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bollard::errors::Error;
use bollard::models::{ContainerCreateBody, HostConfig, Mount as EngineMount, MountType};
use bollard::query_parameters::{
    CreateContainerOptions, CreateImageOptionsBuilder, ListContainersOptionsBuilder, StartContainerOptions,
    WaitContainerOptions,
};
use futures::StreamExt as _;
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, accept4, bind, listen, socket};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::super::process::node::container::pod_files;
use super::super::process::sys;
use super::super::process::wire::Channel;
use super::super::runtime::{Mount, RuntimeError, Sandbox, SandboxConfig};
use super::gate::{self, Answer, Order};
use super::{DockerRuntime, POD, kernel, lock, refused, shown};

/// The image of gates: nothing at all, so that it needs no download.
pub const IMAGE: &str = "envctl.local/gate:1";
/// What a gate may take to answer: it has no more to do than to make an interface.
const ANSWER: Duration = Duration::from_secs(30);

/// A pod in the engine.
pub struct Pod {
    /// The gate's container.
    pub gate: String,
    /// Where its files are: `hosts`, `resolv.conf`.
    pub directory: PathBuf,
    channel: AsyncFd<Channel>,
}

impl Pod {
    /// Sends a signal to a process, by its number where the engine is. One that is gone is no error.
    pub fn signal(&self, pid: i32, signal: i32) {
        let _gate_gone = self.channel.get_ref().send(&Order::Signal { pid, signal }, &[]);
    }

    async fn ask(&self, order: &Order, fds: &[std::os::fd::BorrowedFd<'_>]) -> Result<(), RuntimeError> {
        let what = "asking the pod's gate";
        self.channel.get_ref().send(order, fds).map_err(kernel(what))?;
        let answer = self.channel.async_io(Interest::READABLE, Channel::try_receive::<Answer>);
        let late = |_| kernel(what)(std::io::ErrorKind::TimedOut.into());
        match tokio::time::timeout(ANSWER, answer).await.map_err(late)?.map_err(kernel(what))? {
            Some((answer, _)) => answer.map_err(RuntimeError::from),
            None => Err(kernel(what)(std::io::ErrorKind::UnexpectedEof.into())),
        }
    }
}

impl DockerRuntime {
    pub(super) async fn make_pod(&self, config: SandboxConfig) -> Result<Sandbox, RuntimeError> {
        if config.host_network {
            let why = "a pod that runs in the Docker engine cannot have the node's own network (hostNetwork)";
            return Err(kernel(format!("making {}", config.pod_name))(std::io::Error::other(why)));
        }
        let uid = config.pod_uid.clone();
        let Some(ip) = self.node.assign_address(&uid) else {
            let why = "there are as many pods already as a node may have";
            return Err(kernel(format!("giving {} an address", config.pod_name))(std::io::Error::other(why)));
        };
        match self.make_gate(&config, ip).await {
            Ok(pod) => {
                lock(&self.pods).insert(uid, Arc::new(pod));
                Ok(Sandbox { ip })
            }
            Err(error) => {
                // Also what was made of it.
                self.remove_pod(&uid).await?;
                Err(error)
            }
        }
    }

    async fn make_gate(&self, config: &SandboxConfig, ip: Ipv4Addr) -> Result<Pod, RuntimeError> {
        let network = self.network.get_or_try_init(|| self.node.network_namespace()).await?;
        let directory = self.directory_of(&config.pod_uid);
        fs::create_dir_all(&directory).map_err(kernel(format!("making {}", directory.display())))?;
        for (path, content) in pod_files(config, ip) {
            let file = directory.join(path.rsplit('/').next().unwrap_or(path));
            fs::write(&file, content).map_err(kernel(format!("writing {}", file.display())))?;
        }
        let pod = self.open_gate(config, directory).await?;
        let order =
            Order::Join { ip, own: pod.gate.clone(), label: format!("{POD}={}", config.pod_uid), owner: owner() };
        pod.ask(&order, &[network.as_fd()]).await?;
        Ok(pod)
    }

    /// Gives back the volumes that outlive pods, at the end of all: whoever has no privileges cannot remove what a program with any
    /// made there, and no pod is left whose gate could.
    pub(super) async fn give_back_volumes(&self) -> Result<(), RuntimeError> {
        let config = SandboxConfig {
            pod_uid: "volumes".to_owned(),
            pod_name: "no pod".to_owned(),
            hostname: "volumes".to_owned(),
            host_network: false,
            resolv_conf: String::new(),
            extra_hosts: Vec::new(),
            sysctls: std::collections::BTreeMap::new(),
            images: Vec::new(),
        };
        let directory = self.directory_of(&config.pod_uid);
        fs::create_dir_all(&directory).map_err(kernel(format!("making {}", directory.display())))?;
        let gate = self.open_gate(&config, directory).await?;
        let given = gate.ask(&Order::GiveBack { owner: owner() }, &[]).await;
        self.remove(&gate.gate).await?;
        given
    }

    /// Starts a gate and hears from it.
    async fn open_gate(&self, config: &SandboxConfig, directory: PathBuf) -> Result<Pod, RuntimeError> {
        let listener = listen_in(&directory).map_err(kernel("listening for the pod's gate"))?;
        let gate = self.create_gate(config, &directory.join("agent")).await?;
        let failed = |error| refused(format!("starting the gate of {}", config.pod_name), error);
        self.docker.start_container(&gate, None::<StartContainerOptions>).await.map_err(failed)?;
        let mut ended = std::pin::pin!(self.docker.wait_container(&gate, None::<WaitContainerOptions>));
        let watched = sys::watch(listener).map_err(kernel("listening for the pod's gate"))?;
        let accepting = watched.async_io(Interest::READABLE, |listener: &OwnedFd| {
            Ok(accept4(listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK)?)
        });
        let accepted = tokio::select! {
            accepted = tokio::time::timeout(ANSWER, accepting) => accepted,
            end = ended.next() => {
                let why = match end {
                    Some(Err(Error::DockerContainerWaitError { code, .. })) => format!("it ended with code {code}"),
                    Some(Err(error)) => super::words(error),
                    _ => "it ended".to_owned(),
                };
                return Err(kernel(format!("starting the gate of {}", config.pod_name))(std::io::Error::other(why)));
            }
        };
        let late = |_| kernel("waiting for the pod's gate")(std::io::ErrorKind::TimedOut.into());
        let accepted = accepted.map_err(late)?.map_err(kernel("waiting for the pod's gate"))?;
        let channel = sys::watch(Channel::from_fd(sys::adopt(accepted))).map_err(kernel("hearing the pod's gate"))?;
        drop(watched);
        Ok(Pod { gate, directory, channel })
    }

    async fn create_gate(&self, config: &SandboxConfig, agent: &std::path::Path) -> Result<String, RuntimeError> {
        let mut mounts: Vec<EngineMount> = self.program.mounts.iter().map(engine_mount).collect();
        let bind = |source: PathBuf, target: &str| {
            engine_mount(&Mount { source, target: PathBuf::from(target), read_only: false })
        };
        mounts.push(bind(agent.to_owned(), gate::SOCKET));
        mounts.push(bind(self.socket.clone(), gate::ENGINE));
        // Only who has no privileges can be left with files that are not his to remove.
        if !nix::unistd::geteuid().is_root() {
            let of_pod = self.place.volumes.join("pods").join(&config.pod_uid);
            for (files, target) in [(of_pod, gate::POD_FILES), (self.place.volumes.join("volumes"), gate::VOLUMES)] {
                fs::create_dir_all(&files).map_err(kernel(format!("making {}", files.display())))?;
                mounts.push(bind(files, target));
            }
        }
        let body = ContainerCreateBody {
            image: Some(IMAGE.to_owned()),
            entrypoint: self.program.argv.first().map(|program| vec![program.clone()]),
            cmd: Some(self.program.argv[1..].to_vec()),
            user: Some("0:0".to_owned()),
            hostname: Some(config.hostname.clone()),
            labels: Some(self.labels(&config.pod_uid)),
            host_config: Some(HostConfig {
                network_mode: Some("none".to_owned()),
                ipc_mode: Some("shareable".to_owned()),
                // Where it can end a program by the number that the engine knows.
                pid_mode: Some("host".to_owned()),
                cap_add: Some(vec!["NET_ADMIN".to_owned(), "SYS_ADMIN".to_owned()]),
                mounts: Some(mounts),
                sysctls: Some(config.sysctls.clone().into_iter().collect()),
                ..quiet()
            }),
            ..ContainerCreateBody::default()
        };
        // Once for all who come at the same time.
        self.gate_image
            .get_or_try_init(|| async {
                match self.docker.inspect_image(IMAGE).await {
                    Ok(_there) => Ok(()),
                    Err(_absent) => self.make_gate_image().await,
                }
            })
            .await?;
        let failed = |error| refused(format!("creating the gate of {}", config.pod_name), error);
        let created = match self.docker.create_container(None::<CreateContainerOptions>, body.clone()).await {
            // Another session's end removed it meanwhile.
            Err(Error::DockerResponseServerError { status_code: 404, .. }) => {
                self.make_gate_image().await?;
                self.docker.create_container(None::<CreateContainerOptions>, body).await
            }
            created => created,
        };
        Ok(created.map_err(failed)?.id)
    }

    /// An image of no files, by importing an empty archive.
    async fn make_gate_image(&self) -> Result<(), RuntimeError> {
        let (repository, tag) = IMAGE.rsplit_once(':').unwrap_or((IMAGE, "1"));
        let options = CreateImageOptionsBuilder::new().from_src("-").repo(repository).tag(tag).build();
        let nothing = bollard::body_full(vec![0; 1024].into());
        let mut making = self.docker.create_image(Some(options), Some(nothing), None);
        while let Some(step) = making.next().await {
            step.map_err(|error| refused("making the image of gates", error))?;
        }
        Ok(())
    }

    /// Removes it, unless another session has gates.
    pub(super) async fn forget_gate_image(&self) {
        let _in_use =
            self.docker.remove_image(IMAGE, None::<bollard::query_parameters::RemoveImageOptions>, None).await;
    }

    fn directory_of(&self, pod_uid: &str) -> PathBuf {
        self.place.directory.join(pod_uid)
    }

    pub(super) async fn remove_pod(&self, uid: &str) -> Result<(), RuntimeError> {
        let pod = lock(&self.pods).get(uid).cloned();
        let label = format!("{POD}={uid}");
        let filters = std::collections::HashMap::from([("label", vec![label.as_str()])]);
        let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        let listed = self.docker.list_containers(Some(options)).await;
        let listed = listed.map_err(|error| refused("listing the pod's containers", error))?;
        let gate = pod.as_ref().map(|pod| pod.gate.clone());
        let ids = listed.into_iter().filter_map(|container| container.id);
        let removals = ids.filter(|id| Some(id) != gate.as_ref()).map(|id| async move { self.remove(&id).await });
        for removed in futures::future::join_all(removals).await {
            removed?;
        }
        if let Some(pod) = pod {
            // A gate that is gone already leaves the files to the next one who looks.
            if !nix::unistd::geteuid().is_root()
                && let Err(error) = pod.ask(&Order::Leave, &[]).await
            {
                tracing::warn!(%error, pod = uid, "a pod's files may be left to root");
            }
            self.remove(&pod.gate).await?;
        }
        lock(&self.pods).remove(uid);
        lock(&self.containers).retain(|_, container| container.pod_uid != uid);
        self.node.release_address(uid);
        match fs::remove_dir_all(self.directory_of(uid)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(kernel("removing a pod's files".to_owned())(error))
            }
            _ => Ok(()),
        }
    }
}

/// Whose session it is.
fn owner() -> (u32, u32) {
    (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw())
}

/// What all containers have in common.
pub(super) fn quiet() -> HostConfig {
    HostConfig {
        // The kubelet keeps the log.
        log_config: Some(bollard::models::HostConfigLogConfig { typ: Some("none".to_owned()), config: None }),
        // Files of the host's are mounted: SELinux has other labels for them.
        security_opt: Some(vec!["label=disable".to_owned()]),
        ..HostConfig::default()
    }
}

pub(super) fn engine_mount(mount: &Mount) -> EngineMount {
    EngineMount {
        typ: Some(MountType::BIND),
        source: Some(shown(&mount.source)),
        target: Some(shown(&mount.target)),
        read_only: Some(mount.read_only),
        ..EngineMount::default()
    }
}

/// A socket in the directory, by its descriptor: `sun_path` holds 107 bytes, a state directory may be longer.
fn listen_in(directory: &std::path::Path) -> std::io::Result<OwnedFd> {
    let listener =
        socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
    let opened = fs::File::open(directory)?;
    let address = UnixAddr::new(format!("/proc/self/fd/{}/agent", opened.as_raw_fd()).as_str())?;
    bind(listener.as_raw_fd(), &address)?;
    listen(&listener, Backlog::new(1)?)?;
    Ok(listener)
}
