//! Is a node ready, on its way, or beyond hope? From what the watches show of its objects.

use tokio::time::Instant;

use super::super::event::NodeState;
use super::super::failure::{Cause, Failure};
use super::super::{GiveUp, failure::Unfinished};
use super::{Run, Stage, Walk};
use crate::cluster::ledger::Owned;
use crate::objects::Content;
use crate::plan::{Cluster, Image, NodeId, NodeKind, NodeSpec};
use crate::readiness::{Change, Finding, Limits, ObjectKey, Patience, Role, Verdict, pods};

/// Kinds that are what they should be as soon as they exist: watching them would tell nothing. A claim is
/// bound when its first pod comes, which may be another node's.
const READY_WHEN_APPLIED: [&str; 14] = [
    "ClusterRole",
    "ClusterRoleBinding",
    "ConfigMap",
    "CronJob",
    "CustomResourceDefinition",
    "Namespace",
    "NetworkPolicy",
    "PersistentVolumeClaim",
    "ReplicaSet",
    "Role",
    "RoleBinding",
    "Secret",
    "Service",
    "ServiceAccount",
];

impl Walk<'_> {
    /// Everything that a watch reported and that is already there, then the nodes concerned, once each.
    pub(super) fn changed(&mut self, first: Change) -> Result<(), Box<Failure>> {
        let mut concerned = Vec::new();
        let mut next = Some(first);
        while let Some(change) = next {
            match &change {
                Change::Synced { kind, .. } => {
                    self.unsynced.remove(kind);
                    self.unwatched.remove(kind);
                    // That a service has no endpoints is told by nothing else.
                    let replaced = self.runs.iter().enumerate().filter(|(_, run)| run.replaced);
                    concerned.extend(replaced.map(|(index, _)| index).filter(|_| kind == "EndpointSlice"));
                }
                Change::Refused { kind, code, message } => self.not_watched(kind, *code, message),
                _ => {}
            }
            if let Some(key) = self.observed.apply(change) {
                concerned.extend(self.by_object.get(&key).into_iter().flatten().copied());
            }
            next = self.changes.try_recv().ok();
        }
        concerned.sort_unstable();
        concerned.dedup();
        concerned.into_iter().try_for_each(|index| self.judge(index))
    }

    /// Findings whose own clock has run out, and those that waited for the rest of the graph.
    pub(super) fn look_again(&mut self) -> Result<(), Box<Failure>> {
        self.still_unwatched()?;
        let with_finding =
            |run: &Run<'_>| run.stage == Stage::Starting && (run.finding.is_some() || run.steady.is_some());
        let indexes: Vec<usize> = (0..self.runs.len()).filter(|index| with_finding(&self.runs[*index])).collect();
        indexes.into_iter().try_for_each(|index| self.judge(index))
    }

    /// When the first finding's own clock runs out.
    pub(super) fn next_clock(&self) -> Option<Instant> {
        let watches = self.unwatched.values().map(|unwatched| unwatched.since + self.around.options.limits.settling);
        let starting = self.runs.iter().enumerate().filter(|(_, run)| run.stage == Stage::Starting);
        let clocks = starting.filter_map(|(index, run)| match &run.finding {
            Some((Finding { patience: Patience::For(time), .. }, since)) => Some(*since + *time),
            Some((Finding { patience: Patience::UntilGraphSettles { backs_off }, .. }, since)) => {
                (!self.may_still_be_made(index)).then(|| self.tried_again(*since, *backs_off))
            }
            _ => run.steady.map(|(_, since)| since + self.around.options.limits.steady),
        });
        clocks.chain(watches).min()
    }

    /// Looks at one node's objects.
    pub(super) fn judge(&mut self, index: usize) -> Result<(), Box<Failure>> {
        if self.runs[index].stage != Stage::Starting {
            return Ok(());
        }
        let verdict = self.verdict(index, &self.around.options.limits);
        let started = self.is_started(index);
        let run = &mut self.runs[index];
        run.started = started;
        match verdict {
            Verdict::Ready => {
                if self.is_steady(index) {
                    if !self.goes_on(index) {
                        self.ready(index);
                    }
                } else {
                    self.detail(index, "running; without a readiness check, it has to stay up for a moment".to_owned());
                }
                Ok(())
            }
            Verdict::Waiting(detail) => {
                (run.finding, run.steady) = (None, None);
                self.detail(index, detail);
                Ok(())
            }
            Verdict::Failing(finding) => {
                run.steady = None;
                self.suspect(index, *finding)
            }
        }
    }

    fn verdict(&self, index: usize, limits: &Limits) -> Verdict {
        let run = &self.runs[index];
        let mut waiting = None;
        for owned in watched(run) {
            match self.observed.verdict(&owned.key, &owned.expected, role(run, owned), limits) {
                Verdict::Ready => {}
                Verdict::Waiting(detail) => _ = waiting.get_or_insert(detail),
                failing @ Verdict::Failing(_) => return failing,
            }
            if waiting.is_none() && run.replaced && !self.observed.is_led_to(&run.node.id.name, &owned.key) {
                waiting = Some("waiting for its endpoints".to_owned());
            }
        }
        waiting.map_or(Verdict::Ready, Verdict::Waiting)
    }

    /// Whether what is ready has been so for long enough, where nothing but its running says so.
    fn is_steady(&mut self, index: usize) -> bool {
        let run = &self.runs[index];
        // What listens on the host is all that is known of it.
        let name = &run.node.id.name;
        if self.held.lent.contains_key(name) || self.around.options.swaps.contains_key(name) {
            return true;
        }
        if !has_no_check(run) {
            return true;
        }
        let objects = watched(run).filter_map(|owned| self.observed.object(&owned.key));
        let restarts = objects.flat_map(|object| self.observed.current_pods(object)).map(pods::restarts).sum();
        if !run.changed && restarts == 0 {
            return true;
        }
        let now = Instant::now();
        match run.steady {
            Some((before, since)) if before == restarts => now >= since + self.around.options.limits.steady,
            _ => {
                let run = &mut self.runs[index];
                (run.finding, run.steady) = (None, Some((restarts, now)));
                false
            }
        }
    }

    fn is_started(&self, index: usize) -> bool {
        let run = &self.runs[index];
        run.node.workload().is_some() && watched(run).all(|owned| self.observed.is_started(&owned.key, &owned.expected))
    }

    /// A finding becomes a failure when its patience is over.
    fn suspect(&mut self, index: usize, finding: Finding) -> Result<(), Box<Failure>> {
        let now = Instant::now();
        let run = &self.runs[index];
        let since = run.finding.as_ref().filter(|(old, _)| old.cause == finding.cause).map_or(now, |(_, since)| *since);
        let over = match finding.patience {
            Patience::None => true,
            Patience::For(time) => now >= since + time,
            Patience::UntilGraphSettles { backs_off } => {
                !self.may_still_be_made(index) && now >= self.tried_again(since, backs_off)
            }
        };
        let detail = finding.message.clone();
        self.runs[index].finding = Some((finding.clone(), since));
        if over {
            let id = self.runs[index].node.id.clone();
            let mut failure = self.failure(Some(&id), finding.cause, finding.message);
            failure.hint = self.not_pulled(&failure.cause).or(finding.hint);
            return Err(failure);
        }
        self.detail(index, detail);
        Ok(())
    }

    /// On a cluster that envctl puts no images on: what the file says about one doesn't help there.
    fn not_pulled(&self, cause: &Cause) -> Option<String> {
        let (Cause::ImageNotFound { image }, Cluster::Context(context)) = (cause, &self.around.plan.cluster) else {
            return None;
        };
        let reference = Some(Content::Reference(image.clone()));
        let is_pushed =
            |name: &String, mapping: &Image| self.around.provider.content(name, Some(mapping), &[], &[]) == reference;
        let images = &self.around.plan.images;
        let pushed = images.iter().find(|(name, mapping)| is_pushed(name, mapping)).map(|(_, mapping)| mapping);
        let mapping = pushed.or_else(|| images.get(image))?;
        if mapping.image_pull_secret {
            let unpushed = match mapping.docker {
                Some(_) if pushed.is_none() => "; its `docker` mapping is built for a context only with `push: true`",
                _ => "",
            };
            return Some(format!(
                "the nodes of context {context:?} pull it with your Docker credentials (`imagePullSecret`): there is no such image, or `docker \
                 login` at its registry as someone who may have it{unpushed}"
            ));
        }
        if pushed.is_some() {
            return Some(format!(
                "it was pushed with your credentials, and the nodes of context {context:?} pull it with theirs: for a private registry, \
                 `imagePullSecret: true` on the image gives the session's pods yours"
            ));
        }
        let mapped = match mapping {
            Image { docker: Some(_), .. } => {
                "its `docker` mapping is built for kind and minikube, and for a context only with `push: true`"
            }
            Image { process: Some(_), .. } => "its `process` mapping runs on the embedded cluster only",
            Image { .. } => return None,
        };
        Some(format!("{mapped}: the nodes of context {context:?} must have an image {image:?}, or be able to pull it"))
    }

    /// Whether a manifest, job or key that doesn't wait for this node is still on its way: it could make what is missing.
    fn may_still_be_made(&self, index: usize) -> bool {
        let waiting = self.dependents(&self.runs[index].node.id);
        self.runs.iter().enumerate().any(|(other, run)| {
            other != index
                && run.stage != Stage::Ready
                && run.node.id.kind != NodeKind::Service
                && !waiting.contains(&run.node.id)
        })
    }

    /// When the kubelet has tried again what it could not do since then, now that the last of what could have made what is missing is ready:
    /// at once if it was missed only after that.
    fn tried_again(&self, since: Instant, backs_off: bool) -> Instant {
        let Some(made) = self.made_last.filter(|made| *made > since) else { return since };
        let Limits { retried, backed_off, .. } = self.around.options.limits;
        // Its next wait may be as long as all before it together.
        made + if backs_off { (made - since).min(backed_off) + retried } else { retried }
    }

    pub(super) fn ready(&mut self, index: usize) {
        let run = &mut self.runs[index];
        if run.node.id.kind != NodeKind::Service {
            self.made_last = Some(Instant::now());
        }
        (run.stage, run.started, run.finding, run.steady, run.told) = (Stage::Ready, true, None, None, false);
        run.detail.clear();
        let id = run.node.id.clone();
        self.held.ledger.mark_ready(&id);
        self.tell_run(index);
    }

    pub(super) fn record(&mut self, index: usize, objects: Vec<Owned>) {
        self.held.ledger.record(&self.runs[index].node.id, objects.clone());
        self.index(index, objects);
    }

    /// Of a node that wasn't touched: the ledger stays as it is.
    pub(super) fn index(&mut self, index: usize, objects: Vec<Owned>) {
        for owned in &objects {
            self.by_object.entry(owned.key.clone()).or_default().push(index);
        }
        self.runs[index].objects = objects;
    }

    /// A manifest may hold kinds that nothing else has: they are watched from now on.
    pub(super) fn watch_kinds(&mut self, index: usize) {
        if self.runs[index].node.id.kind != NodeKind::Manifest {
            return;
        }
        let kinds: Vec<_> =
            watched(&self.runs[index]).map(|owned| (owned.kind.clone(), owned.key.namespace.clone())).collect();
        for (kind, namespace) in kinds {
            self.watches.watch(kind.resource(), kind.namespaced.then_some(namespace.as_str()));
        }
    }

    pub(super) fn is_done(&self) -> bool {
        // Images that no node uses and ports without traffic yet are still part of what was asked for.
        self.actions.is_empty()
            && self.making.is_done()
            && self.held.namespace.is_some()
            && self.secret == super::Secret::Right
            && self.runs.iter().all(|run| run.stage == Stage::Ready)
    }

    /// Everything that needs a node, directly or not, in the plan's order.
    fn dependents(&self, id: &NodeId) -> Vec<NodeId> {
        let mut found: Vec<&NodeId> = vec![id];
        // The plan's order has dependencies first: one pass finds all.
        for run in &self.runs {
            if run.node.needs.iter().any(|need| found.contains(&&need.node)) {
                found.push(&run.node.id);
            }
        }
        found.into_iter().skip(1).cloned().collect()
    }

    /// A failure with what the walk knows; logs and events are gathered by [`Walk::run`].
    pub(super) fn failure(&self, node: Option<&NodeId>, cause: Cause, message: impl Into<String>) -> Box<Failure> {
        let mut failure = Failure::new(node.cloned(), cause, message);
        failure.at = self.at();
        if let Some(node) = node {
            failure.waiting = self.dependents(node);
            self.tell(node, NodeState::Failed, &failure.message);
        }
        let others = self.runs.iter().filter(|run| {
            run.stage != Stage::Ready && Some(&run.node.id) != node && !failure.waiting.contains(&run.node.id)
        });
        failure.unfinished = others.map(|run| Unfinished { node: run.node.id.clone(), doing: doing(run) }).collect();
        Box::new(failure)
    }

    /// How a service ended that was restarted and has yet to show that it stays up: nothing but its running says that it is ready.
    fn crashed(&self, index: usize) -> Option<Finding> {
        let run = &self.runs[index];
        if !has_no_check(run) {
            return None;
        }
        let mut objects = watched(run).filter_map(|owned| self.observed.object(&owned.key));
        objects.find_map(|object| self.observed.crashed(object))
    }

    /// The caller stopped waiting: the node that held everything up is named.
    pub(super) fn given_up(&self, reason: GiveUp) -> Box<Failure> {
        let time = match reason {
            GiveUp::Interrupted => {
                return self.failure(None, Cause::Interrupted, "interrupted before everything was ready");
            }
            GiveUp::TimedOut(time) => time,
        };
        if let Some(silence) = &*self.around.contact.silence().borrow() {
            return self.silent(silence);
        }
        // What was borne so far (a crash within its budget, no room on the nodes yet) is what it never got over.
        let unborne = Limits { crash_budget: 1, ..self.around.options.limits };
        let starting = (0..self.runs.len()).filter(|index| self.runs[*index].stage == Stage::Starting);
        let suspect = starting.into_iter().find_map(|index| match self.verdict(index, &unborne) {
            Verdict::Failing(finding) => Some((index, *finding)),
            _ => Some((index, self.crashed(index)?)),
        });
        if let Some((index, finding)) = suspect {
            let message = format!("not ready within {time:?}: {}", finding.message);
            let mut failure = self.failure(Some(&self.runs[index].node.id), finding.cause, message);
            failure.hint = finding.hint;
            return failure;
        }
        let at = |stage: Stage| self.runs.iter().find(|run| run.stage == stage);
        let waiting = at(Stage::Expected).or_else(|| at(Stage::Starting));
        let Some(run) = waiting.or_else(|| at(Stage::Applying)).or_else(|| at(Stage::Building)) else {
            return self.failure(None, Cause::TimedOut, format!("not everything was ready within {time:?}"));
        };
        let cause = match run.stage {
            Stage::Starting | Stage::Expected => Cause::NeverReady,
            _ => Cause::TimedOut,
        };
        self.failure(Some(&run.node.id), cause, format!("not ready within {time:?}: {}", doing(run)))
    }
}

