//! Images in a Docker engine: built there, and loaded from there into the nodes of kind and minikube, or pushed for those of a context.
//!
//! - [`Engine`] is the connection: by the caller's `DOCKER_HOST`, else Docker's current context, else the usual socket.
//! - `config` reads the user's Docker configuration: that context, and credentials of registries.
//! - `context` turns a directory into a build context, without what `.dockerignore` says.
//! - `build` builds, by the `builder` that the engine and the caller's variables leave (`buildkit`: with the feature of that name).
//! - `nodes` says what nodes have and loads what they lack; `push` pushes; [`Images`] is all of it, for a provider.
//!
//! Nothing secret is kept or shown: credentials are read for one request and dropped with it (the Secret that nodes pull with is the session's, by
//! `imagePullSecret`).

mod build;
mod builder;
#[cfg(feature = "buildkit")]
mod buildkit;
mod config;
mod context;
mod ignore;
mod nodes;
mod push;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use bollard::{API_DEFAULT_VERSION, Docker};
use tokio::sync::{OnceCell, watch};

use super::ImageError;
use super::build::Builds;
use crate::plan;
use build::Memory;
pub use config::{address as engine_address, pull_secret};
pub use nodes::{Node, Selector, Which};
pub use push::Login;

/// How long the engine may take to begin an answer, in seconds.
const PATIENCE: u64 = 600;

/// Whether something listens where the engine should be: only asked of an engine on this machine, so that it costs no time.
pub fn engine_listens(variables: &BTreeMap<String, String>) -> bool {
    let address = config::address(variables);
    let socket = address.as_ref().ok().and_then(|address| address.strip_prefix("unix://"));
    socket.is_some_and(|socket| std::os::unix::net::UnixStream::connect(socket).is_ok())
}

/// Why an image could not be built or loaded.
#[derive(Debug, thiserror::Error)]
pub enum DockerError {
    /// Nothing answers where the engine should be.
    #[error("no Docker engine answers at {address}: {source}")]
    NoEngine {
        /// Where.
        address: String,
        /// Why.
        source: bollard::errors::Error,
    },
    /// The engine is said to be at an address that this program cannot speak to.
    #[error("the Docker engine at {address} cannot be used: {why}")]
    Address {
        /// Where.
        address: String,
        /// Why.
        why: &'static str,
    },
    /// A request failed.
    #[error("{attempt}: {source}")]
    Request {
        /// What was being attempted.
        attempt: String,
        /// The engine's answer.
        source: bollard::errors::Error,
    },
    /// A file that is needed cannot be read.
    #[error("{what}: {source}")]
    File {
        /// Which, and what for.
        what: String,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// The Docker configuration is no configuration.
    #[error("{file} cannot be understood: {source}")]
    Config {
        /// Which.
        file: String,
        /// Why.
        source: serde_json::Error,
    },
    /// A variable of the caller's says nothing.
    #[cfg(feature = "buildkit")]
    #[error("{name}={value} is no boolean: set it to 0 or 1")]
    Variable {
        /// Its name.
        name: &'static str,
        /// What it is set to.
        value: String,
    },
    /// What was built is of no use where it is.
    #[error(
        "the cluster's nodes are no containers of this Docker engine: what is built there cannot be loaded into them"
    )]
    NoNodes,
    /// A registry refused an image, or could not be reached.
    #[error("pushing it to {registry} failed: {said}")]
    NotPushed {
        /// Which registry.
        registry: String,
        /// Its words, or the engine's.
        said: String,
        /// What it was told of the user.
        login: Login,
    },
    /// The user has nothing that nodes could pull with.
    #[error(
        "your Docker configuration has {} for {registry}: there is nothing for `imagePullSecret` of {image:?}",
        if *token { "a token that Kubernetes cannot use" } else { "no credentials" }
    )]
    NoLogin {
        /// Which of its images.
        image: String,
        /// Whose.
        registry: String,
        /// Whether there is an identity token, which a kubelet doesn't know.
        token: bool,
    },
    /// A program in a node failed.
    #[error("`{command}` in node {node} failed: {said}")]
    InNode {
        /// The node's container.
        node: String,
        /// As it would be typed.
        command: String,
        /// The last it said.
        said: String,
    },
}

impl DockerError {
    /// Whether the engine gave no answer, or none can be had of it.
    pub fn is_silence(&self) -> bool {
        use bollard::errors::Error;
        match self {
            Self::NoEngine { .. } | Self::Address { .. } => true,
            Self::Request { source, .. } => matches!(
                source,
                Error::HyperLegacyError { .. }
                    | Error::HyperResponseError { .. }
                    | Error::IOError { .. }
                    | Error::RequestTimeoutError
                    | Error::SocketNotFoundError(_)
            ),
            _ => false,
        }
    }

