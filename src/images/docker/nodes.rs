//! Nodes that are containers of the engine: what images they have, and loading what they lack.
//!
//! An image is there if a node's containerd has its name, and the name leads to the id that the engine knows it by. containerd lists names
//! with the digest of the manifest each leads to; Kubernetes' half of it keeps every image also under the name of its id, which is the
//! digest of its configuration (containerd, `internal/cri/server/images/image_pull.go`, `UpdateImage`). So a name and an id that lead to
//! the same manifest are the same image. An engine with containerd's own store has manifests' digests for ids.
//!
//! Loading streams `docker save` into `ctr images import` in all nodes at once, without a file in between, as kind's
//! `nodeutils.LoadImageArchive` does with one.

use std::collections::HashMap;
use std::pin::Pin;
use std::time::Instant;

use bollard::container::LogOutput;
use bollard::exec::{CreateExecOptions, StartExecResults};
use bollard::models::ContainerSummaryStateEnum::{PAUSED, RESTARTING, RUNNING};
use bollard::query_parameters::ListContainersOptionsBuilder;
use futures::future::{join_all, try_join_all};
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::sync::MutexGuard;

use super::{DockerError, Engine, Images, Nodes};
use crate::images::build::{Builds, display};

/// Which containers are a cluster's nodes.
#[derive(Debug, Clone)]
pub struct Selector {
    /// A label that they all have, as `key=value` or `key`.
    pub label: String,
    /// Which of those.
    pub which: Which,
}

/// Which of the containers with a label are a cluster's nodes.
#[derive(Debug, Clone)]
pub enum Which {
    /// All without this label of this value.
    Not(&'static str, &'static str),
    /// Those whose label is the cluster's name, or that with `-m02` and so on behind it.
    Machines(&'static str, String),
}

impl Which {
    fn is_node(&self, labels: &HashMap<String, String>) -> bool {
        match self {
            Self::Not(key, value) => labels.get(*key).is_none_or(|found| found != value),
            Self::Machines(key, cluster) => {
                labels.get(*key).and_then(|name| name.strip_prefix(cluster.as_str())).is_some_and(|rest| {
                    let number = rest.strip_prefix("-m").unwrap_or_default();
                    rest.is_empty() || (!number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit()))
                })
            }
        }
    }
}

/// A node's container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Whether it has not ended: one that was paused may go on.
    pub running: bool,
    /// Where something is mounted in it.
    pub mounts: Vec<String>,
}

/// What is known of the nodes' images.
#[derive(Default)]
pub struct Listing {
    /// When it was asked for; `None`: not yet.
    asked: Option<Instant>,
    nodes: Vec<(String, Known)>,
    /// By node. To start a program in a container takes longer than what it is asked, so one is kept to ask.
    shells: HashMap<String, Shell>,
}

/// A shell in a node that lives as long as its connection: it ends with its input, whatever ends this process.
struct Shell {
    input: Input,
    output: Output,
}

/// The names in one node, each with the digest of the manifest that it leads to.
type Known = HashMap<String, String>;

/// What a node lacks to have an image by its name.
#[derive(Debug, PartialEq, Eq)]
enum Lacks {
    Nothing,
    Name,
    Everything,
}

type Input = Pin<Box<dyn AsyncWrite + Send>>;
type Output = Pin<Box<dyn Stream<Item = Result<LogOutput, bollard::errors::Error>> + Send>>;

impl Engine {
    /// The containers that are a cluster's nodes.
    ///
    /// # Errors
    /// When the engine refuses.
    pub async fn nodes(&self, selector: &Selector) -> Result<Vec<Node>, DockerError> {
        let filters = HashMap::from([("label", vec![selector.label.as_str()])]);
        let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        let listed = self.docker.list_containers(Some(options)).await;
        let listed = listed.map_err(DockerError::request("listing the cluster's nodes"))?;
        let is_node = |labels: &HashMap<String, String>| selector.which.is_node(labels);
        let nodes = listed.into_iter().filter(|container| container.labels.as_ref().is_some_and(is_node));
        Ok(nodes
            .map(|container| Node {
                name: container
                    .names
                    .and_then(|names| Some(names.first()?.trim_start_matches('/').to_owned()))
                    .unwrap_or_default(),
                running: matches!(container.state, Some(RUNNING | PAUSED | RESTARTING)),
                mounts: container
                    .mounts
                    .unwrap_or_default()
                    .into_iter()
                    .filter_map(|mount| mount.destination)
                    .collect(),
            })
            .collect())
    }

