//! The plan's other parts: clusters, images, manifests, keys, exports and suites.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Template;
use crate::envfile::TimeSpan;

/// Which kind of cluster the session runs on.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cluster {
    /// The one inside envctl.
    #[default]
    Embedded,
    /// kind; `fresh`: a cluster of the session's own.
    Kind {
        /// A cluster for this session only, instead of the machine's shared one.
        fresh: bool,
    },
    /// minikube.
    Minikube {
        /// A cluster for this session only, instead of the machine's shared one.
        fresh: bool,
    },
    /// An existing cluster, by its kubeconfig context.
    Context(String),
}

/// How an image's name becomes runnable on each kind of cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Image {
    /// What runs when a container's `command` is empty, wherever the image runs as a process and says no other.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub entrypoint: Vec<String>,
    /// On the embedded cluster: a sandboxed process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<ProcessImage>,
    /// On kind and minikube: built and loaded; on a context: built and pushed, if it says so. `None`: pulled by its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub docker: Option<DockerImage>,
    /// On a context: whether nodes pull it with the user's Docker credentials.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub image_pull_secret: bool,
}

/// An image run as a process.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ProcessImage {
    /// Program and first arguments: the process's own, else the image's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub entrypoint: Vec<String>,
    /// Prepended to `PATH`, absolute.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub path: Vec<PathBuf>,
    /// Where it starts, absolute; the project root unless the file says otherwise.
    pub workdir: PathBuf,
    /// A user name or `uid[:gid]`; `None`: the caller's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Run in the project root before anything that uses the image starts; empty: nothing to build.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub build: Vec<String>,
    /// Files and directories that it consists of besides its program, absolute.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<PathBuf>,
    /// The image's own variables, in the file's order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<(String, String)>,
}

/// An image built with Docker.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DockerImage {
    /// The build context, absolute.
    pub context: PathBuf,
    /// The Dockerfile, absolute; `None`: `Dockerfile` in the context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dockerfile: Option<PathBuf>,
    /// The stage to build; `None`: the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Build arguments.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub args: BTreeMap<String, String>,
    /// Whether it is pushed under its name, for a cluster that nothing can be loaded into.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub push: bool,
}

/// Plain Kubernetes YAML in the graph.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The files it came from, absolute, in the order of their documents.
    pub files: Vec<PathBuf>,
    /// The documents, in order; `List`s are taken apart.
    pub objects: Vec<serde_json::Value>,
}

/// A credential issued for the session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// Where it comes from.
    #[serde(flatten)]
    pub source: KeySource,
    /// How it is taken back at `down` and after a re-issue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoke: Option<KeyAction>,
    /// When it is issued anew and the old one revoked; `None`: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<TimeSpan>,
    /// How long the calls that issue and revoke it may take; `None`: half a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<TimeSpan>,
}

/// Where a key comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum KeySource {
    /// A service issues it.
    Issued(KeyAction),
    /// Random bytes, made before anything that uses the key.
    Generate {
        /// How many random bytes, before they are encoded.
        bytes: u32,
        /// How they become text.
        encoding: Encoding,
    },
    /// The host's variable of that name.
    FromEnv(String),
}

/// How random bytes become text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// Two lower-case digits a byte.
    #[default]
    Hex,
    /// RFC 4648 §4, padded.
    Base64,
    /// RFC 4648 §5, not padded.
    Base64Url,
}

/// A call to a service, to issue or to revoke a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum KeyAction {
    /// A command in a running container of the service; its output, without the last line's end, is the key.
    /// A revoking command reads the key on standard input.
    Exec {
        /// Which service.
        service: String,
        /// Program and arguments.
        command: Vec<Template>,
    },
    /// A request to the service.
    Http(HttpCall),
}

/// A request that issues or revokes a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpCall {
    /// Which service.
    pub service: String,
    /// Which of its ports, by name.
    pub port: String,
    /// The method, upper case.
    pub method: String,
    /// The path, with its leading slash.
    pub path: Template,
    /// The request's headers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, Template>,
    /// The request's body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Template>,
    /// Where the key is in a JSON answer, as a JSON Pointer (RFC 6901); `None`: the whole body is the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
}

/// A variable handed to tests, seen from the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Export {
    /// The variable's name.
    pub name: String,
    /// Its value, resolved from the host's viewpoint.
    pub value: Template,
    /// Who says so.
    pub origin: ExportOrigin,
}

/// Where an export comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExportOrigin {
    /// A service's port.
    Service,
    /// A key, under its own name.
    Key,
    /// The file's `exports`, which win over the automatic ones.
    File,
}

/// A test command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suite {
    /// Program and arguments, on the host.
    pub run: Vec<String>,
    /// The stage it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// How long it may take; `None`: as long as it takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<TimeSpan>,
    /// Where it starts, absolute; the project root unless the file says otherwise.
    pub workdir: PathBuf,
    /// Its variables, on top of the exports, in the file's order; resolved from the host's viewpoint.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<(String, Template)>,
    /// Where it writes JUnit XML, absolute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub junit: Option<PathBuf>,
}
