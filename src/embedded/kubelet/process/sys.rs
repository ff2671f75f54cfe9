//! The kernel calls that no safe crate offers: the only `unsafe` code of the sandbox.
//!
//! Used by the node process, which is single-threaded, and (descriptor helpers only) by the agent.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use nix::errno::Errno;
use tokio::io::unix::AsyncFd;

/// `CLONE_*` flags that the sandbox uses, as `clone3` takes them.
pub mod clone {
    /// A mount namespace.
    pub const NEWNS: u64 = nix::libc::CLONE_NEWNS as u64;
    /// A pid namespace.
    pub const NEWPID: u64 = nix::libc::CLONE_NEWPID as u64;
    /// The child becomes a sibling: whoever started the caller reaps it.
    pub const PARENT: u64 = nix::libc::CLONE_PARENT as u64;
}

/// The exit code of a child whose code panicked.
const EXIT_PANIC: i32 = 70;

/// Forks with `flags`; the child runs `body` and exits with what it returns. Gives the child's pid and pidfd.
///
/// The calling process must be single-threaded: the child allocates and locks freely.
///
/// # Errors
/// What `clone3` answers, for example `EPERM` without the privilege for `flags`.
pub fn fork(flags: u64, body: impl FnOnce() -> i32) -> io::Result<(i32, OwnedFd)> {
    let mut pidfd: RawFd = -1;
    let exit_signal = if flags & clone::PARENT == 0 { nix::libc::SIGCHLD as u64 } else { 0 };
    let arguments = nix::libc::clone_args {
        flags: flags | nix::libc::CLONE_PIDFD as u64,
        pidfd: &raw mut pidfd as u64,
        child_tid: 0,
        parent_tid: 0,
        exit_signal,
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: 0,
    };
    // SAFETY: no CLONE_VM and no stack, so this is fork(2): the child continues on a copy of this stack. The
    // process has one thread, so no lock is held by another one. `arguments` and `pidfd` outlive the call.
    let pid =
        unsafe { nix::libc::syscall(nix::libc::SYS_clone3, &raw const arguments, size_of::<nix::libc::clone_args>()) };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let code = catch_unwind(AssertUnwindSafe(body)).unwrap_or(EXIT_PANIC);
            // SAFETY: ends the child without running the parent's exit handlers.
            unsafe { nix::libc::_exit(code) }
        }
        // SAFETY: the kernel has just made this descriptor for us.
        pid => Ok((pid as i32, unsafe { OwnedFd::from_raw_fd(pidfd) })),
    }
}

/// Takes ownership of a descriptor received by `SCM_RIGHTS` or made by a call that returns a bare number.
pub fn adopt(fd: RawFd) -> OwnedFd {
    // SAFETY: callers pass a number that the kernel has just handed out, which nobody else owns.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Registers a descriptor with tokio's reactor.
///
/// # Errors
/// What `epoll_ctl` answers.
pub fn watch<T: AsRawFd + Into<OwnedFd>>(inner: T) -> io::Result<AsyncFd<T>> {
    // SAFETY: `T` owns one descriptor (it can be turned into an `OwnedFd`), so it stays open and the same as
    // long as the `AsyncFd` has it.
    unsafe { Ok(AsyncFd::register(inner)?) }
}

/// Opens a pidfd of a process that the caller knows to be alive or unreaped.
///
/// # Errors
/// `ESRCH` when there is no such process.
pub fn pidfd_open(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: takes no pointers.
    let fd = unsafe { nix::libc::syscall(nix::libc::SYS_pidfd_open, pid, 0) };
    if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(adopt(fd as RawFd)) }
}

