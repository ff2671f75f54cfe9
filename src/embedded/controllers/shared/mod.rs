//! What every controller stands on: watch caches, work queues, workers, own-write tracking, events.
//!
//! Neighbours: each controller module of the parent. Invariants: one watch per kind for all controllers; a key
//! is synced by at most one task at a time; nothing polls, every delay is one that Kubernetes defines.

pub mod cache;
pub mod caches;
pub mod events;
pub mod meta;
pub mod pods;
pub mod queue;
pub mod requests;
pub mod view;
pub mod worker;
pub mod written;
