//! What the session's cluster tells: objects, events, logs. Plain API requests, the same on every kind of cluster.

use std::io;
use std::time::Duration;

use futures::StreamExt;
use futures::stream;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::{Api, DynamicObject, ListParams, LogParams};
use kube::config::Kubeconfig;
use kube::discovery::{ApiCapabilities, ApiResource, Discovery, Scope, verbs};
use serde_json::Value;

use super::{Missing, Sink};
use crate::cluster::kubeconfig;
use crate::objects;
use crate::redact::Redactor;
use crate::session::record::Record;

/// For each part: a cluster that is stuck is a reason for a dump.
const WITHIN: Duration = Duration::from_secs(20);
/// Requests at once.
const AT_ONCE: usize = 8;
/// The end of a log that is kept.
const LOG_BYTES: usize = 16 * 1024 * 1024;

/// Adds what the cluster can tell.
pub(super) async fn gather(record: &Record, sink: &mut Sink, missing: &mut Vec<Missing>) -> io::Result<()> {
    let client = match client(record).await {
        Ok(client) => client,
        Err(why) => {
            missing.push(Missing { what: "objects, events and logs".to_owned(), why });
            return Ok(());
        }
    };
    if let Some(version) = within("the cluster's version", client.apiserver_version(), missing).await {
        sink.add("cluster-version.json", &serde_json::to_vec_pretty(&version)?)?;
    }
    gather_objects(&client, record, sink, missing).await?;
    let events: Api<Event> = Api::default_namespaced(client.clone());
    if let Some(list) = within("events", events.list(&ListParams::default()), missing).await {
        sink.add("events.txt", events_text(list.items).as_bytes())?;
    }
    let pods: Api<Pod> = Api::default_namespaced(client);
    if let Some(list) = within("logs", pods.list(&ListParams::default()), missing).await {
        gather_logs(&pods, &list.items, sink, missing).await?;
    }
    Ok(())
}

async fn client(record: &Record) -> Result<kube::Client, String> {
    let file = Kubeconfig::read_from(&record.kubeconfig).map_err(|error| error.to_string())?;
    kubeconfig::client(file, &record.namespace).await.map_err(|error| error.to_string())
}

async fn within<T>(what: &str, asked: impl Future<Output = kube::Result<T>>, missing: &mut Vec<Missing>) -> Option<T> {
    let why = match tokio::time::timeout(WITHIN, asked).await {
        Ok(Ok(answer)) => return Some(answer),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {WITHIN:?}"),
    };
    missing.push(Missing { what: what.to_owned(), why });
    None
}

/// Every kind that can be listed: in the namespace all, cluster-wide what is the session's, and its nodes.
async fn gather_objects(
    client: &kube::Client,
    record: &Record,
    sink: &mut Sink,
    missing: &mut Vec<Missing>,
) -> io::Result<()> {
    let discovery = Discovery::new(client.clone()).run_aggregated();
    let Some(discovery) = within("the kinds of objects", discovery, missing).await else { return Ok(()) };
    let kinds = discovery.groups().flat_map(|group| group.recommended_resources());
    // Events have a file of their own, and what was measured a moment ago explains nothing.
    let kinds: Vec<_> = kinds
        .filter(|(kind, capabilities)| {
            capabilities.supports_operation(verbs::LIST) && kind.kind != "Event" && kind.group != "metrics.k8s.io"
        })
        .collect();
    let redactor = sink.redactor().clone();
    let redactor = &redactor;
    let lists = stream::iter(kinds).map(|(kind, capabilities)| async move {
        let listed = tokio::time::timeout(WITHIN, list(client, record, &kind, &capabilities, redactor)).await;
        (kind, listed)
    });
    let mut lists = lists.buffered(AT_ONCE);
    while let Some((kind, listed)) = lists.next().await {
        let name = if kind.group.is_empty() { kind.plural.clone() } else { format!("{}.{}", kind.plural, kind.group) };
        let why = match listed {
            Ok(Ok(objects)) if objects.is_empty() => continue,
            Ok(Ok(objects)) => {
                let documents: Result<Vec<String>, _> = objects.iter().map(serde_yaml::to_string).collect();
                match documents {
                    Ok(documents) => {
                        sink.add(&format!("objects/{name}.yaml"), documents.join("---\n").as_bytes())?;
                        continue;
                    }
                    Err(error) => error.to_string(),
                }
            }
            // A kind that lists nothing, such as a review.
            Ok(Err(kube::Error::Api(status))) if status.code == 405 => continue,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {WITHIN:?}"),
        };
        missing.push(Missing { what: name, why });
    }
    Ok(())
}

