//! Startup, readiness and liveness probes: [`schedule`] says when and what it means, [`check`] asks.

pub mod check;
pub mod schedule;

use k8s_openapi::api::core::v1::{Container, Probe};
use tokio::time::Instant;

use self::check::{Site, Trouble};
use self::schedule::{Schedule, Settings};

/// Which of a container's probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeKind {
    /// Until it succeeds, no other runs.
    Startup,
    /// Whether it takes traffic.
    Readiness,
    /// Whether it lives.
    Liveness,
}

impl ProbeKind {
    /// As events begin.
    pub fn word(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Readiness => "Readiness",
            Self::Liveness => "Liveness",
        }
    }

    /// The container's probe of this kind.
    pub fn of(self, container: &Container) -> Option<&Probe> {
        match self {
            Self::Startup => container.startup_probe.as_ref(),
            Self::Readiness => container.readiness_probe.as_ref(),
            Self::Liveness => container.liveness_probe.as_ref(),
        }
    }
}

/// What a probe has to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// The threshold was reached: this is its state now.
    Settled(bool),
    /// It did not succeed.
    Trouble(Trouble),
}

/// Probes for as long as `tell` listens; a startup probe ends when it has settled, a liveness probe when it
/// has failed (`worker.go`: on hold until there is a new container).
pub async fn run<F, T>(kind: ProbeKind, site: Site, container: Container, tell: F)
where
    F: Fn(Report) -> T,
    T: Future<Output = bool>,
{
    let Some(probe) = kind.of(&container) else { return };
    let settings = Settings::of(probe);
    let start = Instant::now() + settings.initial_delay;
    let mut schedule = Schedule::new(settings);
    let mut state = None;
    let mut next = start;
    loop {
        tokio::time::sleep_until(next).await;
        let began = Instant::now();
        let result = check::probe(&site, &container, probe, settings.timeout).await;
        let now = Instant::now();
        let step = match &result {
            Err(Trouble::Errored(_)) => schedule.erred(now - start, now - began),
            other => schedule.note(other.is_ok(), now - start, now - began),
        };
        if let Err(trouble) = result
            && step.report
            && !tell(Report::Trouble(trouble)).await
        {
            return;
        }
        if let Some(settled) = step.settled
            && state != Some(settled)
        {
            state = Some(settled);
            if !tell(Report::Settled(settled)).await {
                return;
            }
            if kind == ProbeKind::Startup || kind == ProbeKind::Liveness && !settled {
                return;
            }
        }
        next = now + step.wait;
    }
}
