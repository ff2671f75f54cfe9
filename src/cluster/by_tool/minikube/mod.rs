//! minikube: a cluster whose nodes are containers of a Docker engine or, by another driver, something else.
//!
//! What minikube is to make (driver, memory, version of Kubernetes, image of the nodes) is the user's to say, as always: by `MINIKUBE_*`
//! variables and `minikube config`. It is made in the user's own `MINIKUBE_HOME`, where downloads are kept and `minikube profile list` shows
//! it, and that home is remembered. Only the kubeconfig is envctl's, with the certificates in it. Nodes run containerd, whatever minikube's default is.
//!
//! A profile is known as ours by a file with the mark in its directory, which is there before minikube starts and goes with the profile. minikube
//! takes a container of its own name for one that it left itself, and deletes it: so one that stands there without our profile (another home's) is
//! looked for first. It writes the kubeconfig long before it has ended: a cluster is whole once envctl saw minikube succeed and had its answer.

mod driver;
mod events;
mod profile;

use std::collections::BTreeMap;

use async_trait::async_trait;

use self::events::{Said, failed};
use self::profile::Profile;
use super::maker::{Maker, Site, Standing, Told, by_engine};
use super::place::Place;
use super::tool::{Tool, ToolError};
use crate::cluster::ClusterError;
use crate::cluster::claims::minikube_home;
use crate::images::docker::{DockerError, Selector, Which};

/// minikube's half.
#[derive(Debug)]
pub struct Minikube;

#[async_trait]
impl Maker for Minikube {
    fn name(&self) -> &'static str {
        "minikube"
    }

    fn prefix(&self) -> &'static str {
        "envctl-minikube-"
    }

    fn tool(&self, place: &Place, variables: &BTreeMap<String, String>) -> Tool {
        let mut variables = variables.clone();
        let home = place.noted("home").or_else(|| {
            let home = std::path::absolute(minikube_home(&variables)?).ok()?;
            Some(home.to_string_lossy().into_owned())
        });
        variables.extend(home.map(|home| ("MINIKUBE_HOME".to_owned(), home)));
        variables.insert("KUBECONFIG".to_owned(), place.kubeconfig_path().to_string_lossy().into_owned());
        Tool {
            program: "minikube",
            version: &["version", "--short"],
            // The first whose every command here speaks in events (`--output json`).
            oldest: (1, 26),
            install: "install minikube: https://minikube.sigs.k8s.io/docs/start/",
            variables,
        }
    }

    // minikube, `pkg/drivers/kic/oci/types.go`: `NodeLabelKey`, the machine's name.
    fn selector(&self, name: &str) -> Selector {
        let label = "mode.minikube.sigs.k8s.io";
        Selector { label: label.to_owned(), which: Which::Machines(label, name.to_owned()) }
    }

    async fn standing(&self, site: &Site<'_>) -> Result<Standing, ClusterError> {
        let profile = Profile::of(site)?;
        if !profile.is_ours(site.place) {
            if profile.is_known() {
                return Ok(Standing::Theirs);
            }
            return match site.images.nodes().await {
                Ok(nodes) if !nodes.is_empty() => Ok(Standing::Theirs),
                // Without an engine minikube may use something else, and says what it lacks if it cannot.
                Ok(_) | Err(DockerError::NoEngine { .. } | DockerError::Address { .. }) => Ok(Standing::Nothing),
                Err(error) => Err(by_engine(error)),
            };
        }
        let Some(driver) = profile.driver() else { return Ok(Standing::Broken) };
        let running = if driver == "docker" {
            let nodes = site.images.nodes().await.map_err(by_engine)?;
            !nodes.is_empty() && nodes.iter().all(|node| node.running)
        } else {
            let status = ["status", "--profile", &site.place.name, "--output", "json"];
            match site.tool.run(&status, None, |_| ()).await {
                Ok(said) => profile::is_running(&said),
                // It says so of one that doesn't run, too.
                Err(ToolError::Failed { output, .. }) => output.iter().any(|line| profile::is_running(line)),
                Err(error) => return Err(failed(site.tool, "asking minikube for a cluster's state", error)),
            }
        };
        let finished = site.place.identity().is_some() && site.place.kubeconfig_path().exists();
        Ok(if running && finished { Standing::Whole } else { Standing::Broken })
    }

    async fn make(&self, site: &Site<'_>, told: Told<'_>) -> Result<(), ClusterError> {
        let profile = Profile::of(site)?;
        driver::refuse_none(&profile.home, &site.tool.variables)?;
        let mark = site.place.prepare(site.taken)?;
        site.place.note("home", &profile.home)?;
        profile.take(&mark)?;
        let arguments = [
            "start",
            "--profile",
            &site.place.name,
            "--container-runtime=containerd",
            "--embed-certs",
            "--interactive=false",
            "--output=json",
        ];
        let made = site.tool.run(&arguments, Some(site.lock()?), |line| {
            if let Some(Said::Step(step)) = Said::read(line) {
                told(&step);
            }
        });
        made.await.map(drop).map_err(|error| failed(site.tool, "making a minikube cluster", error))
    }

    async fn delete(&self, site: &Site<'_>) -> Result<(), ClusterError> {
        let profile = Profile::of(site)?;
        profile.mend();
        let arguments = ["delete", "--profile", &site.place.name, "--output=json"];
        let deleted = site.tool.run(&arguments, Some(site.lock()?), |_| ()).await;
        deleted.map_err(|error| failed(site.tool, "removing a minikube cluster", error))?;
        profile.forget(site.place)
    }

    fn unneeded(&self, name: &str) -> String {
        format!("minikube delete --profile {name}")
    }
}
