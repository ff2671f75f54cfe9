//! The graph's nodes and edges: what is started, and what each waits for.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Job, Key, Manifest, Service};

/// What kind of thing a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeKind {
    /// Runs until the session ends: a Deployment.
    Service,
    /// Runs once: a Job.
    Job,
    /// Plain Kubernetes YAML.
    Manifest,
    /// A credential issued for the session.
    Key,
}

impl NodeKind {
    /// The word for it in messages and in `kind/name`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Job => "job",
            Self::Manifest => "manifest",
            Self::Key => "key",
        }
    }
}

/// One node of the graph. Names are unique in an environment across all kinds, so the name alone
/// is what people see and type ([`fmt::Display`] prints only it).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId {
    /// What it is.
    pub kind: NodeKind,
    /// Its name in the file; a manifest without a name is called by its path.
    pub name: String,
}

impl NodeId {
    /// A node's id from its parts.
    pub fn new(kind: NodeKind, name: impl Into<String>) -> Self {
        Self { kind, name: name.into() }
    }

    /// The name as a Kubernetes label value: a manifest's path loses what labels may not contain.
    pub fn label(&self) -> String {
        let clean: String = self
            .name
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '_' })
            .collect();
        let edge = |c: char| !c.is_ascii_alphanumeric();
        let clean = clean.trim_matches(edge);
        // The end of a long path tells more than its start.
        clean[clean.len().saturating_sub(63)..].trim_matches(edge).to_owned()
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.name)
    }
}

/// One node with its edges.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// Which it is.
    pub id: NodeId,
    /// What must hold before this node's objects are applied (or its key is issued); each node at most once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<Need>,
    /// The nodes that need this one, in the plan's order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dependents: Vec<NodeId>,
    /// What to start.
    pub spec: NodeSpec,
}

/// An edge of the graph.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Need {
    /// What is waited for.
    pub node: NodeId,
    /// Until when.
    pub condition: Condition,
    /// Where the edge comes from.
    pub reason: NeedReason,
}

/// What a needed node must have reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Condition {
    /// Its objects exist and its containers have been started, ready or not.
    Started,
    /// It works: every replica is Ready (service), every object of the manifest is, the key is issued. The default for all but jobs.
    Ready,
    /// It has ended successfully (jobs only; their default).
    Completed,
}

/// Why one node waits for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NeedReason {
    /// The file's `needs`.
    Needs,
    /// It uses the key.
    Key,
    /// The key is issued by that service.
    Issuer,
}

/// What a node starts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeSpec {
    /// A service.
    Service(Box<Service>),
    /// A job.
    Job(Box<Job>),
    /// A manifest.
    Manifest(Manifest),
    /// A key.
    Key(Box<Key>),
}
