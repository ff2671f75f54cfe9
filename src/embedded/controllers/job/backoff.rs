//! How long a job waits after failed pods: 10 s, doubling to 10 minutes.
//!
//! Ports `pkg/controller/job/backoff_utils.go`. Pure.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::super::shared::view::Pod;

const FIRST: Duration = Duration::from_secs(10);
const MOST: Duration = Duration::from_secs(600);

/// Failures since the last success.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Backoff {
    failures: u32,
    last: Option<Timestamp>,
}

impl Backoff {
    /// With pods that finished since (`newBackoffRecord`).
    pub fn after(&self, succeeded: &[&Pod], failed: &[&Pod]) -> Self {
        let latest = |pods: &[&Pod]| pods.iter().map(|pod| finished_at(pod)).max();
        let count = |pods: usize| u32::try_from(pods).unwrap_or(u32::MAX);
        match (latest(succeeded), latest(failed)) {
            (None, None) => self.clone(),
            (None, last) => Self { failures: self.failures.saturating_add(count(failed.len())), last },
            (Some(_), None) => Self::default(),
            (Some(success), Some(last)) => {
                let since = failed.iter().filter(|pod| finished_at(pod) > success).count();
                Self { failures: count(since), last: (since > 0).then_some(last) }
            }
        }
    }

    /// How long to wait before the next pod (`getRemainingTime`).
    pub fn remaining(&self, now: Timestamp) -> Duration {
        let (Some(last), 1..) = (self.last, self.failures) else { return Duration::ZERO };
        let whole = FIRST.saturating_mul(2u32.saturating_pow((self.failures - 1).min(16))).min(MOST);
        let elapsed = Duration::try_from(now.duration_since(last)).unwrap_or(Duration::ZERO);
        whole.saturating_sub(elapsed)
    }
}

/// When a pod ended, as far as can be told (`getFinishedTime`).
fn finished_at(pod: &Pod) -> Timestamp {
    let ended = |at: &Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>| at.as_ref().map(|at| at.0);
    let containers: Option<Vec<Timestamp>> = pod
        .status
        .container_statuses
        .iter()
        .map(|status| status.state.terminated.as_ref().and_then(|state| ended(&state.finished_at)))
        .collect();
    let not_ready = || pod.condition("Ready").filter(|ready| ready.status == "False");
    let deleted = || {
        let grace = SignedDuration::from_secs(pod.metadata.deletion_grace_period_seconds.unwrap_or(0));
        ended(&pod.metadata.deletion_timestamp).and_then(|at| at.checked_sub(grace).ok())
    };
    containers
        .and_then(|all| all.into_iter().max())
        .or_else(|| not_ready().and_then(|ready| ended(&ready.last_transition_time)))
        .or_else(deleted)
        .or_else(|| ended(&pod.metadata.creation_timestamp))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(seconds: i64) -> Pod {
        let mut pod = Pod::default();
        let at = Timestamp::from_second(seconds).expect("small");
        pod.metadata.creation_timestamp = Some(super::super::super::shared::meta::seconds(at));
        pod
    }

    #[test]
    fn failures_double_the_wait_and_a_success_ends_it() {
        let at = |seconds| Timestamp::from_second(seconds).expect("small");
        let (first, second) = (pod(100), pod(200));
        let one = Backoff::default().after(&[], &[&first]);
        assert_eq!(one.remaining(at(103)), Duration::from_secs(7));
        let two = one.after(&[], &[&second]);
        assert_eq!(two.remaining(at(200)), Duration::from_secs(20));
        assert_eq!(two.remaining(at(220)), Duration::ZERO);
        assert_eq!(two.after(&[&second], &[]), Backoff::default());
        assert_eq!(Backoff::default().after(&[&first], &[&second]).remaining(at(200)), Duration::from_secs(10));
    }
}
