//! When something that was applied is ready, and when waiting for it cannot help any more.
//!
//! Pure predicates over what the cluster reports: [`status`] for any object, [`pods`] for what the
//! pods behind it say, put together by [`Observed`]. [`watches`] is the thin edge that keeps an
//! `Observed` current: one watch per kind in the namespace, shared by all nodes of the graph.
//!
//! Neighbours: `provision` asks for a [`Verdict`] whenever something changed. Nothing here waits,
//! sleeps or knows the time: a finding that has its own clock ([`Patience::For`]) is timed by the caller.

pub mod observed;
pub mod pods;
pub mod status;
pub mod watches;
pub mod words;

use std::time::Duration;

pub use observed::{Change, Expected, ObjectKey, Observed};
pub use status::Status;

use crate::provision::failure::Cause;

/// What the caller is willing to put up with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// How often a container may be restarted before its node has failed.
    pub crash_budget: i32,
    /// How long a pod may be unschedulable.
    pub unschedulable: Duration,
    /// How long a pod may be refused for what the cluster usually makes a moment later (its service account).
    pub settling: Duration,
    /// How long a service without a readiness check must have been running before it counts as ready: Kubernetes calls it
    /// ready at once, and one that ends right after its start would pass for a success.
    pub steady: Duration,
    /// Within what time a kubelet tries again what it could not do for lack of an object: ten seconds, and up to half as much more
    /// (`backOffPeriod` and `workerBackOffPeriodJitterFactor` in upstream's `pkg/kubelet/kubelet.go` and `pod_workers.go`).
    pub retried: Duration,
    /// The longest that it waits where it waits twice as long each time, as for volumes (`maxDurationBeforeRetry` in upstream's
    /// `pkg/util/goroutinemap/exponentialbackoff`).
    pub backed_off: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            crash_budget: 5,
            unschedulable: Duration::from_secs(30),
            settling: Duration::from_secs(10),
            steady: Duration::from_millis(300),
            retried: Duration::from_secs(20),
            backed_off: Duration::from_secs(122),
        }
    }
}

/// What a node of the graph is waiting for its objects to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Runs until it is taken away: ending, even well, is a failure.
    Serve,
    /// Runs to completion.
    Complete,
}

/// How things stand with one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is what was asked for.
    Ready,
    /// Not yet; for people, what is missing.
    Waiting(String),
    /// Not yet, and as it looks now never.
    Failing(Box<Finding>),
}

/// Something that keeps an object from becoming ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Why, by its stable name.
    pub cause: Cause,
    /// One sentence.
    pub message: String,
    /// What the user can do about it.
    pub hint: Option<String>,
    /// How long it may last before it is a failure.
    pub patience: Patience,
    /// The pod that shows it, if one does.
    pub pod: Option<String>,
}

/// How long a finding may last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// Waiting cannot help.
    None,
    /// It may pass by itself within this time, counted from when it was first seen.
    For(Duration),
    /// Until nothing else in the graph is being made that could bring what is missing, and the kubelet has tried again since.
    UntilGraphSettles {
        /// Whether it waits longer from try to try.
        backs_off: bool,
    },
}
