//! From an environment file to a plan: what parts say about each other is checked here, and everything that is wrong is
//! reported at once.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::{Cluster, DockerImage, Image, NeedReason, Node, NodeId, NodeKind, NodeSpec, Plan, ProcessImage, Suite};
use super::{Condition, exports, keys, manifests, notify, order, references::Reader, workloads};
use crate::envfile::model::{ClusterChoice, EnvironmentFile, ImageFile, NeedCondition, NeedList};
use crate::envfile::{
    Problem, Problems, Request, Sources, Span, Spanned, Template, dns_label, load as load_file, suggestion,
};

/// Names longer than this leave no room for what makes a session's namespace unique.
const MAX_ENVIRONMENT_NAME: usize = 40;

/// Loads the environment file that `request` names as a plan.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load(request: &Request<'_>) -> Result<Plan, Problems> {
    let loaded = load_file(request);
    let (sources, problems) = (loaded.sources, loaded.problems);
    let Some(file) = loaded.file else {
        return Err(Problems::new(sources, problems).unwrap_or_default());
    };
    let mut builder = Builder::new(request, &file, sources, problems);
    let plan = builder.plan();
    match Problems::new(builder.sources, builder.problems) {
        Some(problems) => Err(problems),
        None => Ok(plan),
    }
}

/// Checks an environment file as it is and with each of its profiles; if `request` names profiles, only with those.
///
/// # Errors
/// Everything that is wrong with any of them, each problem once.
pub fn validate(request: &Request<'_>) -> Result<Plan, Problems> {
    let first = load(request);
    if !request.profiles.is_empty() {
        return first;
    }
    let mut found: Option<Problems> = None;
    let mut add = |problems: Problems| {
        found = Some(match found.take() {
            Some(found) => found.merge(Some(problems)),
            None => problems,
        });
    };
    let mut plan = None;
    match first {
        Ok(good) => plan = Some(good),
        Err(problems) => add(problems),
    }
    for profile in crate::envfile::profile_names(request) {
        if let Err(problems) = load(&Request { profiles: &[profile], ..*request }) {
            add(problems);
        }
    }
    match (plan, found) {
        (Some(plan), None) => Ok(plan),
        (_, found) => Err(found.unwrap_or_default()),
    }
}

/// An edge with the place that says so.
pub(super) struct Edge {
    pub to: NodeId,
    pub condition: Condition,
    pub reason: NeedReason,
    pub span: Span,
}

/// A node that isn't in order yet.
pub(super) struct Draft {
    pub id: NodeId,
    pub edges: Vec<Edge>,
    pub spec: NodeSpec,
}

/// What every part of the building needs, and where it reports.
pub(super) struct Builder<'a> {
    pub request: &'a Request<'a>,
    pub file: &'a EnvironmentFile,
    pub sources: Sources,
    pub problems: Vec<Problem>,
    /// Nothing was wrong with the file by itself: what isn't there was not left out for a reported problem.
    pub complete: bool,
    pub cluster: Cluster,
    /// Every name of the graph; those that could not be decoded too, which have no draft.
    pub names: BTreeMap<String, (NodeKind, Option<Span>)>,
    pub images: BTreeMap<String, Image>,
}

impl<'a> Builder<'a> {
    fn new(request: &'a Request<'a>, file: &'a EnvironmentFile, sources: Sources, problems: Vec<Problem>) -> Self {
        let complete = problems.is_empty();
        let cluster = request.cluster.cloned().unwrap_or_else(|| match &file.cluster {
            None | Some(ClusterChoice::Embedded) => Cluster::Embedded,
            Some(ClusterChoice::Kind(fields)) => Cluster::Kind { fresh: fields.fresh },
            Some(ClusterChoice::Minikube(fields)) => Cluster::Minikube { fresh: fields.fresh },
            Some(ClusterChoice::Context(name)) => Cluster::Context(name.text.clone()),
        });
        Self { request, file, sources, problems, complete, cluster, names: BTreeMap::new(), images: BTreeMap::new() }
    }

