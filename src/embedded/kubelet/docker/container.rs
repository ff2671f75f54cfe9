//! Containers in a pod, and other programs in them.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bollard::Docker;
use bollard::errors::Error;
use bollard::exec::{CreateExecOptions, StartExecOptions, StartExecResults};
use bollard::models::{ContainerCreateBody, HealthConfig, HostConfig};
use bollard::query_parameters::{
    AttachContainerOptionsBuilder, CreateContainerOptions, KillContainerOptionsBuilder,
    ResizeContainerTTYOptionsBuilder, ResizeExecOptionsBuilder, StartContainerOptions, WaitContainerOptions,
};
use futures::StreamExt as _;
use tokio::sync::watch;

use super::super::image::Rootfs;
use super::super::runtime::{
    ContainerConfig, ExecConfig, ExitStatus, Mount, Process, Resize, RunAs, RuntimeError, Signals,
};
use super::sandbox::{Pod, engine_mount, quiet};
use super::streams::{self, Ends};
use super::{DockerRuntime, Running, kernel, lock, refused, words};

impl DockerRuntime {
    pub(super) async fn start(&self, config: ContainerConfig) -> Result<Process, RuntimeError> {
        let pod = self.pod(&config.pod_uid)?;
        let Rootfs::Engine(image) = &config.rootfs else {
            let why = "another image of this pod runs in the Docker engine, and a pod runs in one of the two: \
                       give all of its images a `process:`, or none";
            return Err(kernel("running it as a process")(std::io::Error::other(why)));
        };
        let outlives = self.place.volumes.join("volumes");
        if config.mounts.iter().any(|mount| mount.source.starts_with(&outlives) && !mount.read_only) {
            self.wrote_volumes.store(true, Ordering::Relaxed);
        }
        let program = config.argv.first().cloned().unwrap_or_default();
        let body = body(&config, image, &pod, self.labels(&config.pod_uid));
        let created = self.docker.create_container(None::<CreateContainerOptions>, body).await;
        let id = created.map_err(|error| refused("creating the container", error))?.id;
        match self.launch(&id, &config).await {
            Ok(process) => {
                let running = Running { pod_uid: config.pod_uid.clone(), engine_id: id };
                // A program that has ended already has been forgotten before.
                if process.exit.borrow().is_none() {
                    lock(&self.containers).insert(config.id.clone(), running);
                }
                Ok(process)
            }
            Err(error) => {
                self.remove(&id).await?;
                Err(not_started(&program, error))
            }
        }
    }

    async fn launch(&self, id: &str, config: &ContainerConfig) -> Result<Process, Error> {
        let options =
            AttachContainerOptionsBuilder::new().stream(true).stdin(config.stdin).stdout(true).stderr(true).build();
        // Before it starts: nothing that it says is missed.
        let attached = self.docker.attach_container(id, Some(options)).await?;
        let (Ends { stdin, stdout, stderr }, pipes) = streams::pipes(config.stdin, config.tty)?;
        self.docker.start_container(id, None::<StartContainerOptions>).await?;
        let (tell, exit) = watch::channel(None);
        let killed = Arc::new(AtomicBool::new(false));
        let limited = config.limits.memory.is_some().then(|| Arc::clone(&killed));
        let (docker, stop, engine_id) = (self.docker.clone(), self.stop.clone(), id.to_owned());
        let (containers, own) = (Arc::clone(&self.containers), config.id.clone());
        self.tasks.spawn(async move {
            let run = async {
                streams::copy(attached.output, attached.input, pipes).await;
                wait(&docker, &engine_id, limited.as_deref()).await
            };
            let status = tokio::select! {
                status = run => status,
                // Whoever stops removes the pod first.
                () = stop.cancelled() => ExitStatus::Signal(libc::SIGKILL),
            };
            tell.send_replace(Some(status));
            lock(&containers).remove(&own);
            if let Err(error) = super::remove(&docker, &engine_id).await {
                tracing::warn!(%error, container = engine_id, "an ended container could not be removed");
            }
        });
        let resize = config.tty.then(|| self.resize_container(id));
        Ok(Process { stdin, stdout, stderr, signals: self.signals(id, killed), resize, exit, warnings: Vec::new() })
    }

    fn signals(&self, id: &str, killed: Arc<AtomicBool>) -> Signals {
        let (docker, tasks, id) = (self.docker.clone(), self.tasks.clone(), id.to_owned());
        Signals::new(move |signal| {
            if signal == libc::SIGKILL {
                killed.store(true, Ordering::Relaxed);
            }
            let (docker, id) = (docker.clone(), id.clone());
            tasks.spawn(async move {
                let options = KillContainerOptionsBuilder::new().signal(&signal.to_string()).build();
                match docker.kill_container(&id, Some(options)).await {
                    // It has ended.
                    Ok(()) | Err(Error::DockerResponseServerError { status_code: 404 | 409, .. }) => {}
                    Err(error) => tracing::warn!(%error, container = id, signal, "a signal could not be sent"),
                }
            });
        })
    }

