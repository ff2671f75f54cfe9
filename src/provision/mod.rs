//! Brings an environment up: walks the plan's graph, node by node, as far as each node's needs are met.
//!
//! Neighbours: `plan` says what to do in which order, `objects` what to apply, `cluster` where,
//! `readiness` when a node is done or beyond hope. The caller (`session`) owns the deadline and
//! receives [`Event`]s to display; a [`Failure`] is one screen that explains.

pub mod event;
mod evidence;
pub mod failure;
mod making;
mod node;
mod walk;

pub use event::{Event, EventSink, NodeState};
pub use failure::{Cause, Failure};
pub use making::Making;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;

use crate::cluster::apply::Applied;
use crate::cluster::contact::Contact;
use crate::cluster::ledger::Ledger;
use crate::cluster::lend::Lent;
use crate::cluster::tenancy::Lodging;
use crate::cluster::{Access, ClusterError, Provider};
use crate::keys::call::Call;
use crate::keys::{self, Keyring};
use crate::plan::{Plan, PortId};
use crate::readiness::Limits;
use crate::session::state::SessionDirectory;

/// The session that is provisioned for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Its id: on every object, as a label.
    pub id: String,
    /// Its namespace; made by [`Provisioner::up`].
    pub namespace: String,
}

/// How one `up` behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// What is put up with before a node has failed.
    pub limits: Limits,
    /// How many lines of each log a [`Failure`] carries.
    pub log_lines: i64,
    /// The caller's variables: what build commands run with and `fromEnv` keys are taken from.
    pub environment: BTreeMap<String, String>,
    /// How much of the plan.
    pub scope: Scope,
    /// Services that a process on the host stands in for, by name.
    pub swaps: BTreeMap<String, Swap>,
}

/// A service that runs on the host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Swap {
    /// The port on loopback that stands in for each of the service's TCP ports, by name.
    pub ports: BTreeMap<String, u16>,
    /// Of the session, where the environment that its process needs is written as soon as it is known; `None`: it has it.
    pub environment: Option<SessionDirectory>,
}

/// How much of a plan an `up` is about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Scope {
    /// All of it.
    #[default]
    All,
    /// These keys, which are issued anew, and what uses them; nothing else is looked at, built or taken away.
    Keys(BTreeSet<String>),
    /// These services, which change places with a process on the host; likewise.
    Services(BTreeSet<String>),
}

impl Default for Options {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            log_lines: 20,
            environment: BTreeMap::new(),
            scope: Scope::All,
            swaps: BTreeMap::new(),
        }
    }
}

/// Which keys are to be revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revoke {
    /// Those that others have replaced.
    Replaced,
    /// All: the session ends.
    All,
}

/// Why the caller stopped waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GiveUp {
    /// The time it gives was over.
    TimedOut(Duration),
    /// The user interrupted it.
    Interrupted,
}

/// What one session has in its cluster: applies plans to it, one after the other. Owned by the session's agent for its whole life.
pub struct Provisioner {
    provider: Arc<dyn Provider>,
    client: kube::Client,
    contact: Arc<Contact>,
    session: Session,
    addresses: BTreeMap<PortId, SocketAddr>,
    /// What the host lends to the cluster, by the service that it stands in for.
    lent: BTreeMap<String, Lent>,
    keys: Keyring,
    ledger: Ledger,
    namespace: Option<String>,
    /// The Secret with the user's credentials for registries.
    registries: Option<Applied>,
    /// Whether the cluster's Secret has the keys as they are: an `up` may fail between.
    stored: bool,
    lodging: Option<Arc<Lodging>>,
    /// Begun for the first [`Provisioner::up`].
    making: Option<Making>,
}

impl Provisioner {
    /// For a session that has nothing in the cluster yet; its keys go into `keys`. With `lodging` where the cluster isn't its own.
    ///
    /// # Errors
    /// When `access` doesn't make a client.
    pub async fn new(
        provider: Arc<dyn Provider>,
        access: &Access,
        session: Session,
        lodging: Option<Arc<Lodging>>,
        keys: Keyring,
    ) -> Result<Self, ClusterError> {
        let client = access.client(&session.namespace).await?;
        let contact = match &lodging {
            Some(lodging) => lodging.contact(),
            None => Arc::new(Contact::new(client.clone())),
        };
        Ok(Self {
            provider,
            client,
            contact,
            session,
            addresses: BTreeMap::new(),
            lent: BTreeMap::new(),
            keys,
            ledger: Ledger::default(),
            namespace: None,
            registries: None,
            stored: true,
            lodging,
            making: None,
        })
    }

