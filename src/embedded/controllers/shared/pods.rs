//! What is true of a pod, which pods to delete first, and how one is created from a template.
//!
//! Ports `pkg/api/v1/pod/util.go` and the pod parts of `pkg/controller/controller_utils.go`.

use std::cmp::Ordering;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use kube::api::DeleteParams;
use kube::{Api, Client};

use super::view::{Condition, DELETION_COST, Pod};

impl Pod {
    /// `status.phase`, `Pending` if absent.
    pub fn phase(&self) -> &str {
        self.status.phase.as_deref().unwrap_or("Pending")
    }

    /// `Succeeded` or `Failed` (`IsPodTerminal`).
    pub fn is_finished(&self) -> bool {
        matches!(self.phase(), "Succeeded" | "Failed")
    }

    /// Marked for deletion.
    pub fn is_going(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    /// Neither finished nor marked for deletion (`IsPodActive`).
    pub fn is_active(&self) -> bool {
        !self.is_finished() && !self.is_going()
    }

    /// Marked for deletion and not finished (`IsPodTerminating`).
    pub fn is_terminating(&self) -> bool {
        !self.is_finished() && self.is_going()
    }

    /// The condition of this type.
    pub fn condition(&self, type_: &str) -> Option<&Condition> {
        self.status.conditions.iter().find(|condition| condition.type_ == type_)
    }

    /// `Ready` is `True` (`IsPodReady`).
    pub fn is_ready(&self) -> bool {
        self.condition("Ready").is_some_and(|ready| ready.status == "True")
    }

    /// How long until a ready pod has been ready for `min_ready_seconds`: zero if it has (`IsPodAvailable`),
    /// `None` if it isn't ready.
    pub fn available_in(&self, min_ready_seconds: i32, now: Timestamp) -> Option<Duration> {
        let ready = self.condition("Ready").filter(|ready| ready.status == "True")?;
        if min_ready_seconds <= 0 {
            return Some(Duration::ZERO);
        }
        let since = ready.last_transition_time.as_ref()?.0;
        let left = since.as_millisecond() + i64::from(min_ready_seconds) * 1000 - now.as_millisecond();
        Some(Duration::from_millis(u64::try_from(left).unwrap_or(0)))
    }

    fn ready_since(&self) -> Option<Timestamp> {
        self.condition("Ready").filter(|ready| ready.status == "True")?.last_transition_time.as_ref().map(|at| at.0)
    }

    fn deletion_cost(&self) -> i32 {
        super::meta::annotation(&self.metadata, DELETION_COST).and_then(|cost| cost.parse().ok()).unwrap_or(0)
    }

    /// Regular and sidecar containers' highest restart counts (`maxContainerRestarts`).
    fn max_restarts(&self) -> (i32, i32) {
        let regular = self.status.container_statuses.iter().map(|status| status.restart_count).max().unwrap_or(0);
        let sidecars = self.spec.init_containers.iter().filter(|c| c.restart_policy.as_deref() == Some("Always"));
        let of = |name: &str| self.status.init_container_statuses.iter().find(|status| status.name == name);
        let sidecar = sidecars.filter_map(|c| of(&c.name)).map(|status| status.restart_count).max().unwrap_or(0);
        (regular, sidecar)
    }
}

fn phase_rank(pod: &Pod) -> u8 {
    match pod.phase() {
        "Pending" => 0,
        "Unknown" => 1,
        _ => 2,
    }
}

/// Which of two pods goes first when there are too many: `Less` goes first (`ActivePodsWithRanks.Less`).
///
/// `rank` counts ready pods of the same set on the same node; equal for all on one node.
pub fn deletion_order(a: (&Pod, usize), b: (&Pod, usize), now: Timestamp) -> Ordering {
    let ((a, rank_a), (b, rank_b)) = (a, b);
    let bound = |pod: &Pod| pod.spec.node_name.as_deref().is_some_and(|node| !node.is_empty());
    bound(a)
        .cmp(&bound(b))
        .then_with(|| phase_rank(a).cmp(&phase_rank(b)))
        .then_with(|| a.is_ready().cmp(&b.is_ready()))
        .then_with(|| a.deletion_cost().cmp(&b.deletion_cost()))
        .then_with(|| rank_b.cmp(&rank_a))
        .then_with(|| {
            if a.is_ready() && b.is_ready() {
                younger_first(a.ready_since(), b.ready_since(), now)
            } else {
                Ordering::Equal
            }
        })
        .then_with(|| b.max_restarts().cmp(&a.max_restarts()))
        .then_with(|| younger_first(created(a), created(b), now))
        .then_with(|| a.metadata.uid.cmp(&b.metadata.uid))
}

fn created(pod: &Pod) -> Option<Timestamp> {
    pod.metadata.creation_timestamp.as_ref().map(|at| at.0)
}

/// Younger first, in ranks that double (`logarithmicRankDiff`); no time counts as youngest. Upstream goes by uid at once where
/// different times have one rank, and on to the next criterion where they are equal: not an order that can be sorted by. Here
/// one rank always goes on, and the uid decides last.
fn younger_first(a: Option<Timestamp>, b: Option<Timestamp>, now: Timestamp) -> Ordering {
    let rank = |at: Timestamp| {
        let age = now.as_nanosecond() - at.as_nanosecond();
        if age > 0 { i64::from(age.ilog2()) } else { -1 }
    };
    a.map(rank).cmp(&b.map(rank))
}

/// The pod that a template describes, owned by `owner`; its name is generated by the API server
/// (`GetPodFromTemplate`).
pub fn from_template(
    template: &PodTemplateSpec,
    parent_name: &str,
    owner: OwnerReference,
) -> k8s_openapi::api::core::v1::Pod {
    let meta = template.metadata.clone().unwrap_or_default();
    k8s_openapi::api::core::v1::Pod {
        metadata: ObjectMeta {
            generate_name: Some(format!("{parent_name}-")),
            labels: meta.labels,
            annotations: meta.annotations,
            finalizers: meta.finalizers,
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

/// Deletes a pod; one that is gone already is fine.
///
/// # Errors
/// Whatever else the API answers.
pub async fn delete(client: &Client, meta: &ObjectMeta) -> Result<(), kube::Error> {
    let api: Api<Pod> = Api::namespaced(client.clone(), super::meta::namespace(meta));
    let preconditions = kube::api::Preconditions { uid: meta.uid.clone(), resource_version: None };
    let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
    match api.delete(super::meta::name(meta), &params).await {
        Ok(_) => Ok(()),
        Err(error) if matches!(super::worker::code(&error), 404 | 409) => Ok(()),
        Err(error) => Err(error),
    }
}

/// `at` plus whole seconds, as a wait from `now`; zero if it has passed.
pub fn wait_until(at: &Time, seconds: i64, now: Timestamp) -> Duration {
    let left = at.0.as_millisecond().saturating_add(seconds.saturating_mul(1000)) - now.as_millisecond();
    Duration::from_millis(u64::try_from(left).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sorting by anything else than a total order panics, and did.
    #[test]
    fn the_deletion_order_is_total() {
        let now: Timestamp = "2026-01-01T01:00:00Z".parse().expect("a time");
        let pods: Vec<Pod> = (0..40)
            .map(|n| {
                serde_json::from_value(serde_json::json!({
                    "metadata": {
                        "uid": format!("{:02}", n * 7 % 40),
                        "creationTimestamp": format!("2026-01-01T00:00:{:02}Z", n % 3),
                    },
                    "spec": {"nodeName": "node"},
                    "status": {"phase": "Running", "conditions": [{
                        "type": "Ready", "status": "True",
                        "lastTransitionTime": format!("2026-01-01T00:{:02}:{:02}Z", n % 5 * 10, n % 2),
                    }]},
                }))
                .expect("a pod")
            })
            .collect();
        let order = |a: &Pod, b: &Pod| deletion_order((a, 0), (b, 0), now);
        for a in &pods {
            for b in &pods {
                assert_eq!(order(a, b), order(b, a).reverse());
                for c in &pods {
                    assert!(order(a, b) != order(b, c) || order(a, c) == order(a, b));
                }
            }
        }
    }
}