    fn resize_container(&self, id: &str) -> Resize {
        let (docker, tasks, id) = (self.docker.clone(), self.tasks.clone(), id.to_owned());
        Resize::new(move |columns, rows| {
            let (docker, id) = (docker.clone(), id.clone());
            tasks.spawn(async move {
                let options = ResizeContainerTTYOptionsBuilder::new().w(columns.into()).h(rows.into()).build();
                let _gone = docker.resize_container_tty(&id, options).await;
            });
        })
    }

    pub(super) async fn start_exec(&self, container_id: &str, config: ExecConfig) -> Result<Process, RuntimeError> {
        let running = lock(&self.containers).get(container_id).cloned();
        let running = running.ok_or_else(|| RuntimeError::NotFound(format!("container {container_id}")))?;
        let pod = self.pod(&running.pod_uid)?;
        let options = CreateExecOptions {
            attach_stdin: Some(config.stdin),
            attach_stdout: Some(true),
            attach_stderr: Some(!config.tty),
            tty: Some(config.tty),
            cmd: Some(config.argv.clone()),
            ..CreateExecOptions::default()
        };
        let program = config.argv.first().cloned().unwrap_or_default();
        let failed = |error| not_started(&program, error);
        let id = self.docker.create_exec(&running.engine_id, options).await.map_err(failed)?.id;
        let options = StartExecOptions { detach: false, tty: config.tty, output_capacity: None };
        let StartExecResults::Attached { output, input } =
            self.docker.start_exec(&id, Some(options)).await.map_err(failed)?
        else {
            return Err(kernel("starting a program in a container")(std::io::Error::other("it was detached")));
        };
        let (Ends { stdin, stdout, stderr }, pipes) =
            streams::pipes(config.stdin, config.tty).map_err(kernel("making the standard streams"))?;
        let (tell, exit) = watch::channel(None);
        let (docker, stop, exec) = (self.docker.clone(), self.stop.clone(), id.clone());
        self.tasks.spawn(async move {
            let run = async {
                streams::copy(output, input, pipes).await;
                let code = docker.inspect_exec(&exec).await.ok().and_then(|exec| exec.exit_code);
                code.and_then(|code| i32::try_from(code).ok())
            };
            let code = tokio::select! {
                code = run => code,
                () = stop.cancelled() => None,
            };
            tell.send_replace(Some(code.map_or(ExitStatus::Signal(libc::SIGKILL), ExitStatus::Code)));
        });
        let signals = {
            let (docker, tasks, id) = (self.docker.clone(), self.tasks.clone(), id.clone());
            Signals::new(move |signal| {
                let (docker, id, pod) = (docker.clone(), id.clone(), Arc::clone(&pod));
                // The engine has no request for it: the gate does it.
                tasks.spawn(async move {
                    let pid = docker.inspect_exec(&id).await.ok().filter(|exec| exec.running == Some(true));
                    if let Some(pid) = pid.and_then(|exec| exec.pid).and_then(|pid| i32::try_from(pid).ok()) {
                        pod.signal(pid, signal);
                    }
                });
            })
        };
        let resize = config.tty.then(|| {
            let (docker, tasks) = (self.docker.clone(), self.tasks.clone());
            Resize::new(move |columns, rows| {
                let (docker, id) = (docker.clone(), id.clone());
                tasks.spawn(async move {
                    let options = ResizeExecOptionsBuilder::new().w(columns.into()).h(rows.into()).build();
                    let _gone = docker.resize_exec(&id, options).await;
                });
            })
        });
        Ok(Process { stdin, stdout, stderr, signals, resize, exit, warnings: Vec::new() })
    }
}

