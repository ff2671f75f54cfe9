//! The gate of a pod that runs in Docker: `envctl __gate`, the first container of each such pod.
//!
//! Its network namespace is the pod's. It has what the agent lacks, privileges in the engine's namespaces, and the agent
//! has what it lacks, the node's network namespace, which it sends over the socket that both share. So it is the gate that makes the pod's
//! interface, one end on the node, also where the agent is an ordinary user. Then it only waits for the agent's end: whatever
//! ends the agent closes the socket, and the gate removes the pod's containers and itself.
//!
//! One thread, no runtime, nothing of the image that it is made from: the program and its libraries are seen from the host.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::ExitCode;

use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use serde::{Deserialize, Serialize};

use super::super::process::node::netlink::Netlink;
use super::super::process::sys;
use super::super::process::wire::{Channel, During, Failure};
use super::http;

/// Where the gate finds what it was given.
pub const PLACE: &str = "/.envctl";
/// The agent's socket.
pub const SOCKET: &str = "/.envctl/agent";
/// The engine's socket.
pub const ENGINE: &str = "/.envctl/engine";
/// The directories that the pod's containers write to.
pub const FILES: &str = "/.envctl/files";
/// Those of the pod alone; what is beside them outlives it.
pub const POD_FILES: &str = "/.envctl/files/pod";
/// The volumes that outlive pods.
pub const VOLUMES: &str = "/.envctl/files/volumes";

/// From the agent to a gate.
#[derive(Debug, Serialize, Deserialize)]
pub enum Order {
    /// First of all. Descriptor: the node's network namespace. Answered by [`Answer`].
    Join {
        /// The pod's address.
        ip: Ipv4Addr,
        /// The gate's own container.
        own: String,
        /// The label that all of the pod's containers have, as `key=value`.
        label: String,
        /// Whose files these are.
        owner: (u32, u32),
    },
    /// Send a signal to a process of the pod, by its number where the engine is. Not answered.
    Signal {
        /// The process.
        pid: i32,
        /// The signal's number.
        signal: i32,
    },
    /// The pod's containers are gone: give back its files. Answered by [`Answer`].
    Leave,
    /// Instead of `Join`, to a gate of no pod: give back all files. Answered by [`Answer`].
    GiveBack {
        /// Whose they are.
        owner: (u32, u32),
    },
}

/// From a gate to the agent.
pub type Answer = Result<(), Failure>;

/// The gate's whole life.
pub fn main() -> ExitCode {
    let Ok(channel) = dial() else { return ExitCode::from(2) };
    match serve(&channel) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_agent_gone_too_early) => ExitCode::from(1),
    }
}

fn dial() -> io::Result<Channel> {
    let stream = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)?;
    connect(stream.as_raw_fd(), &UnixAddr::new(SOCKET)?)?;
    Ok(Channel::from_fd(stream))
}

fn serve(channel: &Channel) -> io::Result<()> {
    let (ip, own, label, owner, fds) = match channel.receive::<Order>()? {
        Some((Order::Join { ip, own, label, owner }, fds)) => (ip, own, label, owner, fds),
        Some((Order::GiveBack { owner }, _)) => {
            give_back(Path::new(FILES), owner);
            return channel.send(&Answer::Ok(()), &[]);
        }
        _ => return Ok(()),
    };
    let joined: Answer = join(ip, fds);
    channel.send(&joined, &[])?;
    loop {
        // A broken socket is an agent that is gone, too.
        match channel.receive::<Order>().unwrap_or(None) {
            Some((Order::Leave, _)) => {
                give_back(Path::new(POD_FILES), owner);
                channel.send(&Answer::Ok(()), &[])?;
            }
            Some((Order::Signal { pid, signal }, _)) => send(pid, signal),
            Some((Order::Join { .. } | Order::GiveBack { .. }, _)) => {}
            None => break,
        }
    }
    let engine = Path::new(ENGINE);
    for id in http::list(engine, &label)?.iter().filter(|id| **id != own) {
        http::remove(engine, id)?;
    }
    give_back(Path::new(FILES), owner);
    // Ends this process.
    http::remove(engine, &own)
}

fn send(pid: i32, signal: i32) {
    let Ok(signal) = nix::sys::signal::Signal::try_from(signal) else { return };
    if pid > 1 {
        // One that is gone needs none.
        let _gone = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal);
    }
}

/// Makes the pod's interface: one end on the node, the other here.
fn join(ip: Ipv4Addr, fds: Vec<OwnedFd>) -> Answer {
    let lacking = || Failure::Sandbox { what: "being given the node's network".to_owned(), errno: nix::libc::EBADMSG };
    let node = fds.into_iter().next().ok_or_else(lacking)?;
    let own = fs::File::open("/proc/self/ns/net").during(|| "opening the pod's network namespace".to_owned())?;
    setns(node.as_fd(), CloneFlags::CLONE_NEWNET).during(|| {
        "entering the node's network from the Docker engine (an engine without root, or on another machine, can't)"
            .to_owned()
    })?;
    let opened = Netlink::open();
    setns(own.as_fd(), CloneFlags::CLONE_NEWNET).during(|| "returning to the pod's network".to_owned())?;
    let mut there = opened.during(|| "opening rtnetlink on the node".to_owned())?;
    there.add_pod_link(own.as_fd(), ip).during(|| "making the pod's interface".to_owned())?;
    Netlink::open().and_then(|mut pod| pod.set_up_pod(ip)).during(|| format!("giving the pod its address {ip}"))?;
    // What is left to do needs none of what that needed.
    drop_capabilities();
    Ok(())
}

/// `CAP_CHOWN`, `CAP_DAC_OVERRIDE`, `CAP_FOWNER`, `CAP_KILL`.
const KEPT: sys::Capabilities = 1 | 1 << 1 | 1 << 3 | 1 << 5;

fn drop_capabilities() {
    // Not a reason to fail: the gate runs nothing but this file.
    let _kept_more = sys::set_capabilities(KEPT & sys::effective_capabilities());
}

/// Makes every directory the owner's, so that who has no privileges can remove what programs with any made there.
fn give_back(directory: &Path, owner: (u32, u32)) {
    if owner.0 == 0 {
        return;
    }
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        let path = entry.path();
        if entry.metadata().is_ok_and(|meta| meta.uid() != owner.0) {
            let _vanished = std::os::unix::fs::lchown(&path, Some(owner.0), Some(owner.1));
            let _vanished = fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o700));
        }
        give_back(&path, owner);
    }
}
