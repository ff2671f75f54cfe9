//! Starts nodes, pods and programs for the tests.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use envctl::embedded::kubelet::image::Rootfs;
use envctl::embedded::kubelet::process::{Options, ProcessRuntime};
use envctl::embedded::kubelet::runtime::{
    ContainerConfig, ExecConfig, ExitStatus, Process, RunAs, Runtime, RuntimeError, Sandbox, SandboxConfig,
};
use nix::unistd::Uid;
use tokio::sync::watch;

/// The program under test.
pub const ENVCTL: &str = env!("CARGO_BIN_EXE_envctl");

/// Whether the tests run as root.
pub fn is_root() -> bool {
    Uid::effective().is_root()
}

/// A node that sees `visible`.
pub async fn node_seeing(visible: &[&Path]) -> Arc<ProcessRuntime> {
    let visible = visible.iter().map(|path| path.to_path_buf()).collect();
    ProcessRuntime::start(&Options { envctl: PathBuf::from(ENVCTL), visible }).await.expect("a node")
}

/// A node.
pub async fn node() -> Arc<ProcessRuntime> {
    node_seeing(&[]).await
}

/// What a pod is made from.
pub fn sandbox(uid: &str) -> SandboxConfig {
    SandboxConfig {
        pod_uid: uid.to_owned(),
        pod_name: format!("default/{uid}"),
        hostname: uid.to_owned(),
        host_network: false,
        resolv_conf: "nameserver 10.96.0.10\n".to_owned(),
        extra_hosts: Vec::new(),
        sysctls: Default::default(),
        images: Vec::new(),
    }
}

/// Makes a pod.
pub async fn pod(node: &ProcessRuntime, uid: &str) -> Sandbox {
    node.run_pod_sandbox(sandbox(uid)).await.expect("a pod")
}

/// A container of pod `uid` that runs a shell script.
pub fn container(uid: &str, id: &str, script: &str) -> ContainerConfig {
    ContainerConfig {
        id: id.to_owned(),
        pod_uid: uid.to_owned(),
        rootfs: Rootfs::Host,
        argv: ["sh", "-c", script].map(str::to_owned).to_vec(),
        env: vec![("PATH".to_owned(), "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin".to_owned())],
        working_dir: PathBuf::from("/"),
        user: RunAs::default(),
        mounts: Vec::new(),
        read_only_root: false,
        stdin: false,
        tty: false,
        limits: Default::default(),
    }
}

/// An exec of a shell script.
pub fn script(script: &str) -> ExecConfig {
    ExecConfig { argv: ["sh", "-c", script].map(str::to_owned).to_vec(), stdin: false, tty: false }
}

/// What a program left: standard output, standard error, status.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Of standard output, trimmed.
    pub out: String,
    /// Of standard error, trimmed.
    pub err: String,
    /// How it ended.
    pub status: ExitStatus,
}

/// Reads a pipe or terminal to its end.
pub async fn read_all(fd: OwnedFd) -> String {
    tokio::task::spawn_blocking(move || {
        let mut bytes = Vec::new();
        // The other side of a terminal that nobody has open answers EIO.
        let _end = std::fs::File::from(fd).read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).trim().to_owned()
    })
    .await
    .expect("reading")
}

/// Waits for a program's end.
pub async fn ended(mut exit: watch::Receiver<Option<ExitStatus>>) -> ExitStatus {
    exit.wait_for(Option::is_some).await.expect("an exit status").expect("is some")
}

/// Waits for a program and takes all it wrote.
pub async fn finish(process: Process) -> Outcome {
    let err = async {
        match process.stderr {
            Some(stderr) => read_all(stderr).await,
            None => String::new(),
        }
    };
    let (out, err, status) = tokio::join!(read_all(process.stdout), err, ended(process.exit));
    Outcome { out, err, status }
}

/// Runs one container to its end, in a pod of its own.
pub async fn run(node: &ProcessRuntime, config: ContainerConfig) -> Result<Outcome, RuntimeError> {
    let uid = config.pod_uid.clone();
    pod(node, &uid).await;
    let outcome = match node.start_container(config).await {
        Ok(process) => Ok(finish(process).await),
        Err(error) => Err(error),
    };
    node.remove_pod_sandbox(&uid).await.expect("removal");
    outcome
}

/// Runs one script to its end, in a pod of its own.
pub async fn run_script(node: &ProcessRuntime, text: &str) -> Outcome {
    run(node, container("one", "one-1", text)).await.expect("a start")
}

/// Reads one line, trimmed.
pub async fn read_line(fd: &mut OwnedFd) -> String {
    let mut file = std::fs::File::from(fd.try_clone().expect("a copy"));
    tokio::task::spawn_blocking(move || {
        let mut line = Vec::new();
        let mut byte = [0];
        while file.read(&mut byte).is_ok_and(|length| length == 1) && byte != *b"\n" {
            line.push(byte[0]);
        }
        String::from_utf8_lossy(&line).trim().to_owned()
    })
    .await
    .expect("reading")
}
