//! Suites: test commands run against a session, with everything that is reported about them.
//!
//! [`select`] says which run (pure). [`run`] runs one: [`supervisor`] is the small process between envctl and the
//! suite that sees every process the suite ever starts ([`processes`]), [`stream`] carries its output. What is told about
//! it: [`result`] (the document), [`junit`], [`diagnosis`] (of a failure), [`leftovers`] (in the cluster), [`report`] (files).
//! The verb (`cli/test`) brings the session up, calls these in order, and takes it down.
//!
//! Invariants: when [`run::run`] returns, no process of the suite runs any more, or it is named. If envctl is killed, the
//! supervisor ends them; if the supervisor is, envctl does.

pub mod diagnosis;
pub mod junit;
pub mod leftovers;
pub mod processes;
pub mod report;
pub mod result;
pub mod run;
pub mod select;
pub mod stream;
pub mod supervisor;