/// The objects of a node whose status says whether it is ready.
fn watched<'a>(run: &'a Run<'_>) -> impl Iterator<Item = &'a Owned> {
    run.objects.iter().filter(|owned| match run.node.id.kind {
        NodeKind::Service => owned.key.kind == "Deployment",
        NodeKind::Job => owned.key.kind == "Job",
        NodeKind::Manifest => !READY_WHEN_APPLIED.contains(&owned.key.kind.as_str()),
        NodeKind::Key => false,
    })
}

/// Whether nothing but its running says that it is ready.
fn has_no_check(run: &Run<'_>) -> bool {
    matches!(&run.node.spec, NodeSpec::Service(service) if service.ready.is_none())
}

fn role(run: &Run<'_>, owned: &Owned) -> Role {
    let ObjectKey { kind, .. } = &owned.key;
    match (run.node.id.kind, kind.as_str()) {
        (NodeKind::Job, _) | (_, "Job" | "Pod") => Role::Complete,
        _ => Role::Serve,
    }
}

/// What a node that isn't ready is doing, for people.
pub(super) fn doing(run: &Run<'_>) -> String {
    match run.stage {
        Stage::Waiting if run.unmet.is_empty() => "waiting for the cluster".to_owned(),
        Stage::Waiting => {
            let names: Vec<_> = run.unmet.iter().map(ToString::to_string).collect();
            format!("waits for {}", names.join(", "))
        }
        Stage::Building => "its image is being built".to_owned(),
        Stage::Expected => run.detail.clone(),
        Stage::Applying => "being applied".to_owned(),
        Stage::Starting if run.detail.is_empty() => "starting".to_owned(),
        Stage::Starting => run.detail.clone(),
        Stage::Ready => "ready".to_owned(),
    }
}
