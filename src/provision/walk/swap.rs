//! Services that change places with a process on the host.
//!
//! ```text
//!  swapped in:  expected ── it listens, its ports are lent ──▶ slice applied ──▶ pods to 0
//!  swapped out: pods back, slice still there ── ready ──▶ slice deleted, ports no longer lent
//! ```
//!
//! So there is always somebody to answer, and the Service itself is never touched: whoever uses it sees what a rolling update
//! shows. The same objects on every kind of cluster; only how ports are lent is the provider's.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use super::super::event::Event;
use super::super::failure::{Cause, Failure};
use super::{Done, Stage, Walk};
use crate::cluster::ServicePort;
use crate::cluster::lend::HostPort;
use crate::objects::{OnHost, Pods};
use crate::on_host::{self, OnHostError, listening};
use crate::plan::{Node, NodeKind, NodeSpec};

impl Walk<'_> {
    /// Whether the node waits for a process on the host. The first time, that is told and waited for.
    pub(super) fn expect_on_host(&mut self, index: usize) -> bool {
        let node = self.runs[index].node;
        let NodeSpec::Service(service) = &node.spec else { return false };
        let Some(swap) = self.around.options.swaps.get(&node.id.name) else { return false };
        // Its account must be there before it can have a token: the first time, all but its pods comes first.
        if swap.environment.is_some() && self.held.ledger.entry(&node.id).is_none() {
            return false;
        }
        if let Some(lent) = self.held.lent.get(&node.id.name)
            && lent.host == swap.ports
        {
            lent.aside();
            return false;
        }
        // References to addresses that are not known yet: their ports are being exposed.
        if swap.environment.is_some()
            && self
                .around
                .plan
                .ports()
                .any(|(id, port)| port.protocol == crate::plan::Protocol::Tcp && !self.held.addresses.contains_key(&id))
        {
            return true;
        }
        let places: Vec<String> = swap.ports.values().map(|port| format!("127.0.0.1:{port}")).collect();
        let run = &mut self.runs[index];
        (run.stage, run.told) = (Stage::Expected, false);
        run.detail = match places.as_slice() {
            [] => "to run on this machine".to_owned(),
            _ => format!("expected to listen on {}", places.join(", ")),
        };
        self.tell_run(index);
        let ports: Vec<HostPort> = service
            .ports
            .iter()
            .filter_map(|port| {
                let target = ServicePort {
                    namespace: self.context.namespace.clone(),
                    service: node.id.name.clone(),
                    port: port.port,
                    name: port.name.clone(),
                };
                Some(HostPort { target, host: *swap.ports.get(&port.name)? })
            })
            .collect();
        let (provider, events, swap) = (self.around.provider.clone(), self.around.events.clone(), swap.clone());
        let (plan, name, at) = (self.around.plan.clone(), node.id.clone(), self.at());
        let (client, namespace) = (self.around.client.clone(), self.context.namespace.clone());
        let (addresses, keys) = (self.held.addresses.clone(), self.held.keys.values());
        self.actions.spawn(async move {
            let expected = async {
                // What is refused is refused before anybody starts anything.
                drop(provider.lend(&[]).await?);
                if let Some(directory) = &swap.environment {
                    let sources = on_host::Sources {
                        plan: &plan,
                        addresses: &addresses,
                        keys: &keys,
                        client: &client,
                        namespace: &namespace,
                        directory,
                    };
                    let environment = on_host::environment(&sources, &name.name).await?;
                    let path = environment.write(directory)?;
                    for message in &environment.missing {
                        events.send(Event::Warning { node: Some(name.clone()), message: message.clone(), at });
                    }
                    let command = environment.command_line();
                    events.send(Event::Expected { node: name, addresses: places, environment: path, command, at });
                }
                for port in &ports {
                    listening::until(port.host).await?;
                }
                Ok::<_, OnHostError>(provider.lend(&ports).await?)
            };
            Done::Lent(index, expected.await)
        });
        true
    }

    /// The process is there.
    pub(super) fn lent(
        &mut self,
        index: usize,
        lent: Result<crate::cluster::lend::Lent, OnHostError>,
    ) -> Result<(), Box<Failure>> {
        let id = self.runs[index].node.id.clone();
        let lent = lent.map_err(|error| {
            let mut failure =
                self.failure(Some(&id), Cause::ClusterUnavailable, format!("cannot run {id} on this machine: {error}"));
            failure.hint = error.hint();
            failure
        })?;
        self.returned.extend(self.held.lent.insert(id.name, lent));
        let run = &mut self.runs[index];
        (run.stage, run.told) = (Stage::Waiting, false);
        run.detail.clear();
        Ok(())
    }

    /// How a node's service is rendered while the host stands in for it.
    pub(super) fn on_host(&self, node: &Node) -> BTreeMap<String, OnHost> {
        if node.id.kind != NodeKind::Service {
            return BTreeMap::new();
        }
        let is_swapped = self.around.options.swaps.contains_key(&node.id.name);
        let pods = if is_swapped { Pods::Aside } else { Pods::ComingBack };
        let on_host = match self.held.lent.get(&node.id.name) {
            Some(lent) => {
                if pods == Pods::ComingBack {
                    lent.coming_back();
                }
                Some(OnHost { address: lent.address, ports: lent.ports.clone(), pods })
            }
            // Nothing is lent yet: an endpoint follows.
            None => is_swapped.then(|| OnHost { address: Ipv4Addr::UNSPECIFIED, ports: BTreeMap::new(), pods }),
        };
        let on_host = on_host.map(|on_host| (node.id.name.clone(), on_host));
        on_host.into_iter().collect()
    }

    /// Whether a node that is as it was applied is to be applied once more: its pods are back, and what stood in for them is yet to go;
    /// or all but its pods is there, and its process is to be waited for.
    pub(super) fn goes_on(&mut self, index: usize) -> bool {
        let id = &self.runs[index].node.id;
        if id.kind != NodeKind::Service {
            return false;
        }
        if self.around.options.swaps.contains_key(&id.name) {
            let is_expected = !self.held.lent.contains_key(&id.name);
            if is_expected {
                self.runs[index].stage = Stage::Waiting;
            }
            return is_expected;
        }
        let Some(lent) = self.held.lent.remove(&id.name) else { return false };
        self.returned.push(lent);
        self.runs[index].stage = Stage::Waiting;
        true
    }
}
