//! `/proc/self/mountinfo`: which directories of the host are file systems of their own.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// One mount of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostMount {
    /// Where, as the host names it.
    pub path: PathBuf,
    /// Whether programs keep files there, rather than the kernel showing itself.
    pub keeps_files: bool,
    /// Whether it can be written to.
    pub writable: bool,
}

/// File system types through which the kernel shows itself.
const KERNEL_TYPES: [&str; 22] = [
    "autofs",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "efivarfs",
    "fusectl",
    "hugetlbfs",
    "mqueue",
    "nsfs",
    "proc",
    "pstore",
    "ramfs",
    "rpc_pipefs",
    "securityfs",
    "selinuxfs",
    "sysfs",
    "tracefs",
];

/// Parses the whole file, keeping what is mounted under `prefix` and taking the prefix off.
pub fn parse(mountinfo: &str, prefix: &str) -> Vec<HostMount> {
    mountinfo.lines().filter_map(|line| parse_line(line, prefix)).collect()
}

/// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`, see proc_pid_mountinfo(5).
fn parse_line(line: &str, prefix: &str) -> Option<HostMount> {
    let (before, after) = line.split_once(" - ")?;
    let mut fields = before.split(' ').skip(4);
    let path = unescape(fields.next()?);
    let options = fields.next()?;
    let kind = after.split(' ').next()?;
    let path = path.strip_prefix(prefix).ok()?;
    Some(HostMount {
        path: PathBuf::from("/").join(path),
        keeps_files: !KERNEL_TYPES.contains(&kind),
        writable: options.split(',').any(|option| option == "rw"),
    })
}

/// Space, tab, newline and backslash are written as three octal digits.
fn unescape(field: &str) -> PathBuf {
    let bytes = field.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escaped = (bytes[at] == b'\\')
            .then(|| field.get(at + 1..at + 4))
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        plain.push(escaped.unwrap_or(bytes[at]));
        at += if escaped.is_some() { 4 } else { 1 };
    }
    PathBuf::from(OsString::from_vec(plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_mounts_are_told_apart() {
        let text = "\
27 1 254:0 / /host rw,relatime - ext4 /dev/vda rw
22 27 0:21 / /host/proc rw,nosuid - proc proc rw
28 27 0:25 / /host/mnt/my\\040disk ro,nodev shared:3 - xfs /dev/vdb rw
29 0 0:31 / / rw - tmpfs node rw
";
        assert_eq!(
            parse(text, "/host"),
            [
                HostMount { path: "/".into(), keeps_files: true, writable: true },
                HostMount { path: "/proc".into(), keeps_files: false, writable: true },
                HostMount { path: "/mnt/my disk".into(), keeps_files: true, writable: false },
            ]
        );
    }
}
