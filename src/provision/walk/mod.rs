//! One `up`: the walk over the plan's graph. A single task owns all of its state and turns what happens into what is done next.
//!
//! ```text
//!             needs met          images runnable        applied           as its role asks
//!  waiting ──────────────▶ building ─────────▶ applying ────────▶ starting ────────────────▶ ready
//!                                                                     └── a finding that outlasts its patience ──▶ failed
//! ```
//!
//! Everything slow runs in owned tasks: requests answer with a [`Done`], images are [`Making`]'s; the walk itself only decides.
//! Independent nodes are therefore always in flight together. Nothing polls: the walk sleeps until a task is done, a watch
//! reports, a finding's own clock runs out, the cluster is lost, or the caller gives up.

mod issue;
mod judge;
mod refused;
mod registries;
mod swap;
mod tell;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

use super::event::{Event, EventSink, NodeState};
use super::evidence;
use super::failure::{Cause, Failure};
use super::making::{Made, Making};
use super::node::{BACKGROUND, Performed, Work, is_same};
use super::{GiveUp, Options, Scope, Session};
use crate::cluster::apply::{Applied, Applier, ApplyError};
use crate::cluster::contact::{Contact, SILENCE};
use crate::cluster::ledger::{Ledger, Owned};
use crate::cluster::lend::Lent;
use crate::cluster::tenancy::{Lodging, MoveInError};
use crate::cluster::{ClusterError, Provider, ServicePort};
use crate::keys::{self, KeyError, Keyring};
use crate::objects::{self, Context};
use crate::on_host::OnHostError;
use crate::plan::{Condition, Node, NodeId, NodeKind, NodeSpec, Plan, PortId, Protocol};
use crate::readiness::watches::{Jobs, Watches};
use crate::readiness::{Change, Finding, ObjectKey, Observed};
use registries::{Registries, RegistriesError, Written};

/// How long a failed `up` waits for requests in flight, so that what they made is recorded.
const DRAIN: Duration = Duration::from_secs(1);

/// What the session keeps between two walks.
pub(super) struct Held<'a> {
    pub ledger: &'a mut Ledger,
    pub keys: &'a mut Keyring,
    pub addresses: &'a mut BTreeMap<PortId, std::net::SocketAddr>,
    pub lent: &'a mut BTreeMap<String, Lent>,
    /// The namespace's UID, once it was made.
    pub namespace: &'a mut Option<String>,
    /// The Secret with the user's credentials for registries, where there is one.
    pub registries: &'a mut Option<Applied>,
    /// Whether the Secret has the keys as they are.
    pub stored: &'a mut bool,
}

/// What the walk runs against.
pub(super) struct Surroundings<'a> {
    pub plan: &'a Plan,
    pub options: &'a Options,
    pub events: &'a EventSink,
    pub session: &'a Session,
    pub provider: Arc<dyn Provider>,
    pub client: kube::Client,
    pub contact: Arc<Contact>,
    pub lodging: Option<Arc<Lodging>>,
}

/// How far one node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Waiting,
    Building,
    /// A process on the host is to stand in for it, and doesn't listen yet.
    Expected,
    Applying,
    Starting,
    Ready,
}

/// One node's state.
pub(super) struct Run<'a> {
    pub node: &'a Node,
    pub stage: Stage,
    pub detail: String,
    /// Its objects, once applied.
    pub objects: Vec<Owned>,
    pub finding: Option<(Finding, Instant)>,
    /// Since when a service without a readiness check runs, and how often it was restarted by then.
    steady: Option<(i32, Instant)>,
    started: bool,
    changed: bool,
    /// Whether it had pods before, to which its name may still lead.
    replaced: bool,
    unmet: Vec<NodeId>,
    /// Whether the display has been told of the state it is in.
    told: bool,
}

/// A task's answer.
enum Done {
    Namespace(Result<Applied, MoveInError>),
    Settled(Vec<String>),
    Registries(Result<Written, RegistriesError>),
    Applied(usize, Performed),
    Issued(usize, Result<String, KeyError>),
    Stored(Vec<usize>, Result<Vec<String>, ApplyError>),
    Exposed(PortId, Result<std::net::SocketAddr, ClusterError>),
    Lent(usize, Result<Lent, OnHostError>),
    Removed(NodeId, Result<(), ApplyError>),
}

