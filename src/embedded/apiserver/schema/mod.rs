//! Everything the API server knows about Kubernetes' types: which resources exist, what their fields are, and what
//! follows from that — strict decoding, pruning, defaults, validation, strategic merge, server-side apply, protobuf
//! bodies, OpenAPI documents.
//!
//! Neighbours: the rest of `apiserver` calls the functions re-exported here with a [`Gvk`] and a `serde_json::Value`;
//! nothing here knows of requests or storage. The tables come from `make generate` (`tools/schema-gen`).
//!
//! Invariants: tables are `static` and cost nothing at start-up; every function is pure; a kind without a schema is
//! treated as schemaless (its shape is deduced from the value, as upstream's "deduced" typing does).

mod decode;
mod default;
#[rustfmt::skip]
mod generated;
mod gvk;
pub mod managed_fields;
pub mod openapi;
pub mod protobuf;
mod resources;
mod strategic;
mod strict;
mod tables;
mod types;
mod validate;

pub use decode::{DecodeError, decode_json};
pub use default::default;
pub use generated::RESOURCES;
pub use gvk::Gvk;
pub use resources::{Resource, Subresource, resource};
pub use strategic::{PatchError, strategic_merge};
pub use strict::{prune, unknown_fields};
pub use types::check_types;
pub use validate::{validate_create, validate_update};
