//! What to do about a deployment: `syncDeployment` of `deployment_controller.go` and `sync.go` as one pure function.
//!
//! Upstream writes in between and goes on with the answers; here every later step sees the sets as the earlier steps would
//! leave them, and the status is written once, last. Neighbours: [`super::rollout`] for the strategies.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

use super::super::shared::events::Note;
use super::super::shared::meta;
use super::{rollout, scale, status, template};

/// What the caches show.
pub struct Observed<'a> {
    /// The deployment.
    pub deployment: &'a Deployment,
    /// The replica sets it controls.
    pub sets: &'a [Arc<ReplicaSet>],
    /// Uids of those sets that have a pod which hasn't finished.
    pub running: HashSet<String>,
    /// The time.
    pub now: Timestamp,
}

/// One write.
#[derive(Clone, Debug)]
pub enum Action {
    /// Create the new replica set.
    Create {
        /// The set.
        set: Box<ReplicaSet>,
        /// Recorded when it worked.
        note: Option<Note>,
        /// The deployment whose status says so when it didn't.
        failed: Option<Box<Deployment>>,
    },
    /// Replace a replica set.
    Update {
        /// The set as it must be.
        set: Box<ReplicaSet>,
        /// Recorded when it worked.
        note: Option<Note>,
    },
    /// Delete an old replica set.
    Delete(Box<ObjectMeta>),
    /// Replace the deployment's status (and its revision annotation).
    Status(Box<Deployment>),
    /// Replace the deployment: its template goes back.
    Rollback(Box<Deployment>),
    /// Only an event.
    Note(Note),
}

/// What to do, in order.
#[derive(Debug, Default)]
pub struct Decision {
    /// The writes.
    pub actions: Vec<Action>,
    /// When to look again without an event.
    pub again: Option<Duration>,
}

/// The state that a decision works on: what will be once its actions are done.
pub(super) struct Plan {
    pub deployment: Deployment,
    pub new: Option<ReplicaSet>,
    pub old: Vec<ReplicaSet>,
    pub now: Timestamp,
    pub actions: Vec<Action>,
}

/// Decides.
pub fn decide(observed: &Observed<'_>) -> Decision {
    let (new, old) = template::split(observed.deployment, observed.sets);
    let deployment = observed.deployment.clone();
    let mut plan = Plan { deployment, new, old, now: observed.now, actions: Vec::new() };
    let Some(spec) = &observed.deployment.spec else {
        return Decision::default();
    };
    if spec.selector == LabelSelector::default() {
        return selecting_all(plan);
    }
    if observed.deployment.metadata.deletion_timestamp.is_some() {
        plan.sync_revision();
        return plan.finish_plainly(observed);
    }
    status::set_paused(&mut plan.deployment, observed.now);
    if spec.paused == Some(true) {
        plan.sync_revision();
        plan.scale();
        plan.clean_up();
        return plan.finish_plainly(observed);
    }
    if let Some(to) = meta::annotation(&observed.deployment.metadata, scale::ROLLBACK_TO).and_then(|to| to.parse().ok())
    {
        return rollout::back(plan, to);
    }
    plan.sync_revision();
    if plan.is_scaling() {
        plan.scale();
        return plan.finish_plainly(observed);
    }
    if scale::is_rolling(observed.deployment) {
        rollout::rolling(&mut plan)
    } else {
        rollout::recreate(&mut plan, observed)
    }
    plan.finish(observed)
}

fn selecting_all(mut plan: Plan) -> Decision {
    let message = "This deployment is selecting all pods. A non-empty selector is required.";
    plan.actions.push(Action::Note(Note::warning("SelectingAll", message.to_owned())));
    let generation = plan.deployment.metadata.generation;
    let status = plan.deployment.status.get_or_insert_default();
    if status.observed_generation < generation {
        status.observed_generation = generation;
        plan.actions.push(Action::Status(Box::new(plan.deployment)));
    }
    Decision { actions: plan.actions, again: None }
}

impl Plan {
    /// Brings an existing new set's revision and annotations up to date (the first half of `getNewReplicaSet`).
    fn sync_revision(&mut self) {
        let revision = scale::max_revision(&self.old) + 1;
        let Some(set) = &mut self.new else { return };
        let wanted = self.deployment.spec.as_ref().and_then(|spec| spec.min_ready_seconds);
        let spec = set.spec.get_or_insert_default();
        let stale = spec.min_ready_seconds.unwrap_or(0) != wanted.unwrap_or(0);
        spec.min_ready_seconds = wanted;
        if scale::set_annotations(set, &self.deployment, revision) || stale {
            self.actions.push(Action::Update { set: Box::new(set.clone()), note: None });
        }
        let revision = meta::annotation(&set.metadata, scale::REVISION).unwrap_or_default().to_owned();
        let name = meta::name(&set.metadata).to_owned();
        self.set_revision(revision);
        if !status::has_progressing(&self.deployment) {
            let message = format!("Found new replica set {name:?}");
            status::set_progressing(&mut self.deployment, self.now, "FoundNewReplicaSet", message);
        }
    }