pub(super) struct Walk<'a> {
    around: Surroundings<'a>,
    held: Held<'a>,
    context: Context,
    applier: Arc<Applier>,
    began: Instant,
    pub runs: Vec<Run<'a>>,
    by_id: HashMap<NodeId, usize>,
    by_object: HashMap<ObjectKey, Vec<usize>>,
    pub observed: Observed,
    watches: Watches,
    changes: mpsc::Receiver<Change>,
    /// When the last manifest, job or key was ready, of those that may make what pods lack.
    made_last: Option<Instant>,
    /// Kinds whose first list is still to come; only waited for when there is something to compare with.
    unsynced: HashSet<String>,
    /// Kinds that the API refuses to have watched, since when: that may pass while a namespace is new.
    unwatched: BTreeMap<String, Unwatched>,
    /// Since when the API has not answered, as the caller was told.
    silent_since: Option<Instant>,
    /// All objects that the plan has.
    planned: Vec<ObjectKey>,
    runnable: HashSet<String>,
    making: Making,
    actions: JoinSet<Done>,
    /// Keys that are not in the Secret yet, and whether it is out of date otherwise.
    unstored: Vec<usize>,
    secret: Secret,
    registries: Registries,
    /// What was lent and is no longer, until the end of this `up`: what still looks there is not turned away.
    returned: Vec<Lent>,
}

/// A watch that was refused.
struct Unwatched {
    code: u16,
    message: String,
    since: Instant,
}

/// How the Secret with the keys is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Secret {
    /// As it should be, as far as is known.
    Right,
    /// It has keys that the plan no longer has.
    Stale,
    /// Being applied.
    InFlight,
}

impl<'a> Walk<'a> {
    pub fn new(around: Surroundings<'a>, held: Held<'a>, making: Making) -> Self {
        let namespace = &around.session.namespace;
        let jobs = around.plan.nodes.iter().any(|node| match &node.spec {
            NodeSpec::Manifest(manifest) => manifest.objects.iter().any(|object| object["kind"] == "Job"),
            _ => node.id.kind == NodeKind::Job,
        });
        let jobs = if jobs { Jobs::Some } else { Jobs::None };
        let (watches, changes) = Watches::start(around.contact.clone(), namespace, jobs);
        let context = Context {
            session: around.session.id.clone(),
            namespace: namespace.clone(),
            images: BTreeMap::new(),
            on_host: BTreeMap::new(),
        };
        let runs: Vec<Run<'a>> =
            around.plan.nodes.iter().map(|node| Run::new(node, is_concerned(&around.options.scope, node))).collect();
        let by_id = runs.iter().enumerate().map(|(index, run)| (run.node.id.clone(), index)).collect();
        let again = held.ledger.nodes().next().is_some();
        let first_lists = match (again, jobs) {
            (false, _) => [].as_slice(),
            (true, Jobs::None) => &["Deployment", "ReplicaSet", "Pod"],
            (true, Jobs::Some) => &["Deployment", "ReplicaSet", "Pod", "Job"],
        };
        let applier = Arc::new(Applier::new(around.contact.clone(), namespace));
        // By names alone: what isn't known yet (images, addresses) changes none.
        let rendered =
            around.plan.nodes.iter().filter_map(|node| objects::render(around.plan, &node.id, &context).ok());
        let planned = rendered.flatten().map(|object| ObjectKey::of(&object)).collect();
        let is_due = around.options.scope == Scope::All
            && (around.plan.needs_pull_secret().next().is_some() || held.registries.is_some());
        if let (Some(_), Some(uid)) = (&around.lodging, &*held.namespace) {
            applier.own(namespace, uid);
        }
        Self {
            applier,
            began: Instant::now(),
            runs,
            by_id,
            by_object: HashMap::new(),
            observed: Observed::default(),
            watches,
            changes,
            unsynced: first_lists.iter().map(|kind| (*kind).to_owned()).collect(),
            unwatched: BTreeMap::new(),
            made_last: None,
            silent_since: None,
            planned,
            runnable: HashSet::new(),
            making,
            actions: JoinSet::new(),
            unstored: Vec::new(),
            secret: if *held.stored { Secret::Right } else { Secret::Stale },
            registries: if is_due { Registries::Due } else { Registries::Settled },
            returned: Vec::new(),
            context,
            around,
            held,
        }
    }

