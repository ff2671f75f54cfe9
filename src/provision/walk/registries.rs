//! The user's credentials for registries: in the namespace before anything is there that could be pulled with them.

use super::super::failure::Failure;
use super::super::node::BACKGROUND;
use super::{Done, Walk};
use crate::cluster::apply::{Applied, ApplyError};
use crate::images::docker::{self, DockerError};
use crate::objects;

/// How the Secret with them is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Registries {
    /// To be written, anew by each `up`: who logs in again has others.
    Due,
    InFlight,
    /// There, or gone, or not asked for.
    Settled,
}

/// The Secret, if there is one now, and what the API warned of.
pub(super) type Written = (Option<Applied>, Vec<String>);

/// Why they could not be written.
pub(super) enum RegistriesError {
    Login(DockerError),
    Apply(ApplyError),
}

impl Walk<'_> {
    /// Writes them as soon as there is a namespace; what a file no longer asks for is taken away.
    pub(super) fn open_registries(&mut self) {
        if self.registries != Registries::Due || self.held.namespace.is_none() {
            return;
        }
        self.registries = Registries::InFlight;
        let images: Vec<String> = self.around.plan.needs_pull_secret().map(str::to_owned).collect();
        let (plan, context) = (self.around.plan.clone(), self.context.clone());
        let (applier, variables) = (self.applier.clone(), self.around.options.environment.clone());
        let before = self.held.registries.clone();
        self.actions.spawn(async move {
            let written = async {
                let configuration = match images.as_slice() {
                    [] => None,
                    images => Some(docker::pull_secret(images, &variables).await.map_err(RegistriesError::Login)?),
                };
                let (mut secret, mut warnings) = (None, Vec::new());
                for object in objects::registries(&plan, &context, configuration.as_ref()) {
                    let mut applied = applier.apply(&object).await.map_err(RegistriesError::Apply)?;
                    warnings.append(&mut applied.warnings);
                    if applied.key.kind == "Secret" {
                        secret = Some(applied);
                    }
                }
                if let (None, Some(before)) = (&secret, before) {
                    let gone = applier.delete(&before.kind, &before.key, &before.expected.uid, BACKGROUND).await;
                    gone.map_err(RegistriesError::Apply)?;
                }
                Ok((secret, warnings))
            };
            Done::Registries(written.await)
        });
    }

    pub(super) fn opened(&mut self, written: Result<Written, RegistriesError>) -> Result<(), Box<Failure>> {
        match written {
            Ok((secret, warnings)) => {
                *self.held.registries = secret;
                self.warn(None, warnings);
            }
            Err(RegistriesError::Apply(error)) => return Err(self.refused(None, &error)),
            Err(RegistriesError::Login(error)) => return Err(self.not_opened(error)),
        }
        self.registries = Registries::Settled;
        Ok(())
    }
}
