//! A container's root: built in its own mount namespace on a tmpfs of its own, gone with it.

pub mod layers;
pub mod mountinfo;

mod kernel;
mod view;

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat, openat2};
use nix::mount::{MsFlags, mount};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::pivot_root;

use super::super::super::image::Rootfs;
use super::super::super::runtime::{ContainerConfig, Mount};
use super::super::sys;
use super::super::wire::{During, Failure};
use super::namespaces::{HOST, STAGE, detach};
use layers::Step;
use view::View;

/// HOME of a container on the host's programs that says no other: always empty at first, never the host's.
pub const EMPTY_HOME: &str = "/run/home";

/// What else a root needs to know.
pub struct Surroundings<'a> {
    /// The plan for [`Rootfs::Host`].
    pub host: &'a [Step],
    /// Files of the pod: path and content.
    pub files: &'a [(&'static str, String)],
    /// Lives as long as the pod: `/dev/shm`.
    pub shm: &'a Path,
}

/// Builds the root for `config` and makes it the caller's, which must be in a mount namespace of its own. Gives
/// warnings.
///
/// # Errors
/// What could not be mounted or made.
pub fn enter(config: &ContainerConfig, surroundings: &Surroundings<'_>) -> Result<Vec<String>, Failure> {
    let mut warnings = Vec::new();
    let directory_steps;
    let steps = match &config.rootfs {
        Rootfs::Host => surroundings.host,
        Rootfs::Directory(path) => {
            let lower = open_in(&host()?, path).during(|| format!("opening the root {}", path.display()))?;
            let lower = fs::read_link(fd_path(&lower)).during(|| format!("finding the root {}", path.display()))?;
            directory_steps = [Step::Overlay { target: "/".into(), lower }];
            &directory_steps
        }
        // Never asked for: a pod is run by one runtime.
        Rootfs::Engine(image) => {
            let what = format!("running image {image} of the Docker engine as a process");
            return Err(Failure::Sandbox { what, errno: nix::libc::ENOTSUP });
        }
    };
    mount(Some("container"), STAGE, Some("tmpfs"), MsFlags::MS_NODEV, Some("mode=755"))
        .during(|| "mounting a container's tmpfs".to_owned())?;
    let (root, uppers, works) = (stage("root"), stage("upper"), stage("work"));
    for directory in [&root, &uppers, &works] {
        fs::create_dir(directory).during(|| format!("creating {}", directory.display()))?;
    }
    let view = View { steps, root: &root, uppers: &uppers };
    prepare(&view, &works)?;
    let late = furnish(&view, config, surroundings)?;
    if !matches!(config.rootfs, Rootfs::Directory(_)) {
        bind(&root, &root).during(|| "binding a container's root".to_owned())?;
    }
    for (number, step) in steps.iter().enumerate() {
        perform(step, &view, number, &works, &mut warnings)?;
    }
    let inside = open_directory(&root)?;
    if config.read_only_root {
        sys::mount_restrict(&inside, nix::libc::MOUNT_ATTR_RDONLY).during(|| "making the root read-only".to_owned())?;
    }
    kernel::mount_all(&root, surroundings.shm)?;
    let sources = host()?;
    for volume in &config.mounts {
        attach(&inside, &sources, volume)?;
    }
    let stage = open_directory(Path::new(STAGE))?;
    for name in late {
        let volume =
            Mount { source: Path::new("/files").join(name), target: Path::new("/etc").join(name), read_only: false };
        attach(&inside, &stage, &volume)?;
    }
    std::env::set_current_dir(&root).during(|| "entering the root".to_owned())?;
    pivot_root(".", ".").during(|| "changing the root".to_owned())?;
    detach(".").during(|| "leaving the host's tree".to_owned())?;
    std::env::set_current_dir("/").during(|| "changing to /".to_owned())?;
    Ok(warnings)
}

/// Makes the directories of the overlays and of the root's own.
fn prepare(view: &View<'_>, works: &Path) -> Result<(), Failure> {
    for (number, step) in view.steps.iter().enumerate() {
        if let Step::Overlay { lower, .. } = step {
            let upper = view.upper(number);
            fs::create_dir(&upper)
                .and_then(|()| fs::create_dir(works.join(number.to_string())))
                .and_then(|()| view::inherit(lower, &upper))
                .during(|| format!("preparing the layer over {}", lower.display()))?;
        }
    }
    for directory in layers::FRESH {
        make(view, Path::new(directory))?;
    }
    Ok(())
}

/// Puts in place what must be there before the overlays are mounted. Gives the files that must be bound afterwards.
fn furnish<'a>(
    view: &View<'_>,
    config: &ContainerConfig,
    surroundings: &'a Surroundings<'_>,
) -> Result<Vec<&'a str>, Failure> {
    let mode = |path: PathBuf, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode));
    let mut late = Vec::new();
    for (path, content) in surroundings.files {
        let put = view.put_file(Path::new(path), content.as_bytes()).during(|| format!("writing {path}"))?;
        if !put && let Some((_, name)) = path.rsplit_once('/') {
            let files = stage("files");
            fs::create_dir_all(&files)
                .and_then(|()| fs::write(files.join(name), content))
                .during(|| format!("writing {path}"))?;
            late.push(name);
        }
    }
    if config.rootfs == Rootfs::Host {
        mode(view.root.join("tmp"), 0o1777).during(|| "preparing /tmp".to_owned())?;
        make(view, Path::new("/var/tmp"))?;
        make(view, Path::new(EMPTY_HOME))?;
    }
    for volume in &config.mounts {
        let source = open_in(&host()?, &volume.source).during(|| format!("opening {}", volume.source.display()))?;
        if view.exists(&volume.target) {
            continue;
        }
        if Path::new(&fd_path(&source)).is_dir() {
            make(view, &volume.target)?;
        } else {
            view.put_file(&volume.target, b"").during(|| format!("creating {}", volume.target.display()))?;
        }
    }
    make(view, &config.working_dir)?;
    Ok(late)
}

