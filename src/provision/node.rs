//! One node's way to the cluster: what of it must be applied, what deleted first, and doing so.
//!
//! [`Work::compare`] is pure; [`Work::perform`] sends the requests, independent ones at once: first everything that pods
//! refer to, then what makes pods.

use std::sync::Arc;

use futures::future::{join_all, try_join_all};
use kube::api::{Api, DynamicObject, PropagationPolicy};
use kube::runtime::wait::{await_condition, conditions};
use serde_json::Value;

use crate::cluster::apply::{Applied, Applier, ApplyError, Deleted};
use crate::cluster::ledger::{Entry, Owned, digest};
use crate::plan::NodeKind;
use crate::readiness::{ObjectKey, Observed};

/// Nobody waits for what is no longer asked for.
pub const BACKGROUND: PropagationPolicy = PropagationPolicy::Background;

/// What has to be done for one node.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Work {
    /// Objects of ours to delete and wait for, before anything is applied: a changed job is a new one.
    pub replace: Vec<Owned>,
    /// Objects to delete: the node no longer has them.
    pub remove: Vec<Owned>,
    /// Objects to apply, in order.
    pub apply: Vec<Value>,
    /// Objects that are as they should be.
    pub keep: Vec<Owned>,
}

impl Work {
    /// What differs between `rendered` and what was applied before. `observed` tells whether the workload is still there.
    pub fn compare(kind: NodeKind, rendered: Vec<Value>, before: Option<&Entry>, observed: &Observed) -> Self {
        let mut work = Self::default();
        let old = before.map_or(&[][..], |entry| &entry.objects);
        let same_object = |owned: &Owned, object: &Value| is_same(&owned.key, &ObjectKey::of(object));
        for object in &rendered {
            let Some(owned) = old.iter().find(|owned| same_object(owned, object)) else {
                work.apply.push(object.clone());
                continue;
            };
            let there = !is_workload(&owned.key) || {
                let uid = observed.object(&owned.key).and_then(|object| object["metadata"]["uid"].as_str());
                uid == Some(owned.expected.uid.as_str())
            };
            // A job that failed, or never ended, is run again: what it needs may have been mended meanwhile.
            let done = kind != NodeKind::Job || owned.key.kind != "Job" || before.is_some_and(|entry| entry.was_ready);
            if there && done && owned.digest == digest(object) {
                work.keep.push(owned.clone());
                continue;
            }
            if owned.key.kind == "Job" {
                work.replace.push(owned.clone());
            }
            work.apply.push(object.clone());
        }
        work.remove =
            old.iter().filter(|owned| !rendered.iter().any(|object| same_object(owned, object))).cloned().collect();
        work
    }

    /// Whether everything is as it should be.
    pub fn is_nothing(&self) -> bool {
        self.replace.is_empty() && self.remove.is_empty() && self.apply.is_empty()
    }

    /// Does it.
    pub async fn perform(self, applier: Arc<Applier>, client: kube::Client) -> Performed {
        let mut performed = Performed { objects: self.keep, warnings: Vec::new(), failed: None };
        let deleted = async {
            try_join_all(self.replace.iter().map(|owned| delete_and_wait(&applier, &client, owned))).await?;
            let removed = self
                .remove
                .iter()
                .map(|owned| applier.delete(&owned.kind, &owned.key, &owned.expected.uid, BACKGROUND));
            try_join_all(removed).await
        };
        performed.failed = deleted.await.err();
        for stage in stages(self.apply) {
            if performed.failed.is_some() {
                break;
            }
            let applied = join_all(stage.iter().map(|object| applier.apply(object))).await;
            for (applied, rendered) in applied.into_iter().zip(&stage) {
                match applied {
                    Ok(applied) => {
                        if applied.key.kind == "CustomResourceDefinition"
                            && let Err(error) = established(&client, &applied).await
                        {
                            performed.failed.get_or_insert(error);
                        }
                        performed.warnings.extend(applied.warnings.iter().cloned());
                        performed.objects.push(Owned::new(applied, rendered));
                    }
                    Err(error) => _ = performed.failed.get_or_insert(error),
                }
            }
        }
        performed
    }
}

/// What became of [`Work`].
#[derive(Debug)]
pub struct Performed {
    /// The node's objects as they now are; those that it had and that aren't here are as nobody knows if it failed.
    pub objects: Vec<Owned>,
    /// What the API warned of.
    pub warnings: Vec<String>,
    /// The first request that failed.
    pub failed: Option<ApplyError>,
}

/// Whether both are the same object. Rendered ones don't always say their namespace, and kinds of no namespace have none.
pub fn is_same(one: &ObjectKey, other: &ObjectKey) -> bool {
    (&one.group, &one.kind, &one.name) == (&other.group, &other.kind, &other.name)
        && (one.namespace == other.namespace || one.namespace.is_empty() || other.namespace.is_empty())
}

/// Whether pods come of it, so that its being there can be seen by the watches.
fn is_workload(key: &ObjectKey) -> bool {
    matches!((key.group.as_str(), key.kind.as_str()), ("apps", "Deployment") | ("batch", "Job"))
}

