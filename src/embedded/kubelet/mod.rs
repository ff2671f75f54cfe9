//! The kubelet: one node, one actor per pod, containers run through a [`runtime::Runtime`].

pub mod image;
pub mod process;
pub mod runtime;
