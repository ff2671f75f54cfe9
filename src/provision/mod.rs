//! Brings an environment up: walks the plan's graph, node by node, as far as each node's needs are met.
//!
//! Neighbours: `plan` says what to do in which order, `objects` what to apply, `cluster` where,
//! `readiness` when a node is done or beyond hope. The caller (`session`) owns the deadline and
//! receives [`Event`]s to display; a [`Failure`] is one screen that explains.

pub mod event;
pub mod failure;

pub use event::{Event, EventSink, NodeKind, NodeRef, NodeState};
pub use failure::{Cause, Failure};
