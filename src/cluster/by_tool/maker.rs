//! What is different from tool to tool: each is a [`Maker`].

use std::collections::BTreeMap;
use std::fs::File;

use async_trait::async_trait;

use super::place::{Place, Taken};
use super::tool::Tool;
use crate::cluster::ClusterError;
use crate::images::docker::{DockerError, Images, Selector};

/// One of the tools that make clusters.
pub type By = &'static dyn Maker;

/// To whom progress is told, a few words each.
pub type Told<'a> = &'a (dyn Fn(&str) + Sync);

/// What is there of our name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Nothing.
    Nothing,
    /// Ours and running, and the tool has finished making it.
    Whole,
    /// Ours, and of no use: whoever made it was killed, or it was stopped.
    Broken,
    /// Someone else's.
    Theirs,
}

/// A place under its lock, and what is needed to work on it.
#[derive(Clone, Copy)]
pub struct Site<'a> {
    /// Where the cluster is known.
    pub place: &'a Place,
    /// The right to change it.
    pub taken: &'a Taken,
    /// The engine whose containers its nodes are.
    pub images: &'a Images,
    /// The tool's program.
    pub tool: &'a Tool,
}

impl Site<'_> {
    /// The lock, for the tool to hold while it works.
    ///
    /// # Errors
    /// When there are too many open files.
    pub fn lock(&self) -> Result<File, ClusterError> {
        let starting = || format!("starting {}", self.tool.program);
        self.taken.shared().map_err(|error| ClusterError::unavailable(starting(), error))
    }
}

/// A tool that makes clusters, by its program.
#[async_trait]
pub trait Maker: std::fmt::Debug + Send + Sync {
    /// Its name, as the environment file has it.
    fn name(&self) -> &'static str;

    /// What the names of its clusters begin with.
    fn prefix(&self) -> &'static str;

    /// Its program, for the cluster of a place.
    fn tool(&self, place: &Place, variables: &BTreeMap<String, String>) -> Tool;

    /// Which containers are a cluster's nodes.
    fn selector(&self, name: &str) -> Selector;

    /// What is there of the place's name.
    async fn standing(&self, site: &Site<'_>) -> Result<Standing, ClusterError>;

    /// Makes the cluster, where there is nothing: [`Place::prepare`], then its mark put where it is found again, then the program.
    async fn make(&self, site: &Site<'_>, told: Told<'_>) -> Result<(), ClusterError>;

    /// Deletes the cluster, whole or not.
    async fn delete(&self, site: &Site<'_>) -> Result<(), ClusterError>;

    /// The command by which a user deletes a cluster of this name.
    fn unneeded(&self, name: &str) -> String;
}

/// With what can be done about it.
pub fn by_engine(error: DockerError) -> ClusterError {
    match error.cure() {
        Some(cure) => ClusterError::Unsupported { what: error.to_string(), cure: cure.to_owned() },
        None => ClusterError::unavailable("asking the Docker engine", error),
    }
}
