//! Starts a container: image, environment, mounts, user, program. One job of the actor's; it waits by itself
//! for images and objects that aren't there yet.
//!
//! Follows upstream's `kuberuntime_container.go` (`startContainer`, `generateContainerConfig`) and
//! `images/image_manager.go`; error reasons are upstream's.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::super::env::{self, EnvError, Sources};
use super::super::events::Kind;
use super::super::image::Image;
use super::super::io::Stream;
use super::super::logs;
use super::super::logs::writer::Writer;
use super::super::objects::{Watched, current};
use super::super::quantity::Milli;
use super::super::restart::{Backoff, Verdict};
use super::super::runtime::{ContainerConfig, Limits, Mount, Process, Pull, RunAs, RuntimeError};
use super::super::volumes::keeper::{Prepared, sub_path};
use super::container::Streams;
use super::messages::{Live, Message, StartOutcome};
use super::state::Waiting;
use super::supervision::Supervision;
use super::{Context, field_path};

/// Where a container writes its last words, unless it says otherwise.
const TERMINATION_LOG: &str = "/dev/termination-log";

/// When a pod that failed to start is looked at again (`pod_workers.go`, `completeWork`: the back-off period, 10 s, with a jitter of
/// up to half of it, of which this is the middle).
const SYNC_AGAIN: Duration = Duration::from_millis(12_500);

/// One start.
pub struct Start {
    /// The node's things.
    pub context: Arc<Context>,
    /// The pod.
    pub pod: Arc<Pod>,
    /// The container's index and spec.
    pub index: usize,
    /// Its spec.
    pub spec: Container,
    /// Its restart count.
    pub run: u32,
    /// The pod's volumes.
    pub volumes: Arc<Prepared>,
    /// The pod's address.
    pub facts: super::super::downward::Facts,
    /// The pod's directory.
    pub directory: PathBuf,
    /// Cancelled when nothing may start any more.
    pub work: CancellationToken,
    /// To the actor.
    pub tell: mpsc::Sender<Message>,
}

/// Where a run's termination message is on the host.
pub fn termination_file(directory: &Path, container: &str, id: &str) -> PathBuf {
    directory.join("containers").join(container).join(id)
}

impl Start {
    fn event(&self, kind: Kind, reason: &'static str, message: impl Into<String>) {
        self.context.recorder.pod(&self.pod, Some(field_path(&self.pod, &self.spec.name)), kind, reason, message);
    }

    async fn stuck(&self, reason: &'static str, message: String) {
        let _ = self.tell.send(Message::Stuck(self.index, Waiting { reason, message })).await;
    }

    /// Does it. The run itself is handed to the actor to look after.
    pub async fn start(self) -> StartOutcome {
        let work = self.work.clone();
        let prepared = tokio::select! {
            biased;
            () = work.cancelled() => return StartOutcome::Dropped,
            prepared = self.prepare() => prepared,
        };
        let (config, log) = match prepared {
            Ok(prepared) => prepared,
            Err(waiting) => {
                self.event(Kind::Warning, "Failed", format!("Error: {}", waiting.message));
                return StartOutcome::NotMade(waiting);
            }
        };
        let id = config.id.clone();
        let tty = config.tty;
        // From here on it isn't interrupted: a program that was started must not be lost.
        match self.context.runtime.start_container(config).await {
            Ok(process) => {
                self.event(Kind::Normal, "Created", "Container created");
                self.event(Kind::Normal, "Started", "Container started");
                for warning in &process.warnings {
                    self.event(Kind::Warning, "NotEnforced", warning.clone());
                }
                match self.live(id, process, log, tty) {
                    Ok((live, supervision)) => StartOutcome::Started(Box::new((live, supervision))),
                    Err(error) => self.not_made("CreateContainerError", error.to_string()),
                }
            }
            Err(error @ (RuntimeError::CommandNotFound { .. } | RuntimeError::NotExecutable { .. })) => {
                let why = format!("failed to start container: unable to start container process: {error}");
                self.event(Kind::Normal, "Created", "Container created");
                self.event(Kind::Warning, "Failed", format!("Error: {why}"));
                StartOutcome::NotRun { id, why }
            }
            Err(RuntimeError::NodeGone) => StartOutcome::NodeGone,
            Err(error) => self.not_made("CreateContainerError", error.to_string()),
        }
    }

