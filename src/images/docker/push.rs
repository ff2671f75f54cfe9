//! Pushes what was built to the registry that its name says, with the user's Docker credentials.
//!
//! It is pushed on every `up`: the engine asks the registry for each layer and sends those that it lacks, so that an image that is there
//! already costs a few small requests, and nothing has to be believed that was true last time. What pods then get is the digest of the manifest
//! that the registry took, as Skaffold does it (`pkg/skaffold/docker/image.go`, `Push`): a tag may lead a node to something older.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::time::Instant;

use bollard::errors::Error;
use bollard::query_parameters::PushImageOptionsBuilder;
use futures::StreamExt as _;

use super::{DockerError, Engine, Images, config};
use crate::images::ImageError;
use crate::images::build::Builds;
use crate::plan;

/// What a registry was told of the user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Login {
    /// Nothing: the Docker configuration has nothing for it.
    None,
    /// What the Docker configuration has for it.
    Given,
}

impl Login {
    /// What the user can do about a refusal with these words, if they are about who asks.
    pub(super) fn cure(self, said: &str) -> Option<&'static str> {
        // Registries' (OCI distribution spec, "Error Codes") and the engine's own.
        let words = ["unauthorized", "denied", "no basic auth credentials", "authentication required", "forbidden"];
        let said = said.to_ascii_lowercase();
        words.iter().any(|word| said.contains(word)).then_some(match self {
            Self::None => "your Docker configuration has no credentials for that registry: `docker login` there",
            Self::Given => {
                "your Docker configuration's credentials for that registry don't let you push this image: `docker login` there as \
                 someone who may, or give the image another name"
            }
        })
    }
}

/// The repository that an image's name leads to, and the tag in it (distribution/reference, `normalize.go`, `TagNameOnly`).
fn parts(name: &str) -> (&str, &str) {
    match name.rsplit_once(':') {
        // A colon before a slash is a registry's port.
        Some((repository, tag)) if !tag.contains('/') => (repository, tag),
        _ => (name, "latest"),
    }
}

/// The digest in what the engine says last of a push, `TAG: digest: sha256:… size: N` (moby, `distribution/push_v2.go`; its containerd
/// store and Podman say the same).
fn digest(status: &str) -> Option<&str> {
    let (_tag, said) = status.split_once(": digest: ")?;
    // Podman leaves out one that it doesn't know.
    said.split(' ').next().filter(|digest| digest.contains(':'))
}

impl Engine {
    /// Pushes an image under its name; returns the reference that leads to exactly what was pushed.
    async fn push(
        &self,
        name: &str,
        builds: &Builds,
        variables: &BTreeMap<String, String>,
    ) -> Result<String, DockerError> {
        let began = Instant::now();
        let host = config::registry(name);
        let registry = host.trim_start_matches("https://").split('/').next().unwrap_or(&host).to_owned();
        let credentials = config::credentials(&host, variables).await?;
        let login = if credentials.is_some() { Login::Given } else { Login::None };
        let refused =
            |said: &str| DockerError::NotPushed { registry: registry.clone(), said: said.trim().to_owned(), login };
        let (repository, tag) = parts(name);
        let options = PushImageOptionsBuilder::new().tag(tag).build();
        builds.told(name, &format!("pushing to {registry}"));
        let mut said = self.docker.push_image(repository, Some(options), credentials).boxed();
        let (mut pushed, mut layers) = (None, 0);
        while let Some(info) = said.next().await {
            let info = info.map_err(|error| match error {
                Error::DockerStreamError { error } => refused(&error),
                Error::DockerResponseServerError { message, .. } => refused(&message),
                error => DockerError::request(format!("pushing image {name}"))(error),
            })?;
            let status = info.status.unwrap_or_default();
            if status == "Pushed" {
                layers += 1;
                builds.told(name, &format!("pushing to {registry}: layers sent: {layers}"));
            }
            pushed = digest(&status).map(str::to_owned).or(pushed);
        }
        let digest = pushed.ok_or_else(|| refused("the engine did not say the digest of what it pushed"))?;
        let reference = format!("{repository}@{digest}");
        builds.told(name, &format!("pushed in {:.1} s: {reference}", began.elapsed().as_secs_f32()));
        Ok(reference)
    }
}

impl Images {
    /// Builds an image and pushes it under its name.
    ///
    /// # Errors
    /// When the build fails, or the engine or the registry refuses.
    pub async fn push(&self, name: &str, recipe: &plan::DockerImage, builds: &Builds) -> Result<(), ImageError> {
        let failed = |source: DockerError| ImageError::Load { image: name.to_owned(), source: Box::new(source) };
        let engine = self.engine().await.map_err(failed)?;
        engine.build(name, recipe, builds, &self.variables, &self.memory).await?;
        let reference = engine.push(name, builds, &self.variables).await.map_err(failed)?;
        self.pushed.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), reference);
        Ok(())
    }

    /// The reference to what was pushed last by this name.
    pub fn pushed(&self, name: &str) -> Option<String> {
        self.pushed.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_repository_and_a_tag() {
        assert_eq!(parts("team/api"), ("team/api", "latest"));
        assert_eq!(parts("team/api:dev"), ("team/api", "dev"));
        assert_eq!(parts("127.0.0.1:5000/team/api"), ("127.0.0.1:5000/team/api", "latest"));
        assert_eq!(parts("127.0.0.1:5000/team/api:dev"), ("127.0.0.1:5000/team/api", "dev"));
    }

    #[test]
    fn the_digest_is_in_the_last_words() {
        assert_eq!(digest("dev: digest: sha256:0a1b size: 528"), Some("sha256:0a1b"));
        assert_eq!(digest("Layer already exists"), None);
        assert_eq!(digest("dev: digest:  size: 528"), None);
    }

    #[test]
    fn only_a_refusal_of_the_user_is_cured_by_another() {
        let denied = "denied: requested access to the resource is denied";
        assert!(Login::None.cure(denied).is_some_and(|cure| cure.contains("has no credentials")));
        assert!(Login::Given.cure(denied).is_some_and(|cure| cure.contains("someone who may")));
        assert_eq!(Login::Given.cure("dial tcp 127.0.0.1:1: connect: connection refused"), None);
    }
}