async fn list(
    client: &kube::Client,
    record: &Record,
    kind: &ApiResource,
    capabilities: &ApiCapabilities,
    redactor: &Redactor,
) -> kube::Result<Vec<Value>> {
    let everything = ListParams::default();
    let ours = ListParams::default().labels(&format!("{}={}", objects::SESSION, record.id));
    let (api, parameters): (Api<DynamicObject>, _) = match capabilities.scope {
        Scope::Namespaced => (Api::namespaced_with(client.clone(), &record.namespace, kind), everything),
        Scope::Cluster if kind.kind == "Node" => (Api::all_with(client.clone(), kind), everything),
        Scope::Cluster => (Api::all_with(client.clone(), kind), ours),
    };
    let mut objects = Vec::new();
    for mut object in api.list(&parameters).await?.items {
        object.metadata.managed_fields = None;
        object.types.get_or_insert_with(|| kube::api::TypeMeta {
            api_version: kind.api_version.clone(),
            kind: kind.kind.clone(),
        });
        let mut value = serde_json::to_value(object).map_err(kube::Error::SerdeError)?;
        // Before YAML breaks a key into lines.
        redactor.object(&mut value);
        objects.push(value);
    }
    Ok(objects)
}

fn events_text(mut events: Vec<Event>) -> String {
    let time = |event: &Event| {
        let micro = event.event_time.as_ref().map(|time| time.0);
        let last = event.last_timestamp.as_ref().map(|time| time.0);
        micro.max(last).or_else(|| event.metadata.creation_timestamp.as_ref().map(|time| time.0))
    };
    events.sort_by_key(|event| time(event));
    let lines = events.iter().map(|event| {
        let about = &event.involved_object;
        let count = event.series.as_ref().and_then(|series| series.count).or(event.count).unwrap_or(1);
        format!(
            "{} {} {}/{} {} ×{count}: {}\n",
            time(event).map(|time| time.to_string()).unwrap_or_default(),
            event.type_.as_deref().unwrap_or_default(),
            about.kind.as_deref().unwrap_or_default(),
            about.name.as_deref().unwrap_or_default(),
            event.reason.as_deref().unwrap_or_default(),
            event.message.as_deref().unwrap_or_default(),
        )
    });
    lines.collect()
}

/// Of every container of every pod: of this run and the one before.
async fn gather_logs(api: &Api<Pod>, pods: &[Pod], sink: &mut Sink, missing: &mut Vec<Missing>) -> io::Result<()> {
    let runs = pods.iter().flat_map(|pod| {
        let name = pod.metadata.name.clone().unwrap_or_default();
        let status = pod.status.as_ref();
        let containers = status.into_iter().flat_map(|status| {
            [&status.init_container_statuses, &status.container_statuses, &status.ephemeral_container_statuses]
        });
        let containers = containers.flatten().flatten();
        containers.flat_map(move |container| {
            let has_run = container.container_id.is_some();
            let current = (name.clone(), container.name.clone(), false);
            let previous = (name.clone(), container.name.clone(), true);
            has_run.then_some(current).into_iter().chain((container.restart_count > 0).then_some(previous))
        })
    });
    let logs = stream::iter(runs).map(|(pod, container, previous)| async move {
        let parameters =
            LogParams { container: Some(container.clone()), previous, timestamps: true, ..LogParams::default() };
        let read = tokio::time::timeout(WITHIN, api.logs(&pod, &parameters)).await;
        (pod, container, previous, read)
    });
    let mut logs = logs.buffered(AT_ONCE);
    while let Some((pod, container, previous, read)) = logs.next().await {
        let which = if previous { ".previous" } else { "" };
        let path = format!("logs/{pod}/{container}{which}.log");
        let why = match read {
            Ok(Ok(text)) => {
                sink.add(&path, end(text.as_bytes()))?;
                continue;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {WITHIN:?}"),
        };
        missing.push(Missing { what: path, why });
    }
    Ok(())
}

/// Whole lines: half a key would not be known for one.
fn end(text: &[u8]) -> &[u8] {
    if text.len() <= LOG_BYTES {
        return text;
    }
    let tail = &text[text.len() - LOG_BYTES..];
    tail.iter().position(|byte| *byte == b'\n').map_or(&[], |line| &tail[line + 1..])
}
