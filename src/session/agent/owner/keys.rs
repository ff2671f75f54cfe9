//! Keys that are issued anew: when asked to (`envctl keys rotate`) and when their time has come.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tracing::{info, warn};

use super::super::connection::Caller;
use super::{Asked, Owner};
use crate::plan::NodeKind;
use crate::provision::Failure;
use crate::session::protocol::{Reply, RotateRequest, UpRequest};

/// How long what uses a key may take to be ready again when the agent itself issued it anew.
const TIMEOUT: Duration = Duration::from_secs(300);

impl Owner {
    /// Begins, or queues, what `envctl keys rotate` asks for.
    pub(super) fn ask_rotate(&mut self, caller: Caller, request: RotateRequest) {
        if self.working.is_some() {
            caller.reply(Reply::Queued);
            self.queue.push_back((caller, Asked::Rotate(request)));
            return;
        }
        match self.rotation(request) {
            Ok(up) => self.begin(Some(caller), up),
            Err(message) => caller.reply(Reply::Refused { message }),
        }
    }

    /// The last plan, for these keys only; why not, if it has none of that name.
    fn rotation(&self, request: RotateRequest) -> Result<Arc<UpRequest>, String> {
        let last = self.last.as_ref().filter(|_| self.environment.is_some());
        let last = last.ok_or_else(|| "nothing has come up in this session yet".to_owned())?;
        let known = || last.plan.nodes.iter().map(|node| &node.id).filter(|id| id.kind == NodeKind::Key);
        for name in &request.keys {
            if !known().any(|id| id.name == *name) {
                let names: Vec<&str> = known().map(|id| id.name.as_str()).collect();
                let there =
                    if names.is_empty() { "it has none".to_owned() } else { format!("there are {}", names.join(", ")) };
                return Err(format!("the session has no key {name}; {there}"));
            }
        }
        Ok(Arc::new(UpRequest {
            environment: request.environment,
            timeout: request.timeout,
            reissue: request.keys,
            exchange: BTreeSet::new(),
            ..UpRequest::clone(last)
        }))
    }

    /// How long until a key is to be issued anew; none while something is at work, which looks itself.
    pub(super) fn until_key_due(&self) -> Option<Duration> {
        let due = self.environment.as_ref().filter(|_| self.working.is_none())?.next_due()?;
        Some(due.duration_since(SystemTime::now()).unwrap_or_default())
    }

    /// Issues the keys anew whose time has come.
    pub(super) fn reissue(&mut self) {
        let Some((last, environment)) = self.last.as_ref().zip(self.environment.as_mut()) else { return };
        let keys: BTreeSet<String> = environment.keys().due().into_iter().collect();
        if keys.is_empty() {
            return;
        }
        info!(?keys, "their time is over: issued anew");
        let timeout = u64::try_from(TIMEOUT.as_millis()).unwrap_or(u64::MAX);
        let request = RotateRequest { keys, environment: last.environment.clone(), timeout };
        let keys = request.keys.clone();
        match self.rotation(request) {
            Ok(up) => self.begin(None, up),
            // An `up` that was ended early may have a plan without a key that is still there.
            Err(message) => self.put_off(&keys, &message),
        }
    }

    /// What was there goes on: `envctl keys` says why, and it is tried again.
    pub(super) fn not_reissued(&mut self, keys: &BTreeSet<String>, failure: &Failure) {
        if keys.is_empty() {
            return;
        }
        warn!(?keys, reason = failure.cause.reason(), message = failure.message, "not issued anew");
        self.put_off(keys, &failure.message);
    }

    fn put_off(&mut self, keys: &BTreeSet<String>, why: &str) {
        let Some(environment) = &mut self.environment else { return };
        for name in keys {
            if let Err(error) = environment.keys().failed(name, why.to_owned()) {
                warn!(%error, "the keys could not be written");
            }
        }
    }
}

/// Pending for ever where there is nothing to wait for.
pub(super) async fn sleep(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}