    /// Makes sure that the new set exists (the second half of `getNewReplicaSet`).
    pub(super) fn ensure_new(&mut self) {
        if self.new.is_some() {
            return;
        }
        let Some(spec) = self.deployment.spec.clone() else {
            return;
        };
        let revision = scale::max_revision(&self.old) + 1;
        let collisions = self.deployment.status.as_ref().and_then(|status| status.collision_count);
        let hash = template::hash(&spec.template, collisions);
        let mut template = spec.template;
        let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
        labels.insert(template::HASH_LABEL.to_owned(), hash.clone());
        let labels = labels.clone();
        let mut selector = spec.selector;
        selector.match_labels.get_or_insert_default().insert(template::HASH_LABEL.to_owned(), hash.clone());
        let size = scale::new_set_size(&self.deployment, self.old.iter().map(scale::size).sum(), 0);
        let mut set = ReplicaSet {
            metadata: ObjectMeta {
                name: Some(set_name(meta::name(&self.deployment.metadata), &hash)),
                namespace: self.deployment.metadata.namespace.clone(),
                owner_references: Some(vec![meta::controller_ref(&self.deployment)]),
                labels: Some(labels),
                ..ObjectMeta::default()
            },
            spec: Some(ReplicaSetSpec {
                replicas: Some(size),
                min_ready_seconds: spec.min_ready_seconds,
                selector,
                template: Some(template),
            }),
            status: None,
        };
        scale::set_annotations(&mut set, &self.deployment, revision);
        scale::set_size_annotations(&mut set, &self.deployment);
        let name = meta::name(&set.metadata).to_owned();
        let note = (size > 0)
            .then(|| Note::normal("ScalingReplicaSet", format!("Scaled up replica set {name} from 0 to {size}")));
        let failed = status::deadline(&self.deployment).map(|_| Box::new(self.deployment.clone()));
        self.actions.push(Action::Create { set: Box::new(set.clone()), note, failed });
        self.new = Some(set);
        self.set_revision(revision.to_string());
        let message = format!("Created new replica set {name:?}");
        status::set_progressing(&mut self.deployment, self.now, "NewReplicaSetCreated", message);
    }

    fn set_revision(&mut self, revision: String) {
        self.deployment.metadata.annotations.get_or_insert_default().insert(scale::REVISION.to_owned(), revision);
    }

    /// Every set's size, the new one's included.
    pub(super) fn total(&self) -> i32 {
        self.old.iter().chain(&self.new).map(scale::size).sum()
    }

    /// Whether `spec.replicas` changed since the sets were last scaled (`isScalingEvent`).
    fn is_scaling(&self) -> bool {
        let active = self.old.iter().chain(&self.new).filter(|set| scale::size(set) > 0);
        let wanted = scale::wanted(&self.deployment);
        active.filter_map(|set| scale::count_annotation(set, scale::DESIRED)).any(|desired| desired != wanted)
    }

    /// Scales in proportion (`scale` of `sync.go`).
    fn scale(&mut self) {
        let wanted = scale::wanted(&self.deployment);
        self.old.sort_by(|a, b| template::by_age(b, a));
        let active: Vec<Which> = self.whiches().filter(|which| scale::size(self.set(*which)) > 0).collect();
        let only = match active.as_slice() {
            [] if self.new.is_some() => Some(Which::New),
            [] if !self.old.is_empty() => Some(Which::Old(0)),
            [one] => Some(*one),
            _ => None,
        };
        if let Some(only) = only {
            self.resize(only, wanted);
            return;
        }
        if active.is_empty() {
            return;
        }
        if scale::is_saturated(&self.deployment, self.new.as_ref()) {
            for which in active {
                if which != Which::New {
                    self.resize(which, 0);
                }
            }
            return;
        }
        if scale::is_rolling(&self.deployment) {
            self.scale_in_proportion(active);
        }
    }

    fn scale_in_proportion(&mut self, mut active: Vec<Which>) {
        let wanted = scale::wanted(&self.deployment);
        let total: i32 = active.iter().map(|which| scale::size(self.set(*which))).sum();
        let allowed = if wanted > 0 { wanted + scale::max_surge(&self.deployment) } else { 0 };
        let to_add = allowed - total;
        active.sort_by(|a, b| {
            let (a, b) = (self.set(*a), self.set(*b));
            let age = if to_add > 0 { template::by_age(b, a) } else { template::by_age(a, b) };
            scale::size(b).cmp(&scale::size(a)).then(age)
        });
        let mut added = 0;
        let mut sizes: Vec<i32> = Vec::with_capacity(active.len());
        for which in &active {
            let set = self.set(*which);
            let part = scale::proportion(set, &self.deployment, to_add, added);
            added += part;
            sizes.push(scale::size(set) + part);
        }
        if to_add != 0
            && let Some(largest) = sizes.first_mut()
        {
            *largest = (*largest + to_add - added).max(0);
        }
        for (which, size) in active.into_iter().zip(sizes) {
            self.update_size(which, size);
        }
    }

