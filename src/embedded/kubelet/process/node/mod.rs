//! The node process: `envctl __node`, one thread, pid 1 of its own pid namespace.
//!
//! It holds the network that pods share, forks the children that become sandboxes and containers, and tells the
//! agent what became of them. It never waits for anything but its next event, so pods are made in parallel. When the
//! agent's end of the control socket closes, for whatever reason, it exits, and the kernel
//! ends every process in its pid namespace and takes the mounts, namespaces and interfaces with them.

pub(in super::super::super::kubelet) mod container;
mod identity;
mod launch;
mod namespaces;
pub(in super::super::super::kubelet) mod netlink;
mod pods;
mod rootfs;
mod sandbox;

use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use nix::unistd::{Uid, dup2_stdin, setsid};

use super::sys::{self, clone};
use super::wire::{Channel, During, Failure, Reply};
use namespaces::HOST;
pub(super) use namespaces::{Privilege, privilege};
use pods::Node;
use rootfs::layers::Step;

/// The node process. Its standard input is the control socket, its arguments directories that every container
/// on the host's programs must see (the project).
pub fn main() -> ExitCode {
    let visible: Vec<PathBuf> = std::env::args_os().skip(2).map(PathBuf::from).collect();
    let Ok(control) = take_control_socket() else { return ExitCode::FAILURE };
    let privilege = privilege();
    let became = namespaces::leave(privilege).and_then(|()| {
        // The agent becomes the parent of the node itself, and this process can go.
        sys::fork(clone::NEWPID | clone::PARENT, || live(&control, privilege, &visible))
            .during(|| "making a pid namespace".to_owned())
    });
    match became {
        Ok(_node) => ExitCode::SUCCESS,
        Err(failure) => refuse(&control, failure),
    }
}

/// Moves the control socket out of the way of the standard streams.
fn take_control_socket() -> std::io::Result<Channel> {
    let control = std::io::stdin().as_fd().try_clone_to_owned()?;
    dup2_stdin(File::open("/dev/null")?)?;
    Ok(Channel::from_fd(control))
}

fn refuse(control: &Channel, failure: Failure) -> ExitCode {
    let _agent_gone = control.send(&Reply::Refused(failure), &[]);
    ExitCode::FAILURE
}

/// The life of pid 1.
fn live(control: &Channel, privilege: Privilege, visible: &[PathBuf]) -> i32 {
    match set_up(control, privilege, visible) {
        Ok(mut node) => match node.serve() {
            Ok(()) => 0,
            Err(_control_socket_broken) => 1,
        },
        Err(failure) => {
            let _agent_gone = control.send(&Reply::Refused(failure), &[]);
            1
        }
    }
}

fn set_up<'a>(control: &'a Channel, privilege: Privilege, visible: &[PathBuf]) -> Result<Node<'a>, Failure> {
    setsid().during(|| "starting a session".to_owned())?;
    // An exec's parent that is killed leaves its program to the node: unreaped, it would keep its container from ending.
    sys::leave_reaping_to_the_kernel();
    let _cosmetic = nix::sys::prctl::set_name(c"envctl-node");
    namespaces::set_up_mounts()?;
    sandbox::prepare_network();
    netlink::Netlink::open()
        .and_then(|mut netlink| netlink.set_up_node())
        .during(|| "making the node's network".to_owned())?;
    let host = host_steps(privilege, visible)?;
    let node = Node::new(control, privilege, host).during(|| "preparing the event loop".to_owned())?;
    let own: OwnedFd = sys::pidfd_open(1).during(|| "opening the node's pidfd".to_owned())?;
    control.send(&Reply::Ready, &[own.as_fd()]).during(|| "reporting to the agent".to_owned())?;
    Ok(node)
}

fn host_steps(privilege: Privilege, visible: &[PathBuf]) -> Result<Vec<Step>, Failure> {
    let text = fs::read_to_string("/proc/self/mountinfo").during(|| "reading the host's mounts".to_owned())?;
    let mounts = rootfs::mountinfo::parse(&text, HOST);
    let host = rootfs::layers::Host {
        root: Path::new(HOST),
        mounts: &mounts,
        locked: privilege == Privilege::User,
        uid: Uid::effective().as_raw(),
    };
    Ok(host.plan(visible))
}

/// The descriptors that a forked child keeps: its own report channel and what it was given.
fn keep_only(channel: &Channel, others: impl IntoIterator<Item = i32>) {
    let mut keep = vec![0, 1, 2, channel.as_raw_fd()];
    keep.extend(others);
    sys::close_all_but(&keep);
}
