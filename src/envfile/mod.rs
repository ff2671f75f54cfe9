//! The environment file: text in, checked values out. Pure; files are read through [`Files`], host variables come as a map.
//!
//! ```text
//! text ─ tree (places, anchors) ─ include, profile (merge) ─ decode (host variables) ─ model ─▶ plan
//! ```
//!
//! Neighbours: `plan` checks what parts say about each other and builds the graph; `cli` prints [`Problems`].
//! Invariants: every problem is reported in one run, with its place; nothing here panics or takes long whatever the text is
//! (limits in `tree`); the JSON Schema comes from the types that decode.

mod decode;
mod dotenv;
mod duration;
mod load;
mod merge;
pub(crate) mod model;
mod names;
mod problem;
mod record;
mod schema;
mod source;
mod suggest;
mod template;
mod tree;

pub use dotenv::parse as parse_dotenv;
pub use duration::{BadTimeSpan, TimeSpan};
pub use load::{Disk, Files, Request, profile_names};
pub use names::dns_label;
pub use problem::{Problem, ProblemDocument, Problems};
pub use schema::schema;
pub use source::{Source, Sources, Span};
pub use template::{Part, PortField, Reference, Template, TemplateError, TemplateErrorKind};

pub(crate) use decode::{Map, Spanned};
pub(crate) use load::load;
pub(crate) use suggest::{hint as suggestion, nearest};