    fn not_made(&self, reason: &'static str, message: String) -> StartOutcome {
        self.event(Kind::Warning, "Failed", format!("Error: {message}"));
        StartOutcome::NotMade(Waiting { reason, message })
    }

    fn live(
        &self,
        id: String,
        process: Process,
        log: Option<Writer>,
        tty: bool,
    ) -> std::io::Result<(Live, Supervision)> {
        let stdout = Arc::new(Stream::new(process.stdout)?.with_terminal(process.resize));
        let stderr = process.stderr.map(Stream::new).transpose()?.map(Arc::new);
        let stdin = process.stdin.map(Stream::new).transpose()?.map(Arc::new);
        let (attach, attached) = mpsc::channel(1);
        let live = Live {
            id,
            signals: process.signals,
            exit: process.exit.clone(),
            attach,
            stdin,
            terminal: tty.then(|| Arc::clone(&stdout)),
            log: log.as_ref().map(Writer::progress),
        };
        let streams = Streams { stdout, stderr, exit: process.exit };
        let supervision = Supervision { index: self.index, id: live.id.clone(), run: self.run, streams, log, attached };
        Ok((live, supervision))
    }

    async fn prepare(&self) -> Result<(ContainerConfig, Option<Writer>), Waiting> {
        let config_error = |message: String| Waiting { reason: "CreateContainerConfigError", message };
        let image = self.image().await;
        let pod_spec = self.pod.spec.clone().unwrap_or_default();
        let environment = self.environment(&image, &pod_spec).await?;
        let argv = env::argv(&self.spec, &image, &environment);
        let id = uuid::Uuid::new_v4().simple().to_string();
        let name = self.spec.image.clone().unwrap_or_default();
        if argv.is_empty() {
            return Err(Waiting {
                reason: "CreateContainerError",
                message: format!("no command specified, and image {name:?} has no entrypoint"),
            });
        }
        let user = run_as(&pod_spec, &self.spec, &image).map_err(config_error)?;
        let mut mounts = Vec::new();
        for mount in self.spec.volume_mounts.iter().flatten() {
            let Some(volume) = self.volumes.get(&mount.name) else {
                return Err(config_error(format!(
                    "cannot find volume {:?} to mount into container {:?}",
                    mount.name, self.spec.name
                )));
            };
            let values =
                |name: &str| environment.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
            let sub = match (&mount.sub_path, &mount.sub_path_expr) {
                (_, Some(expression)) if !expression.is_empty() => {
                    Some(super::super::expansion::expand(expression, values))
                }
                (Some(path), _) if !path.is_empty() => Some(path.clone()),
                _ => None,
            };
            let source = match sub {
                Some(sub) => sub_path(volume, &sub).map_err(|error| config_error(error.to_string()))?,
                None => volume.clone(),
            };
            let target = Path::new("/").join(&mount.mount_path);
            mounts.push(Mount { source, target, read_only: mount.read_only.unwrap_or(false) });
        }
        let termination = termination_file(&self.directory, &self.spec.name, &id);
        make_termination_file(&termination)
            .map_err(|error| config_error(format!("{}: {error}", termination.display())))?;
        let target = self.spec.termination_message_path.clone().filter(|path| !path.is_empty());
        mounts.push(Mount {
            source: termination,
            target: PathBuf::from(target.unwrap_or_else(|| TERMINATION_LOG.to_owned())),
            read_only: false,
        });
        let log_path =
            logs::run_file(&logs::pod_directory(&self.context.state_dir, &self.pod), &self.spec.name, self.run);
        let log = match Writer::create(log_path.clone(), self.run) {
            Ok(log) => Some(log),
            Err(error) => {
                // A full disk must not keep the pod from running; its log is lost, and that is said.
                self.event(
                    Kind::Warning,
                    "FailedLog",
                    format!("the container's log cannot be kept: {}: {error}", log_path.display()),
                );
                None
            }
        };
        let own = self.spec.security_context.as_ref();
        let config = ContainerConfig {
            id,
            pod_uid: self.pod.metadata.uid.clone().unwrap_or_default(),
            rootfs: image.rootfs.clone(),
            argv,
            env: environment,
            working_dir: self
                .spec
                .working_dir
                .clone()
                .filter(|path| !path.is_empty())
                .map(PathBuf::from)
                .or_else(|| image.working_dir.clone())
                .unwrap_or_else(|| PathBuf::from("/")),
            user,
            mounts,
            read_only_root: own.and_then(|own| own.read_only_root_filesystem).unwrap_or(false),
            stdin: self.spec.stdin.unwrap_or(false),
            tty: self.spec.tty.unwrap_or(false),
            limits: limits(&self.spec),
        };
        Ok((config, log))
    }

