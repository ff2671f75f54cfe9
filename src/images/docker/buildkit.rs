//! Builds by the BuildKit that a Docker engine has inside: `POST /build?version=2`, and beside it a session, over which the engine asks for
//! credentials when a step needs them. The context goes with the request, as the classic builder's does.
//!
//! bollard answers the session from a task that it starts and leaves alone, until the engine closes the connection; which the engine never does
//! (moby/buildkit, `session/manager.go`: `handleConn` waits for the client to go). So each build has a runtime and a connection of its own, on a thread
//! that ends with it: what was started in there, and what the engine does for it, ends with the build or with whoever waits for it.

use std::collections::{BTreeMap, HashMap};
use std::io;

use bollard::moby::buildkit::v1::StatusResponse;
use bollard::models::{BuildInfo, BuildInfoAux};
use bollard::query_parameters::BuilderVersion;
use futures::StreamExt as _;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::builder::{Order, Outcome, Tail, complaint};
use super::{DockerError, Engine, config};

/// Docker's own variable for which builder is used.
const VARIABLE: &str = "DOCKER_BUILDKIT";
/// Since when a session needs no experimental engine (moby, `docs/api/version-history.md`).
const SINCE: (usize, usize) = (1, 39);
/// How many messages may wait to be told.
const WAITING: usize = 64;

/// Whether the caller leaves it to BuildKit: unless [`VARIABLE`] says no (docker/cli, `cli/command/cli.go`: `BuildKitEnabled`).
///
/// # Errors
/// When the variable is set, but is no boolean of Go's.
pub fn is_wanted(variables: &BTreeMap<String, String>) -> Result<bool, DockerError> {
    match variables.get(VARIABLE).map_or("", String::as_str) {
        "" | "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        other => Err(DockerError::Variable { name: VARIABLE, value: other.to_owned() }),
    }
}

/// Whether the engine has it. The `Builder-Version` that it answers to a ping is what it prefers, mostly nothing (moby 20.10,
/// `api/server/router/build/build.go`); docker's CLI asks no more than whether the engine is one of Linux. Others that speak Docker's API, as Podman,
/// have no sessions: what calls itself `Engine` is Docker's (moby, `daemon/info.go`).
///
/// # Errors
/// When it doesn't answer.
pub async fn is_offered(engine: &Engine) -> Result<bool, DockerError> {
    let version = engine.docker.version().await.map_err(DockerError::request("asking the engine for its version"))?;
    let spoken = engine.docker.client_version();
    let is_docker = version.components.iter().flatten().any(|component| component.name == "Engine");
    let is_linux = version.os.as_deref() == Some("linux");
    Ok(is_docker && is_linux && (spoken.major_version, spoken.minor_version) >= SINCE)
}

/// Builds. The names of BuildKit's vertexes are the steps.
///
/// # Errors
/// When the engine doesn't answer, or in no way that can be understood.
pub async fn build(
    variables: &BTreeMap<String, String>,
    order: Order,
    told: impl Fn(&str),
) -> Result<Outcome, DockerError> {
    let name = order.name.clone();
    let (said, mut heard) = mpsc::channel(WAITING);
    let variables = variables.clone();
    let listening = tokio::task::spawn_blocking(move || listen(&variables, order, said));
    let mut steps = Steps::default();
    let mut outcome = Ok(Outcome::Built);
    while let Some(next) = heard.recv().await {
        match next {
            Ok(info) => {
                if let Some(BuildInfoAux::BuildKit(status)) = info.aux {
                    steps.take(status, &told);
                }
            }
            Err(error) => {
                outcome = complaint(&name, error).map(|message| steps.failed(message));
                break;
            }
        }
    }
    // The thread ends when nobody listens.
    drop(heard);
    let ended = listening.await.unwrap_or_else(|panic| Err(thread(io::Error::other(panic))));
    ended.and(outcome)
}

fn thread(source: io::Error) -> DockerError {
    DockerError::File { what: "starting a thread for BuildKit".to_owned(), source }
}

/// Hands over what the engine says until the build has ended, or nobody hears it.
fn listen(
    variables: &BTreeMap<String, String>,
    order: Order,
    said: mpsc::Sender<Result<BuildInfo, bollard::errors::Error>>,
) -> Result<(), DockerError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(thread)?;
    runtime.block_on(async {
        let Order { mut options, credentials, archive, .. } = order;
        options.version = BuilderVersion::BuilderBuildKit;
        options.session = Some(Uuid::new_v4().to_string());
        let talk = async {
            let engine = Engine::connect(variables).await?;
            let body = bollard::body_try_stream(archive);
            let mut stream = engine.docker.build_image(options, Some(config::by_host(credentials)), Some(body)).boxed();
            while let Some(info) = stream.next().await {
                if said.send(info).await.is_err() {
                    break;
                }
            }
            Ok(())
        };
        tokio::select! {
            ended = talk => ended,
            () = said.closed() => Ok(()),
        }
    })
}

/// One step of a build.
#[derive(Default)]
struct Step {
    name: String,
    has_begun: bool,
    lines: Tail,
    /// The line of each of its outputs that hasn't ended yet.
    unfinished: BTreeMap<i64, Vec<u8>>,
}

/// What BuildKit has said of its vertexes, by their digests.
#[derive(Default)]
struct Steps {
    known: HashMap<String, Step>,
    /// The first that failed by itself.
    failed: Option<String>,
}

impl Steps {
    fn take(&mut self, status: StatusResponse, told: impl Fn(&str)) {
        for vertex in status.vertexes {
            let step = self.known.entry(vertex.digest.clone()).or_default();
            if !step.has_begun && (vertex.started.is_some() || vertex.cached) {
                step.has_begun = true;
                told(&vertex.name);
            }
            step.name = vertex.name;
            // Those beside it are cancelled then (moby/buildkit, `util/progress/progressui/printer.go`).
            if !vertex.error.is_empty() && !vertex.error.ends_with("context canceled") {
                self.failed.get_or_insert(vertex.digest);
            }
        }
        for log in status.logs {
            let step = self.known.entry(log.vertex).or_default();
            let unfinished = step.unfinished.entry(log.stream).or_default();
            unfinished.extend(log.msg);
            while let Some(end) = unfinished.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = unfinished.drain(..=end).collect();
                step.lines.push(text(&line));
            }
        }
    }

    /// The end of a build: with the step that failed, and its last lines.
    fn failed(mut self, message: String) -> Outcome {
        let step = self.failed.and_then(|digest| self.known.remove(&digest)).unwrap_or_default();
        let unfinished = step.unfinished.values().map(|line| text(line));
        Outcome::failed(message, [step.name].into_iter().chain(step.lines).chain(unfinished))
    }
}

fn text(line: &[u8]) -> String {
    String::from_utf8_lossy(line).trim_end().to_owned()
}
