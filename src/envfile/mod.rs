//! The environment file: text in, checked values out..
//!
//! Neighbours: `plan` builds the graph from what this module returns.

mod duration;
mod template;

pub use duration::{BadTimeSpan, TimeSpan};
pub use template::{Part, PortField, Reference, Template, TemplateError, TemplateErrorKind};
