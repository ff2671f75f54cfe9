//! The processes below one: found in `/proc`, ended by signal. Where the root is a subreaper nothing escapes: whatever
//! its parent left behind becomes a child of the root.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// One process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: Pid,
    /// Its name as the kernel has it: at most 15 bytes, and no arguments, since those may hold secrets.
    pub name: String,
}

impl std::fmt::Display for Process {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} (pid {})", self.name, self.pid)
    }
}

/// Every process below `root`, without `except` and what is below that. Zombies don't count: they have ended.
pub fn below(root: Pid, except: Option<Pid>) -> Vec<Process> {
    let mut children: BTreeMap<i32, Vec<Process>> = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        // Gone meanwhile: then it is nobody's child.
        let Ok(stat) = fs::read(entry.path().join("stat")) else { continue };
        if let Some((name, parent)) = parsed(&String::from_utf8_lossy(&stat)) {
            children.entry(parent).or_default().push(Process { pid: Pid::from_raw(pid), name });
        }
    }
    let mut found = Vec::new();
    let mut next = vec![root];
    let mut seen = BTreeSet::from([root]);
    while let Some(parent) = next.pop() {
        for process in children.remove(&parent.as_raw()).unwrap_or_default() {
            if Some(process.pid) != except && seen.insert(process.pid) {
                next.push(process.pid);
                found.push(process);
            }
        }
    }
    found
}

/// Name and parent of a line of `/proc/PID/stat`, unless it is a zombie. The name may hold blanks and parentheses itself.
fn parsed(stat: &str) -> Option<(String, i32)> {
    let (_, rest) = stat.split_once(" (")?;
    let (name, rest) = rest.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    (state != "Z" && state != "X").then(|| (name.to_owned(), parent))
}

/// Signals each. Returns those that may not be signalled: another user's.
pub fn signal(processes: &[Process], signal: Signal) -> Vec<Process> {
    processes.iter().filter(|process| kill(process.pid, signal) == Err(Errno::EPERM)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_is_read_whatever_the_name() {
        assert_eq!(parsed("12 (a b) c) S 7 12 12 0").unwrap(), ("a b) c".to_owned(), 7));
        assert_eq!(parsed("12 (gone) Z 7 12 12 0"), None);
        assert_eq!(parsed(""), None);
    }

    #[test]
    fn children_are_found_and_one_can_be_left_out() {
        let mut child = std::process::Command::new("sleep").arg("100").spawn().unwrap();
        let pid = Pid::from_raw(child.id().try_into().unwrap());
        let me = Pid::this();
        assert!(below(me, None).iter().any(|process| process.pid == pid));
        assert!(!below(me, Some(pid)).iter().any(|process| process.pid == pid));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!below(me, None).iter().any(|process| process.pid == pid));
    }
}
