//! Images: what the engine has, and pulling what it lacks.
//!
//! Policies are upstream's (`pkg/kubelet/images/image_manager.go`, `shouldPullImage`).

use std::path::PathBuf;

use bollard::errors::Error;
use bollard::query_parameters::CreateImageOptionsBuilder;
use futures::StreamExt as _;

use super::super::image::{Image, Rootfs};
use super::super::runtime::{Pull, PullError, Pulled};
use super::{DockerRuntime, words};

impl DockerRuntime {
    pub(super) async fn find_image(&self, name: &str, pull: Pull) -> Result<Pulled, PullError> {
        if pull != Pull::Always
            && let Some(image) = self.inspect(name).await?
        {
            return Ok(Pulled { image, fresh: false });
        }
        if pull == Pull::Never {
            return Err(PullError::Absent);
        }
        let options = CreateImageOptionsBuilder::new().from_image(name);
        let options = if is_tagged(name) { options } else { options.tag("latest") };
        let mut pulling = self.docker.create_image(Some(options.build()), None, None);
        while let Some(step) = pulling.next().await {
            step.map_err(|error| PullError::Failed(words(error)))?;
        }
        let image = self.inspect(name).await?;
        let absent = || PullError::Failed(format!("the engine pulled {name:?} and doesn't have it"));
        Ok(Pulled { image: image.ok_or_else(absent)?, fresh: true })
    }

    async fn inspect(&self, name: &str) -> Result<Option<Image>, PullError> {
        let found = match self.docker.inspect_image(name).await {
            Ok(found) => found,
            Err(Error::DockerResponseServerError { status_code: 404, .. }) => return Ok(None),
            Err(error) => return Err(PullError::Failed(words(error))),
        };
        let config = found.config.unwrap_or_default();
        let pair = |variable: String| variable.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
        Ok(Some(Image {
            rootfs: Rootfs::Engine(found.id.unwrap_or_else(|| name.to_owned())),
            entrypoint: config.entrypoint.unwrap_or_default(),
            cmd: config.cmd.unwrap_or_default(),
            env: config.env.unwrap_or_default().into_iter().filter_map(pair).collect(),
            path: Vec::new(),
            working_dir: config.working_dir.filter(|path| !path.is_empty()).map(PathBuf::from),
            user: config.user.filter(|user| !user.is_empty()),
        }))
    }
}

/// Whether a name says which image of the repository: without a tag the engine would pull all of them.
fn is_tagged(name: &str) -> bool {
    name.rsplit('/').next().is_some_and(|last| last.contains([':', '@']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_no_tag() {
        assert!(is_tagged("postgres:17") && is_tagged("r.example:5000/a@sha256:00"));
        assert!(!is_tagged("postgres") && !is_tagged("r.example:5000/a"));
    }
}
