//! Which of an engine's two builders builds an image, and what the classic one says; `buildkit` is the other, where it is compiled in.
//!
//! Each takes an [`Order`], tells its steps as they begin, and ends with an [`Outcome`]: `build` makes of it what users see.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;

use bollard::auth::DockerCredentials;
use bollard::errors::Error;
use bollard::query_parameters::BuildImageOptions;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;

use super::{DockerError, Engine};
use crate::images::build::KEPT_LINES;

/// What is to be built.
pub struct Order {
    /// The image's name, for errors.
    pub name: String,
    /// All that doesn't depend on the builder.
    pub options: BuildImageOptions,
    /// Of all registries that the user has some for, by the configuration's names of them.
    pub credentials: HashMap<String, DockerCredentials>,
    /// The context.
    pub archive: BoxStream<'static, io::Result<Bytes>>,
}

/// How a build ended.
#[derive(Debug)]
pub enum Outcome {
    /// The image is there.
    Built,
    /// The recipe, or one of its steps, failed.
    Failed {
        /// Why, in the engine's words.
        message: String,
        /// The last lines that say more.
        lines: Vec<String>,
    },
}

impl Outcome {
    /// Failed, after these lines.
    pub fn failed(message: String, lines: impl IntoIterator<Item = String>) -> Self {
        Self::Failed { message, lines: lines.into_iter().filter(|line| !line.trim().is_empty()).collect() }
    }
}

/// Who builds, and what it is reached by.
pub enum Builder<'a> {
    /// What every engine has.
    Classic(&'a Engine),
    /// The engine's own BuildKit, by a connection of its own.
    #[cfg(feature = "buildkit")]
    BuildKit(&'a BTreeMap<String, String>),
}

impl<'a> Builder<'a> {
    /// BuildKit where it is compiled in, the caller's variables don't say otherwise and the engine has it.
    ///
    /// # Errors
    /// When a variable has no meaning, or the engine doesn't answer.
    #[cfg(feature = "buildkit")]
    pub async fn chosen(engine: &'a Engine, variables: &'a BTreeMap<String, String>) -> Result<Self, DockerError> {
        let wanted = super::buildkit::is_wanted(variables)? && super::buildkit::is_offered(engine).await?;
        Ok(if wanted { Self::BuildKit(variables) } else { Self::Classic(engine) })
    }

    /// Only one is compiled in.
    ///
    /// # Errors
    /// None.
    #[cfg(not(feature = "buildkit"))]
    pub async fn chosen(engine: &'a Engine, _variables: &'a BTreeMap<String, String>) -> Result<Self, DockerError> {
        Ok(Self::Classic(engine))
    }

    /// Builds, and tells each step's name as it begins.
    ///
    /// # Errors
    /// When the engine doesn't answer, or in no way that can be understood.
    pub async fn build(self, order: Order, told: impl Fn(&str)) -> Result<Outcome, DockerError> {
        match self {
            Self::Classic(engine) => classically(engine, order, told).await,
            #[cfg(feature = "buildkit")]
            Self::BuildKit(variables) => super::buildkit::build(variables, order, told).await,
        }
    }
}

async fn classically(engine: &Engine, order: Order, told: impl Fn(&str)) -> Result<Outcome, DockerError> {
    let Order { name, options, credentials, archive } = order;
    let body = bollard::body_try_stream(archive);
    let mut last = Tail::default();
    let mut said = engine.docker.build_image(options, Some(credentials), Some(body)).boxed();
    while let Some(next) = said.next().await {
        let info = match next {
            Ok(info) => info,
            Err(error) => return complaint(&name, error).map(|message| Outcome::failed(message, last)),
        };
        for line in info.stream.iter().chain(&info.status).flat_map(|text| text.lines()) {
            if line.starts_with("Step ") {
                told(line);
            }
            last.push(line.to_owned());
        }
    }
    Ok(Outcome::Built)
}

/// What the engine complains of.
///
/// # Errors
/// What is no complaint of the engine's.
pub fn complaint(name: &str, error: Error) -> Result<String, DockerError> {
    match error {
        Error::DockerStreamError { error } => Ok(error),
        Error::DockerResponseServerError { message, .. } => Ok(message),
        error => Err(DockerError::request(format!("building image {name}"))(error)),
    }
}

/// What helps where the classic builder refuses what only BuildKit can: "the --mount option requires BuildKit" (moby,
/// `builder/dockerfile/dispatchers.go`).
pub fn hint(message: &str) -> Option<&'static str> {
    message.contains("requires BuildKit").then_some(if cfg!(feature = "buildkit") {
        "unset DOCKER_BUILDKIT, if it is set; else this engine has no BuildKit"
    } else {
        "build envctl with `--features buildkit`; or build the image with a command of your own and leave `docker:` out: what the engine has \
         is used"
    })
}

/// The last lines of what a builder or a step of it said.
#[derive(Debug, Default)]
pub struct Tail(VecDeque<String>);

impl Tail {
    /// One more line.
    pub fn push(&mut self, line: String) {
        if self.0.len() == KEPT_LINES {
            self.0.pop_front();
        }
        self.0.push_back(line);
    }
}

impl IntoIterator for Tail {
    type Item = String;
    type IntoIter = std::collections::vec_deque::IntoIter<String>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}
