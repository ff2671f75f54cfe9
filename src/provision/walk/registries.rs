//! The user's credentials for registries: in the namespace before anything is there that could be pulled with them.

use super::super::failure::Failure;
use super::{Done, Walk};
use crate::cluster::apply::ApplyError;
use crate::images::docker::DockerError;
use crate::objects;

/// How the Secret with them is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Registries {
    /// To be written, anew by each `up`: who logs in again has others.
    Due,
    InFlight,
    /// There, or not asked for.
    Settled,
}

/// Why they could not be written.
pub(super) enum RegistriesError {
    Login(DockerError),
    Apply(ApplyError),
}

impl Walk<'_> {
    /// Writes them as soon as there is a namespace.
    pub(super) fn open_registries(&mut self) {
        if self.registries != Registries::Due || self.held.namespace.is_none() {
            return;
        }
        self.registries = Registries::InFlight;
        let images: Vec<String> = self.around.plan.needs_pull_secret().map(str::to_owned).collect();
        let (plan, context) = (self.around.plan.clone(), self.context.clone());
        let (applier, provider) = (self.applier.clone(), self.around.provider.clone());
        self.actions.spawn(async move {
            let written = async {
                let configuration = provider.pull_secret(&images).await.map_err(RegistriesError::Login)?;
                let objects = configuration.iter().flat_map(|found| objects::registries(&plan, &context, found));
                let mut warnings = Vec::new();
                for object in objects {
                    warnings.extend(applier.apply(&object).await.map_err(RegistriesError::Apply)?.warnings);
                }
                Ok(warnings)
            };
            Done::Registries(written.await)
        });
    }

    pub(super) fn opened(&mut self, written: Result<Vec<String>, RegistriesError>) -> Result<(), Box<Failure>> {
        match written {
            Ok(warnings) => self.warn(None, warnings),
            Err(RegistriesError::Apply(error)) => return Err(self.refused(None, &error)),
            Err(RegistriesError::Login(error)) => return Err(self.not_opened(error)),
        }
        self.registries = Registries::Settled;
        Ok(())
    }
}