    /// Resolves with the name of the first node that ends, or with `None` when the engine no longer tells.
    pub async fn node_ended(&self, selector: &Selector) -> Option<String> {
        let filters = HashMap::from([
            ("type", vec!["container"]),
            ("event", vec!["die"]),
            ("label", vec![selector.label.as_str()]),
        ]);
        let options = bollard::query_parameters::EventsOptionsBuilder::new().filters(&filters).build();
        let mut events = self.docker.events(Some(options)).boxed();
        loop {
            // A container's labels are among the attributes.
            let attributes = events.next().await?.ok()?.actor.and_then(|actor| actor.attributes).unwrap_or_default();
            if selector.which.is_node(&attributes) {
                return Some(attributes.get("name").cloned().unwrap_or_else(|| "a node".to_owned()));
            }
        }
    }

    async fn start(&self, node: &str, command: &[&str], stdin: bool) -> Result<(String, Input, Output), DockerError> {
        let attempt = || format!("running `{}` in node {node}", display(&owned(command)));
        let options = CreateExecOptions {
            attach_stdin: Some(stdin),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            cmd: Some(command.to_vec()),
            ..CreateExecOptions::default()
        };
        let created = self.docker.create_exec(node, options).await.map_err(DockerError::request(attempt()))?;
        match self.docker.start_exec(&created.id, None).await.map_err(DockerError::request(attempt()))? {
            StartExecResults::Attached { output, input } => Ok((created.id, input, output)),
            StartExecResults::Detached => Err(DockerError::InNode {
                node: node.to_owned(),
                command: display(&owned(command)),
                said: "it was started detached".to_owned(),
            }),
        }
    }

    /// Waits until a program in a node has ended; its stdout.
    async fn end(&self, node: &str, command: &[&str], id: &str, mut output: Output) -> Result<String, DockerError> {
        let attempt = || format!("running `{}` in node {node}", display(&owned(command)));
        let (mut out, mut err) = (String::new(), String::new());
        while let Some(said) = output.try_next().await.map_err(DockerError::request(attempt()))? {
            match said {
                LogOutput::StdErr { message } => err.push_str(&String::from_utf8_lossy(&message)),
                other => out.push_str(&String::from_utf8_lossy(&other.into_bytes())),
            }
        }
        let ended = self.docker.inspect_exec(id).await.map_err(DockerError::request(attempt()))?;
        if ended.exit_code == Some(0) {
            return Ok(out);
        }
        let said = if err.trim().is_empty() { out } else { err };
        Err(DockerError::InNode {
            node: node.to_owned(),
            command: display(&owned(command)),
            said: said.trim().to_owned(),
        })
    }

    async fn run(&self, node: &str, command: &[&str]) -> Result<String, DockerError> {
        let (id, input, output) = self.start(node, command, false).await?;
        let said = self.end(node, command, &id, output).await;
        drop(input);
        said
    }

    /// What [`LIST`] says in a node, by a shell that may still be there from the last time.
    async fn listed(&self, node: &str, shell: Option<Shell>) -> Result<(Shell, String), DockerError> {
        if let Some(mut shell) = shell
            && let Some((code, listed)) = shell.ask(&LIST.join(" ")).await
            && code == "0"
        {
            return Ok((shell, listed));
        }
        let (_, input, output) = self.start(node, &["sh"], true).await?;
        let mut shell = Shell { input, output };
        match shell.ask(&LIST.join(" ")).await {
            Some((code, listed)) if code == "0" => Ok((shell, listed)),
            // By itself it says why.
            _ => Ok((shell, self.run(node, &LIST).await?)),
        }
    }

    /// Streams an image into nodes, all at once.
    async fn stream(&self, name: &str, nodes: &[&str]) -> Result<(), DockerError> {
        let importing = nodes.iter().map(async |&node| Ok((node, self.start(node, &IMPORT, true).await?)));
        let mut importing = try_join_all(importing).await?;
        let mut saved = self.docker.export_image(name).boxed();
        let mut broken = None;
        'saved: while let Some(chunk) =
            saved.try_next().await.map_err(DockerError::request(format!("saving image {name}")))?
        {
            let writing = importing.iter_mut().map(async |(_, (_, input, _))| input.write_all(&chunk).await);
            for written in join_all(writing).await {
                if let Err(error) = written {
                    // What the program in the node says of it explains more.
                    broken = Some(error);
                    break 'saved;
                }
            }
        }
        let ending = importing.into_iter().map(async |(node, (id, mut input, output))| {
            // The end of its input: that it cannot be told to a program that is gone is told by that program's own failure.
            _ = input.shutdown().await;
            drop(input);
            self.end(node, &IMPORT, &id, output).await
        });
        try_join_all(ending).await?;
        match broken {
            None => Ok(()),
            Some(source) => Err(DockerError::File { what: format!("sending image {name} to its nodes"), source }),
        }
    }
}

