//! Keys as nodes of the graph: each is issued once what it needs is ready, and is ready once it is in the Secret.

use super::super::Scope;
use super::super::failure::{Cause, Failure};
use super::{Done, Secret, Stage, Walk};
use crate::keys::call::{self, Call};
use crate::keys::{self, KeyError};
use crate::plan::{Key, KeyAction, KeySource, Node, NodeId, NodeKind, NodeSpec};
use crate::redact;

/// How a key comes to its value.
enum Way {
    /// It has one, and keeps it.
    Kept,
    /// It is known now.
    Known(String),
    /// A service is asked.
    Asked(Call),
    /// The service cannot be reached from the host yet.
    Later,
}

impl Walk<'_> {
    /// Begins to issue keys; returns whether anything moved.
    pub(super) fn issue(&mut self, indexes: Vec<usize>) -> Result<bool, Box<Failure>> {
        let mut moved = false;
        for index in indexes {
            let NodeSpec::Key(key) = &self.runs[index].node.spec else { continue };
            let way = self.way(&self.runs[index].node.id.name, key).map_err(|error| self.not_issued(index, &error))?;
            if matches!(way, Way::Later) {
                continue;
            }
            moved = true;
            let run = &mut self.runs[index];
            (run.stage, run.told) = (Stage::Applying, false);
            match way {
                Way::Kept | Way::Later => {
                    let kept = self.held.keys.keep(&self.runs[index].node.id.name, key);
                    kept.map_err(|error| self.not_issued(index, &error.into()))?;
                    if *self.held.stored {
                        self.ready(index);
                    } else {
                        self.unstored.push(index);
                    }
                }
                Way::Known(value) => self.issued(index, Ok(value))?,
                Way::Asked(call) => {
                    self.detail(index, format!("asking for it: {}", call.describe()));
                    let (client, within) = (self.around.client.clone(), keys::timeout(key));
                    self.actions.spawn(async move { Done::Issued(index, call.issue(&client, within).await) });
                }
            }
        }
        self.store();
        Ok(moved)
    }

    fn way(&self, name: &str, key: &Key) -> Result<Way, KeyError> {
        if let KeySource::FromEnv(variable) = &key.source {
            let value = self.around.options.environment.get(variable);
            let value = value.ok_or_else(|| KeyError::NotSet { variable: variable.clone() })?;
            let is_same = self.held.keys.get(name).is_some_and(|issued| issued.value == *value);
            return Ok(if is_same { Way::Kept } else { Way::Known(value.clone()) });
        }
        let is_wanted = matches!(&self.around.options.scope, Scope::Keys(names) if names.contains(name));
        let now = std::time::SystemTime::now();
        let is_good = self.held.keys.get(name).is_some_and(|issued| {
            issued.definition.source == key.source && issued.expires().is_none_or(|expires| expires > now)
        });
        if is_good && !is_wanted {
            return Ok(Way::Kept);
        }
        match &key.source {
            KeySource::Generate { bytes, encoding } => keys::generate(*bytes, *encoding).map(Way::Known),
            KeySource::FromEnv(_) => Ok(Way::Kept),
            KeySource::Issued(KeyAction::Exec { service, .. }) if self.around.options.swaps.contains_key(service) => {
                Err(KeyError::OnHost { service: service.clone() })
            }
            KeySource::Issued(action) => {
                if call::port(action).is_some_and(|port| !self.held.addresses.contains_key(&port)) {
                    return Ok(Way::Later);
                }
                let values = self.held.keys.values();
                Ok(Way::Asked(Call::new(action, self.around.plan, &values, self.held.addresses)?))
            }
        }
    }

    /// A key was issued, or not.
    pub(super) fn issued(&mut self, index: usize, issued: Result<String, KeyError>) -> Result<(), Box<Failure>> {
        let NodeSpec::Key(key) = &self.runs[index].node.spec else { return Ok(()) };
        let id = self.runs[index].node.id.clone();
        let put = issued.and_then(|value| {
            let length = value.len();
            Ok((self.held.keys.put(&id.name, key, value)?, length))
        });
        let (changed, length) = put.map_err(|error| self.not_issued(index, &error))?;
        if length < redact::SHORTEST {
            let message = format!("it has only {length} characters, so it cannot be kept out of logs");
            self.warn(Some(&id), vec![message]);
        }
        let run = &mut self.runs[index];
        (run.changed, run.told) = (changed, false);
        run.detail.clear();
        if changed {
            self.tell_run(index);
            *self.held.stored = false;
            self.unstored.push(index);
        } else {
            self.ready(index);
        }
        Ok(())
    }

    /// Writes the Secret, with all keys that were issued meanwhile, unless it is being written.
    pub(super) fn store(&mut self) {
        let is_due = self.secret == Secret::Stale || !self.unstored.is_empty();
        if !is_due || self.secret == Secret::InFlight || self.held.namespace.is_none() {
            return;
        }
        self.secret = Secret::InFlight;
        let indexes = std::mem::take(&mut self.unstored);
        let secret = keys::secret(self.around.plan, &self.context, &self.held.keys.values());
        let applier = self.applier.clone();
        self.actions.spawn(async move {
            let applied = applier.apply(&secret).await;
            Done::Stored(indexes, applied.map(|applied| applied.warnings))
        });
    }

    /// Keys that are no longer in the plan.
    pub(super) fn forget_keys(&mut self) -> Result<(), Box<Failure>> {
        match self.held.keys.keep_only(self.around.plan) {
            Ok(false) => Ok(()),
            Ok(true) => {
                (self.secret, *self.held.stored) = (Secret::Stale, false);
                self.store();
                Ok(())
            }
            Err(error) => Err(self.failure(None, Cause::StateUnwritable, error.to_string())),
        }
    }

    /// The node of the service that issues a key.
    pub(super) fn issuer(&self, node: &Node) -> Option<usize> {
        let NodeSpec::Key(key) = &node.spec else { return None };
        let KeySource::Issued(action) = &key.source else { return None };
        let service = match action {
            KeyAction::Exec { service, .. } => service,
            KeyAction::Http(call) => &call.service,
        };
        self.by_id.get(&NodeId::new(NodeKind::Service, service.clone())).copied()
    }

    fn not_issued(&self, index: usize, error: &KeyError) -> Box<Failure> {
        let cause = match error {
            KeyError::Unwritable(_) => Cause::StateUnwritable,
            _ => Cause::KeyNotIssued { output: error.output().to_vec() },
        };
        let mut failure = self.failure(Some(&self.runs[index].node.id), cause, error.to_string());
        failure.hint = error.hint();
        failure
    }
}
