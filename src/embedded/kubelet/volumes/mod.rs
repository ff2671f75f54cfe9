//! A pod's volumes: prepared before its containers start, kept up to date while they run.

pub mod atomic;
pub mod host;
pub mod keeper;
pub mod payload;
