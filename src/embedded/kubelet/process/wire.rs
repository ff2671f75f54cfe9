//! What the agent and the node process say to each other, and how: JSON over a `SOCK_SEQPACKET`
//! socket pair, descriptors beside it by `SCM_RIGHTS`.
//!
//! The same channel joins the node to the children that set up sandboxes and containers. A message too long
//! for one packet travels in a memfd. Both ends are the same program, so there are no versions.

use std::io::{self, IoSlice, IoSliceMut, Read, Seek, Write};
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg, sendmsg, socketpair,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::super::runtime::{ContainerConfig, ExecConfig, ExitStatus, RuntimeError, SandboxConfig};
use super::sys;

/// Names one request; for `Start` and `Exec` also the process that came of it.
pub type RequestId = u64;

/// The most sockets in one answer: what a single message may carry, with room to spare.
pub const SOCKETS_AT_ONCE: usize = 32;

/// From the agent to the node.
#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// Make a pod's namespaces. Answered by `Done` or `Failed`.
    Sandbox { id: RequestId, config: SandboxConfig, ip: Ipv4Addr },
    /// End and forget a pod. Answered by `Done`.
    Remove { id: RequestId, pod_uid: String },
    /// Start a container. Descriptors: standard input, output, error (none with a tty). Answered by `Started` or `Failed`.
    Start { id: RequestId, config: Box<ContainerConfig> },
    /// The same for another program in a running container.
    Exec { id: RequestId, container: String, config: ExecConfig },
    /// Send a signal. Not answered.
    Signal { process: RequestId, signal: i32 },
    /// Make unconnected sockets in the node's network. Answered by `Done` with them.
    Sockets { id: RequestId, kind: SocketKind, count: usize },
    /// The node's network namespace. Answered by `Done` with it.
    Network { id: RequestId },
}

/// What kind of socket.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub enum SocketKind {
    /// A stream.
    Tcp,
    /// Datagrams.
    Udp,
}

/// From the node to the agent.
#[derive(Debug, Serialize, Deserialize)]
pub enum Reply {
    /// First of all: the node is up. Descriptor: its pidfd.
    Ready,
    /// First of all: it can't be.
    Refused(Failure),
    /// Answers a request; descriptors as it says.
    Done { id: RequestId },
    /// A program runs. Descriptor: the terminal's other side, with a tty.
    Started { id: RequestId, warnings: Vec<String> },
    /// The request failed and left nothing.
    Failed { id: RequestId, failure: Failure },
    /// A started program has ended, and with a container everything in it.
    Exited { process: RequestId, status: ExitStatus },
}

/// From a child that sets up a sandbox, a container or an exec, to the node.
#[derive(Debug, Serialize, Deserialize)]
pub enum Progress {
    /// The pod's namespaces. Descriptors: net, ipc, uts.
    Made,
    /// The program was exec'd. Descriptor: the terminal's other side, with a tty.
    Started { warnings: Vec<String> },
    /// Nothing was started.
    Failed(Failure),
    /// The program ended.
    Ended(ExitStatus),
}

/// [`RuntimeError`] in a form that can be sent: errors as numbers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Failure {
    /// See [`RuntimeError::CommandNotFound`].
    CommandNotFound { program: String, searched: String },
    /// See [`RuntimeError::NotExecutable`].
    NotExecutable { program: String, errno: i32 },
    /// See [`RuntimeError::NoSuchUser`].
    NoSuchUser(String),
    /// See [`RuntimeError::NotFound`].
    NotFound(String),
    /// See [`RuntimeError::Sandbox`].
    Sandbox { what: String, errno: i32 },
}

impl From<Failure> for RuntimeError {
    fn from(failure: Failure) -> Self {
        let error = io::Error::from_raw_os_error;
        match failure {
            Failure::CommandNotFound { program, searched } => Self::CommandNotFound { program, searched },
            Failure::NotExecutable { program, errno } => Self::NotExecutable { program, source: error(errno) },
            Failure::NoSuchUser(user) => Self::NoSuchUser(user),
            Failure::NotFound(what) => Self::NotFound(what),
            Failure::Sandbox { what, errno } => Self::Sandbox { what, source: error(errno) },
        }
    }
}

/// Says what was being attempted when a kernel call fails.
pub trait During<T> {
    /// Turns the error into [`Failure::Sandbox`].
    fn during(self, what: impl FnOnce() -> String) -> Result<T, Failure>;
}