    /// `scaleReplicaSet`: nothing if it has that size already. True if it was scaled.
    pub(super) fn resize(&mut self, which: Which, size: i32) -> bool {
        scale::size(self.set(which)) != size && self.update_size(which, size)
    }

    fn update_size(&mut self, which: Which, size: i32) -> bool {
        let deployment = self.deployment.clone();
        let set = self.set_mut(which);
        let before = scale::size(set);
        set.spec.get_or_insert_default().replicas = Some(size);
        let annotated = scale::set_size_annotations(set, &deployment);
        if before == size && !annotated {
            return false;
        }
        let direction = if before < size { "up" } else { "down" };
        let name = meta::name(&set.metadata);
        let message = format!("Scaled {direction} replica set {name} from {before} to {size}");
        let note = (before != size).then(|| Note::normal("ScalingReplicaSet", message));
        let set = set.clone();
        self.write(set, note);
        before != size
    }

    /// One write per set: later ones replace earlier ones, or the second would conflict with the first.
    fn write(&mut self, set: ReplicaSet, note: Option<Note>) {
        for action in &mut self.actions {
            match action {
                Action::Create { set: planned, note: planned_note, .. }
                | Action::Update { set: planned, note: planned_note }
                    if planned.metadata.name == set.metadata.name =>
                {
                    **planned = set;
                    *planned_note = note.or(planned_note.take());
                    return;
                }
                _ => {}
            }
        }
        self.actions.push(Action::Update { set: Box::new(set), note });
    }

    /// Deletes old sets beyond `revisionHistoryLimit` (`cleanupDeployment`).
    pub(super) fn clean_up(&mut self) {
        let limit = self.deployment.spec.as_ref().and_then(|spec| spec.revision_history_limit);
        let Some(limit) = limit.filter(|limit| *limit != i32::MAX) else {
            return;
        };
        let mut alive: Vec<&ReplicaSet> =
            self.old.iter().filter(|set| set.metadata.deletion_timestamp.is_none()).collect();
        let excess = alive.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
        alive.sort_by(|a, b| match (scale::revision(a), scale::revision(b)) {
            (Some(a), Some(b)) if a != b => a.cmp(&b),
            _ => template::by_age(a, b),
        });
        let unused = |set: &&&ReplicaSet| {
            let status = set.status.clone().unwrap_or_default();
            status.replicas == 0
                && scale::size(set) == 0
                && set.metadata.generation.unwrap_or(0) <= status.observed_generation.unwrap_or(0)
        };
        let deletions: Vec<Action> = alive
            .iter()
            .take(excess)
            .filter(unused)
            .map(|set| Action::Delete(Box::new(set.metadata.clone())))
            .collect();
        self.actions.extend(deletions);
    }

    /// Ends with counts only (`syncDeploymentStatus`).
    fn finish_plainly(self, observed: &Observed<'_>) -> Decision {
        let status = status::calculate(&self.deployment, self.new.as_ref(), &self.old, self.now);
        self.finish_with(status, observed)
    }

    /// Ends with the status of a rollout.
    fn finish(self, observed: &Observed<'_>) -> Decision {
        let status = status::of_rollout(&self.deployment, self.new.as_ref(), &self.old, self.now);
        let again = status::next_check(&self.deployment, &status, self.now);
        Decision { again, ..self.finish_with(status, observed) }
    }

    fn finish_with(
        mut self,
        status: k8s_openapi::api::apps::v1::DeploymentStatus,
        observed: &Observed<'_>,
    ) -> Decision {
        let revision = meta::annotation(&self.deployment.metadata, scale::REVISION);
        let same = revision == meta::annotation(&observed.deployment.metadata, scale::REVISION);
        if !same || observed.deployment.status.as_ref() != Some(&status) {
            self.deployment.status = Some(status);
            self.actions.push(Action::Status(Box::new(self.deployment)));
        }
        Decision { actions: self.actions, again: None }
    }

    pub(super) fn set(&self, which: Which) -> &ReplicaSet {
        match which {
            Which::New => self.new.as_ref().expect("Which::New is only made when there is one"),
            Which::Old(at) => &self.old[at],
        }
    }

    fn set_mut(&mut self, which: Which) -> &mut ReplicaSet {
        match which {
            Which::New => self.new.as_mut().expect("Which::New is only made when there is one"),
            Which::Old(at) => &mut self.old[at],
        }
    }

    fn whiches(&self) -> impl Iterator<Item = Which> + use<> {
        (0..self.old.len()).map(Which::Old).chain(self.new.as_ref().map(|_| Which::New))
    }
}

/// One of a plan's sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    New,
    Old(usize),
}

/// `generateReplicaSetName`.
fn set_name(deployment: &str, hash: &str) -> String {
    let room = 253usize.saturating_sub(hash.len() + 1);
    let prefix = if deployment.len() > room && room > 0 { &deployment[..room] } else { deployment };
    format!("{prefix}-{hash}")
}
