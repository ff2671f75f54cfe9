//! How the node process comes to stand in namespaces of its own: before anything else, in one thread.

use std::ffi::CStr;
use std::fs;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use nix::fcntl::{OFlag, open};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid, pivot_root};

use super::super::sys;
use super::super::wire::{During, Failure};

/// Where the host's tree is, in the node's own.
pub const HOST: &str = "/host";
/// Where each container builds its root, in its own mount namespace.
pub const STAGE: &str = "/stage";
/// What lives as long as a pod: one directory each.
pub const PODS: &str = "/pods";
/// `CAP_SYS_ADMIN`.
const CAP_SYS_ADMIN: u64 = 1 << 21;

/// Whether the node has a user namespace of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Privilege {
    /// No: the caller may make namespaces by itself.
    Root,
    /// Yes, with the caller's own uid and gid and no other.
    User,
}

/// What the caller may do without a user namespace.
pub fn privilege() -> Privilege {
    if sys::effective_capabilities() & CAP_SYS_ADMIN != 0 { Privilege::Root } else { Privilege::User }
}

/// Leaves the caller's namespaces, except the pid namespace, which only a child can enter.
///
/// # Errors
/// Where the kernel or its configuration refuses; see [`super::super::probe()`].
pub fn leave(privilege: Privilege) -> Result<(), Failure> {
    if privilege == Privilege::User {
        let (uid, gid) = (Uid::effective(), Gid::effective());
        unshare(CloneFlags::CLONE_NEWUSER).during(|| "making a user namespace".to_owned())?;
        for (file, content) in [
            ("setgroups", "deny".to_owned()),
            ("uid_map", format!("{uid} {uid} 1")),
            ("gid_map", format!("{gid} {gid} 1")),
        ] {
            fs::write(Path::new("/proc/self").join(file), content).during(|| format!("writing /proc/self/{file}"))?;
        }
    }
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS)
        .during(|| "making mount, net, ipc and uts namespaces".to_owned())
}

/// Puts a small tmpfs under everything, with the host's tree at [`HOST`] and a `/proc` of the new pid namespace.
///
/// # Errors
/// The kernel's answer to a mount.
pub fn set_up_mounts() -> Result<(), Failure> {
    const NOTHING: Option<&str> = None;
    mount(NOTHING, "/", NOTHING, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NOTHING)
        .during(|| "making mounts private".to_owned())?;
    // Any directory does: it is only covered until the root is turned around.
    let base = ["/tmp", "/mnt", "/run"].into_iter().find(|path| Path::new(path).is_dir()).unwrap_or("/proc");
    mount(Some("node"), base, Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some("mode=755"))
        .during(|| format!("mounting a tmpfs on {base}"))?;
    for directory in [HOST, STAGE, PODS, "/proc"] {
        let path = format!("{base}{directory}");
        fs::create_dir(&path).during(|| format!("creating {path}"))?;
    }
    pivot_root(base, &*format!("{base}{HOST}")).during(|| "changing the root of the node".to_owned())?;
    std::env::set_current_dir("/").during(|| "changing to /".to_owned())?;
    mount(Some("proc"), "/proc", Some("proc"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC, NOTHING)
        .during(|| "mounting /proc".to_owned())
}

/// Takes a mount away, with whatever is beneath it.
///
/// # Errors
/// The kernel's answer.
pub fn detach(path: &str) -> nix::Result<()> {
    umount2(path, MntFlags::MNT_DETACH)
}

/// The namespaces that a pod's containers share.
#[derive(Debug)]
pub struct PodNamespaces {
    /// Its network; absent when it is the node's.
    pub net: Option<OwnedFd>,
    /// Its System V and POSIX message objects.
    pub ipc: OwnedFd,
    /// Its host name.
    pub uts: OwnedFd,
}

impl PodNamespaces {
    /// Enters them.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn enter(&self) -> Result<(), Failure> {
        let enter = |fd: &OwnedFd, kind| nix::sched::setns(fd, kind);
        if let Some(net) = &self.net {
            enter(net, CloneFlags::CLONE_NEWNET).during(|| "entering the pod's network".to_owned())?;
        }
        enter(&self.ipc, CloneFlags::CLONE_NEWIPC)
            .and_then(|()| enter(&self.uts, CloneFlags::CLONE_NEWUTS))
            .during(|| "entering the pod's namespaces".to_owned())
    }
}

/// A descriptor of one of the caller's own namespaces.
///
/// # Errors
/// The kernel's answer.
pub fn own(kind: &CStr) -> Result<OwnedFd, Failure> {
    let mut path = b"/proc/self/ns/".to_vec();
    path.extend_from_slice(kind.to_bytes());
    open(path.as_slice(), OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
        .during(|| format!("opening the {} namespace", kind.to_string_lossy()))
}

/// Enters all namespaces of a container by the pidfd of its first process.
///
/// # Errors
/// `ESRCH` when the container has ended.
pub fn enter_container(pidfd: BorrowedFd<'_>) -> nix::Result<()> {
    nix::sched::setns(
        pidfd,
        CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWPID
            | CloneFlags::CLONE_NEWNET
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWUTS,
    )
}
