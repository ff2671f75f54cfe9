//! A port of this machine's loopback for a program that a test starts.

use std::os::fd::AsRawFd as _;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, getsockname, setsockopt, socket, sockopt};

/// A port that nobody has, and that the kernel gives to nobody else while this process lives: a socket that doesn't listen stays bound to it, and
/// lets programs have it that allow addresses to be reused, as all servers do.
pub fn free_port() -> u16 {
    let kept = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).expect("a socket");
    setsockopt(&kept, sockopt::ReuseAddr, &true).expect("set");
    bind(kept.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 0)).expect("a port");
    let port = getsockname::<SockaddrIn>(kept.as_raw_fd()).expect("its address").port();
    std::mem::forget(kept);
    port
}