    /// Walks until everything is ready.
    pub async fn run(mut self, give_up: impl Future<Output = GiveUp> + Send) -> Result<(), Box<Failure>> {
        let outcome = self.walk(give_up).await;
        if let Err(mut failure) = outcome {
            let drain = async {
                while let Some(done) = self.actions.join_next().await {
                    match done {
                        Ok(Done::Applied(index, Performed { objects, .. })) => {
                            self.held.ledger.record_part(&self.runs[index].node.id, objects);
                        }
                        Ok(Done::Namespace(Ok(applied))) => *self.held.namespace = Some(applied.expected.uid),
                        _ => {}
                    }
                }
            };
            // An API that is silent may take any time.
            let _ = tokio::time::timeout(DRAIN, drain).await;
            self.making.end().await;
            if let Some(index) = failure.node.as_ref().and_then(|id| self.by_id.get(id)).copied() {
                let run = &self.runs[index];
                // What a key's issuer logged explains why it issued none.
                let issuer = self.issuer(run.node).and_then(|index| self.held.ledger.entry(&self.runs[index].node.id));
                let asked = evidence::Question {
                    client: &self.around.client,
                    namespace: &self.context.namespace,
                    objects: issuer.map_or(&run.objects, |entry| &entry.objects),
                    pod: run.finding.as_ref().and_then(|(finding, _)| finding.pod.as_deref()),
                    log_lines: self.around.options.log_lines,
                };
                evidence::gather(asked, &mut self.observed, &mut failure).await;
            }
            return Err(failure);
        }
        Ok(())
    }

    async fn walk(&mut self, give_up: impl Future<Output = GiveUp> + Send) -> Result<(), Box<Failure>> {
        let mut give_up = std::pin::pin!(give_up);
        let provider = self.around.provider.clone();
        let lodging = self.around.lodging.clone();
        let evicted = async {
            match lodging {
                Some(lodging) => ClusterError::Evicted(lodging.lost().await),
                None => std::future::pending().await,
            }
        };
        let lost = async {
            tokio::select! {
                error = provider.lost() => error,
                error = evicted => error,
            }
        };
        let mut lost = std::pin::pin!(lost);
        let contact = self.around.contact.clone();
        let mut silence = contact.silence();
        let mut silent_for_good = std::pin::pin!(contact.lost(SILENCE));
        self.begin()?;
        loop {
            // A node that became ready may have been what another's finding waited for.
            self.look_again()?;
            self.open_registries();
            self.store();
            self.advance()?;
            if self.is_done() {
                self.around.events.send(Event::Ready { at: self.at() });
                return Ok(());
            }
            let clock = self.next_clock();
            tokio::select! {
                reason = &mut give_up => return Err(self.given_up(reason)),
                error = &mut lost => return Err(self.lost(&error)),
                silence = &mut silent_for_good => return Err(self.silent(&silence)),
                Ok(()) = silence.changed() => {
                    let now = silence.borrow_and_update().clone();
                    self.tell_silence(now.as_ref());
                }
                Some(done) = self.actions.join_next(), if !self.actions.is_empty() => match done {
                    Ok(done) => self.done(done)?,
                    Err(error) => return Err(self.broken(&error)),
                },
                Some(made) = self.making.next() => self.made(made)?,
                Some(change) = self.changes.recv() => self.changed(change)?,
                // Where this was late itself, what happened meanwhile counts, not only that time has passed.
                () = until(clock) => if let Ok(change) = self.changes.try_recv() {
                    self.changed(change)?;
                },
            }
        }
    }

    /// What needs nothing: the namespace, the host's side of all ports, and taking away what is no longer in the plan.
    fn begin(&mut self) -> Result<(), Box<Failure>> {
        // Most images need no making: nobody is told that they are being built.
        while let Some(made) = self.making.try_next() {
            self.made(made)?;
        }
        if self.held.namespace.is_none() {
            let (applier, namespace) = (self.applier.clone(), objects::namespace(self.around.plan, &self.context));
            let lodging = self.around.lodging.clone();
            self.actions.spawn(async move {
                Done::Namespace(match lodging {
                    Some(lodging) => lodging.move_in(&applier, &namespace).await,
                    None => applier.create(&namespace).await.map_err(MoveInError::Apply),
                })
            });
        }
        if self.around.options.scope != Scope::All {
            self.runnable = self.around.plan.images.keys().cloned().collect();
            self.runnable.extend(self.around.plan.used_images().into_keys().map(str::to_owned));
        }
        for (id, port) in self.around.plan.ports().filter(|(_, port)| port.protocol == Protocol::Tcp) {
            if self.held.addresses.contains_key(&id) {
                continue;
            }
            let target = ServicePort {
                namespace: self.context.namespace.clone(),
                service: id.service.clone(),
                port: port.port,
                name: port.name.clone(),
            };
            let provider = self.around.provider.clone();
            self.actions.spawn(async move { Done::Exposed(id, provider.expose(&target).await) });
        }
        if self.around.options.scope != Scope::All {
            return Ok(());
        }
        self.forget_keys()?;
        let gone: Vec<NodeId> =
            self.held.ledger.nodes().rev().filter(|id| !self.by_id.contains_key(*id)).cloned().collect();
        for id in gone {
            self.tell(&id, NodeState::Removing, "no longer in the file");
            let (applier, mut objects) = (self.applier.clone(), self.held.ledger.only_of(&id));
            objects.retain(|owned| !self.is_planned(&owned.key));
            self.actions.spawn(async move {
                for owned in objects {
                    if let Err(error) = applier.delete(&owned.kind, &owned.key, &owned.expected.uid, BACKGROUND).await {
                        return Done::Removed(id, Err(error));
                    }
                }
                Done::Removed(id, Ok(()))
            });
        }
        Ok(())
    }

