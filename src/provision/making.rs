//! The images of one `up`, being made runnable side by side. Begun before the cluster is there: it may take longer than they do.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use tokio::task::{JoinError, JoinSet};

use super::event::EventSink;
use super::failure::{Cause, Failure};
use crate::cluster::Provider;
use crate::cluster::refusal::chain;
use crate::images::docker::DockerError;
use crate::images::{Builds, ImageError};
use crate::plan::{Image, Plan};

/// How many builds run at once.
const AT_ONCE: usize = 2;

/// What became of one image, by its name.
pub type Made = (String, Result<(), ImageError>);

/// Images being made runnable. Dropped, they are abandoned.
#[derive(Debug, Default)]
pub struct Making {
    tasks: JoinSet<Made>,
    /// Done, and not handed out yet.
    done: VecDeque<Result<Made, JoinError>>,
}

impl Making {
    /// Begins with all images of a plan, those too that no node uses: programs inside the environment may deploy them. Build commands
    /// run with the variables `environment`.
    pub fn begin(
        plan: &Plan,
        environment: &BTreeMap<String, String>,
        provider: &Arc<dyn Provider>,
        events: &EventSink,
    ) -> Self {
        let began = Instant::now();
        let builds = Builds::new(&plan.project_root, environment.clone(), AT_ONCE, events.clone(), began);
        let builds = Arc::new(builds);
        let mut images: BTreeMap<&str, Option<&Image>> = plan.used_images();
        images.extend(plan.images.iter().map(|(name, image)| (name.as_str(), Some(image))));
        let mut tasks = JoinSet::new();
        for (name, image) in images {
            let (name, image) = (name.to_owned(), image.cloned());
            let (provider, builds) = (provider.clone(), builds.clone());
            tasks.spawn(async move {
                let made = provider.make_runnable(&name, image.as_ref(), &builds).await;
                (name, made)
            });
        }
        Self { tasks, done: VecDeque::new() }
    }

    /// The next that is done; `None` when all are.
    pub async fn next(&mut self) -> Option<Result<Made, JoinError>> {
        match self.done.pop_front() {
            Some(made) => Some(made),
            None => self.tasks.join_next().await,
        }
    }

    /// One that is done already.
    pub fn try_next(&mut self) -> Option<Result<Made, JoinError>> {
        self.done.pop_front().or_else(|| self.tasks.try_join_next())
    }

    /// Resolves when one could not be made, with which; pending for ever while none fails. [`Making::next`] tells of it all the same.
    pub async fn failed(&mut self) -> String {
        while let Some(made) = self.tasks.join_next().await {
            let failed = match &made {
                Ok((_, Ok(()))) => None,
                Ok((name, Err(_))) => Some(format!("image {name:?}")),
                Err(_) => Some("an image".to_owned()),
            };
            self.done.push_back(made);
            if let Some(failed) = failed {
                return failed;
            }
        }
        std::future::pending().await
    }

    /// What [`Making::failed`] found, as the end of this `up`.
    pub fn failure(&mut self, plan: &Plan) -> Box<Failure> {
        for made in self.done.drain(..) {
            match made {
                Ok((_, Ok(()))) => {}
                Ok((name, Err(error))) => return Box::new(failure(plan, &name, error)),
                Err(error) => {
                    return Box::new(Failure::new(
                        None,
                        Cause::Interrupted,
                        format!("a build ended abnormally: {error}"),
                    ));
                }
            }
        }
        Box::new(Failure::new(None, Cause::Interrupted, "nothing has failed"))
    }

    /// Whether all are done.
    pub fn is_done(&self) -> bool {
        self.tasks.is_empty() && self.done.is_empty()
    }

    /// Ends what still runs.
    pub async fn end(&mut self) {
        self.tasks.shutdown().await;
    }
}

/// An image that cannot be made runnable fails the first node that uses it.
pub fn failure(plan: &Plan, image: &str, error: ImageError) -> Failure {
    let user = plan.nodes.iter().find(|node| node.workload().is_some_and(|workload| workload.image == image));
    let (cause, message, hint) = match error {
        ImageError::Build(error) => {
            let message = format!("image {image:?} could not be built: {error}");
            let cause = Cause::BuildFailed {
                command: error.command,
                directory: error.directory.display().to_string(),
                code: error.code,
                output: error.output,
            };
            (cause, message, error.hint)
        }
        ImageError::Load { ref source, .. } => {
            let docker = source.downcast_ref::<DockerError>();
            let image = image.to_owned();
            let cause = match docker {
                Some(error) if error.is_silence() => Cause::EngineUnavailable,
                Some(DockerError::NotPushed { .. }) => Cause::ImageNotPushed { image },
                _ => Cause::ImageNotLoaded { image },
            };
            (cause, chain(&error), docker.and_then(DockerError::cure))
        }
    };
    let mut failure = Failure::new(user.map(|node| node.id.clone()), cause, message);
    failure.hint = hint.map(str::to_owned);
    failure
}
