//! What explains a failure: logs of the failed containers, probe answers, events. Fetched through the API, once, when it is
//! clear that something failed; what cannot be had within a moment is left out rather than waited for.

use std::time::Duration;

use futures::TryStreamExt as _;
use futures::future::join_all;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::{Api, ListParams, LogParams, WatchEvent, WatchParams};

use super::failure::{Cause, EventLine, Failure, LogTail, ProbeResult};
use crate::cluster::ledger::Owned;
use crate::readiness::observed::one_line;
use crate::readiness::{Change, Observed, pods, words};

/// For everything together.
const WITHIN: Duration = Duration::from_secs(5);
/// Of that, for the event that a cause always has.
const EVENT_WITHIN: Duration = Duration::from_secs(3);
/// More would push the cause off the screen.
const SHOWN_EVENTS: usize = 8;
/// How the kubelet begins in place of a log (`kuberuntime_container.go`, `GetContainerLogs`).
const NO_LOG: &str = "unable to retrieve container logs for ";
/// Events that a start always has.
const ORDINARY: [&str; 8] =
    ["Scheduled", "Pulled", "Pulling", "Created", "Started", "SuccessfulCreate", "ScalingReplicaSet", "Killing"];

/// What to gather about.
pub(super) struct Question<'a> {
    pub client: &'a kube::Client,
    pub namespace: &'a str,
    pub objects: &'a [Owned],
    /// The pod that shows the failure, if one does.
    pub pod: Option<&'a str>,
    pub log_lines: i64,
}

/// Adds what can be had to the failure.
pub(super) async fn gather(asked: Question<'_>, observed: &mut Observed, failure: &mut Failure) {
    // The API's refusal, a build's output or the engine's words say everything already.
    let is_said = matches!(
        failure.cause,
        Cause::Rejected { .. }
            | Cause::BuildFailed { .. }
            | Cause::ImageNotLoaded { .. }
            | Cause::ImageNotPushed { .. }
            | Cause::EngineUnavailable
    );
    if asked.objects.is_empty() || is_said {
        return;
    }
    let fetch = async {
        // Each kind has a watch of its own: a job's end may be seen before the newest of its pods.
        let api: Api<Pod> = Api::namespaced(asked.client.clone(), asked.namespace);
        if let Ok(list) = api.list(&ListParams::default()).await {
            for pod in list.items {
                observed.apply(Change::Pod(Box::new(pod)));
            }
        }
        let pod = loudest(&asked, observed);
        // Late or unreadable, events are what is missing on the screen; the cause is known without them.
        let events = tokio::time::timeout(EVENT_WITHIN, events(&asked, &failure.cause, observed));
        tokio::join!(logs(&asked, pod), events).0
    };
    if let Ok(logs) = tokio::time::timeout(WITHIN, fetch).await {
        failure.logs = logs;
    }
    // How the service that was to issue a key came up explains nothing.
    let of_itself = if matches!(failure.cause, Cause::KeyNotIssued { .. }) { &[] } else { asked.objects };
    for owned in of_itself {
        let mut events = observed.events(&owned.key);
        let pods = observed.pods_of(&owned.key);
        if !pods.is_empty() {
            events.retain(|event| !was_too_early(event));
        }
        let started: Vec<_> = pods.iter().filter(|pod| pods::is_started(pod)).map(|pod| &pod.metadata.uid).collect();
        events.retain(|event| !(is_unmounted(event) && started.contains(&&event.involved_object.uid)));
        failure.probes.extend(probes(&events));
        failure.events.extend(events.into_iter().filter(|event| !is_ordinary(event)).map(line));
    }
    if let Cause::JobFailed { job_reason, .. } = &failure.cause {
        // The message says it already.
        failure.events.retain(|event| event.reason != *job_reason);
    }
    let surplus = failure.events.len().saturating_sub(SHOWN_EVENTS);
    failure.events.drain(..surplus);
}

/// Those that there are, and the one that the cause always has: who sets a status also records an event, which is written
/// apart from it (`client-go/tools/record`, `StartRecordingToSink`) and often later.
async fn events(asked: &Question<'_>, cause: &Cause, observed: &mut Observed) -> kube::Result<()> {
    let api: Api<Event> = Api::namespaced(asked.client.clone(), asked.namespace);
    let list = api.list(&ListParams::default()).await?;
    for event in list.items {
        observed.apply(Change::Event(Box::new(event)));
    }
    let Some(tells) = telling(cause) else { return Ok(()) };
    let told = |observed: &Observed| {
        let mut known = asked.objects.iter().flat_map(|owned| observed.events(&owned.key));
        known.any(tells)
    };
    if told(observed) {
        return Ok(());
    }
    let since = list.metadata.resource_version.unwrap_or_default();
    let mut changes = std::pin::pin!(api.watch(&WatchParams::default(), &since).await?);
    while let Some(change) = changes.try_next().await? {
        if let WatchEvent::Added(event) | WatchEvent::Modified(event) = change {
            observed.apply(Change::Event(Box::new(event)));
            if told(observed) {
                break;
            }
        }
    }
    Ok(())
}

