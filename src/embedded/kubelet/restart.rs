//! Whether and when a container that has ended starts again. Pure.
//!
//! Follows upstream's `pkg/api/v1/pod/util.go` (`ContainerShouldRestart`), and
//! `client-go/util/flowcontrol/backoff.go` as `kuberuntime_manager.go`'s `doBackOff` uses it.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, PodSpec};
use tokio::time::Instant;

/// The first wait. Upstream's own constants of 1.36 (`pkg/kubelet/kubelet.go`): `newCrashLoopBackOff` takes
/// `reducedInitialCrashLoopBackOff` and `reducedMaxCrashLoopBackOff` with the feature gate `ReduceDefaultCrashLoopBackOffDecay`
/// (KEP-4603, alpha), else 10 s and 5 min. This node runs as with the gate: with 10 s, a service that ends right after its
/// start would use up its crash budget only after two and a half minutes.
const INITIAL: Duration = Duration::from_secs(1);
/// The longest wait, with the same gate (without it, `crashLoopBackOff.maxContainerRestartPeriod` of the kubelet's
/// configuration could be as low).
const MAXIMUM: Duration = Duration::from_secs(60);
/// A run as long as this makes earlier ends forgotten; the gate leaves it as it was.
const RESET: Duration = Duration::from_secs(600);

/// Whether `container` runs again after it ended with `exit_code`.
pub fn should_restart(spec: &PodSpec, container: &Container, exit_code: i32) -> bool {
    if let Some(policy) = &container.restart_policy {
        let ruled = container.restart_policy_rules.iter().flatten().any(|rule| {
            rule.action == "Restart"
                && rule.exit_codes.as_ref().is_some_and(|codes| {
                    let listed = codes.values.iter().flatten().any(|code| *code == exit_code);
                    match codes.operator.as_str() {
                        "In" => listed,
                        "NotIn" => !listed,
                        _ => false,
                    }
                })
        });
        if ruled {
            return true;
        }
        match policy.as_str() {
            "Always" => return true,
            "OnFailure" => return exit_code != 0,
            "Never" => return false,
            _ => {}
        }
    }
    match spec.restart_policy.as_deref().unwrap_or("Always") {
        "Never" => false,
        "OnFailure" => exit_code != 0,
        _ => true,
    }
}

/// One container's back-off: nothing before the first restart, then 1 s doubling to
/// 1 min, forgotten when a run lasted 10 min.
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    initial: Duration,
    maximum: Duration,
    entry: Option<(Duration, Instant)>,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { initial: INITIAL, maximum: MAXIMUM, entry: None }
    }
}

/// What to do about a container that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Start it.
    Now,
    /// Not before this instant; shown as `CrashLoopBackOff`.
    Wait {
        /// When it may start.
        until: Instant,
        /// The whole wait.
        delay: Duration,
    },
}

impl Backoff {
    /// Of an image that isn't there: 10 s doubling to 5 min (upstream's `imageBackOff`, which the gate leaves as it was).
    pub fn of_images() -> Self {
        Self { initial: Duration::from_secs(10), maximum: Duration::from_secs(300), entry: None }
    }

    /// Judges a container that ended at `finished`.
    pub fn judge(&self, finished: Instant, now: Instant) -> Verdict {
        match self.entry {
            Some((delay, updated))
                if finished.saturating_duration_since(updated) <= RESET && now < finished + delay =>
            {
                Verdict::Wait { until: finished + delay, delay }
            }
            _ => Verdict::Now,
        }
    }

    /// Notes that it is being started again at `now`, after it ended at `finished`.
    pub fn next(&mut self, finished: Instant, now: Instant) {
        let delay = match self.entry {
            Some((delay, updated)) if finished.saturating_duration_since(updated) <= RESET => {
                (delay * 2).min(self.maximum)
            }
            _ => self.initial,
        };
        self.entry = Some((delay, now));
    }
}

/// As Go prints a duration of whole seconds: `10s`, `1m20s`, `5m0s`.
pub fn go_seconds(delay: Duration) -> String {
    let seconds = delay.as_secs();
    if seconds < 60 { format!("{seconds}s") } else { format!("{}m{}s", seconds / 60, seconds % 60) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(policy: &str) -> PodSpec {
        PodSpec { restart_policy: Some(policy.to_owned()), ..PodSpec::default() }
    }

    #[test]
    fn restart_policies() {
        let container = Container::default();
        for (policy, exit_code, expected) in [
            ("Always", 0, true),
            ("Always", 1, true),
            ("OnFailure", 0, false),
            ("OnFailure", 1, true),
            ("Never", 0, false),
            ("Never", 1, false),
        ] {
            assert_eq!(should_restart(&spec(policy), &container, exit_code), expected, "{policy} {exit_code}");
        }
        let own = Container { restart_policy: Some("Never".to_owned()), ..Container::default() };
        assert!(!should_restart(&spec("Always"), &own, 1));
        let ruled: Container = serde_json::from_value(serde_json::json!({
            "name": "c", "restartPolicy": "Never",
            "restartPolicyRules": [{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]
        }))
        .unwrap();
        assert!(should_restart(&spec("Never"), &ruled, 42));
        assert!(!should_restart(&spec("Never"), &ruled, 1));
    }

    #[test]
    fn backs_off_as_upstream() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let mut backoff = Backoff::default();
        assert_eq!(backoff.judge(start, start), Verdict::Now, "the first restart is immediate");
        let mut now = start;
        backoff.next(now, now);
        for expected in [1, 2, 4, 8, 16, 32, 60, 60] {
            let finished = now + second;
            let Verdict::Wait { until, delay } = backoff.judge(finished, finished) else { panic!("must wait") };
            assert_eq!(delay, Duration::from_secs(expected));
            assert_eq!(until, finished + delay);
            assert_eq!(backoff.judge(finished, until), Verdict::Now);
            now = until;
            backoff.next(finished, now);
        }
        let finished = now + Duration::from_secs(601);
        assert_eq!(backoff.judge(finished, finished), Verdict::Now, "forgotten after ten minutes");
        backoff.next(finished, finished);
        assert!(
            matches!(backoff.judge(finished + second, finished + second), Verdict::Wait { delay, .. } if delay == INITIAL)
        );
    }

    #[test]
    fn prints_as_go() {
        assert_eq!(go_seconds(Duration::from_secs(10)), "10s");
        assert_eq!(go_seconds(Duration::from_secs(80)), "1m20s");
        assert_eq!(go_seconds(Duration::from_secs(300)), "5m0s");
    }
}
