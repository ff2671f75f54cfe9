//! The strategies: rolling update, recreate, and going back to an earlier revision.
//!
//! Ports `rolling.go`, `recreate.go` and `rollback.go`. Pure.

use k8s_openapi::api::apps::v1::ReplicaSet;

use super::super::shared::events::Note;
use super::super::shared::meta;
use super::decide::{Action, Decision, Observed, Plan, Which};
use super::{scale, status, template};

/// `rolloutRolling`: up as far as the surge allows, then down as far as availability allows.
pub(super) fn rolling(plan: &mut Plan) {
    plan.ensure_new();
    if grow_new(plan) || shrink_old(plan) {
        return;
    }
    clean_up_if_complete(plan);
}

fn clean_up_if_complete(plan: &mut Plan) {
    let current = plan.deployment.status.clone().unwrap_or_default();
    if status::is_complete(&plan.deployment, &current) {
        plan.clean_up();
    }
}

/// `reconcileNewReplicaSet`. A set made in this very pass has its size already.
fn grow_new(plan: &mut Plan) -> bool {
    let Some(new) = &plan.new else { return false };
    let (size, wanted) = (scale::size(new), scale::wanted(&plan.deployment));
    if size == wanted {
        return false;
    }
    let target = if size > wanted { wanted } else { scale::new_set_size(&plan.deployment, plan.total(), size) };
    plan.resize(Which::New, target)
}

/// `reconcileOldReplicaSets`: unhealthy pods first, then as many as availability allows.
fn shrink_old(plan: &mut Plan) -> bool {
    plan.old.sort_by(template::by_age);
    if plan.old.iter().map(scale::size).sum::<i32>() == 0 {
        return false;
    }
    let Some(new) = &plan.new else { return false };
    let min_available = scale::wanted(&plan.deployment) - scale::max_unavailable(&plan.deployment);
    let new_unavailable = scale::size(new) - scale::available(new);
    let most = plan.total() - min_available - new_unavailable;
    if most <= 0 {
        return false;
    }
    let cleaned = drop_unhealthy(plan, most);
    let scaled = drop_available(plan, min_available);
    cleaned + scaled > 0
}

/// `cleanupUnhealthyReplicas`.
fn drop_unhealthy(plan: &mut Plan, most: i32) -> i32 {
    let mut dropped = 0;
    for at in 0..plan.old.len() {
        let (size, available) = (scale::size(&plan.old[at]), scale::available(&plan.old[at]));
        if dropped >= most || size == 0 || size == available {
            continue;
        }
        let count = (most - dropped).min(size - available);
        // More available than wanted: the status is behind, and upstream refuses to scale up here.
        if count < 0 {
            break;
        }
        plan.resize(Which::Old(at), size - count);
        dropped += count;
    }
    dropped
}

/// `scaleDownOldReplicaSetsForRollingUpdate`.
fn drop_available(plan: &mut Plan, min_available: i32) -> i32 {
    let available: i32 = plan.old.iter().chain(&plan.new).map(scale::available).sum();
    let most = available - min_available;
    let mut dropped = 0;
    for at in 0..plan.old.len() {
        let size = scale::size(&plan.old[at]);
        if dropped >= most || size == 0 {
            continue;
        }
        let count = size.min(most - dropped);
        plan.resize(Which::Old(at), size - count);
        dropped += count;
    }
    dropped
}

/// `rolloutRecreate`: everything old must be gone before anything new is made.
pub(super) fn recreate(plan: &mut Plan, observed: &Observed<'_>) {
    let mut scaled = false;
    for at in 0..plan.old.len() {
        if scale::size(&plan.old[at]) > 0 {
            scaled |= plan.resize(Which::Old(at), 0);
        }
    }
    if scaled || old_pods_running(plan, observed) {
        return;
    }
    plan.ensure_new();
    let wanted = scale::wanted(&plan.deployment);
    plan.resize(Which::New, wanted);
    clean_up_if_complete(plan);
}

/// `oldPodsRunning`.
fn old_pods_running(plan: &Plan, observed: &Observed<'_>) -> bool {
    let new = plan.new.as_ref().map(|set| meta::uid(&set.metadata));
    plan.old.iter().any(|set| set.status.as_ref().is_some_and(|status| status.replicas > 0))
        || observed.running.iter().any(|uid| Some(uid.as_str()) != new)
}

/// `rollback`: the template of the set with that revision (0: the one before) becomes the deployment's.
pub(super) fn back(mut plan: Plan, to: i64) -> Decision {
    let all: Vec<ReplicaSet> = plan.old.iter().chain(&plan.new).cloned().collect();
    let to = if to == 0 { scale::last_revision(&all) } else { to };
    let found = all.iter().find(|set| to != 0 && scale::revision(set) == Some(to));
    plan.deployment.metadata.annotations.get_or_insert_default().remove(scale::ROLLBACK_TO);
    let note = match found {
        None if to == 0 => {
            Note::warning("DeploymentRollbackRevisionNotFound", "Unable to find last revision.".to_owned())
        }
        None => Note::warning(
            "DeploymentRollbackRevisionNotFound",
            "Unable to find the revision to rollback to.".to_owned(),
        ),
        Some(set) if template::is_of(&plan.deployment, set) => Note::warning(
            "DeploymentRollbackTemplateUnchanged",
            format!(
                "The rollback revision contains the same template as current deployment {:?}",
                meta::name(&plan.deployment.metadata)
            ),
        ),
        Some(set) => {
            let annotations = plan.deployment.metadata.annotations.get_or_insert_default();
            annotations.retain(|key, _| scale::stays(key));
            let its = set.metadata.annotations.iter().flatten().filter(|(key, _)| !scale::stays(key));
            annotations.extend(its.map(|(key, value)| (key.clone(), value.clone())));
            let mut template = set.spec.as_ref().and_then(|spec| spec.template.clone()).unwrap_or_default();
            if let Some(labels) = template.metadata.as_mut().and_then(|meta| meta.labels.as_mut()) {
                labels.remove(template::HASH_LABEL);
            }
            if let Some(spec) = &mut plan.deployment.spec {
                spec.template = template;
            }
            let name = meta::name(&plan.deployment.metadata);
            Note::normal("DeploymentRollback", format!("Rolled back deployment {name:?} to revision {to}"))
        }
    };
    let actions = vec![Action::Rollback(Box::new(plan.deployment)), Action::Note(note)];
    Decision { actions, again: None }
}
