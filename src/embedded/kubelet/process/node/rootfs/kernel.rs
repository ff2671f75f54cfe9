//! What the kernel shows of itself in a container: `/proc`, `/sys`, `/dev`.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;

use nix::mount::{MsFlags, mount};

use super::super::super::wire::{During, Failure};
use super::super::namespaces::HOST;
use super::{bind, show};

/// The device nodes that every container has: the host's own, since a user namespace can make none.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
/// What else is expected in `/dev`.
const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];
/// Hidden, as by containerd's default specification (`pkg/oci/spec.go`, `populateDefaultUnixSpec`).
const MASKED: [&str; 8] = ["acpi", "asound", "kcore", "keys", "latency_stats", "timer_list", "sched_debug", "scsi"];
/// Read-only, as there.
const READ_ONLY: [&str; 5] = ["bus", "fs", "irq", "sys", "sysrq-trigger"];

const NO_DATA: Option<&str> = None;

/// Mounts them all under `root`. The caller must be in the container's pid namespace and the pod's others.
pub fn mount_all(root: &Path, shm: &Path) -> Result<(), Failure> {
    let safe = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let proc = root.join("proc");
    mount(Some("proc"), &proc, Some("proc"), safe, NO_DATA).during(|| "mounting /proc".to_owned())?;
    restrict_proc(&proc).during(|| "restricting /proc".to_owned())?;
    let sys = root.join("sys");
    if mount(Some("sysfs"), &sys, Some("sysfs"), safe | MsFlags::MS_RDONLY, NO_DATA).is_err() {
        show(&Path::new(HOST).join("sys"), &sys).during(|| "showing /sys".to_owned())?;
    }
    devices(&root.join("dev"), shm).during(|| "making /dev".to_owned())
}

fn restrict_proc(proc: &Path) -> io::Result<()> {
    for name in READ_ONLY {
        let path = proc.join(name);
        if path.exists() {
            show(&path, &path)?;
        }
    }
    for name in MASKED {
        let path = proc.join(name);
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        if metadata.is_dir() {
            mount(Some("tmpfs"), &path, Some("tmpfs"), MsFlags::MS_RDONLY, Some("size=0"))?;
        } else {
            bind(&Path::new(HOST).join("dev/null"), &path)?;
        }
    }
    Ok(())
}

fn devices(dev: &Path, shm: &Path) -> io::Result<()> {
    mount(Some("dev"), dev, Some("tmpfs"), MsFlags::MS_NOSUID, Some("mode=755,size=1m"))?;
    for name in DEVICES {
        let path = dev.join(name);
        fs::write(&path, b"")?;
        bind(&Path::new(HOST).join("dev").join(name), &path)?;
    }
    for (name, target) in LINKS {
        symlink(target, dev.join(name))?;
    }
    for name in ["pts", "shm", "mqueue"] {
        fs::create_dir(dev.join(name))?;
    }
    bind(shm, &dev.join("shm"))?;
    let safe = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    mount(Some("mqueue"), &dev.join("mqueue"), Some("mqueue"), safe | MsFlags::MS_NODEV, NO_DATA)?;
    let pts = dev.join("pts");
    // Group 5 is `tty` everywhere; in a user namespace it has no number.
    let attempt = |options| mount(Some("devpts"), &pts, Some("devpts"), safe, Some(options));
    attempt("newinstance,ptmxmode=0666,mode=0620,gid=5").or_else(|_| attempt("newinstance,ptmxmode=0666,mode=0620"))?;
    Ok(())
}