    /// What the user can do about it.
    pub fn cure(&self) -> Option<&'static str> {
        match self {
            Self::NoEngine { .. } | Self::Request { .. } if self.is_silence() => Some(
                "start Docker (https://docs.docker.com/engine/install/), set DOCKER_HOST to where it is, or use `cluster: embedded`, \
                 which needs none",
            ),
            Self::NoNodes => {
                Some("use minikube's docker driver (MINIKUBE_DRIVER=docker), or push the image where nodes can pull it")
            }
            Self::Address { .. } => Some("set DOCKER_HOST to a unix:// or tcp:// address"),
            // The kernel's words, which every program passes on.
            Self::InNode { said, .. } if said.contains("no space left on device") => Some(
                "make room where the Docker engine keeps its data, which is the nodes' disk too: `docker system df` says what takes it, \
                 `docker system prune` removes what nothing uses",
            ),
            Self::NotPushed { said, login, .. } => login.cure(said),
            Self::NoLogin { .. } => {
                Some("`docker login` there with a user name and a password, or an access token in its place")
            }
            _ => None,
        }
    }

    fn request(attempt: impl Into<String>) -> impl FnOnce(bollard::errors::Error) -> Self {
        let attempt = attempt.into();
        move |source| Self::Request { attempt, source }
    }
}

/// A Docker engine that answers.
pub struct Engine {
    docker: Docker,
}

impl Engine {
    /// Connects, by the caller's variables. One request, by which client and engine agree on a version of the API.
    ///
    /// # Errors
    /// When nothing answers, or the address is of a kind that isn't supported.
    pub async fn connect(variables: &BTreeMap<String, String>) -> Result<Self, DockerError> {
        let address = config::address(variables)?;
        let refused = |why| Err(DockerError::Address { address: address.clone(), why });
        let connected = if address.starts_with("unix://") {
            Docker::connect_with_unix(&address, PATIENCE, API_DEFAULT_VERSION)
        } else if variables.get("DOCKER_TLS_VERIFY").is_some_and(|set| !set.is_empty()) {
            return refused("TLS to the engine is not supported");
        } else if address.starts_with("tcp://") || address.starts_with("http://") {
            Docker::connect_with_http(&address, PATIENCE, API_DEFAULT_VERSION)
        } else {
            return refused("only unix:// and tcp:// are supported");
        };
        let absent = |source| DockerError::NoEngine { address: address.clone(), source };
        let docker = connected.map_err(absent)?.negotiate_version().await.map_err(absent)?;
        Ok(Self { docker })
    }

    /// The engine's own version.
    ///
    /// # Errors
    /// When it doesn't answer.
    pub async fn version(&self) -> Result<Option<String>, DockerError> {
        let version = self.docker.version().await.map_err(DockerError::request("asking for its version"))?;
        Ok(version.version)
    }

    /// The id of an image by its name; `None` where the engine has none of that name.
    ///
    /// # Errors
    /// When the engine refuses.
    pub async fn image_id(&self, name: &str) -> Result<Option<String>, DockerError> {
        match self.docker.inspect_image(name).await {
            Ok(image) => Ok(image.id),
            Err(bollard::errors::Error::DockerResponseServerError { status_code: 404, .. }) => Ok(None),
            Err(error) => Err(DockerError::request(format!("looking up image {name}"))(error)),
        }
    }
}

/// How far the nodes are that images are loaded into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Nodes {
    /// They may not be there yet.
    Absent,
    /// They run, and their tool is still at work on them.
    Running,
    /// The cluster is there.
    Ready,
}

/// The images of one session, by a Docker engine: for nodes that are its containers, for itself to run, or for a registry.
pub struct Images {
    variables: BTreeMap<String, String>,
    /// `None`: they are loaded nowhere.
    selector: Option<Selector>,
    nodes: watch::Sender<Nodes>,
    memory: Memory,
    engine: OnceCell<Engine>,
    listing: tokio::sync::Mutex<nodes::Listing>,
    /// What the engine has of the images that were asked for, by name: its id.
    ids: Mutex<BTreeMap<String, String>>,
    /// What was pushed last by each name: the reference that leads to it.
    pushed: Mutex<BTreeMap<String, String>>,
}

impl Images {
    /// Nothing is asked yet. `state` is the state directory, where it is remembered what was built.
    pub fn new(variables: BTreeMap<String, String>, selector: Selector, state: &Path) -> Self {
        Self { selector: Some(selector), ..Self::of_engine(variables, state) }
    }

    /// The same for images that the engine runs itself, or only builds and pushes: they are loaded nowhere.
    pub fn of_engine(variables: BTreeMap<String, String>, state: &Path) -> Self {
        Self {
            selector: None,
            nodes: watch::Sender::new(Nodes::Absent),
            memory: Memory::new(state.join("images")),
            variables,
            engine: OnceCell::new(),
            listing: tokio::sync::Mutex::default(),
            ids: Mutex::default(),
            pushed: Mutex::default(),
        }
    }

