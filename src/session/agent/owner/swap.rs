//! Services that a process on the host stands in for: for as long as its `envctl swap` is connected, or as an `up --swap` says.
//!
//! A connection that ends, by whatever end, brings the pods back. That, like the swap itself, is an `up` about that service only,
//! and comes before anything that waits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tracing::{info, warn};

use super::super::connection::{Caller, CallerId};
use super::{Asked, Owner};
use crate::plan::{NodeId, NodeKind, NodeSpec, Protocol};
use crate::provision::{Failure, Swap};
use crate::session::protocol::{Reply, SwapRequest, UpRequest};

/// How long pods may take to be back when nobody says.
const TIMEOUT: Duration = Duration::from_secs(300);

/// A swap and whose connection it is.
pub(super) struct HeldSwap {
    caller: Caller,
    ports: BTreeMap<String, u16>,
    timeout: u64,
}

impl Owner {
    /// Begins, or queues, what `envctl swap` asks for.
    pub(super) fn ask_swap(&mut self, caller: Caller, request: SwapRequest) {
        if self.working.is_some() {
            caller.reply(Reply::Queued);
            self.queue.push_back((caller, Asked::Swap(request)));
            return;
        }
        match self.exchange(BTreeSet::from([request.service.clone()]), request.timeout, Some(&request)) {
            Ok(up) => {
                info!(service = request.service, ports = ?request.ports, "swap");
                let SwapRequest { service, ports, timeout } = request;
                self.swaps.insert(service, HeldSwap { caller: caller.clone(), ports, timeout });
                self.begin(Some(caller), up);
            }
            Err(message) => caller.reply(Reply::Refused { message }),
        }
    }

    /// Whether a caller's process stands in for a service.
    pub(super) fn is_swapper(&self, caller: CallerId) -> bool {
        self.swaps.values().any(|held| held.caller.id == caller)
    }

    /// The caller's process no longer stands in for anything; it may wait for the pods.
    pub(super) fn end_swap(&mut self, caller: CallerId, waits: bool) {
        let Some(service) = self.swaps.iter().find(|(_, held)| held.caller.id == caller).map(|(name, _)| name.clone())
        else {
            return;
        };
        let Some(held) = self.swaps.remove(&service) else { return };
        info!(service, "no longer swapped");
        self.returning.insert(service, waits.then_some(held.caller));
        match &self.working {
            // What it began goes no further.
            Some(working) if working.by == Some(caller) => working.cancel.cancel(),
            Some(_) => {}
            None => _ = self.bring_back(),
        }
    }

    /// Begins to bring back the pods that are to come back; whether there are any.
    pub(super) fn bring_back(&mut self) -> bool {
        if self.returning.is_empty() || self.working.is_some() {
            return false;
        }
        let returning = std::mem::take(&mut self.returning);
        let timeout = self.swaps.values().map(|held| held.timeout).max();
        let timeout = timeout.unwrap_or(u64::try_from(TIMEOUT.as_millis()).unwrap_or(u64::MAX));
        match self.exchange(returning.keys().cloned().collect(), timeout, None) {
            Ok(up) => {
                self.begin(None, up);
                if let Some(working) = &mut self.working {
                    working.followers.extend(returning.into_values().flatten());
                }
                true
            }
            Err(why) => {
                warn!(why, "pods could not be brought back");
                false
            }
        }
    }

    /// What did not come about is undone.
    pub(super) fn not_exchanged(&mut self, services: &BTreeSet<String>, failure: &Failure) {
        if services.is_empty() {
            return;
        }
        warn!(?services, reason = failure.cause.reason(), message = failure.message, "did not change places");
        for service in services {
            if self.swaps.remove(service).is_some() {
                self.returning.entry(service.clone()).or_default();
            }
        }
    }

    /// Everything that runs on the host during this `up`.
    pub(super) fn all_swaps(&self, request: &UpRequest) -> BTreeMap<String, Swap> {
        let expected = request.swap.iter().map(|(service, ports)| {
            (service.clone(), Swap { ports: ports.clone(), environment: Some(self.directory.clone()) })
        });
        let held = self
            .swaps
            .iter()
            .map(|(service, held)| (service.clone(), Swap { ports: held.ports.clone(), environment: None }));
        expected.chain(held).collect()
    }

    /// The last plan, for these services only; why not, if the swap that is asked for makes no sense.
    fn exchange(
        &self,
        services: BTreeSet<String>,
        timeout: u64,
        asked: Option<&SwapRequest>,
    ) -> Result<Arc<UpRequest>, String> {
        let last = self.last.as_ref().filter(|_| self.environment.is_some());
        let last = last.ok_or_else(|| "nothing has come up in this session yet".to_owned())?;
        if let Some(SwapRequest { service, ports, .. }) = asked {
            let node = last.plan.node(&NodeId::new(NodeKind::Service, service.clone()));
            let Some(NodeSpec::Service(spec)) = node.map(|node| &node.spec) else {
                return Err(format!("the session has no service {service}"));
            };
            if self.swaps.contains_key(service) {
                return Err(format!("another `envctl swap` has taken the place of {service}"));
            }
            if last.swap.contains_key(service) {
                return Err(format!(
                    "{service} is on the host already, by `envctl up --swap`; `envctl up` brings its pods back"
                ));
            }
            let tcp =
                |name: &String| spec.ports.iter().any(|port| port.name == *name && port.protocol == Protocol::Tcp);
            if let Some(unknown) = ports.keys().find(|name| !tcp(name)) {
                return Err(format!("{service} has no TCP port {unknown}"));
            }
        }
        Ok(Arc::new(UpRequest { exchange: services, reissue: BTreeSet::new(), timeout, ..UpRequest::clone(last) }))
    }
}
