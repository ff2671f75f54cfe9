//! The children that become containers and execs. Each is a fork of the node that never returns to its loop.

use std::net::Ipv4Addr;
use std::os::fd::BorrowedFd;
use std::path::Path;

use super::super::super::image::Rootfs;
use super::super::super::runtime::{ContainerConfig, ExecConfig, RunAs, SandboxConfig};
use super::super::wire::{Channel, Failure, Progress};
use super::identity;
use super::launch::{Launch, Stdio, offer_to_the_oom_killer};
use super::namespaces::{PodNamespaces, Privilege, enter_container};
use super::rootfs::layers::Step;
use super::rootfs::{self, EMPTY_HOME, Surroundings};

/// What a container gets from its pod and its node.
pub struct Start<'a> {
    /// What to run.
    pub config: &'a ContainerConfig,
    /// The pod's namespaces.
    pub namespaces: &'a PodNamespaces,
    /// The pod's files, see [`pod_files`].
    pub files: &'a [(&'static str, String)],
    /// The pod's `/dev/shm`.
    pub shm: &'a Path,
    /// The plan for the host's tree.
    pub host: &'a [Step],
    /// Whether the node is root.
    pub privilege: Privilege,
}

/// The life of a container's first process, in new mount and pid namespaces. Gives its exit code.
pub fn run(channel: &Channel, start: &Start<'_>, stdio: Stdio) -> i32 {
    match prepare(start) {
        Ok(launch) => launch.run(channel, stdio),
        Err(failure) => refuse(channel, failure),
    }
}

fn prepare<'a>(start: &Start<'a>) -> Result<Launch<'a>, Failure> {
    let config = start.config;
    offer_to_the_oom_killer();
    start.namespaces.enter()?;
    let surroundings = Surroundings { host: start.host, files: start.files, shm: start.shm };
    let mut warnings = rootfs::enter(config, &surroundings)?;
    let launch = launch(config, &config.argv, start.privilege)?;
    if config.rootfs == Rootfs::Host {
        let (uid, gid) = (launch.identity.uid, launch.identity.gid);
        let _read_only = std::os::unix::fs::chown(EMPTY_HOME, Some(uid), Some(gid));
    }
    warnings.extend(launch.warnings);
    Ok(Launch { warnings, ..launch })
}

/// What of a container its execs need.
#[derive(Debug, Clone)]
pub struct Kept {
    env: Vec<(String, String)>,
    working_dir: std::path::PathBuf,
    user: RunAs,
    rootfs: Rootfs,
}

impl From<&ContainerConfig> for Kept {
    fn from(config: &ContainerConfig) -> Self {
        Self {
            env: config.env.clone(),
            working_dir: config.working_dir.clone(),
            user: config.user.clone(),
            rootfs: config.rootfs.clone(),
        }
    }
}

/// The life of the process that joins a container and starts another program there. Gives its exit code.
pub fn exec(
    channel: &Channel,
    container: BorrowedFd<'_>,
    kept: &Kept,
    config: &ExecConfig,
    privilege: Privilege,
    stdio: Stdio,
) -> i32 {
    offer_to_the_oom_killer();
    let launch = enter_container(container)
        .map_err(|error| Failure::Sandbox { what: "entering the container".to_owned(), errno: error as i32 })
        .and_then(|()| launch_in(&kept.env, &kept.working_dir, &kept.user, &kept.rootfs, &config.argv, privilege));
    match launch {
        // The container's own start has said already who it runs as.
        Ok(launch) => Launch { warnings: Vec::new(), ..launch }.run(channel, stdio),
        Err(failure) => refuse(channel, failure),
    }
}

fn launch<'a>(config: &'a ContainerConfig, argv: &'a [String], privilege: Privilege) -> Result<Launch<'a>, Failure> {
    launch_in(&config.env, &config.working_dir, &config.user, &config.rootfs, argv, privilege)
}

fn launch_in<'a>(
    env: &[(String, String)],
    working_dir: &'a Path,
    user: &RunAs,
    rootfs: &Rootfs,
    argv: &'a [String],
    privilege: Privilege,
) -> Result<Launch<'a>, Failure> {
    let (identity, warnings) = identity::resolve(user, privilege)?;
    let mut env = env.to_vec();
    if !env.iter().any(|(name, _)| name == "HOME") {
        let home = match rootfs {
            Rootfs::Host => EMPTY_HOME.to_owned(),
            Rootfs::Directory(_) | Rootfs::Engine(_) => identity.home.clone().unwrap_or_else(|| "/".to_owned()),
        };
        env.push(("HOME".to_owned(), home));
    }
    Ok(Launch { argv, env, working_dir, identity, privilege, warnings })
}

fn refuse(channel: &Channel, failure: Failure) -> i32 {
    let _node_gone = channel.send(&Progress::Failed(failure), &[]);
    1
}

/// The files that a pod's containers share. The hosts file follows upstream's `pkg/kubelet/kubelet_pods.go`,
/// `managedHostsFileContent`.
pub fn pod_files(config: &SandboxConfig, ip: Ipv4Addr) -> Vec<(&'static str, String)> {
    let mut hosts = String::from(
        "# Kubernetes-managed hosts file.\n\
         127.0.0.1\tlocalhost\n\
         ::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::0\tip6-localnet\n\
         fe00::0\tip6-mcastprefix\n\
         fe00::1\tip6-allnodes\n\
         fe00::2\tip6-allrouters\n",
    );
    hosts.push_str(&format!("{ip}\t{}\n", config.hostname));
    if !config.extra_hosts.is_empty() {
        hosts.push_str("\n# Entries added by HostAliases.\n");
        for (address, names) in &config.extra_hosts {
            hosts.push_str(&format!("{address}\t{}\n", names.join("\t")));
        }
    }
    vec![
        ("/etc/hosts", hosts),
        ("/etc/hostname", format!("{}\n", config.hostname)),
        ("/etc/resolv.conf", config.resolv_conf.clone()),
    ]
}