    /// Starts every node that can start; those whose needs are just met among them, until nothing more follows.
    fn advance(&mut self) -> Result<(), Box<Failure>> {
        loop {
            let mut moved = false;
            let mut keys = Vec::new();
            for index in 0..self.runs.len() {
                let run = &self.runs[index];
                if !matches!(run.stage, Stage::Waiting | Stage::Building) {
                    continue;
                }
                let unmet = self.unmet(run.node);
                let ready_to_apply = unmet.is_empty()
                    && self.held.namespace.is_some()
                    && self.unsynced.is_empty()
                    && self.registries == Registries::Settled;
                let stage =
                    if unmet.is_empty() && !self.images_runnable(run.node) { Stage::Building } else { Stage::Waiting };
                let run = &mut self.runs[index];
                if run.unmet != unmet || run.stage != stage {
                    (run.unmet, run.stage, run.told) = (unmet, stage, false);
                }
                if !ready_to_apply || stage == Stage::Building {
                    self.tell_run(index);
                    continue;
                }
                if run.node.id.kind == NodeKind::Key {
                    keys.push(index);
                    continue;
                }
                if self.expect_on_host(index) {
                    continue;
                }
                self.start(index)?;
                moved = true;
            }
            moved |= self.issue(keys)?;
            if !moved {
                return Ok(());
            }
        }
    }

    fn unmet(&self, node: &Node) -> Vec<NodeId> {
        let met = |need: &crate::plan::Need| {
            self.by_id.get(&need.node).map(|index| &self.runs[*index]).is_none_or(|run| match need.condition {
                Condition::Started => run.started || run.stage == Stage::Ready,
                Condition::Ready | Condition::Completed => run.stage == Stage::Ready,
            })
        };
        node.needs.iter().filter(|need| !met(need)).map(|need| need.node.clone()).collect()
    }

    /// Whether a node of the plan has this object: by whichever it was applied, it is not deleted.
    fn is_planned(&self, key: &ObjectKey) -> bool {
        self.planned.iter().any(|planned| is_same(planned, key))
    }

    fn images_runnable(&self, node: &Node) -> bool {
        match (&node.spec, node.workload()) {
            (_, Some(workload)) => self.runnable.contains(&workload.image),
            // What a manifest's pods use isn't listed anywhere: all of them.
            (NodeSpec::Manifest(_), None) => self.around.plan.images.keys().all(|name| self.runnable.contains(name)),
            _ => true,
        }
    }

    /// Renders a node and compares it with what is there.
    fn start(&mut self, index: usize) -> Result<(), Box<Failure>> {
        let node = self.runs[index].node;
        let rendered = self.render(node).map_err(|error| {
            self.failure(Some(&node.id), Cause::Rejected { object: node.id.name.clone(), status: 0 }, error.to_string())
        })?;
        let before = self.held.ledger.entry(&node.id);
        let had_pods = before.is_some();
        let mut work = Work::compare(node.id.kind, rendered, before, &self.observed);
        // What another node has as well, or has now.
        work.remove.retain(|owned| !self.is_planned(&owned.key));
        let run = &mut self.runs[index];
        run.told = false;
        if work.is_nothing() {
            run.stage = Stage::Starting;
            self.index(index, work.keep);
            self.watch_kinds(index);
            return self.judge(index);
        }
        run.stage = Stage::Applying;
        run.changed = true;
        run.replaced = had_pods && matches!(&node.spec, NodeSpec::Service(service) if !service.ports.is_empty());
        if run.replaced {
            self.watches.watch_endpoints(&self.context.namespace);
        }
        let (applier, client) = (self.applier.clone(), self.around.client.clone());
        self.actions.spawn(async move { Done::Applied(index, work.perform(applier, client).await) });
        self.tell_run(index);
        Ok(())
    }