fn make(view: &View<'_>, path: &Path) -> Result<bool, Failure> {
    view.make_directory(path).during(|| format!("creating {}", path.display()))
}

fn perform(
    step: &Step,
    view: &View<'_>,
    number: usize,
    works: &Path,
    warnings: &mut Vec<String>,
) -> Result<(), Failure> {
    let inside = |path: &Path| view.root.join(path.strip_prefix("/").unwrap_or(path));
    match step {
        Step::Directory(path) => {
            let own = inside(path);
            fs::create_dir_all(&own)
                .and_then(|()| view::inherit(&on_host(path), &own))
                .during(|| format!("creating {}", path.display()))
        }
        Step::Link { path, target } => {
            std::os::unix::fs::symlink(target, inside(path)).during(|| format!("linking {}", path.display()))
        }
        Step::Show { target, file } => {
            let own = inside(target);
            let made = if *file { fs::write(&own, b"") } else { fs::create_dir_all(&own) };
            made.and_then(|()| show(&on_host(target), &own)).during(|| format!("showing {}", target.display()))
        }
        Step::Overlay { target, lower } => {
            let own = inside(target);
            let work = works.join(number.to_string());
            if let Err(error) = overlay(lower, &view.upper(number), &work, &own) {
                show(lower, &own).during(|| format!("mounting {}", target.display()))?;
                warnings.push(format!("{} is read-only: no overlay over it: {error}", target.display()));
            }
            Ok(())
        }
    }
}

/// Mounts one overlay. Paths with characters that mean something in mount options go by descriptor.
fn overlay(lower: &Path, upper: &Path, work: &Path, target: &Path) -> std::io::Result<()> {
    let directory = open(lower, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    let plain = lower.to_str().filter(|path| !path.contains([',', ':', '\\', '"']));
    let lower = plain.map_or_else(|| fd_path(&directory), str::to_owned);
    let options = format!("lowerdir={lower},upperdir={},workdir={},userxattr", upper.display(), work.display());
    let flags = MsFlags::MS_NODEV;
    fs::create_dir_all(target)?;
    Ok(mount(Some("overlay"), target, Some("overlay"), flags, Some(options.as_str()))?)
}

fn bind(source: &Path, target: &Path) -> nix::Result<()> {
    mount(Some(source), target, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)
}

/// Binds something so that it can't be written to.
fn show(source: &Path, target: &Path) -> std::io::Result<()> {
    bind(source, target)?;
    let mounted = open(target, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
    sys::mount_restrict(mounted, nix::libc::MOUNT_ATTR_RDONLY | nix::libc::MOUNT_ATTR_NODEV)
}

/// Binds a volume at its place, which is made if a volume above it hides the one that was prepared.
fn attach(root: &OwnedFd, sources: &OwnedFd, volume: &Mount) -> Result<(), Failure> {
    let what = || format!("mounting {} at {}", volume.source.display(), volume.target.display());
    let source = open_in(sources, &volume.source).during(what)?;
    let source_path = fd_path(&source);
    let target = match open_in(root, &volume.target) {
        Ok(target) => target,
        Err(_) => {
            create_in(root, &volume.target, Path::new(&source_path).is_dir()).during(what)?;
            open_in(root, &volume.target).during(what)?
        }
    };
    bind(Path::new(&source_path), Path::new(&fd_path(&target))).during(what)?;
    let mounted = open_in(root, &volume.target).during(what)?;
    let read_only = if volume.read_only { nix::libc::MOUNT_ATTR_RDONLY } else { 0 };
    sys::mount_restrict(mounted, read_only | nix::libc::MOUNT_ATTR_NODEV).during(what)
}

/// Makes a directory or an empty file, and the directories above it, through the finished root.
fn create_in(root: &OwnedFd, path: &Path, directory: bool) -> nix::Result<()> {
    let mut above: Vec<&Path> = path.ancestors().skip(1).collect();
    above.reverse();
    for directory in above.into_iter().skip(1) {
        make_in(root, directory, true)?;
    }
    make_in(root, path, directory)
}

fn make_in(root: &OwnedFd, path: &Path, directory: bool) -> nix::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
    if open_in(root, path).is_ok() {
        return Ok(());
    }
    let parent = open_in(root, parent)?;
    if directory {
        return mkdirat(&parent, name, Mode::from_bits_truncate(0o755));
    }
    let flags = OFlag::O_CREAT | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
    openat(&parent, name, flags, Mode::from_bits_truncate(0o644)).map(drop)
}

/// Opens a place as seen from `root`, which symbolic links can't leave.
fn open_in(root: &OwnedFd, path: &Path) -> nix::Result<OwnedFd> {
    let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC).resolve(ResolveFlag::RESOLVE_IN_ROOT);
    openat2(root, path, how)
}

fn open_directory(path: &Path) -> Result<OwnedFd, Failure> {
    open(path, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
        .during(|| format!("opening {}", path.display()))
}

fn host() -> Result<OwnedFd, Failure> {
    open_directory(Path::new(HOST))
}

fn fd_path(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

fn stage(name: &str) -> PathBuf {
    Path::new(STAGE).join(name)
}

fn on_host(path: &Path) -> PathBuf {
    Path::new(HOST).join(path.strip_prefix("/").unwrap_or(path))
}
