//! Sets of completion indexes, written as `1,3-5,7`.
//!
//! Ports `indexed_job_utils.go` and `success_policy.go` of `pkg/controller/job`. Pure.

use std::collections::BTreeSet;
use std::fmt;

use k8s_openapi::api::batch::v1::SuccessPolicy;

use super::super::shared::meta::annotation;
use super::super::shared::view::{COMPLETION_INDEX, Pod};

/// A set of indexes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Indexes(BTreeSet<i32>);

impl Indexes {
    /// Parses; what isn't a number or is `completions` or more is left out.
    pub fn parse(text: &str, completions: i32) -> Self {
        let mut all = BTreeSet::new();
        for interval in text.split(',') {
            let (first, last) = interval.split_once('-').unwrap_or((interval, interval));
            if let (Ok(first), Ok(last)) = (first.parse::<i32>(), last.parse::<i32>()) {
                all.extend(first..=last.min(completions - 1));
            }
        }
        Self(all)
    }

    /// Adds one.
    pub fn insert(&mut self, index: i32) -> bool {
        self.0.insert(index)
    }

    /// Whether it is in.
    pub fn contains(&self, index: i32) -> bool {
        self.0.contains(&index)
    }

    /// How many.
    pub fn count(&self) -> i32 {
        i32::try_from(self.0.len()).unwrap_or(i32::MAX)
    }

    /// The first `count` below `completions` that are in neither set (`firstPendingIndexes`).
    pub fn first_missing(&self, busy: &BTreeSet<i32>, completions: i32, count: usize) -> Vec<i32> {
        (0..completions).filter(|index| !self.contains(*index) && !busy.contains(index)).take(count).collect()
    }
}

impl fmt::Display for Indexes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.iter().copied().peekable();
        let mut separator = "";
        while let Some(first) = rest.next() {
            let mut last = first;
            while rest.next_if_eq(&(last + 1)).is_some() {
                last += 1;
            }
            match last - first {
                0 => write!(f, "{separator}{first}")?,
                1 => write!(f, "{separator}{first},{last}")?,
                _ => write!(f, "{separator}{first}-{last}")?,
            }
            separator = ",";
        }
        Ok(())
    }
}

/// The index of a pod, if it has one below `completions`.
pub fn of_pod(pod: &Pod, completions: i32) -> Option<i32> {
    annotation(&pod.metadata, COMPLETION_INDEX)?.parse().ok().filter(|index| (0..completions).contains(index))
}

/// What to say if the success policy is met (`matchSuccessPolicy`).
pub fn success_policy_met(policy: Option<&SuccessPolicy>, completions: i32, succeeded: &Indexes) -> Option<String> {
    if succeeded.0.is_empty() {
        return None;
    }
    policy?.rules.iter().enumerate().find_map(|(at, rule)| {
        let enough = |count: i32| rule.succeeded_count.is_some_and(|wanted| count >= wanted);
        let met = match &rule.succeeded_indexes {
            None => enough(succeeded.count()),
            Some(text) => {
                let wanted = Indexes::parse(text, completions);
                let both = i32::try_from(wanted.0.intersection(&succeeded.0).count()).unwrap_or(i32::MAX);
                wanted.count() > 0 && (both == wanted.count() || enough(both))
            }
        };
        met.then(|| format!("Matched rules at index {at}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_written_as_upstream_writes_them() {
        for (text, completions, expected) in [
            ("", 5, ""),
            ("0", 5, "0"),
            ("0,1", 5, "0,1"),
            ("0-2,4", 5, "0-2,4"),
            ("0,1,2,3,5", 10, "0-3,5"),
            ("0-9", 4, "0-3"),
            ("x,2", 4, "2"),
        ] {
            assert_eq!(Indexes::parse(text, completions).to_string(), expected, "{text}");
        }
        let done = Indexes::parse("0-2,5", 8);
        assert_eq!(done.first_missing(&BTreeSet::from([3]), 8, 9), [4, 6, 7]);
    }
}