/// Sends a signal to the process behind a pidfd.
///
/// # Errors
/// `ESRCH` when it has ended.
pub fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    // SAFETY: a null siginfo is allowed: the kernel fills it in as for kill(2).
    let result = unsafe {
        nix::libc::syscall(
            nix::libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            std::ptr::null::<nix::libc::siginfo_t>(),
            0,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Adds `attributes` (`MOUNT_ATTR_*`) to the mount at `target` and to every mount beneath it.
///
/// # Errors
/// `EINVAL` when `target` is not a mount point, `EPERM` without the privilege.
pub fn mount_restrict(target: impl AsFd, attributes: u64) -> io::Result<()> {
    let attr = nix::libc::mount_attr { attr_set: attributes, attr_clr: 0, propagation: 0, userns_fd: 0 };
    // SAFETY: the empty path is a valid C string and `attr` outlives the call.
    let result = unsafe {
        nix::libc::syscall(
            nix::libc::SYS_mount_setattr,
            target.as_fd().as_raw_fd(),
            c"".as_ptr(),
            nix::libc::AT_EMPTY_PATH | nix::libc::AT_RECURSIVE,
            &raw const attr,
            size_of::<nix::libc::mount_attr>(),
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Marks every descriptor from `first` up close-on-exec.
pub fn close_on_exec_from(first: RawFd) {
    // SAFETY: takes no pointers; with CLOEXEC it closes nothing now, so no owner is surprised.
    unsafe {
        nix::libc::syscall(nix::libc::SYS_close_range, first, u32::MAX, nix::libc::CLOSE_RANGE_CLOEXEC);
    }
}

/// Makes `fd` the controlling terminal of the calling session leader.
///
/// # Errors
/// `EPERM` when the caller leads no session or has a terminal already.
pub fn set_controlling_terminal(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: takes no pointers.
    let result = unsafe { nix::libc::ioctl(fd.as_raw_fd(), nix::libc::TIOCSCTTY, 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Resets every signal to its default action: what a new program expects.
pub fn reset_signal_handlers() {
    for signal in 1..=64 {
        // SAFETY: SIG_DFL installs no code. Signals that can't be changed answer EINVAL, which is fine.
        unsafe { nix::libc::signal(signal, nix::libc::SIG_DFL) };
    }
}

/// Lets the kernel reap the caller's children, also those it inherits: their ends are seen by pidfd.
pub fn leave_reaping_to_the_kernel() {
    // SAFETY: SIG_IGN installs no code.
    unsafe { nix::libc::signal(nix::libc::SIGCHLD, nix::libc::SIG_IGN) };
}

/// Undoes [`leave_reaping_to_the_kernel`] in a child that waits for its own.
pub fn reap_children_oneself() {
    // SAFETY: SIG_DFL installs no code.
    unsafe { nix::libc::signal(nix::libc::SIGCHLD, nix::libc::SIG_DFL) };
}

/// Waits for one of the blocked signals in `set`. Gives its number (real-time ones, which `nix` doesn't
/// know, included), or `None` when interrupted.
pub fn wait_for_signal(set: &nix::sys::signal::SigSet) -> Option<i32> {
    let mut signal = 0;
    // SAFETY: both pointers are valid for the call.
    let error = unsafe { nix::libc::sigwait(set.as_ref(), &raw mut signal) };
    (error == 0).then_some(signal)
}

/// Closes every descriptor that is not in `keep`. For a forked child that uses nothing else of its parent's.
pub fn close_all_but(keep: &[RawFd]) {
    let mut keep: Vec<u32> = keep.iter().filter_map(|fd| u32::try_from(*fd).ok()).collect();
    keep.sort_unstable();
    let mut first = 0;
    for fd in keep.into_iter().chain([u32::MAX]) {
        if fd > first {
            // SAFETY: takes no pointers. Owners of these descriptors in the copied memory are never used or
            // dropped: the child leaves by `_exit`.
            unsafe { nix::libc::syscall(nix::libc::SYS_close_range, first, fd - 1, 0) };
        }
        first = fd.saturating_add(1);
    }
}

/// `CAP_*` as bits of a set.
pub type Capabilities = u64;

/// The calling thread's effective capabilities.
pub fn effective_capabilities() -> Capabilities {
    let header = CapHeader { version: CAPABILITY_VERSION_3, pid: 0 };
    let mut data = [CapData::default(); 2];
    // SAFETY: version 3 takes one header and two data words, all of which outlive the call.
    let result = unsafe { nix::libc::syscall(nix::libc::SYS_capget, &raw const header, data.as_mut_ptr()) };
    if result < 0 { 0 } else { u64::from(data[0].effective) | (u64::from(data[1].effective) << 32) }
}

/// Sets effective and permitted capabilities to `set` and inheritable to none.
///
/// # Errors
/// `EPERM` when `set` has one that the caller lacks.
pub fn set_capabilities(set: Capabilities) -> io::Result<()> {
    let header = CapHeader { version: CAPABILITY_VERSION_3, pid: 0 };
    let word = |bits: u64| CapData { effective: bits as u32, permitted: bits as u32, inheritable: 0 };
    let data = [word(set & 0xffff_ffff), word(set >> 32)];
    // SAFETY: as in `effective_capabilities`.
    let result = unsafe { nix::libc::syscall(nix::libc::SYS_capset, &raw const header, data.as_ptr()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Removes from the bounding set whatever is not in `keep`, and clears the ambient set.
pub fn bound_capabilities(keep: Capabilities) {
    for capability in 0..64u64 {
        if keep & (1 << capability) == 0 {
            // SAFETY: takes no pointers. Numbers past the last capability answer EINVAL.
            if unsafe { nix::libc::prctl(nix::libc::PR_CAPBSET_DROP, capability, 0, 0, 0) } < 0
                && Errno::last() == Errno::EINVAL
            {
                break;
            }
        }
    }
    // SAFETY: takes no pointers.
    unsafe { nix::libc::prctl(nix::libc::PR_CAP_AMBIENT, nix::libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) };
}

const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

#[repr(C)]
struct CapHeader {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CapData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}
