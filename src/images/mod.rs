//! Makes an image's name runnable: builds it where the file says how, and says what it consists of.
//!
//! Neighbours: `provision` asks for each image once per `up`, before it applies what uses it; a `cluster`
//! provider does what its kind of cluster needs, with [`Builds`] to run commands and [`docker`] where nodes are containers.

pub mod build;
pub mod docker;
pub mod process;

pub use build::{BuildError, Builds};

/// Why an image could not be made runnable.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// Its build command failed.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The cluster refused it.
    #[error("making image {image:?} runnable: {source}")]
    Load {
        /// The image's name.
        image: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}
