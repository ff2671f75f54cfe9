//! Ends a container: preStop hook, SIGTERM, and SIGKILL at the deadline. Also runs hooks.
//!
//! Follows upstream's `kuberuntime_container.go` (`killContainer`) and `lifecycle/handlers.go`.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, LifecycleHandler};
use tokio::sync::watch;
use tokio::time::Instant;

use super::super::probe::check::{self, Site, Trouble};
use super::super::runtime::{ExitStatus, Signals};

/// A hook may take as long as its container lives; this only bounds what nobody bounds.
const HOOK: Duration = Duration::from_secs(24 * 3600);

/// Runs a hook. The error is for the log and the status, not for events (secrets may leak).
pub async fn hook(site: &Site, container: &Container, handler: &LifecycleHandler) -> Result<(), String> {
    if let Some(action) = &handler.exec {
        check::exec(site, action, HOOK).await.map_err(|trouble| {
            let (Trouble::Failed(output) | Trouble::Errored(output)) = trouble;
            format!(
                "Exec lifecycle hook ({:?}) for Container {:?} failed, message: {output:?}",
                action.command.as_deref().unwrap_or_default(),
                container.name
            )
        })
    } else if let Some(action) = &handler.http_get {
        check::http_get(site, container, action, "kube-lifecycle/1.36", HOOK).await
    } else if let Some(sleep) = &handler.sleep {
        tokio::time::sleep(Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or(0))).await;
        Ok(())
    } else {
        Err("Cannot run handler: invalid handler".to_owned())
    }
}

/// What ends one run.
pub struct Stop {
    /// Where it is.
    pub site: Site,
    /// For its preStop hook and stop signal.
    pub spec: Container,
    /// Whether the hook runs: not when the kubelet stops.
    pub with_hook: bool,
    /// To end it.
    pub signals: Signals,
    /// When it has ended.
    pub exit: watch::Receiver<Option<ExitStatus>>,
    /// When SIGKILL comes; may be brought forward.
    pub deadline: watch::Receiver<Instant>,
}

impl Stop {
    /// Does it; returns when the program has ended, with whether its hook failed.
    pub async fn stop(self) -> Result<(), String> {
        let Self { site, spec, with_hook, signals, mut exit, mut deadline } = self;
        let lifecycle = spec.lifecycle.as_ref();
        let mut hooked = Ok(());
        if with_hook && let Some(handler) = lifecycle.and_then(|lifecycle| lifecycle.pre_stop.as_ref()) {
            tokio::select! {
                result = hook(&site, &spec, handler) => hooked = result,
                () = passed(&mut deadline) => {}
                _ = exit.wait_for(Option::is_some) => return hooked,
            }
        }
        let signal = lifecycle.and_then(|lifecycle| lifecycle.stop_signal.as_deref()).and_then(number);
        signals.send(signal.unwrap_or(libc::SIGTERM));
        tokio::select! {
            _ = exit.wait_for(Option::is_some) => return hooked,
            () = passed(&mut deadline) => {}
        }
        signals.send(libc::SIGKILL);
        let _ = exit.wait_for(Option::is_some).await;
        hooked
    }
}

/// Waits for a deadline that may still move.
async fn passed(deadline: &mut watch::Receiver<Instant>) {
    loop {
        let at = *deadline.borrow_and_update();
        tokio::select! {
            () = tokio::time::sleep_until(at) => return,
            changed = deadline.changed() => if changed.is_err() { return tokio::time::sleep_until(at).await },
        }
    }
}

fn number(name: &str) -> Option<i32> {
    name.parse::<nix::sys::signal::Signal>().ok().map(|signal| signal as i32)
}