    /// The image, waited for: it may be mapped while the session lives.
    async fn image(&self) -> Image {
        let name = self.spec.image.clone().unwrap_or_default();
        let mut images = self.context.images.clone();
        let uid = self.pod.metadata.uid.clone().unwrap_or_default();
        let mut backoff = Backoff::of_images();
        loop {
            if let Some(image) = images.borrow_and_update().get(&name) {
                let message =
                    format!("Container image {name:?} already present on machine and can be accessed by the pod");
                self.event(Kind::Normal, "Pulled", message);
                return image.clone();
            }
            let pull = match self.spec.image_pull_policy.as_deref() {
                Some("Never") => Pull::Never,
                Some("Always") => Pull::Always,
                _ => Pull::IfNotPresent,
            };
            let began = Instant::now();
            let found = self.context.runtime.image(&uid, &name, pull).await;
            if let Some(Ok(found)) = found {
                let message = if found.fresh {
                    let took = super::super::restart::go_seconds(began.elapsed());
                    format!("Successfully pulled image {name:?} in {took}")
                } else {
                    format!("Container image {name:?} already present on machine and can be accessed by the pod")
                };
                self.event(Kind::Normal, "Pulled", message);
                return found.image;
            }
            if pull == Pull::Never {
                let message = format!("Container image {name:?} is not present with pull policy of Never");
                self.event(Kind::Warning, "ErrImageNeverPull", message.clone());
                self.event(Kind::Warning, "Failed", "Error: ErrImageNeverPull");
                self.stuck("ErrImageNeverPull", message).await;
            } else {
                let why = match found {
                    Some(Err(error)) => error.to_string(),
                    _ => format!(
                        "the environment file doesn't say how to run {name:?}; map it there: \
                         images: {{ {name:?}: {{ process: {{ entrypoint: [PROGRAM] }} }} }}"
                    ),
                };
                self.event(Kind::Normal, "Pulling", format!("Pulling image {name:?}"));
                self.event(Kind::Warning, "Failed", format!("Failed to pull image {name:?}: {why}"));
                self.event(Kind::Warning, "Failed", "Error: ErrImagePull");
                self.stuck("ErrImagePull", why.clone()).await;
                let pulled = Instant::now();
                backoff.next(pulled, pulled);
                let mut backing_off = false;
                // Each sync either finds the back-off running (ImagePullBackOff) or pulls again.
                loop {
                    tokio::select! {
                        changed = images.changed() => {
                            if changed.is_err() {
                                std::future::pending::<()>().await;
                            }
                            break;
                        }
                        () = tokio::time::sleep(SYNC_AGAIN) => {}
                    }
                    if backoff.judge(pulled, Instant::now()) == Verdict::Now {
                        break;
                    }
                    if !std::mem::replace(&mut backing_off, true) {
                        let message = format!("Back-off pulling image {name:?}");
                        self.event(Kind::Normal, "BackOff", message.clone());
                        self.event(Kind::Warning, "Failed", "Error: ImagePullBackOff");
                        self.stuck("ImagePullBackOff", format!("{message}: ErrImagePull: {why}")).await;
                    }
                }
                continue;
            }
            if images.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// The environment, waited for while ConfigMaps or Secrets are missing.
    async fn environment(&self, image: &Image, pod_spec: &PodSpec) -> Result<Vec<(String, String)>, Waiting> {
        let namespace = self.pod.metadata.namespace.clone().unwrap_or_default();
        let (map_names, secret_names) = env::references(&self.spec);
        let mut maps: Vec<(String, Watched<_>)> = Vec::new();
        for name in map_names {
            let watched = self.context.objects.config_map(&namespace, &name).await;
            maps.push((name, watched));
        }
        let mut secrets: Vec<(String, Watched<_>)> = Vec::new();
        for name in secret_names {
            let watched = self.context.objects.secret(&namespace, &name).await;
            secrets.push((name, watched));
        }
        let mut services = self.context.services.clone();
        let table = match services.wait_for(|table| table.services_listed).await {
            Ok(table) => Some(Arc::clone(&table)),
            Err(_) => None,
        };
        // The kubelet is stopping.
        let Some(table) = table else { return std::future::pending().await };
        let links = pod_spec.enable_service_links.unwrap_or(true);
        let known = table.entries.values().filter_map(|entry| entry.service.as_deref());
        let service_variables = env::service_variables(known, &namespace, links);
        let hostname = super::super::resolv::hostname(&self.pod);
        let mut reported: Option<EnvError> = None;
        loop {
            let mut sources = Sources::default();
            for (name, watched) in &mut maps {
                if let Some(object) = current(watched).await {
                    sources.config_maps.insert(name.clone(), object);
                }
            }
            for (name, watched) in &mut secrets {
                if let Some(object) = current(watched).await {
                    sources.secrets.insert(name.clone(), object);
                }
            }
            let error =
                match env::container_environment(&self.pod, &self.spec, &sources, &service_variables, &self.facts) {
                    Ok(variables) => return Ok(env::process_environment(image, &hostname, variables)),
                    Err(error @ (EnvError::Downward(_) | EnvError::FileKeyRef(_))) => {
                        return Err(Waiting { reason: "CreateContainerConfigError", message: error.to_string() });
                    }
                    Err(error) => error,
                };
            if reported.as_ref() != Some(&error) {
                self.event(Kind::Warning, "Failed", format!("Error: {error}"));
                self.stuck("CreateContainerConfigError", error.to_string()).await;
                reported = Some(error);
            }
            let mut changes: Vec<futures::future::BoxFuture<'_, bool>> = Vec::new();
            changes
                .extend(maps.iter_mut().map(|(_, watched)| Box::pin(async { watched.changed().await.is_ok() }) as _));
            changes.extend(
                secrets.iter_mut().map(|(_, watched)| Box::pin(async { watched.changed().await.is_ok() }) as _),
            );
            if !futures::future::select_all(changes).await.0 {
                std::future::pending::<()>().await;
            }
        }
    }
}

fn make_termination_file(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    std::fs::write(path, b"")?;
    // Whoever the container runs as may write (`kubelet_pods.go`: 0666, whatever the umask).
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))
}

