//! One `up` at work: a task of its own, whose [`Outcome`] comes back to the owner.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::environment::Environment;
use crate::keys::Keyring;
use crate::plan::{KeySource, NodeSpec};
use crate::provision::{Cause, EventSink, Failure, GiveUp, Options, Scope, Swap};
use crate::redact::Shared;
use crate::session::protocol::UpRequest;
use crate::session::record::{Phase, Record, write_private};
use crate::session::state::SessionDirectory;

/// What an `up` leaves behind: the environment (if there is one by now) and how it went.
pub struct Outcome {
    /// None when the cluster never started.
    pub environment: Option<Environment>,
    /// What is now on disk, or why not.
    pub result: Result<Record, Box<Failure>>,
}

/// One `up`, from the cluster's start to the record on disk.
pub async fn bring_up(
    mut environment: Option<Environment>,
    (request, swaps): (Arc<UpRequest>, BTreeMap<String, Swap>),
    record: Record,
    directory: SessionDirectory,
    redactor: Shared,
    events: EventSink,
    cancel: CancellationToken,
) -> Outcome {
    let mut first = Keyring::new(directory.keys_path(), redactor);
    let keys = environment.as_mut().map_or(&mut first, Environment::keys);
    for (name, secret) in secrets(&request) {
        // Where the disk is full, what follows says so.
        if let Err(error) = keys.hide(name, secret) {
            tracing::warn!(%error, name, "a secret could not be kept for the redactor");
        }
    }
    let started = match environment {
        Some(environment) => Ok(environment),
        None => Environment::start(&request.plan, &record, &request.environment, first, &events, &cancel).await,
    };
    let mut environment = match started {
        Ok(environment) => environment,
        Err(failure) => return Outcome { environment: None, result: Err(failure) },
    };
    let result = provision(&mut environment, (&request, swaps), record, &directory, &events, &cancel).await;
    environment.end_making().await;
    Outcome { environment: Some(environment), result }
}

/// What the caller's variables hold of secrets, by the name that stands in their place: known from the beginning, since whatever runs meanwhile may
/// print what it was given.
fn secrets(request: &UpRequest) -> Vec<(&str, &str)> {
    let notify = request.plan.notify.iter().flat_map(|notify| notify.secrets(&request.environment));
    let keys = request.plan.nodes.iter().filter_map(|node| {
        let NodeSpec::Key(key) = &node.spec else { return None };
        let KeySource::FromEnv(variable) = &key.source else { return None };
        Some((node.id.name.as_str(), request.environment.get(variable)?.as_str()))
    });
    notify.chain(keys).collect()
}

async fn provision(
    environment: &mut Environment,
    (request, swaps): (&UpRequest, BTreeMap<String, Swap>),
    mut record: Record,
    directory: &SessionDirectory,
    events: &EventSink,
    cancel: &CancellationToken,
) -> Result<Record, Box<Failure>> {
    let on_disk = |error: crate::session::SessionError| {
        let failure = Failure::new(None, Cause::StateUnwritable, error.to_string());
        Box::new(match error.hint() {
            Some(hint) => failure.with_hint(hint),
            None => failure,
        })
    };
    let text = environment
        .access()
        .kubeconfig_text()
        .map_err(|error| Box::new(Failure::new(None, Cause::ClusterUnavailable, error.to_string())))?;
    write_private(&directory.kubeconfig(), text.as_bytes()).map_err(on_disk)?;
    record.api =
        environment.access().kubeconfig.clusters.first().and_then(|named| named.cluster.as_ref()?.server.clone());
    record.write(&directory.record_path()).map_err(on_disk)?;
    let timeout = Duration::from_millis(request.timeout);
    let give_up = async {
        tokio::select! {
            () = tokio::time::sleep(timeout) => GiveUp::TimedOut(timeout),
            () = cancel.cancelled() => GiveUp::Interrupted,
        }
    };
    let scope = match (request.reissue.is_empty(), request.exchange.is_empty()) {
        (false, _) => Scope::Keys(request.reissue.clone()),
        (true, false) => Scope::Services(request.exchange.clone()),
        (true, true) => Scope::All,
    };
    let is_all = scope == Scope::All;
    let options = Options { environment: request.environment.clone(), scope, swaps, ..Options::default() };
    environment.up(&request.plan, options, events, give_up).await?;
    record.exports = environment.exports(&request.plan, &record, is_all)?;
    record.addresses = environment.addresses();
    if record.ready.is_none() {
        // Only `reset` needs it, and says so: no reason not to be ready.
        match crate::suite::leftovers::mark(&environment.client(), &record.namespace).await {
            Ok(mark) => record.ready = Some(mark),
            Err(error) => tracing::warn!(%error, "the moment of readiness could not be marked"),
        }
    }
    if is_all {
        record.phase = Phase::Ready;
    }
    record.write(&directory.record_path()).map_err(on_disk)?;
    Ok(record)
}
