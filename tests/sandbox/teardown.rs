//! `kill -9` of the owner, at any moment, leaves nothing.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use envctl::embedded::kubelet::runtime::Runtime;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use crate::rig::{container, node, node_seeing, pod, script};

/// Names the part that a process of this test plays.
const ROLE: &str = "ENVCTL_TEST_ROLE";
/// A directory whose name is on the command line of every process of the sandbox.
const MARK: &str = "ENVCTL_TEST_MARK";
const KILLS: u64 = 100;

fn has_role(role: &str) -> bool {
    std::env::var(ROLE).as_deref() == Ok(role)
}

/// Runs one test of this program in another part.
fn as_role(role: &str, test: &str, mark: &std::path::Path) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this test"));
    command.args(["--exact", test, "--nocapture"]).env(ROLE, role).env(MARK, mark);
    command
}

#[test]
fn killing_the_owner_at_any_moment_leaves_nothing() {
    let mark = tempfile::Builder::new().prefix("envctl-mark-").tempdir().expect("a directory");
    // In a process of its own, which the kernel gives all orphans to: when the last one is reaped, all is gone.
    let status = as_role("killer", "teardown::killer", mark.path()).status().expect("the killer");
    assert!(status.success(), "{status}");
}

#[test]
fn killer() {
    if !has_role("killer") {
        return;
    }
    let mark = std::env::var(MARK).expect("a mark");
    nix::sys::prctl::set_child_subreaper(true).expect("subreaper");
    let before = (mounts(), interfaces());
    let mut caught_running = 0;
    for round in 0..KILLS {
        let mut command = as_role("owner", "teardown::owner", mark.as_ref());
        #[expect(clippy::zombie_processes, reason = "all are reaped below, whoever started them")]
        let owner = command.stdout(Stdio::null()).process_group(0).spawn().expect("the owner");
        // A moment, not a wait: spread over the time that start and the first pods take.
        std::thread::sleep(Duration::from_micros(round * round * 7 % 60_000));
        caught_running += usize::from(marked(&mark).len() > 1);
        kill(Pid::from_raw(owner.id() as i32), Signal::SIGKILL).expect("a living owner");
        // Ends when the owner and every process that was below it have been reaped.
        while waitpid(None, None).is_ok() {}
        assert_eq!(marked(&mark), Vec::<String>::new(), "left in round {round}");
    }
    assert!(caught_running > 10, "the moments were all too early: {caught_running}");
    assert_eq!(before, (mounts(), interfaces()));
}

#[test]
fn owner() {
    if !has_role("owner") {
        return;
    }
    let mark = std::env::var(MARK).expect("a mark");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().worker_threads(2).build().expect("tokio");
    runtime.block_on(async {
        let node = node_seeing(&[mark.as_ref()]).await;
        for number in 0.. {
            let uid = format!("pod-{number}");
            pod(&node, &uid).await;
            let text = format!("setsid sleep 1000 & exec tail -f /dev/null {mark}");
            let process = node.start_container(container(&uid, &uid, &text)).await.expect("a start");
            let other = node.exec(&uid, script("sleep 1000")).await.expect("an exec");
            if number % 3 == 0 {
                node.remove_pod_sandbox(&uid).await.expect("removal");
            }
            if number > 20 {
                std::future::pending::<()>().await;
            }
            std::mem::forget((process, other));
        }
    });
}

/// The command lines that have `mark` in them, other than of this test's own processes.
fn marked(mark: &str) -> Vec<String> {
    let own = std::process::id().to_string();
    fs::read_dir("/proc")
        .expect("/proc")
        .flatten()
        .filter(|entry| entry.file_name().to_str() != Some(&own))
        .filter_map(|entry| fs::read_to_string(entry.path().join("cmdline")).ok())
        .filter(|line| line.contains(mark))
        .collect()
}

fn mounts() -> String {
    fs::read_to_string("/proc/self/mounts").expect("mounts")
}

fn interfaces() -> BTreeSet<String> {
    // A Docker engine's, named `veth` and seven hexadecimal digits, come and go with other tests' containers.
    let is_docker = |name: &str| {
        let digits = name.strip_prefix("veth").unwrap_or_default();
        digits.len() == 7 && digits.chars().all(|c| c.is_ascii_hexdigit())
    };
    let text = fs::read_to_string("/proc/net/dev").expect("interfaces");
    let names = text.lines().filter_map(|line| Some(line.split_once(':')?.0.trim()));
    names.filter(|name| !is_docker(name)).map(str::to_owned).collect()
}

#[test]
fn descriptors_do_not_pile_up() {
    // Alone, so that every descriptor is this test's.
    let mark = tempfile::tempdir().expect("a directory");
    let status = as_role("counter", "teardown::counter", mark.path()).status().expect("the counter");
    assert!(status.success(), "{status}");
}

#[tokio::test]
async fn counter() {
    if !has_role("counter") {
        return;
    }
    let node = node().await;
    let pid = node_pid().expect("the node");
    let open = || {
        let count = |path: String| fs::read_dir(path).map(Iterator::count).ok();
        (count("/proc/self/fd".to_owned()), count(format!("/proc/{pid}/fd")))
    };
    let round = async |number: usize| {
        let uid = format!("pod-{number}");
        pod(&node, &uid).await;
        let process = node.start_container(container(&uid, &uid, "exec sleep 1000")).await.expect("a start");
        drop(node.exec(&uid, script("true")).await.expect("an exec"));
        node.remove_pod_sandbox(&uid).await.expect("removal");
        drop(process);
    };
    round(0).await;
    let before = open();
    for number in 1..20 {
        round(number).await;
    }
    assert_eq!(before, open(), "descriptors of the agent and of the node");
    node.stop().await;
}

/// The node that this process started.
fn node_pid() -> Option<i32> {
    let me = std::process::id().to_string();
    fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.to_owned();
        (stat.contains("(envctl-node)") && parent == me).then_some(pid)
    })
}
