//! When a probe runs and what its results amount to. Pure.
//!
//! Upstream probes once a period (`pkg/kubelet/prober/worker.go`). Here the first probe runs at once after
//! `initialDelaySeconds`, and while it fails the next comes after an eighth of the time that it has failed for (at least
//! 1 ms, 10 ms for exec; at most the period), so that a pod is Ready when it is, or an eighth later. A probe that takes
//! long itself comes less often: three quarters of the time are the program's. Thresholds keep upstream's pace:
//! periods are counted from the container's start, each one counts at most one failure, and the first one none —
//! upstream's first probe comes at some moment within it.

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
    /// The shortest wait after a failure.
    pub shortest_retry: Duration,
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
            shortest_retry: Duration::from_millis(if probe.exec.is_some() { 10 } else { 1 }),
        }
    }
}

/// Waiting for a program costs at most this part of the time that it has failed for.
const RETRY_PART: u32 = 8;
/// How much longer than a probe takes the next one waits.
const PROBE_PART: u32 = 3;

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
    /// When the failures in a row began: the first ones, with the container.
    failing_since: Duration,
    counted_slot: Option<u64>,
    reported_slot: Option<u64>,
}

impl Schedule {
    /// Before the first probe.
    pub fn new(settings: Settings) -> Self {
        let failing_since = Duration::ZERO;
        Self { settings, last: None, run: 0, failing_since, counted_slot: None, reported_slot: None }
    }

    /// Takes a result that came `since_start` after probing began (the container's start plus the initial delay), from a
    /// probe that took as long as `took`.
    pub fn note(&mut self, success: bool, since_start: Duration, took: Duration) -> Step {
        if self.last == Some(true) {
            self.failing_since = since_start;
        }
        if self.last != Some(success) {
            self.last = Some(success);
            self.run = 0;
            self.counted_slot = None;
        }
        if success {
            self.run = self.run.saturating_add(1);
            let settled = (self.run >= self.settings.success_threshold).then_some(true);
            return Step { settled, report: false, wait: self.settings.period };
        }
        let slot = self.slot(since_start);
        if slot > 0 && self.counted_slot != Some(slot) {
            self.counted_slot = Some(slot);
            self.run = self.run.saturating_add(1);
        }
        let settled = (self.run >= self.settings.failure_threshold).then_some(false);
        Step { settled, ..self.again(since_start, took) }
    }

    /// Takes that a probe could not be made: nothing follows from it (`worker.go`: the result is thrown away).
    pub fn erred(&mut self, since_start: Duration, took: Duration) -> Step {
        self.again(since_start, took)
    }

    fn slot(&self, since_start: Duration) -> u64 {
        u64::try_from(since_start.as_nanos() / self.settings.period.as_nanos().max(1)).unwrap_or(u64::MAX)
    }

    /// What follows without a success: whether it is told, and when the next one is.
    fn again(&mut self, since_start: Duration, took: Duration) -> Step {
        let slot = self.slot(since_start);
        let worth = slot > 0 || since_start >= Duration::from_secs(1);
        let report = worth && self.reported_slot != Some(slot);
        if report {
            self.reported_slot = Some(slot);
        }
        let failing = since_start.saturating_sub(self.failing_since);
        let wait = (failing / RETRY_PART).max(took * PROBE_PART).max(self.settings.shortest_retry);
        Step { settled: None, report, wait: wait.min(self.settings.period) }
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
            shortest_retry: MS,
        })
    }

    /// Probes that always fail, at the pace asked for; when the threshold is reached.
    fn fails_at(mut schedule: Schedule) -> (Duration, usize) {
        let mut now = Duration::ZERO;
        let mut events = 0;
        loop {
            let step = schedule.note(false, now, Duration::ZERO);
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
        for _ in 0..40 {
            let step = schedule.note(false, now, Duration::ZERO);
            assert_eq!((step.settled, step.report), (None, false));
            assert_eq!(step.wait, (now / 8).max(MS), "what becomes ready now is seen an eighth later at most");
            now += step.wait;
        }
        assert!(now > Duration::from_millis(300), "few probes reach far: {now:?}");
        assert_eq!(schedule.note(true, now, Duration::ZERO).settled, Some(true));
    }

    #[test]
    fn waits_grow_up_to_the_period_and_begin_anew_after_a_success() {
        let mut schedule = schedule(10, 1, 3);
        let (minute, second) = (Duration::from_secs(60), Duration::from_secs(1));
        assert_eq!(schedule.note(false, minute * 2, Duration::ZERO).wait, Duration::from_secs(10));
        assert!(schedule.note(true, minute * 3, Duration::ZERO).settled.is_some());
        assert_eq!(schedule.note(false, minute * 4, Duration::ZERO).wait, MS);
        assert_eq!(schedule.note(false, minute * 4 + second, Duration::ZERO).wait, second / 8);
    }

    #[test]
    fn a_slow_probe_leaves_the_program_most_of_the_time() {
        let mut schedule = schedule(10, 1, 3);
        assert_eq!(schedule.note(false, 100 * MS, 100 * MS).wait, 300 * MS);
        assert_eq!(
            schedule.note(false, Duration::from_secs(20), 4_000 * MS).wait,
            Duration::from_secs(10),
            "the period"
        );
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
        assert_eq!(schedule.note(false, Duration::from_millis(1_500), Duration::ZERO).settled, None);
        assert_eq!(schedule.note(true, Duration::from_millis(1_600), Duration::ZERO).settled, Some(true));
        assert_eq!(schedule.note(false, Duration::from_millis(2_600), Duration::ZERO).settled, None);
        assert_eq!(schedule.note(false, Duration::from_millis(2_601), Duration::ZERO).settled, None, "same period");
        assert_eq!(schedule.note(false, Duration::from_millis(3_100), Duration::ZERO).settled, Some(false));
    }

    #[test]
    fn success_threshold() {
        let mut schedule = schedule(1, 2, 1);
        assert_eq!(schedule.note(true, MS, Duration::ZERO).settled, None);
        assert_eq!(schedule.note(true, Duration::from_secs(1), Duration::ZERO).settled, Some(true));
    }
}