fn limits(spec: &Container) -> Limits {
    let limits = spec.resources.as_ref().and_then(|resources| resources.limits.as_ref());
    let of = |name: &str, unit: &str| {
        let quantity = Milli::parse(&limits?.get(name)?.0)?;
        u64::try_from(quantity.divided_by(Milli::parse(unit)?)).ok()
    };
    Limits { memory: of("memory", "1"), milli_cpus: of("cpu", "1m") }
}

/// Who it runs as: the container's word, the pod's, the image's. The error is `CreateContainerConfigError`.
fn run_as(pod: &PodSpec, spec: &Container, image: &Image) -> Result<RunAs, String> {
    let own = spec.security_context.as_ref();
    let of_pod = pod.security_context.as_ref();
    let uid = own.and_then(|own| own.run_as_user).or_else(|| of_pod.and_then(|of_pod| of_pod.run_as_user));
    let gid = own.and_then(|own| own.run_as_group).or_else(|| of_pod.and_then(|of_pod| of_pod.run_as_group));
    let non_root = own.and_then(|own| own.run_as_non_root).or_else(|| of_pod.and_then(|of_pod| of_pod.run_as_non_root));
    let (image_user, image_gid) = match image.user.as_deref().map(|user| user.split_once(':').unwrap_or((user, ""))) {
        Some((user, gid)) => (Some(user.to_owned()), gid.parse().ok()),
        None => (None, None),
    };
    let user = uid.map(|uid| uid.to_string()).or(image_user);
    if non_root == Some(true) && matches!(user.as_deref(), Some("0" | "root")) {
        return Err(match uid {
            Some(_) => "container's runAsUser breaks non-root policy".to_owned(),
            None => "container has runAsNonRoot and image will run as root".to_owned(),
        });
    }
    let mut groups: Vec<u32> = Vec::new();
    for group in of_pod
        .and_then(|of_pod| of_pod.supplemental_groups.as_ref())
        .into_iter()
        .flatten()
        .chain(of_pod.and_then(|of_pod| of_pod.fs_group.as_ref()))
    {
        groups.extend(u32::try_from(*group).ok());
    }
    Ok(RunAs { user, gid: gid.and_then(|gid| u32::try_from(gid).ok()).or(image_gid), supplemental_groups: groups })
}