impl Shell {
    /// The exit code of a command and what it wrote to stdout; `None` when the shell is gone.
    async fn ask(&mut self, command: &str) -> Option<(String, String)> {
        self.input.write_all(format!("{command}; echo \"{END}$?\"\n").as_bytes()).await.ok()?;
        self.input.flush().await.ok()?;
        let mut said = Vec::new();
        loop {
            if let LogOutput::StdOut { message } = self.output.try_next().await.ok()?? {
                said.extend_from_slice(&message);
            }
            let text = String::from_utf8_lossy(&said);
            if let Some((listed, code)) = text.strip_suffix('\n').and_then(|text| text.rsplit_once(END)) {
                return Some((code.to_owned(), listed.to_owned()));
            }
        }
    }
}

/// As kind imports: by the snapshotter that the node's containerd is set up with.
const IMPORT: [&str; 3] = [
    "sh",
    "-c",
    "exec ctr --namespace=k8s.io images import --snapshotter \"$(containerd config dump | \
     sed -n \"s/^ *snapshotter = ['\\\"]\\(.*\\)['\\\"]/\\1/p\" | sed -n 1p)\" - ",
];
const AWAIT: [&str; 3] = ["systemctl", "start", "containerd.service"];
const LIST: [&str; 4] = ["ctr", "--namespace=k8s.io", "images", "list"];
/// What a shell says last of each answer, before the exit code; no image's name has blanks.
const END: &str = "end of the list: ";

impl Images {
    /// What nodes have, asked once an `up`.
    pub(super) async fn listing(
        &self,
        engine: &Engine,
        builds: &Builds,
    ) -> Result<MutexGuard<'_, Listing>, DockerError> {
        let mut listing = self.listing.lock().await;
        if listing.asked.is_none_or(|asked| asked < builds.began()) {
            let asked = Instant::now();
            let nodes = self.nodes().await?;
            let mut shells = std::mem::take(&mut listing.shells);
            let running = nodes.into_iter().filter(|node| node.running);
            let running: Vec<_> = running.map(|node| (shells.remove(&node.name), node.name)).collect();
            let early = *self.nodes.borrow() < Nodes::Ready;
            let listed = try_join_all(running.into_iter().map(async |(shell, node)| {
                if early {
                    // Its containerd may be starting: this waits for it. If it can't, the list says more.
                    drop(engine.run(&node, &AWAIT).await);
                }
                let (shell, listed) = engine.listed(&node, shell).await?;
                Ok::<_, DockerError>((node, shell, known(&listed)))
            }));
            listing.nodes.clear();
            for (node, shell, known) in listed.await? {
                listing.shells.insert(node.clone(), shell);
                listing.nodes.push((node, known));
            }
            listing.asked = Some(asked);
        }
        Ok(listing)
    }

    /// Loads an image, by name and id, into the nodes that lack it, as soon as they run.
    pub(super) async fn load(
        &self,
        engine: &Engine,
        image: (&str, &str),
        built: bool,
        builds: &Builds,
    ) -> Result<(), DockerError> {
        self.nodes_to_be(Nodes::Running).await;
        let early = *self.nodes.borrow() < Nodes::Ready;
        match self.load_into(engine, image, built, builds).await {
            // What a node refuses while its tool is at work on it, it may not refuse afterwards.
            Err(error) if early => tracing::info!(%error, image = image.0, "nodes don't take images yet"),
            loaded => return loaded,
        }
        self.nodes_to_be(Nodes::Ready).await;
        self.listing.lock().await.asked = None;
        self.load_into(engine, image, built, builds).await
    }

    async fn load_into(
        &self,
        engine: &Engine,
        (name, id): (&str, &str),
        built: bool,
        builds: &Builds,
    ) -> Result<(), DockerError> {
        let full = normalized(name);
        let listing = self.listing(engine, builds).await?;
        // What wasn't built here, nodes may pull.
        if listing.nodes.is_empty() && built {
            return Err(DockerError::NoNodes);
        }
        let lacks: Vec<(String, Lacks)> =
            listing.nodes.iter().map(|(node, known)| (node.clone(), lacks(known, &full, id))).collect();
        // Loads of several images go on side by side.
        drop(listing);
        let unnamed = lacks.iter().filter(|(_, lacks)| *lacks == Lacks::Name);
        try_join_all(unnamed.map(async |(node, _)| {
            let tag = ["ctr", "--namespace=k8s.io", "images", "tag", "--force", id, &full];
            engine.run(node, &tag).await
        }))
        .await?;
        let without: Vec<&str> =
            lacks.iter().filter(|(_, lacks)| *lacks == Lacks::Everything).map(|(node, _)| node.as_str()).collect();
        if without.is_empty() {
            return Ok(());
        }
        builds.told(name, &format!("loading into {}", without.join(", ")));
        engine.stream(name, &without).await
    }
}

