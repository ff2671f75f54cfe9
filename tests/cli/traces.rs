//! What a session could leave on the machine: processes, namespaces, mounts, interfaces. Read from the kernel.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::Pid;

/// Longer than the kernel takes to end a process, on a busy machine.
const PATIENCE: u16 = 20_000;

#[derive(Debug)]
pub struct Process {
    pub pid: Pid,
    /// Separated by blanks.
    pub arguments: String,
}

/// All other processes that have `path` in their arguments.
pub fn processes_with(path: &Path) -> Vec<Process> {
    let own = std::process::id().to_string();
    let mut found = Vec::new();
    for directory in all() {
        let Ok(line) = fs::read(directory.join("cmdline")) else { continue };
        let arguments = String::from_utf8_lossy(&line).replace('\0', " ");
        let name = directory.file_name().unwrap().to_string_lossy().into_owned();
        if name != own && arguments.contains(&*path.to_string_lossy()) {
            found.push(Process { pid: Pid::from_raw(name.parse().unwrap()), arguments });
        }
    }
    found
}

fn all() -> impl Iterator<Item = PathBuf> {
    let digits = |name: &std::ffi::OsStr| name.as_encoded_bytes().iter().all(u8::is_ascii_digit);
    fs::read_dir("/proc").unwrap().flatten().filter(move |entry| digits(&entry.file_name())).map(|entry| entry.path())
}

/// Waits until no process names `path`, by the processes' own ends.
pub fn wait_for_none(path: &Path) {
    loop {
        let left = processes_with(path);
        if left.is_empty() {
            return;
        }
        for process in left {
            assert!(ended_within(process.pid, PATIENCE), "does not end: {process:?}");
        }
    }
}

/// Waits for a process to end, at most so many milliseconds. `true`: it ended.
pub fn ended_within(pid: Pid, milliseconds: u16) -> bool {
    // SAFETY: pidfd_open takes two numbers and gives a descriptor that nothing else owns.
    let fd = unsafe { nix::libc::syscall(nix::libc::SYS_pidfd_open, pid.as_raw(), 0) };
    if fd < 0 {
        return true;
    }
    // SAFETY: as above.
    let fd = unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).unwrap()) };
    let mut polled = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    loop {
        match poll(&mut polled, PollTimeout::from(milliseconds)) {
            Ok(count) => return count > 0,
            Err(nix::errno::Errno::EINTR) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// The namespaces of these processes that are not this process's own, as the kernel names them (`net:[4026532008]`).
pub fn namespaces_of(processes: &[Process]) -> BTreeSet<String> {
    let own: BTreeSet<String> = links(Path::new("/proc/self")).collect();
    let theirs = processes.iter().flat_map(|process| links(&PathBuf::from(format!("/proc/{}", process.pid))));
    theirs.filter(|name| !own.contains(name)).collect()
}

/// Waits until no process is in one of these namespaces or holds one open, by the processes' own ends.
pub fn wait_until_unused(namespaces: &BTreeSet<String>) {
    loop {
        let left = users_of(namespaces);
        if left.is_empty() {
            return;
        }
        for (pid, what) in left {
            assert!(ended_within(pid, PATIENCE), "does not end: {pid} {what}");
        }
    }
}

/// The processes that are in one of these namespaces or hold one open, but for those that only wait to be reaped.
fn users_of(namespaces: &BTreeSet<String>) -> Vec<(Pid, String)> {
    let mut found = Vec::new();
    for directory in all() {
        let Ok(stat) = fs::read_to_string(directory.join("stat")) else { continue };
        if stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['Z', 'X'])) {
            continue;
        }
        let pid = Pid::from_raw(directory.file_name().unwrap().to_str().unwrap().parse().unwrap());
        let held = fs::read_dir(directory.join("fd")).into_iter().flatten().flatten();
        let held = held.filter_map(|fd| fs::read_link(fd.path()).ok()).map(|name| name.to_string_lossy().into_owned());
        for name in links(&directory).chain(held).filter(|name| namespaces.contains(name)) {
            let arguments = fs::read(directory.join("cmdline")).unwrap_or_default();
            found.push((pid, format!("{name} {}", String::from_utf8_lossy(&arguments))));
        }
    }
    found
}

fn links(process: &Path) -> impl Iterator<Item = String> + use<> {
    let entries = fs::read_dir(process.join("ns")).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some(fs::read_link(entry.path()).ok()?.to_string_lossy().into_owned()))
}

/// The host's mounts and network interfaces, one line each.
pub fn host() -> BTreeSet<String> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let interfaces = fs::read_to_string("/proc/net/dev").unwrap();
    let interfaces = interfaces.lines().skip(2).filter_map(|line| line.split(':').next());
    let interfaces: Vec<String> = interfaces.map(|name| format!("interface {}", name.trim())).collect();
    mounts.lines().map(str::to_owned).chain(interfaces).collect()
}
