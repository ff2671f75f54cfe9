//! The images of one `up`, being made runnable side by side. Begun before the cluster is there: it may take longer than they do.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use tokio::task::{JoinError, JoinSet};

use super::event::EventSink;
use crate::cluster::Provider;
use crate::images::{Builds, ImageError};
use crate::plan::{Image, Plan};

/// How many builds run at once.
const AT_ONCE: usize = 2;

/// What became of one image, by its name.
pub type Made = (String, Result<(), ImageError>);

/// Images being made runnable. Dropped, they are abandoned.
#[derive(Debug, Default)]
pub struct Making(JoinSet<Made>);

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
        Self(tasks)
    }

    /// The next that is done; `None` when all are.
    pub async fn next(&mut self) -> Option<Result<Made, JoinError>> {
        self.0.join_next().await
    }

    /// Whether all are done.
    pub fn is_done(&self) -> bool {
        self.0.is_empty()
    }

    /// Ends what still runs.
    pub async fn end(&mut self) {
        self.0.shutdown().await;
    }
}