/// Whether an event is the one, or the last of those, that a cause always has: the kubelet's (`kuberuntime_container.go`,
/// `image_manager.go`, `kubelet.go`) and the scheduler's (`schedule_one.go`). `None`: it may have none.
fn telling(cause: &Cause) -> Option<fn(&Event) -> bool> {
    fn has(event: &Event, reason: &str) -> bool {
        event.reason.as_deref() == Some(reason)
    }
    fn is_error(event: &Event) -> bool {
        has(event, "Failed") && event.message.as_deref().is_some_and(|message| message.starts_with("Error: "))
    }
    match cause {
        Cause::Unschedulable => Some(|event| has(event, "FailedScheduling")),
        Cause::MissingConfig => Some(|event| has(event, "FailedMount") || is_error(event)),
        Cause::ImageNotFound { .. } | Cause::CommandNotFound { .. } => Some(is_error),
        _ => None,
    }
}

/// The pod whose log says most: the one that shows the failure, else the first that isn't ready.
fn loudest(asked: &Question<'_>, observed: &Observed) -> Option<Pod> {
    let pods: Vec<&Pod> = asked.objects.iter().flat_map(|owned| observed.pods_of(&owned.key)).collect();
    let named = pods.iter().find(|pod| asked.pod.is_some() && pod.metadata.name.as_deref() == asked.pod);
    let failed = |pod: &&&Pod| pod.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Failed"));
    let chosen = named.or_else(|| pods.iter().find(failed)).or_else(|| pods.iter().find(|pod| !pods::is_ready(pod)));
    // All are ready where a service works but issues no key.
    chosen.or(pods.last()).map(|pod| (*pod).clone())
}

async fn logs(asked: &Question<'_>, pod: Option<Pod>) -> Vec<LogTail> {
    let Some(pod) = pod else { return Vec::new() };
    let Some(status) = pods::loudest_container(&pod).filter(|status| !pods::never_ran(status)) else {
        return Vec::new();
    };
    let runs = [
        (true, status.last_state.as_ref(), status.restart_count > 0),
        (false, status.state.as_ref(), status.container_id.is_some() || status.restart_count > 0),
    ];
    let api: Api<Pod> = Api::namespaced(asked.client.clone(), asked.namespace);
    let name = pod.metadata.name.clone().unwrap_or_default();
    let tails = runs.into_iter().filter(|(_, _, exists)| *exists).map(|(previous, state, _)| {
        let (api, name) = (api.clone(), name.clone());
        async move {
            let parameters = LogParams {
                container: Some(status.name.clone()),
                previous,
                tail_lines: Some(asked.log_lines),
                ..LogParams::default()
            };
            let mut text = api.logs(&name, &parameters).await.ok()?;
            if text.is_empty() && !previous && state.is_some_and(|state| state.terminated.is_some()) {
                // It has been started again meanwhile: what ended is by now the run before.
                let before = LogParams { previous: true, ..parameters };
                text = api.logs(&name, &before).await.unwrap_or_default();
            }
            // The kubelet's answer, with a good status, where the runtime has removed the container meanwhile.
            if text.starts_with(NO_LOG) {
                return None;
            }
            let ended = state.and_then(|state| state.terminated.as_ref()).map(pods::describe).unwrap_or_default();
            Some(LogTail {
                pod: name,
                container: status.name.clone(),
                previous,
                ended,
                lines: text.lines().map(str::to_owned).collect(),
            })
        }
    });
    let mut tails: Vec<LogTail> = join_all(tails).await.into_iter().flatten().collect();
    // In a crash loop the run "before" is the one whose log is current: once is enough.
    if let [_, current] = tails.as_slice()
        && current.ended.is_empty()
        && current.lines.is_empty()
    {
        // It has just been started once more, and has nothing to say yet.
        tails.truncate(1);
    } else if let [previous, current] = tails.as_slice()
        && previous.lines == current.lines
    {
        let ended = previous.ended.clone();
        tails.remove(0);
        if tails[0].ended.is_empty() {
            tails[0].ended = ended;
        }
    }
    tails
}