    /// The same, whose first [`Provisioner::up`] goes on with images that were begun before.
    pub fn with(self, making: Making) -> Self {
        Self { making: Some(making), ..self }
    }

    /// Ends what is left of images that were begun before, where no [`Provisioner::up`] came to it.
    pub async fn end_making(&mut self) {
        if let Some(mut making) = self.making.take() {
            making.end().await;
        }
    }

    /// Makes the cluster hold what `plan` asks for and no more, and waits until all of it is ready. What is as
    /// it should be is not touched. The caller owns the deadline: it resolves `give_up`. Dropping the future stops
    /// the walk where it is; the next `up` takes over from there.
    ///
    /// # Errors
    /// The first failure that waiting cannot help, with its evidence. What was applied stays, for the user to look at.
    pub async fn up(
        &mut self,
        plan: &Plan,
        options: &Options,
        events: &EventSink,
        give_up: impl Future<Output = GiveUp> + Send,
    ) -> Result<(), Box<Failure>> {
        let making = match options.scope {
            Scope::All => {
                self.making.take().unwrap_or_else(|| Making::begin(plan, &options.environment, &self.provider, events))
            }
            Scope::Keys(_) | Scope::Services(_) => Making::default(),
        };
        let around = walk::Surroundings {
            plan,
            options,
            events,
            session: &self.session,
            provider: self.provider.clone(),
            client: self.client.clone(),
            contact: self.contact.clone(),
            lodging: self.lodging.clone(),
        };
        let held = walk::Held {
            ledger: &mut self.ledger,
            keys: &mut self.keys,
            addresses: &mut self.addresses,
            lent: &mut self.lent,
            namespace: &mut self.namespace,
            registries: &mut self.registries,
            stored: &mut self.stored,
        };
        walk::Walk::new(around, held, making).run(give_up).await?;
        // What uses a key that was replaced has the new one by now.
        for why in self.revoke(plan, Revoke::Replaced).await {
            events.send(Event::Warning { node: None, message: why, at: 0 });
        }
        Ok(())
    }

    /// Revokes what is to be revoked, all at once. Returns what could not be, for people.
    pub async fn revoke(&mut self, plan: &Plan, which: Revoke) -> Vec<String> {
        let keys = self.keys.values();
        let old = match which {
            Revoke::Replaced => self.keys.take_retired(),
            Revoke::All => self.keys.take_all(),
        };
        let redactor = self.keys.redactor();
        let calls = old.iter().map(|(name, key)| {
            // `${keys.NAME}` of the call is the value to revoke, not the one that replaced it.
            let mut keys = keys.clone();
            keys.insert(name.clone(), key.value.clone());
            let call = key.definition.revoke.as_ref().map(|action| Call::new(action, plan, &keys, &self.addresses));
            let (client, redactor) = (&self.client, &redactor);
            async move {
                let done = match call? {
                    Ok(call) => call.revoke(client, &key.value, keys::timeout(&key.definition)).await,
                    Err(error) => Err(error.into()),
                };
                let error = done.err()?;
                let said = error.output().last().map(|line| format!(" ({line})")).unwrap_or_default();
                Some(redactor.text(&format!("key {name} was not revoked: {error}{said}")).into_owned())
            }
        });
        join_all(calls).await.into_iter().flatten().collect()
    }

    /// Where each service's ports are on the host, once their service has been applied.
    pub fn addresses(&self) -> &BTreeMap<PortId, SocketAddr> {
        &self.addresses
    }

    /// The keys issued so far.
    pub fn keys(&self) -> &Keyring {
        &self.keys
    }

    /// The same, to be told what became of them.
    pub fn keys_mut(&mut self) -> &mut Keyring {
        &mut self.keys
    }

    /// What the session has in the cluster.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The UID of the session's namespace, once it was made.
    pub fn namespace_uid(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    /// The session's namespace.
    pub fn namespace(&self) -> &str {
        &self.session.namespace
    }

    /// The session's client: TLS and kubeconfig, in the session's namespace.
    pub fn client(&self) -> kube::Client {
        self.client.clone()
    }
}