fn lacks(known: &Known, name: &str, id: &str) -> Lacks {
    let leads_to = |name: &str| known.get(name);
    match (leads_to(name), leads_to(id)) {
        (Some(named), _) if named == id => Lacks::Nothing,
        (Some(named), Some(manifest)) if named == manifest => Lacks::Nothing,
        (_, Some(_)) => Lacks::Name,
        _ => Lacks::Everything,
    }
}

/// `ctr images list`: a line each, `REF TYPE DIGEST …`.
fn known(listed: &str) -> Known {
    let rows = listed.lines().skip(1).filter_map(|line| {
        let mut columns = line.split_whitespace();
        let (name, _kind, digest) = (columns.next()?, columns.next()?, columns.next()?);
        Some((name.to_owned(), digest.to_owned()))
    });
    rows.collect()
}

/// An image's name as containerd has it (kind, `pkg/cmd/kind/load/docker-image`, `sanitizeImage`).
fn normalized(image: &str) -> String {
    let mut name = image.to_owned();
    if !name.contains('/') {
        name = format!("library/{name}");
    }
    if let Some((first, _)) = name.split_once('/')
        && !first.contains(['.', ':'])
        && first != "localhost"
    {
        name = format!("docker.io/{name}");
    }
    let tagged = name.contains('@') || name.rsplit('/').next().is_some_and(|last| last.contains(':'));
    if tagged { name } else { format!("{name}:latest") }
}

fn owned(command: &[&str]) -> Vec<String> {
    command.iter().map(|&word| word.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_as_kind_has_them() {
        // kind's `Test_sanitizeImage`.
        for (image, full) in [
            ("ubuntu:18.04", "docker.io/library/ubuntu:18.04"),
            ("custom/ubuntu:18.04", "docker.io/custom/ubuntu:18.04"),
            ("registry.k8s.io/pause:3.6", "registry.k8s.io/pause:3.6"),
            ("baz", "docker.io/library/baz:latest"),
            ("localhost:5000/baz", "localhost:5000/baz:latest"),
            ("localhost:5000/baz:quux", "localhost:5000/baz:quux"),
        ] {
            assert_eq!(normalized(image), full);
        }
    }

    #[test]
    fn machines_are_a_clusters_by_their_names() {
        let which = Which::Machines("mode", "envctl-minikube-1".to_owned());
        let is_node = |name: &str| which.is_node(&HashMap::from([("mode".to_owned(), name.to_owned())]));
        assert!(is_node("envctl-minikube-1") && is_node("envctl-minikube-1-m02"));
        assert!(!is_node("envctl-minikube-1-m") && !is_node("envctl-minikube-1-2a") && !is_node("envctl-minikube-12"));
        assert!(!which.is_node(&HashMap::new()));
    }

    #[test]
    fn an_image_is_there_if_its_name_leads_to_its_id() {
        let listed = "REF TYPE DIGEST SIZE PLATFORMS LABELS\n\
                      docker.io/library/a:1 application/vnd.docker.distribution.manifest.v2+json sha256:m1 3.0 MiB linux/amd64 x\n\
                      sha256:c1 application/vnd.docker.distribution.manifest.v2+json sha256:m1 3.0 MiB linux/amd64 x\n\
                      docker.io/library/b:1 application/vnd.docker.distribution.manifest.v2+json sha256:m2 3.0 MiB linux/amd64 x\n";
        let known = known(listed);
        assert_eq!(lacks(&known, "docker.io/library/a:1", "sha256:c1"), Lacks::Nothing);
        assert_eq!(lacks(&known, "docker.io/library/a:1", "sha256:m1"), Lacks::Nothing, "containerd's own store");
        assert_eq!(lacks(&known, "docker.io/library/z:1", "sha256:c1"), Lacks::Name);
        assert_eq!(lacks(&known, "docker.io/library/b:1", "sha256:c1"), Lacks::Name, "the name is an older image's");
        assert_eq!(lacks(&known, "docker.io/library/a:1", "sha256:c9"), Lacks::Everything);
    }
}