    pub fn problem(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// Whether nothing is wrong inside a part: then what it lacks was not left out for a reported problem.
    pub fn sound(&self, part: Span) -> bool {
        let inside = |span: Span| span.source == part.source && span.start >= part.start && span.end <= part.end;
        !self.problems.iter().any(|problem| problem.span.is_some_and(inside))
    }

    /// A path of the file, absolute.
    pub fn absolute(&self, path: &str) -> PathBuf {
        self.request.absolute(path)
    }

    fn plan(&mut self) -> Plan {
        let file = self.file;
        self.collect_names();
        let environment = self.environment_name();
        for (name, image) in file.images.iter() {
            let image = self.image(image);
            self.images.insert(name.value.clone(), image);
        }
        let mut drafts = Vec::new();
        let claims = workloads::claim_sizes(self);
        for (name, service) in file.services.iter() {
            drafts.push(workloads::service(self, &name.value, service, &claims));
        }
        for (name, job) in file.jobs.iter() {
            drafts.push(workloads::job(self, &name.value, job, &claims));
        }
        for manifest in &file.manifests {
            drafts.extend(manifests::manifest(self, manifest));
        }
        for (name, key) in file.keys.iter() {
            drafts.extend(keys::key(self, &name.value, key));
        }
        let suites = self.suites();
        let notify = notify::notify(self);
        let exports = exports::exports(self);
        let nodes = order::sort(drafts, &mut self.problems);
        Plan {
            environment,
            file: self.request.file.to_owned(),
            includes: file.include.iter().map(|path| self.absolute(&path.text)).collect(),
            project_root: self.request.root.to_owned(),
            profiles: self.request.profiles.to_vec(),
            cluster: self.cluster.clone(),
            images: std::mem::take(&mut self.images),
            nodes: nodes.into_iter().map(finish).collect::<Vec<Node>>(),
            exports,
            suites,
            notify,
        }
        .with_dependents()
    }

    fn environment_name(&mut self) -> String {
        if let Some(Spanned { span, value }) = &self.file.name {
            if value.text.len() > MAX_ENVIRONMENT_NAME {
                self.problem(Problem::at(
                    *span,
                    format!("an environment's name has at most {MAX_ENVIRONMENT_NAME} characters"),
                ));
            }
            return value.text.clone();
        }
        let stem = self.request.file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        if let Err(message) = dns_label(&stem) {
            let hint = "the environment is called like its file: give it another name with `name:`";
            self.problem(Problem::at(self.file.span, message).hint(Some(hint.to_owned())));
        }
        stem
    }

    /// Names are unique across kinds: `needs`, `logs` and `exec` go by the name alone.
    fn collect_names(&mut self) {
        let file = self.file;
        let named = |kind: NodeKind, name: &'a Spanned<String>| (kind, name.value.as_str(), Some(name.span));
        let good = (file.services.iter().map(|(name, _)| named(NodeKind::Service, name)))
            .chain(file.jobs.iter().map(|(name, _)| named(NodeKind::Job, name)))
            .chain(file.keys.iter().map(|(name, _)| named(NodeKind::Key, name)))
            .chain(file.manifests.iter().map(|manifest| {
                let (name, span) = manifests::name(manifest);
                (NodeKind::Manifest, name, Some(span))
            }));
        let failed = (file.services.failed.iter().map(|name| (NodeKind::Service, name.as_str(), None)))
            .chain(file.jobs.failed.iter().map(|name| (NodeKind::Job, name.as_str(), None)))
            .chain(file.keys.failed.iter().map(|name| (NodeKind::Key, name.as_str(), None)));
        for (kind, name, span) in good.chain(failed) {
            match (self.names.get(name), span) {
                (Some((first, Some(first_span))), Some(span)) => {
                    let what = if *first == kind {
                        format!("two {}s", kind.word())
                    } else {
                        format!("a {} and a {}", first.word(), kind.word())
                    };
                    let problem =
                        Problem::at(span, format!("`{name}` is the name of {what}")).related(*first_span, "first here");
                    self.problems.push(problem);
                }
                (Some(_), _) => {}
                (None, span) => {
                    self.names.insert(name.to_owned(), (kind, span));
                }
            }
        }
    }

    /// The edges that `needs` says.
    pub fn needs(&mut self, list: &NeedList, own: &str) -> Vec<Edge> {
        let mut edges: Vec<Edge> = Vec::new();
        for needed in &list.0 {
            let Spanned { span, value: name } = &needed.name;
            let Some((kind, _)) = self.names.get(name) else {
                let names = self.names.keys().map(String::as_str).filter(|name| *name != own);
                let hint = suggestion(name, names, "there are");
                self.problem(Problem::at(*span, format!("there is nothing called `{name}` to need")).hint(hint));
                continue;
            };
            let kind = *kind;
            let condition = match (needed.condition.as_ref().map(|condition| condition.value), kind) {
                (None, NodeKind::Job) | (Some(NeedCondition::Completed), NodeKind::Job) => Condition::Completed,
                (Some(NeedCondition::Started), NodeKind::Service | NodeKind::Job) => Condition::Started,
                (None | Some(NeedCondition::Ready), NodeKind::Service | NodeKind::Manifest | NodeKind::Key) => {
                    Condition::Ready
                }
                (Some(_), _) => {
                    let (word, possible) = match kind {
                        NodeKind::Service => ("a service never completes", "`ready` or `started`"),
                        NodeKind::Job => ("a job is never ready", "`completed` or `started`"),
                        NodeKind::Manifest => ("a manifest is ready or not", "`ready`"),
                        NodeKind::Key => ("a key is issued or not", "`ready`"),
                    };
                    let span = needed.condition.as_ref().map_or(*span, |condition| condition.span);
                    self.problem(Problem::at(span, word).hint(Some(format!("wait until `{name}` is {possible}"))));
                    continue;
                }
            };
            let to = NodeId::new(kind, name.clone());
            if edges.iter().any(|edge| edge.to == to) {
                self.problem(Problem::at(*span, format!("`{name}` is needed twice")));
                continue;
            }
            edges.push(Edge { to, condition, reason: NeedReason::Needs, span: *span });
        }
        edges
    }

    fn image(&self, image: &ImageFile) -> Image {
        let words = |command: &Option<crate::envfile::model::Command>| {
            command.as_ref().map(|command| command.0.clone()).unwrap_or_default()
        };
        let entrypoint = words(&image.entrypoint);
        let process = image.process.as_ref().map(|process| {
            let own = words(&process.entrypoint);
            let mut effective = if own.is_empty() { entrypoint.clone() } else { own };
            if let Some(program) = effective.first_mut()
                && program.contains('/')
                && !program.starts_with('/')
            {
                // A pod may start elsewhere than the project root.
                *program = self.absolute(program).display().to_string();
            }
            ProcessImage {
                entrypoint: effective,
                path: process.path.iter().map(|path| self.absolute(&path.text)).collect(),
                workdir: self.absolute(process.workdir.as_ref().map_or("", |path| path.text.as_str())),
                user: process.user.as_ref().map(|user| user.0.clone()),
                build: words(&process.build),
                sources: process.sources.iter().map(|path| self.absolute(&path.text)).collect(),
                env: process.env.iter().map(|(name, value)| (name.value.clone(), value.value.0.clone())).collect(),
            }
        });
        let docker = image.docker.as_ref().map(|docker| DockerImage {
            context: self.absolute(&docker.context.text),
            dockerfile: docker.dockerfile.as_ref().map(|path| self.absolute(&path.text)),
            target: docker.target.as_ref().map(|target| target.text.clone()),
            args: docker.args.iter().map(|(name, value)| (name.value.clone(), value.value.0.clone())).collect(),
            push: docker.push,
        });
        Image { entrypoint, process, docker, image_pull_secret: image.image_pull_secret }
    }

    fn suites(&mut self) -> BTreeMap<String, Suite> {
        let file = self.file;
        let mut suites = BTreeMap::new();
        for (name, suite) in file.suites.iter() {
            let env = suite.env.iter().map(|(name, value)| {
                let template: &Template = self.check(value, Reader::Host);
                (name.value.clone(), template.clone())
            });
            let env = env.collect();
            suites.insert(
                name.value.clone(),
                Suite {
                    run: suite.run.0.clone(),
                    stage: suite.stage.as_ref().map(|stage| stage.text.clone()),
                    timeout: suite.timeout,
                    workdir: self.absolute(suite.workdir.as_ref().map_or("", |path| path.text.as_str())),
                    env,
                    junit: suite.junit.as_ref().map(|path| self.absolute(&path.text)),
                },
            );
        }
        suites
    }
}

fn finish(draft: Draft) -> Node {
    let mut needs: Vec<super::Need> = Vec::with_capacity(draft.edges.len());
    for Edge { to, condition, reason, .. } in draft.edges {
        // A key that is used twice is still one edge; the file's own word comes first and stays.
        if !needs.iter().any(|need| need.node == to) {
            needs.push(super::Need { node: to, condition, reason });
        }
    }
    Node { id: draft.id, needs, dependents: Vec::new(), spec: draft.spec }
}