    fn render(&self, node: &Node) -> Result<Vec<serde_json::Value>, objects::RenderError> {
        let mut context = self.context.clone();
        let provider = &self.around.provider;
        match node.workload() {
            Some(workload) => {
                let text = |templates: &[crate::plan::Template]| -> Vec<String> {
                    templates.iter().map(|template| template.as_text().unwrap_or_default().to_owned()).collect()
                };
                let image = self.around.plan.images.get(&workload.image);
                let name = &workload.image;
                let content = provider.content(name, image, &text(&workload.command), &text(&workload.args));
                context.images.extend(content.map(|content| (name.clone(), content)));
            }
            None => {
                let images = self.around.plan.images.iter();
                context.images = images
                    .filter_map(|(name, image)| Some((name.clone(), provider.content(name, Some(image), &[], &[])?)))
                    .collect();
            }
        }
        context.on_host = self.on_host(node);
        let mut rendered = objects::render(self.around.plan, &node.id, &context)?;
        keys::stamp(&mut rendered, node, &self.held.keys.values());
        Ok(rendered)
    }

    fn broken(&self, error: &JoinError) -> Box<Failure> {
        self.failure(None, Cause::Interrupted, format!("a task of the walk ended abnormally: {error}"))
    }

    fn made(&mut self, made: Result<Made, JoinError>) -> Result<(), Box<Failure>> {
        let (name, made) = made.map_err(|error| self.broken(&error))?;
        made.map_err(|error| self.not_runnable(&name, error))?;
        self.runnable.insert(name);
        Ok(())
    }

    fn done(&mut self, done: Done) -> Result<(), Box<Failure>> {
        match done {
            Done::Namespace(Ok(applied)) => {
                if let Some(lodging) = self.around.lodging.clone() {
                    self.applier.own(&applied.key.name, &applied.expected.uid);
                    self.actions.spawn(async move { Done::Settled(lodging.settled().await) });
                }
                *self.held.namespace = Some(applied.expected.uid);
                self.warn(None, applied.warnings);
            }
            Done::Settled(warnings) => self.warn(None, warnings),
            Done::Registries(written) => self.opened(written)?,
            Done::Namespace(Err(error)) => return Err(self.not_moved_in(&error)),
            Done::Applied(index, Performed { objects, warnings, failed: None }) => {
                self.record(index, objects);
                let run = &mut self.runs[index];
                (run.stage, run.told) = (Stage::Starting, false);
                let id = run.node.id.clone();
                self.warn(Some(&id), warnings);
                self.watch_kinds(index);
                // Its pods may have been seen before the request was answered.
                self.judge(index)?;
            }
            Done::Applied(index, Performed { objects, failed: Some(error), .. }) => {
                let id = self.runs[index].node.id.clone();
                self.held.ledger.record_part(&id, objects);
                return Err(self.refused(Some(&id), &error));
            }
            Done::Issued(index, issued) => {
                self.issued(index, issued)?;
                self.store();
            }
            Done::Stored(indexes, Ok(warnings)) => {
                self.secret = Secret::Right;
                *self.held.stored = self.unstored.is_empty();
                self.warn(None, warnings);
                for index in indexes {
                    self.ready(index);
                }
                self.store();
            }
            Done::Stored(indexes, Err(error)) => {
                let id = indexes.first().map(|index| self.runs[*index].node.id.clone());
                return Err(self.refused(id.as_ref(), &error));
            }
            Done::Exposed(port, Ok(address)) => {
                self.held.addresses.insert(port, address);
            }
            Done::Exposed(port, Err(error)) => {
                let message =
                    format!("port {} of service {} cannot be reached from the host: {error}", port.port, port.service);
                let id = NodeId::new(NodeKind::Service, port.service);
                return Err(self.failure(Some(&id), Cause::ClusterUnavailable, message));
            }
            Done::Lent(index, lent) => self.lent(index, lent)?,
            Done::Removed(id, Ok(())) => {
                self.held.ledger.forget(&id);
                self.tell(&id, NodeState::Removed, "");
            }
            Done::Removed(id, Err(error)) => return Err(self.refused(Some(&id), &error)),
        }
        Ok(())
    }
}

/// Whether an `up` of that scope is about the node.
fn is_concerned(scope: &Scope, node: &Node) -> bool {
    match scope {
        Scope::All => true,
        Scope::Keys(keys) if node.id.kind == NodeKind::Key => keys.contains(&node.id.name),
        Scope::Services(names) => node.id.kind == NodeKind::Service && names.contains(&node.id.name),
        Scope::Keys(keys) => keys::uses(node).any(|name| keys.contains(name)),
    }
}

async fn until(clock: Option<Instant>) {
    match clock {
        Some(clock) => tokio::time::sleep_until(clock).await,
        None => std::future::pending().await,
    }
}