fn probes(events: &[&Event]) -> Vec<ProbeResult> {
    let unhealthy = events.iter().filter(|event| event.reason.as_deref() == Some("Unhealthy"));
    let all = unhealthy.filter_map(|event| {
        let message = words::plain(event.message.as_deref()?);
        let (probe, said) = message.split_once(" probe ")?;
        Some(ProbeResult {
            pod: event.involved_object.name.clone().unwrap_or_default(),
            probe: probe.to_owned(),
            message: one_line(said.strip_prefix("failed: ").unwrap_or(said)),
            count: count(event),
        })
    });
    let mut told: Vec<ProbeResult> = Vec::new();
    for result in all {
        // A runtime that numbers its tries tells each in an event of its own.
        match told
            .iter_mut()
            .find(|one| (&one.pod, &one.probe, &one.message) == (&result.pod, &result.probe, &result.message))
        {
            Some(one) => one.count += result.count,
            None => told.push(result),
        }
    }
    told
}

fn is_ordinary(event: &Event) -> bool {
    let reason = event.reason.as_deref().unwrap_or_default();
    reason == "Unhealthy" || (event.type_.as_deref() != Some("Warning") && ORDINARY.contains(&reason))
}

/// Whether a controller's first pods were refused because their namespace is so new that its service account isn't there yet (upstream's
/// `plugin/pkg/admission/serviceaccount/admission.go`). It tries again: where pods are there by now, that explains nothing.
fn was_too_early(event: &Event) -> bool {
    let message = event.message.as_deref().unwrap_or_default();
    event.reason.as_deref() == Some("FailedCreate") && message.contains("error looking up service account")
}

/// That a volume could not be mounted (yet): of a pod that has started, that explains nothing.
fn is_unmounted(event: &Event) -> bool {
    event.reason.as_deref() == Some("FailedMount")
}

fn line(event: &Event) -> EventLine {
    let about = &event.involved_object;
    EventLine {
        object: format!("{}/{}", about.kind.as_deref().unwrap_or_default(), about.name.as_deref().unwrap_or_default()),
        reason: event.reason.clone().unwrap_or_default(),
        message: one_line(event.message.as_deref().unwrap_or_default()),
        count: count(event),
        warning: event.type_.as_deref() == Some("Warning"),
    }
}

fn count(event: &Event) -> u32 {
    let series = event.series.as_ref().and_then(|series| series.count);
    u32::try_from(series.or(event.count).unwrap_or(1)).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use kube::client::Body;
    use serde_json::json;

    use super::*;
    use crate::cluster::apply::Kind;
    use crate::readiness::{Expected, ObjectKey};

    #[test]
    fn a_namespace_too_new_is_told_from_other_refusals() {
        let refused = |words: &str| -> Event {
            let message = format!("Error creating: pods \"migrate-x\" is forbidden: {words}");
            serde_json::from_value(
                json!({"metadata": {}, "reason": "FailedCreate", "message": message, "involvedObject": {}}),
            )
            .expect("an event")
        };
        let account = "error looking up service account ns/default: serviceaccount \"default\" not found";
        assert!(was_too_early(&refused(account)));
        assert!(!was_too_early(&refused("exceeded quota: few, requested: pods=1, used: pods=2, limited: pods=2")));
    }

    /// The API of one pod, whose event is written after everything was asked for.
    #[tokio::test]
    async fn the_event_of_a_cause_is_waited_for() {
        let api = tower::service_fn(|request: http::Request<Body>| {
            let (path, query) = (request.uri().path().to_owned(), request.uri().query().unwrap_or_default().to_owned());
            let list = |items| json!({"metadata": {"resourceVersion": "7"}, "items": items});
            let answer = if path.ends_with("/pods") {
                list(json!([{"metadata": {"namespace": "ns", "name": "pod", "uid": "u"}}]))
            } else if !query.contains("watch=true") {
                list(json!([]))
            } else {
                assert!(query.contains("resourceVersion=7"), "{query}");
                json!({"type": "ADDED", "object": {"metadata": {"name": "e"}, "type": "Warning", "reason": "FailedScheduling",
                    "message": "no room", "involvedObject": {"kind": "Pod", "namespace": "ns", "name": "pod", "uid": "u"}}})
            };
            async move { Ok::<_, Infallible>(http::Response::new(Body::from(format!("{answer}\n").into_bytes()))) }
        });
        let [group, version, kind, plural] = ["", "v1", "Pod", "pods"].map(str::to_owned);
        let key =
            ObjectKey { group: group.clone(), kind: kind.clone(), namespace: "ns".to_owned(), name: "pod".to_owned() };
        let kind = Kind { group, version, kind, plural, namespaced: true };
        let expected = Expected { uid: "u".to_owned(), generation: 0 };
        let asked = Question {
            client: &kube::Client::new(api, "ns"),
            namespace: "ns",
            objects: &[Owned { key, kind, expected, digest: String::new() }],
            pod: None,
            log_lines: 1,
        };
        let mut failure = Failure::new(None, Cause::Unschedulable, "no node takes it");
        gather(asked, &mut Observed::default(), &mut failure).await;
        assert_eq!(failure.events.iter().map(|event| event.message.as_str()).collect::<Vec<_>>(), ["no room"]);
    }
}
