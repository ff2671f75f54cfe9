//! When a probe runs and what its results amount to. Pure.
//!
//! Upstream probes once a period (`pkg/kubelet/prober/worker.go`). Here the first probe runs at once after
//! `initialDelaySeconds`, and after a failure the next comes in 1, 2, 4, 8 … ms (10 ms for exec), up to the
//! period, so that a pod is Ready when it is. Thresholds keep upstream's pace: periods are counted from
//! the container's start, each one counts at most one failure, and the first one none — upstream's first
//! probe comes at some moment within it.

use std::time::Duration;

use k8s_openapi::api::core::v1::Probe;

/// A probe's numbers, with upstream's defaults (`pkg/apis/core/v1/defaults.go`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Nothing is probed before.
    pub initial_delay: Duration,
    /// Between probes.
    pub period: Duration,
    /// For one probe.
    pub timeout: Duration,
    /// Successes in a row that count.
    pub success_threshold: u32,
    /// Failures in a row that count.
    pub failure_threshold: u32,
    /// The first wait after a failure.
    pub first_retry: Duration,
}

impl Settings {
    /// Reads a probe.
    pub fn of(probe: &Probe) -> Self {
        let seconds = |value: Option<i32>, default: u64| {
            Duration::from_secs(value.and_then(|value| u64::try_from(value).ok()).unwrap_or(default))
        };
        let count = |value: Option<i32>, default: u32| {
            value.and_then(|value| u32::try_from(value).ok()).filter(|value| *value > 0).unwrap_or(default)
        };
        Self {
            initial_delay: seconds(probe.initial_delay_seconds, 0),
            period: seconds(probe.period_seconds.filter(|value| *value > 0), 10),
            timeout: seconds(probe.timeout_seconds.filter(|value| *value > 0), 1),
            success_threshold: count(probe.success_threshold, 1),
            failure_threshold: count(probe.failure_threshold, 3),
            first_retry: Duration::from_millis(if probe.exec.is_some() { 10 } else { 1 }),
        }
    }
}

/// What one result did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// The threshold was reached by this result: the probe's state is now this.
    pub settled: Option<bool>,
    /// Whether to report a failure as an Event: one per period, and in the first period only once
    /// failing has lasted a second.
    pub report: bool,
    /// How long until the next probe.
    pub wait: Duration,
}

/// The results so far of one probe of one container's run.
#[derive(Debug, Clone)]
pub struct Schedule {
    settings: Settings,
    last: Option<bool>,
    run: u32,
    retry: Duration,
    counted_slot: Option<u64>,
    reported_slot: Option<u64>,
}

impl Schedule {
    /// Before the first probe.
    pub fn new(settings: Settings) -> Self {
        Self { settings, last: None, run: 0, retry: settings.first_retry, counted_slot: None, reported_slot: None }
    }

    /// Takes a result that came `since_start` after probing began (the container's start plus the initial delay).
    pub fn note(&mut self, success: bool, since_start: Duration) -> Step {
        if self.last != Some(success) {
            self.last = Some(success);
            self.run = 0;
            self.counted_slot = None;
        }
        if success {
            self.retry = self.settings.first_retry;
            self.run = self.run.saturating_add(1);
            let settled = (self.run >= self.settings.success_threshold).then_some(true);
            return Step { settled, report: false, wait: self.settings.period };
        }
        let slot = u64::try_from(since_start.as_nanos() / self.settings.period.as_nanos().max(1)).unwrap_or(u64::MAX);
        if slot > 0 && self.counted_slot != Some(slot) {
            self.counted_slot = Some(slot);
            self.run = self.run.saturating_add(1);
        }
        let worth = slot > 0 || since_start >= Duration::from_secs(1);
        let report = worth && self.reported_slot != Some(slot);
        if report {
            self.reported_slot = Some(slot);
        }
        let wait = self.retry.min(self.settings.period);
        self.retry = (self.retry * 2).min(self.settings.period);
        let settled = (self.run >= self.settings.failure_threshold).then_some(false);
        Step { settled, report, wait }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn schedule(period: u64, success_threshold: u32, failure_threshold: u32) -> Schedule {
        Schedule::new(Settings {
            initial_delay: Duration::ZERO,
            period: Duration::from_secs(period),
            timeout: Duration::from_secs(1),
            success_threshold,
            failure_threshold,
            first_retry: MS,
        })
    }

    /// Probes that always fail, at the pace asked for; when the threshold is reached.
    fn fails_at(mut schedule: Schedule) -> (Duration, usize) {
        let mut now = Duration::ZERO;
        let mut events = 0;
        loop {
            let step = schedule.note(false, now);
            events += usize::from(step.report);
            if step.settled == Some(false) {
                return (now, events);
            }
            now += step.wait;
        }
    }

    #[test]
    fn first_failures_retry_fast_and_do_not_count() {
        let mut schedule = schedule(10, 1, 1);
        let mut now = Duration::ZERO;
        let mut waits = Vec::new();
        for _ in 0..8 {
            let step = schedule.note(false, now);
            assert_eq!(step.settled, None);
            assert!(!step.report);
            waits.push(step.wait.as_millis());
            now += step.wait;
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128]);
        assert_eq!(schedule.note(true, now).settled, Some(true));
    }

    #[test]
    fn failing_for_good_takes_as_long_as_upstream() {
        for (period, threshold) in [(10, 1), (10, 3), (1, 3), (5, 30)] {
            let (at, events) = fails_at(schedule(period, 1, threshold));
            let earliest = Duration::from_secs(period * u64::from(threshold));
            assert!(at >= earliest, "{period} {threshold}: {at:?}");
            assert!(at <= earliest + Duration::from_secs(2 * period), "{period} {threshold}: {at:?}");
            assert!(events >= threshold as usize && events <= threshold as usize + 2, "{events}");
        }
    }

    #[test]
    fn a_success_starts_the_count_again() {
        let mut schedule = schedule(1, 1, 2);
        assert_eq!(schedule.note(false, Duration::from_millis(1_500)).settled, None);
        assert_eq!(schedule.note(true, Duration::from_millis(1_600)).settled, Some(true));
        assert_eq!(schedule.note(false, Duration::from_millis(2_600)).settled, None);
        assert_eq!(schedule.note(false, Duration::from_millis(2_601)).settled, None, "same period");
        assert_eq!(schedule.note(false, Duration::from_millis(3_100)).settled, Some(false));
    }

    #[test]
    fn success_threshold() {
        let mut schedule = schedule(1, 2, 1);
        assert_eq!(schedule.note(true, MS).settled, None);
        assert_eq!(schedule.note(true, Duration::from_secs(1)).settled, Some(true));
    }
}
