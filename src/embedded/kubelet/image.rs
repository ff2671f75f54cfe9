//! What an image name means to this node.
//!
//! The agent fills the table from the environment file's `images:`; the kubelet looks names up when
//! it starts a container. A name that isn't there is `ErrImagePull`.

use std::collections::HashMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// How one image becomes runnable.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Image {
    /// Where the container's root comes from.
    pub rootfs: Rootfs,
    /// As in an OCI image: what runs when the container's `command` is empty.
    pub entrypoint: Vec<String>,
    /// As in an OCI image: the arguments when neither `command` nor `args` is set.
    pub cmd: Vec<String>,
    /// The image's own variables; the container's win over them.
    pub env: Vec<(String, String)>,
    /// Prepended to `PATH`, absolute.
    pub path: Vec<PathBuf>,
    /// Where the process starts unless the container says otherwise, absolute.
    pub working_dir: Option<PathBuf>,
    /// A user name or `uid[:gid]`; `None` is the caller's own.
    pub user: Option<String>,
}

/// Where a container's root filesystem comes from.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Rootfs {
    /// The host's own programs, under a private writable layer.
    #[default]
    Host,
    /// An unpacked root directory, likewise under a private writable layer.
    Directory(PathBuf),
    /// An image of the Docker engine, by its id.
    Engine(String),
}

/// Every image this node can run, by the exact name used in pod specs.
pub type ImageTable = HashMap<String, Image>;
