//! `envctl ps`: what runs in the session.

use std::time::Duration;

use clap::Args;
use k8s_openapi::api::core::v1::Pod;
use serde::Serialize;

use super::conversation::{Conversation, runtime};
use super::display::{doing, word};
use super::duration;
use super::exit::Exit;
use super::output::Format;
use super::{Context, FileFlag, cluster};
use crate::error::Error;
use crate::plan::NodeKind;
use crate::session::launch;
use crate::session::protocol::{NodeStatus, Reply, Request, Status};
use crate::session::record::Record;
use crate::session::state::StateDirectory;

/// The flags of this verb.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Which environment file.
    #[command(flatten)]
    pub file: FileFlag,
}

/// `-o json`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    version: u32,
    session: String,
    phase: crate::session::record::Phase,
    namespace: String,
    idle_end_milliseconds: u64,
    nodes: Vec<Row>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    name: String,
    kind: NodeKind,
    state: String,
    detail: String,
    ready: usize,
    pods: usize,
    restarts: i32,
    addresses: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    age_seconds: Option<u64>,
}

/// Runs the verb.
///
/// # Errors
/// When there is no session or it cannot be asked.
pub fn run(_arguments: &Arguments, context: &mut Context) -> Result<Exit, Error> {
    let (state, record) = context.session()?;
    let (status, pods) = runtime()?.block_on(async {
        let status = status(&state, &record).await?;
        // A session whose cluster isn't there yet has a graph to show, but no pods.
        let pods = match cluster::client(&status.record).await {
            Ok(client) => cluster::pods(&client, &[]).await.unwrap_or_default(),
            Err(_no_cluster_yet) => Vec::new(),
        };
        Ok::<_, Error>((status, pods))
    })?;
    let nodes: Vec<Row> = status.nodes.iter().map(|node| row(node, &status, &pods)).collect();
    match context.out.format {
        Format::Json | Format::Yaml => context.out.document(&Document {
            version: 1,
            session: status.record.id,
            phase: status.record.phase,
            namespace: status.record.namespace,
            idle_end_milliseconds: status.idle_end,
            nodes,
        })?,
        Format::Name => nodes.iter().for_each(|row| context.out.data(&row.name)),
        Format::Text | Format::Objects => {
            let rows: Vec<_> = nodes.iter().map(cells).collect();
            context.out.table(&["NAME", "KIND", "STATE", "PODS", "RESTARTS", "AGE", "ADDRESS"], &rows);
        }
    }
    Ok(Exit::Ok)
}

/// What the session's agent knows.
///
/// # Errors
/// When it cannot be asked, or is ending.
pub async fn status(state: &StateDirectory, record: &Record) -> Result<Status, Error> {
    let directory = state.session(&record.id);
    let mut conversation = Conversation::new(launch::connect(&directory)?, directory)?;
    conversation.ask(Request::Status).await?;
    match conversation.next().await? {
        Reply::Status(status) => Ok(*status),
        _ => Err(ending(record)),
    }
}

/// The session is being taken down.
pub fn ending(record: &Record) -> Error {
    Error::Failed {
        what: format!("session {} is being taken down", record.id),
        hint: Some("`envctl up` starts a new one".to_owned()),
        exit: Exit::Failed,
    }
}

fn row(node: &NodeStatus, status: &Status, pods: &[Pod]) -> Row {
    let label = node.node.label();
    let pods: Vec<&Pod> = pods.iter().filter(|pod| cluster::node_of(pod) == Some(&label)).collect();
    // A job's pods are never ready once they have done what they are for.
    let is_service = node.node.kind == NodeKind::Service;
    let ready = pods.iter().filter(|pod| is_ready(pod) || (!is_service && has_succeeded(pod))).count();
    let state = match node.node.kind {
        NodeKind::Service if node.state.is_ready() && status.swapped.contains(&node.node.name) => "swapped",
        NodeKind::Service if node.state.is_ready() && ready < pods.len() => "not ready",
        NodeKind::Job if node.state.is_ready() => "completed",
        _ if node.state.is_ready() => "ready",
        _ => word(&node.state),
    };
    let prefix = format!("{}.", node.node.name);
    let addresses = status.record.addresses.iter().filter_map(|(port, address)| {
        port.strip_prefix(&prefix).filter(|_| is_service).map(|port| format!("{port}={address}"))
    });
    Row {
        name: node.node.name.clone(),
        kind: node.node.kind,
        state: state.to_owned(),
        detail: doing(&node.state, &node.detail),
        ready,
        pods: pods.len(),
        restarts: pods.iter().flat_map(|pod| containers(pod)).map(|container| container.restart_count).sum(),
        addresses: addresses.collect(),
        age_seconds: pods.iter().filter_map(|pod| age(pod)).max().map(|age| age.as_secs()),
    }
}

fn cells(row: &Row) -> Vec<String> {
    let dash = || "-".to_owned();
    let has_pods = row.pods > 0;
    vec![
        row.name.clone(),
        row.kind.word().to_owned(),
        row.state.clone(),
        if has_pods { format!("{}/{}", row.ready, row.pods) } else { dash() },
        if has_pods { row.restarts.to_string() } else { dash() },
        row.age_seconds.map_or_else(dash, duration::age),
        if row.addresses.is_empty() { dash() } else { row.addresses.join(" ") },
    ]
}

fn containers(pod: &Pod) -> &[k8s_openapi::api::core::v1::ContainerStatus] {
    pod.status.as_ref().and_then(|status| status.container_statuses.as_deref()).unwrap_or_default()
}

/// Whether a pod's Ready condition is true.
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn has_succeeded(pod: &Pod) -> bool {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Succeeded")
}

fn age(pod: &Pod) -> Option<Duration> {
    let created = pod.metadata.creation_timestamp.as_ref()?.0;
    Duration::try_from(jiff::Timestamp::now().duration_since(created)).ok()
}