/// Kinds before objects of those kinds, namespaces before what is in them, what pods refer to before what makes pods; roles before
/// their bindings, since who isn't an administrator may bind only what can be compared with their own rights.
fn stages(objects: Vec<Value>) -> Vec<Vec<Value>> {
    let rank = |object: &Value| match object["kind"].as_str().unwrap_or_default() {
        "CustomResourceDefinition" | "Namespace" | "Role" | "ClusterRole" => 0,
        "Deployment" | "Job" | "StatefulSet" | "DaemonSet" | "ReplicaSet" | "CronJob" | "Pod" => 2,
        _ => 1,
    };
    let mut stages = vec![Vec::new(), Vec::new(), Vec::new()];
    for object in objects {
        stages[rank(&object)].push(object);
    }
    stages.retain(|stage| !stage.is_empty());
    stages
}

async fn delete_and_wait(applier: &Applier, client: &kube::Client, owned: &Owned) -> Result<(), ApplyError> {
    // Its pods first: two runs of a migration must not meet.
    if applier.delete(&owned.kind, &owned.key, &owned.expected.uid, PropagationPolicy::Foreground).await?
        == Deleted::Gone
    {
        return Ok(());
    }
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &owned.key.namespace, &owned.kind.resource());
    let gone = conditions::is_deleted(&owned.expected.uid);
    await_condition(api, &owned.key.name, gone).await.map_err(|source| watch_failed(&owned.key, source))?;
    Ok(())
}

async fn established(client: &kube::Client, applied: &Applied) -> Result<(), ApplyError> {
    use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let condition = conditions::is_crd_established();
    await_condition(api, &applied.key.name, condition).await.map_err(|source| watch_failed(&applied.key, source))?;
    Ok(())
}

fn watch_failed(key: &ObjectKey, source: kube::runtime::wait::Error) -> ApplyError {
    ApplyError::Unanswered { object: key.to_string(), source: source.into() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cluster::apply::Kind;
    use crate::plan::NodeId;
    use crate::readiness::{Change, Expected};

    fn object(group: &str, kind: &str, version: u32) -> Value {
        json!({"apiVersion": if group.is_empty() { "v1".to_owned() } else { format!("{group}/v1") }, "kind": kind,
            "metadata": {"namespace": "ns", "name": "x", "uid": kind}, "spec": {"version": version}})
    }

    fn before(objects: &[Value], was_ready: bool) -> Entry {
        let objects = objects.iter().map(|object| Owned {
            key: ObjectKey::of(object),
            kind: Kind {
                group: String::new(),
                version: String::new(),
                kind: String::new(),
                plural: String::new(),
                namespaced: true,
            },
            expected: Expected {
                uid: object["metadata"]["uid"].as_str().unwrap_or_default().to_owned(),
                generation: 1,
            },
            digest: digest(object),
        });
        Entry { node: NodeId::new(NodeKind::Service, "x"), objects: objects.collect(), was_ready }
    }

    fn seen(objects: &[Value]) -> Observed {
        let mut observed = Observed::default();
        for object in objects {
            observed.apply(Change::Object(object.clone()));
        }
        observed
    }

    #[test]
    fn what_is_as_it_should_be_is_not_touched() {
        let objects = [object("", "Service", 1), object("apps", "Deployment", 1)];
        let work = Work::compare(NodeKind::Service, objects.to_vec(), Some(&before(&objects, false)), &seen(&objects));
        assert!(work.is_nothing(), "{work:?}");
        assert_eq!(work.keep.len(), 2);
    }

    #[test]
    fn only_the_difference_is_applied_and_what_is_no_longer_there_removed() {
        let old = [object("", "Service", 1), object("", "ConfigMap", 1), object("apps", "Deployment", 1)];
        let new = vec![object("", "Service", 1), object("apps", "Deployment", 2)];
        let work = Work::compare(NodeKind::Service, new.clone(), Some(&before(&old, true)), &seen(&old));
        assert_eq!(work.apply, [new[1].clone()]);
        assert_eq!(work.remove.len(), 1);
        assert_eq!(work.remove[0].key.kind, "ConfigMap");
    }

    #[test]
    fn a_deployment_that_someone_deleted_is_applied_again() {
        let objects = [object("apps", "Deployment", 1)];
        let work =
            Work::compare(NodeKind::Service, objects.to_vec(), Some(&before(&objects, true)), &Observed::default());
        assert_eq!(work.apply.len(), 1);
    }

    #[test]
    fn a_job_runs_again_when_it_changed_or_did_not_succeed() {
        let old = [object("batch", "Job", 1)];
        let again = |new: &Value, was_ready| {
            let work = Work::compare(NodeKind::Job, vec![new.clone()], Some(&before(&old, was_ready)), &seen(&old));
            (work.replace.len(), work.apply.len())
        };
        assert_eq!(again(&old[0], true), (0, 0));
        assert_eq!(again(&old[0], false), (1, 1));
        assert_eq!(again(&object("batch", "Job", 2), true), (1, 1));
    }

    #[test]
    fn what_pods_refer_to_comes_before_what_makes_pods() {
        let stages = stages(vec![object("apps", "Deployment", 1), object("", "Secret", 1), object("", "Namespace", 1)]);
        let kinds: Vec<_> = stages.iter().map(|stage| stage[0]["kind"].as_str().unwrap_or_default()).collect();
        assert_eq!(kinds, ["Namespace", "Secret", "Deployment"]);
    }

    #[test]
    fn roles_come_before_what_binds_them() {
        let rbac = |kind| object("rbac.authorization.k8s.io", kind, 1);
        let stages = super::stages(vec![object("", "ServiceAccount", 1), rbac("RoleBinding"), rbac("Role")]);
        let kinds: Vec<_> = stages.iter().map(|stage| stage[0]["kind"].as_str().unwrap_or_default()).collect();
        assert_eq!(kinds, ["Role", "ServiceAccount"]);
    }
}
