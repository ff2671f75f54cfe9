//! Takes away what a session has on a cluster that isn't its own: in the reverse order of the graph, then the namespace.
//!
//! Neighbours: `cluster::tenancy` says what that is; the agent calls [`move_out`] at the session's end; [`abandoned`] is about
//! sessions whose agent is gone, for `gc`, `down` and the next `up`; [`held`] says what a deletion waits for. On the session's own
//! cluster there is nothing to do here: all of it goes with the cluster.
//!
//! Invariant: nothing is deleted but by the UID under which this session (or the one it is done for) made it. What is outside
//! the namespace is owned by it, so the cluster's garbage collector takes that away with it.

pub mod abandoned;
mod held;
mod namespace;
mod order;

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use kube::api::{Api, DeleteParams, DynamicObject, Preconditions, PropagationPolicy};
use kube::runtime::wait::{await_condition, conditions};
use tokio::time::Instant;

use crate::cluster::ledger::{Ledger, Owned};
use crate::cluster::tenancy::record::Lodged;
use crate::plan::{NodeId, Plan};
pub use namespace::{Removed, remove_namespace};

/// The kinds from which pods come.
const WORKLOADS: [&str; 7] = ["CronJob", "DaemonSet", "Deployment", "Job", "Pod", "ReplicaSet", "StatefulSet"];

/// What each node needs, of the plan that was brought up last.
pub type Needs = BTreeMap<NodeId, Vec<NodeId>>;

/// The edges of a plan's graph.
pub fn needs(plan: &Plan) -> Needs {
    let of = |node: &crate::plan::Node| node.needs.iter().map(|need| need.node.clone()).collect();
    plan.nodes.iter().map(|node| (node.id.clone(), of(node))).collect()
}

/// Removes everything of a session: what needs others first, then the namespace with all that is in it. Returns within
/// `patience`, a moment more if it has to say what holds the rest.
///
/// # Errors
/// When the cluster doesn't answer or refuses. That a workload could not be stopped in order is none: it goes with the namespace.
pub async fn move_out(
    client: &kube::Client,
    lodged: &Lodged,
    ledger: &Ledger,
    needs: &Needs,
    patience: Duration,
) -> kube::Result<Removed> {
    let deadline = Instant::now() + patience;
    let nodes: Vec<NodeId> = ledger.nodes().cloned().collect();
    let waves = order::waves(&nodes, needs);
    // All at once is what deleting the namespace does.
    if waves.len() > 1 {
        for wave in waves {
            let objects: Vec<Owned> = wave.iter().flat_map(|node| running(ledger, node)).collect();
            let stopping = join_all(objects.iter().map(|owned| stop(client, owned)));
            if tokio::time::timeout_at(deadline, stopping).await.is_err() {
                break;
            }
        }
    }
    // Even with no time left the deletion itself is asked for.
    let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_secs(1));
    remove_namespace(client, lodged, left).await
}

/// What of a node may have running pods: a completed job has none.
fn running(ledger: &Ledger, node: &NodeId) -> Vec<Owned> {
    let Some(entry) = ledger.entry(node) else { return Vec::new() };
    let has_pods =
        |owned: &&Owned| WORKLOADS.contains(&owned.key.kind.as_str()) && !(owned.key.kind == "Job" && entry.was_ready);
    ledger.only_of(node).iter().filter(has_pods).cloned().collect()
}

/// Asks for the end of an object by its identity, and for the end of what it owns before that. `false`: it is gone, or another one has
/// its name, which is not touched.
///
/// # Errors
/// When the cluster doesn't answer or refuses.
pub async fn delete(api: &Api<DynamicObject>, name: &str, uid: &str) -> kube::Result<bool> {
    let parameters = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Foreground),
        preconditions: Some(Preconditions { uid: Some(uid.to_owned()), resource_version: None }),
        ..DeleteParams::default()
    };
    match api.delete(name, &parameters).await {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Deletes a workload and waits until its pods are gone: in the foreground, so that it stays until they are.
async fn stop(client: &kube::Client, owned: &Owned) {
    let resource = owned.kind.resource();
    let api: Api<DynamicObject> = match owned.kind.namespaced {
        true => Api::namespaced_with(client.clone(), &owned.key.namespace, &resource),
        false => Api::all_with(client.clone(), &resource),
    };
    let deleted = match delete(&api, &owned.key.name, &owned.expected.uid).await {
        Ok(true) => await_condition(api, &owned.key.name, conditions::is_deleted(&owned.expected.uid)).await.map(drop),
        Ok(false) => Ok(()),
        Err(error) => {
            tracing::warn!(object = %owned.key, %error, "could not be stopped in its turn");
            Ok(())
        }
    };
    if let Err(error) = deleted {
        tracing::warn!(object = %owned.key, %error, "its end could not be waited for");
    }
}