    /// The engine, connected to once.
    ///
    /// # Errors
    /// As [`Engine::connect`].
    pub async fn engine(&self) -> Result<&Engine, DockerError> {
        self.engine.get_or_try_init(|| Engine::connect(&self.variables)).await
    }

    /// Whether something listens where the engine should be, on this machine.
    pub fn engine_listens(&self) -> bool {
        engine_listens(&self.variables)
    }

    /// The containers that are the cluster's nodes.
    ///
    /// # Errors
    /// When the engine doesn't answer.
    pub async fn nodes(&self) -> Result<Vec<Node>, DockerError> {
        match &self.selector {
            Some(selector) => self.engine().await?.nodes(selector).await,
            None => Ok(Vec::new()),
        }
    }

    /// How far the nodes are by now.
    pub fn nodes_are(&self, nodes: Nodes) {
        self.nodes.send_replace(nodes);
    }

    /// Resolves when the nodes are as far as that.
    async fn nodes_to_be(&self, nodes: Nodes) {
        // The sender is this one's own.
        _ = self.nodes.subscribe().wait_for(|now| *now >= nodes).await;
    }

    /// Builds an image where the file says how, and loads what the engine has into the nodes that lack it. What the engine doesn't have
    /// is the nodes' to pull, unless only the user's Docker credentials open its registry.
    ///
    /// # Errors
    /// When the build fails, or the engine or a node refuses.
    pub async fn make_runnable(
        &self,
        name: &str,
        image: Option<&plan::Image>,
        builds: &Builds,
    ) -> Result<(), ImageError> {
        let failed = |source: DockerError| ImageError::Load { image: name.to_owned(), source: Box::new(source) };
        let engine = self.engine().await.map_err(failed)?;
        if self.selector.is_none() {
            let id = self.id(engine, name, image, builds).await?;
            self.remember(name, id);
            return Ok(());
        }
        // What nodes have is asked while it is looked what there should be: where nothing is to be done, neither waits for the other.
        // Who loads asks again if that failed.
        let listing = async {
            self.nodes_to_be(Nodes::Running).await;
            drop(self.listing(engine, builds).await);
            Ok(())
        };
        let (id, ()) = tokio::try_join!(self.id(engine, name, image, builds), listing)?;
        if let Some(id) = &id {
            let built = image.is_some_and(|image| image.docker.is_some());
            self.load(engine, (name, id), built, builds).await.map_err(failed)?;
        }
        self.remember(name, id);
        Ok(())
    }

    /// The id of an image in the engine, built or pulled where it has to be; `None` where the engine cannot have it.
    async fn id(
        &self,
        engine: &Engine,
        name: &str,
        image: Option<&plan::Image>,
        builds: &Builds,
    ) -> Result<Option<String>, ImageError> {
        let failed = |source: DockerError| ImageError::Load { image: name.to_owned(), source: Box::new(source) };
        let Some(recipe) = image.and_then(|image| image.docker.as_ref()) else {
            return match engine.image_id(name).await.map_err(failed)? {
                Some(id) => Ok(Some(id)),
                None => self.pull(engine, name, builds).await.map_err(failed),
            };
        };
        engine.build(name, recipe, builds, &self.variables, &self.memory).await.map(Some)
    }

    /// Pulls an image that the engine doesn't have, with what the user has for its registry.
    async fn pull(&self, engine: &Engine, name: &str, builds: &Builds) -> Result<Option<String>, DockerError> {
        let credentials = config::credentials(&config::registry(name), &self.variables).await?;
        match (credentials, &self.selector) {
            (Some(credentials), _) => engine.pull(name, Some(credentials), builds).await,
            // The engine is what runs it: pulled by the kubelet, it would be a difference to the next `up`.
            (None, None) => match engine.pull(name, None, builds).await {
                Ok(id) => Ok(id),
                // The kubelet tries again, and tells why in Kubernetes' words.
                Err(_refused) => Ok(None),
            },
            // A node can pull whatever this engine could.
            (None, Some(_)) => Ok(None),
        }
    }

    /// What the engine has lost meanwhile is still where pods run.
    fn remember(&self, name: &str, id: Option<String>) {
        let Some(id) = id else { return };
        self.ids.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), id);
    }

    /// The id of an image that was put where pods run, by its name; `None`: it is for the nodes to pull.
    pub fn digest(&self, name: &str) -> Option<String> {
        let ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        // Enough to tell, short enough for an annotation that people read.
        Some(ids.get(name)?.trim_start_matches("sha256:").chars().take(20).collect())
    }
}