fn body(config: &ContainerConfig, image: &str, pod: &Pod, labels: HashMap<String, String>) -> ContainerCreateBody {
    let of_pod = ["hosts", "resolv.conf"].map(|name| Mount {
        source: pod.directory.join(name),
        target: PathBuf::from("/etc").join(name),
        read_only: false,
    });
    // A volume at the same place wins, as with the kubelet's own hosts file.
    let of_pod = of_pod.iter().filter(|own| config.mounts.iter().all(|mount| mount.target != own.target));
    let (program, arguments) = config
        .argv
        .split_first()
        .map_or((None, Vec::new()), |(first, rest)| (Some(vec![first.clone()]), rest.to_vec()));
    let RunAs { user, gid, supplemental_groups } = &config.user;
    let joined = format!("container:{}", pod.gate);
    ContainerCreateBody {
        image: Some(image.to_owned()),
        entrypoint: program,
        cmd: Some(arguments),
        env: Some(config.env.iter().map(|(name, value)| format!("{name}={value}")).collect()),
        working_dir: Some(config.working_dir.to_string_lossy().into_owned()),
        user: match (user, gid) {
            (Some(user), Some(gid)) => Some(format!("{user}:{gid}")),
            (None, Some(gid)) => Some(format!("0:{gid}")),
            (user, None) => user.clone(),
        },
        tty: Some(config.tty),
        open_stdin: Some(config.stdin),
        stdin_once: Some(config.stdin),
        attach_stdin: Some(config.stdin),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        // Probes are the pod's.
        healthcheck: Some(HealthConfig { test: Some(vec!["NONE".to_owned()]), ..HealthConfig::default() }),
        labels: Some(labels),
        host_config: Some(HostConfig {
            network_mode: Some(joined.clone()),
            ipc_mode: Some(joined),
            mounts: Some(of_pod.chain(&config.mounts).map(engine_mount).collect()),
            readonly_rootfs: Some(config.read_only_root),
            group_add: Some(supplemental_groups.iter().map(u32::to_string).collect()),
            memory: config.limits.memory.and_then(|bytes| i64::try_from(bytes).ok()),
            // No swap beside it.
            memory_swap: config.limits.memory.and_then(|bytes| i64::try_from(bytes).ok()),
            nano_cpus: config.limits.milli_cpus.and_then(|milli| i64::try_from(milli).ok()?.checked_mul(1_000_000)),
            ..quiet()
        }),
        ..ContainerCreateBody::default()
    }
}

/// How a container ended. `limited`: it had a limit of memory, and whether it was killed from here.
async fn wait(docker: &Docker, id: &str, limited: Option<&AtomicBool>) -> ExitStatus {
    let mut waiting = std::pin::pin!(docker.wait_container(id, None::<WaitContainerOptions>));
    let code = match waiting.next().await {
        Some(Ok(ended)) => ended.status_code,
        Some(Err(Error::DockerContainerWaitError { code, .. })) => code,
        // Removed, or the engine is gone: killed in any case.
        _ => return ExitStatus::Signal(libc::SIGKILL),
    };
    // The engine has it from an event that may come after the container's end, so its word is not waited for: who else would have
    // killed it?
    if code == i64::from(128 + libc::SIGKILL) && limited.is_some_and(|killed| !killed.load(Ordering::Relaxed)) {
        return ExitStatus::OutOfMemory;
    }
    ExitStatus::Code(i32::try_from(code).unwrap_or(-1))
}

/// Why a program could not be started, by runc's words in the engine's.
fn not_started(program: &str, error: Error) -> RuntimeError {
    let said = words(error);
    let program = program.to_owned();
    if said.contains("executable file not found") || said.contains(&format!("stat {program}: no such file")) {
        return RuntimeError::CommandNotFound { program, searched: String::new() };
    }
    if said.contains("exec: ") && said.contains("permission denied") {
        return RuntimeError::NotExecutable { program, source: std::io::Error::from_raw_os_error(libc::EACCES) };
    }
    if let Some((_, user)) = said.split_once("unable to find user ") {
        return RuntimeError::NoSuchUser(user.split(':').next().unwrap_or(user).to_owned());
    }
    kernel("starting it in the Docker engine")(std::io::Error::other(said))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(message: &str) -> Error {
        Error::DockerResponseServerError { status_code: 400, message: message.to_owned() }
    }

    #[test]
    fn what_runc_says_is_known() {
        let before = "failed to create task for container: failed to create shim task: OCI runtime create failed: runc create \
                      failed: unable to start container process: ";
        for (message, expected) in [
            (
                "exec: \"nope\": executable file not found in $PATH: unknown",
                "exec: \"nope\": executable file not found in $PATH",
            ),
            ("exec: \"nope\": permission denied: unknown", "exec: \"nope\": permission denied"),
        ] {
            assert_eq!(not_started("nope", said(&format!("{before}{message}"))).to_string(), expected);
        }
        let absent = not_started(
            "/no/pe",
            said(&format!("{before}exec: \"/no/pe\": stat /no/pe: no such file or directory: unknown")),
        );
        assert_eq!(absent.to_string(), "exec: \"/no/pe\": stat /no/pe: no such file or directory");
        let user = not_started("sh", said("unable to find user who: no matching entries in passwd file"));
        assert_eq!(user.to_string(), "unable to find user who: no matching entries in passwd file");
    }
}
