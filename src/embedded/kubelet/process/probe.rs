//! Whether this machine gives pods their sandbox, and if not, why and what would cure it. Tried for real: a node process
//! with its namespaces and network, ended at once. The cures are those for the switches that distributions and container
//! engines use against user namespaces.

use super::client::{Options, ProcessRuntime, StartError};
use super::node::{Privilege, privilege};

/// How pods are kept apart on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// In namespaces that the caller may make by itself.
    Root,
    /// In namespaces below a user namespace of the caller.
    UserNamespace,
}

impl std::fmt::Display for Mode {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.pad(match self {
            Self::Root => "as root",
            Self::UserNamespace => "in a user namespace",
        })
    }
}

/// Why there can be no pods here.
#[derive(Debug, thiserror::Error)]
#[error("refused {mode}: {error}")]
pub struct Refusal {
    /// What was tried.
    pub mode: Mode,
    /// What the kernel answered to which step.
    pub error: StartError,
}

/// Tries it. Must be called in a tokio runtime.
///
/// # Errors
/// [`Refusal`], whose error has a [`StartError::cure`].
pub async fn probe(options: &Options) -> Result<Mode, Refusal> {
    let mode = mode();
    let node = ProcessRuntime::start(options).await.map_err(|error| Refusal { mode, error })?;
    node.stop().await;
    Ok(mode)
}

/// What would be tried on this machine.
fn mode() -> Mode {
    match privilege() {
        Privilege::Root => Mode::Root,
        Privilege::User => Mode::UserNamespace,
    }
}

impl StartError {
    /// The command or setting that would improve it; none where the machine isn't to blame.
    pub fn cure(&self) -> Option<String> {
        match self {
            Self::Refused(_) => Some(cure(mode(), |path| std::fs::read_to_string(path).ok()).to_owned()),
            Self::Spawn { .. } | Self::Ended | Self::Talk(_) => None,
        }
    }
}

/// From the kernel's own switches, the most particular first.
fn cure(mode: Mode, read: impl Fn(&str) -> Option<String>) -> &'static str {
    let is = |path: &str, value: &str| read(path).is_some_and(|text| text.trim() == value);
    let user = mode == Mode::UserNamespace;
    if user && is("/proc/sys/user/max_user_namespaces", "0") {
        "sudo sysctl user.max_user_namespaces=10000"
    } else if user && is("/proc/sys/kernel/unprivileged_userns_clone", "0") {
        "sudo sysctl kernel.unprivileged_userns_clone=1"
    } else if user && is("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1") {
        "sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0"
    } else if is("/proc/sys/user/max_net_namespaces", "0") || is("/proc/sys/user/max_mnt_namespaces", "0") {
        "sudo sysctl user.max_net_namespaces=10000 user.max_mnt_namespaces=10000"
    } else {
        "in a container, allow namespaces: docker run --privileged, or --security-opt seccomp=unconfined \
         --security-opt apparmor=unconfined"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cured(mode: Mode, switches: &[(&str, &str)]) -> &'static str {
        cure(mode, |path| switches.iter().find(|(name, _)| path.ends_with(name)).map(|(_, value)| format!("{value}\n")))
    }

    #[test]
    fn the_switch_that_refuses_is_the_one_to_change() {
        let user = Mode::UserNamespace;
        assert!(cured(user, &[("max_user_namespaces", "0")]).contains("user.max_user_namespaces="));
        assert!(cured(user, &[("unprivileged_userns_clone", "0")]).ends_with("userns_clone=1"));
        assert!(cured(user, &[("apparmor_restrict_unprivileged_userns", "1")]).ends_with("userns=0"));
        assert!(cured(Mode::Root, &[("max_net_namespaces", "0")]).contains("max_net_namespaces"));
        // Root needs no user namespace: their switches are not to blame.
        assert!(cured(Mode::Root, &[("max_user_namespaces", "0")]).contains("--privileged"));
        assert!(cured(user, &[("unprivileged_userns_clone", "1")]).contains("seccomp=unconfined"));
    }
}
