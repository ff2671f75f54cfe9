//! [`NodeNetwork`]: sockets that live in the node's network although the agent uses them.
//!
//! A socket belongs for ever to the network namespace it was made in. The node makes unconnected ones and passes
//! them over; everything else happens here. A small stock saves the round trip on the way of a request.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use nix::sys::socket::{SockaddrIn, bind, setsockopt, sockopt};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};

use super::super::runtime::{NodeNetwork, RuntimeError};
use super::addresses::NODE_IP;
use super::client::ProcessRuntime;
use super::link::Link;
use super::wire::{Request, SOCKETS_AT_ONCE, SocketKind};

/// A stock of unconnected TCP sockets.
pub struct SocketPool {
    link: Link,
    stock: Mutex<Vec<OwnedFd>>,
}

impl SocketPool {
    /// Empty at first.
    pub fn new(link: Link) -> Self {
        Self { link, stock: Mutex::default() }
    }

    fn stock(&self) -> MutexGuard<'_, Vec<OwnedFd>> {
        self.stock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn tcp(&self) -> io::Result<OwnedFd> {
        if let Some(socket) = self.stock().pop() {
            return Ok(socket);
        }
        let mut fresh = self.ask(SocketKind::Tcp, SOCKETS_AT_ONCE).await?;
        let one = fresh.pop().ok_or_else(|| io::Error::other("the node gave no socket"))?;
        self.stock().append(&mut fresh);
        Ok(one)
    }

    async fn udp(&self) -> io::Result<OwnedFd> {
        self.ask(SocketKind::Udp, 1).await?.pop().ok_or_else(|| io::Error::other("the node gave no socket"))
    }

    async fn ask(&self, kind: SocketKind, count: usize) -> io::Result<Vec<OwnedFd>> {
        let id = self.link.next_id();
        let answer = self.link.request(id, Request::Sockets { id, kind, count }, Vec::new()).await;
        answer.map(|answer| answer.fds).map_err(|error| match error {
            RuntimeError::Sandbox { source, .. } => source,
            other => io::Error::other(other),
        })
    }
}

#[async_trait]
impl NodeNetwork for ProcessRuntime {
    fn node_ip(&self) -> Ipv4Addr {
        NODE_IP
    }

    async fn connect(&self, address: SocketAddrV4) -> io::Result<TcpStream> {
        let socket = self.sockets.tcp().await?;
        TcpSocket::from_std_stream(socket.into()).connect(address.into()).await
    }

    async fn listen(&self, address: SocketAddrV4) -> io::Result<TcpListener> {
        let socket = TcpSocket::from_std_stream(self.sockets.tcp().await?.into());
        socket.set_reuseaddr(true)?;
        socket.bind(address.into())?;
        socket.listen(1024)
    }

    async fn bind_udp(&self, address: SocketAddrV4) -> io::Result<UdpSocket> {
        let socket = self.sockets.udp().await?;
        setsockopt(&socket, sockopt::ReuseAddr, &true)?;
        bind(std::os::fd::AsRawFd::as_raw_fd(&socket), &SockaddrIn::from(address))?;
        UdpSocket::from_std(socket.into())
    }
}