impl<T, E: Into<io::Error>> During<T> for Result<T, E> {
    fn during(self, what: impl FnOnce() -> String) -> Result<T, Failure> {
        self.map_err(|error| {
            let error: io::Error = error.into();
            Failure::Sandbox { what: what(), errno: error.raw_os_error().unwrap_or(nix::libc::EIO) }
        })
    }
}

/// Messages up to this many bytes travel in the packet itself.
const INLINE: usize = 32 * 1024;
/// First byte of a packet whose message follows.
const HERE: u8 = 0;
/// First byte of a packet whose message is in the memfd that is its first descriptor.
const IN_MEMFD: u8 = 1;

/// One end of a socket pair.
#[derive(Debug)]
pub struct Channel(OwnedFd);

impl Channel {
    /// Two connected ends, closed on exec.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (one, other) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        Ok((Self(one), Self(other)))
    }

    /// An end that was inherited.
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// Sends one message. `EAGAIN` when the socket is non-blocking and full: nothing was sent.
    pub fn send(&self, message: &impl Serialize, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut bytes = vec![HERE];
        serde_json::to_writer(&mut bytes, message)?;
        let mut raw: Vec<RawFd> = Vec::with_capacity(fds.len() + 1);
        let memfd;
        if bytes.len() > INLINE {
            let mut file = std::fs::File::from(memfd_create("message", MFdFlags::MFD_CLOEXEC)?);
            file.write_all(&bytes[1..])?;
            memfd = file;
            raw.push(memfd.as_raw_fd());
            bytes = vec![IN_MEMFD];
        }
        raw.extend(fds.iter().map(|fd| fd.as_raw_fd()));
        let rights = [ControlMessage::ScmRights(&raw)];
        let control: &[ControlMessage<'_>] = if raw.is_empty() { &[] } else { &rights };
        sendmsg::<()>(self.0.as_raw_fd(), &[IoSlice::new(&bytes)], control, MsgFlags::MSG_NOSIGNAL, None)?;
        Ok(())
    }

    /// Receives one message and its descriptors, or `None` when the other end is closed.
    pub fn receive<T: DeserializeOwned>(&self) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        self.receive_with(MsgFlags::empty())
    }

    /// The same, but `EAGAIN` rather than waiting.
    pub fn try_receive<T: DeserializeOwned>(&self) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        self.receive_with(MsgFlags::MSG_DONTWAIT)
    }

    fn receive_with<T: DeserializeOwned>(&self, flags: MsgFlags) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        let mut bytes = vec![0u8; INLINE];
        let mut fds = Vec::new();
        let length = {
            let mut control = nix::cmsg_space!([RawFd; 64]);
            let mut parts = [IoSliceMut::new(&mut bytes)];
            let message =
                recvmsg::<()>(self.0.as_raw_fd(), &mut parts, Some(&mut control), flags | MsgFlags::MSG_CMSG_CLOEXEC)?;
            for item in message.cmsgs()? {
                if let ControlMessageOwned::ScmRights(received) = item {
                    fds.extend(received.into_iter().map(sys::adopt));
                }
            }
            message.bytes
        };
        match bytes[..length].first() {
            None => Ok(None),
            Some(&IN_MEMFD) if !fds.is_empty() => {
                let mut file = std::fs::File::from(fds.remove(0));
                let mut long = Vec::new();
                file.rewind()?;
                file.read_to_end(&mut long)?;
                Ok(Some((serde_json::from_slice(&long)?, fds)))
            }
            Some(_) => Ok(Some((serde_json::from_slice(&bytes[1..length])?, fds))),
        }
    }
}

impl From<Channel> for OwnedFd {
    fn from(channel: Channel) -> Self {
        channel.0
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Channel {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Reads a packet as each side of the protocol does: for tests that must not find one that breaks it. `true`: as one of them
/// it was a message.
///
/// # Errors
/// When there is no socket to send it over.
pub fn read_packet(packet: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<bool> {
    fn read<T: DeserializeOwned>(packet: &[u8], fds: &[RawFd]) -> io::Result<bool> {
        let (one, other) = Channel::pair()?;
        let rights = [ControlMessage::ScmRights(fds)];
        let control: &[ControlMessage<'_>] = if fds.is_empty() { &[] } else { &rights };
        let packet = &packet[..packet.len().min(INLINE)];
        sendmsg::<()>(one.0.as_raw_fd(), &[IoSlice::new(packet)], control, MsgFlags::MSG_NOSIGNAL, None)?;
        Ok(matches!(other.try_receive::<T>(), Ok(Some(_))))
    }
    let fds: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    Ok(read::<Request>(packet, &fds)? | read::<Reply>(packet, &fds)? | read::<Progress>(packet, &fds)?)
}
