//! What explains a failure: logs of the failed containers, probe answers, events. Fetched through the API, once, when it is
//! clear that something failed; what cannot be had within a moment is left out rather than waited for.

use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::{Api, ListParams, LogParams};

use super::failure::{Cause, EventLine, Failure, LogTail, ProbeResult};
use crate::cluster::ledger::Owned;
use crate::readiness::observed::one_line;
use crate::readiness::{Change, Limits, Observed, Role, Verdict, pods};

/// For everything together.
const WITHIN: Duration = Duration::from_secs(2);
/// More would push the cause off the screen.
const SHOWN_EVENTS: usize = 8;
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
    pub limits: &'a Limits,
}

/// Adds what can be had to the failure.
pub(super) async fn gather(asked: Question<'_>, observed: &mut Observed, failure: &mut Failure) {
    // The API's refusal or a build's output says everything already.
    if asked.objects.is_empty() || matches!(failure.cause, Cause::Rejected { .. } | Cause::BuildFailed { .. }) {
        return;
    }
    let fetch = async {
        let api: Api<Event> = Api::namespaced(asked.client.clone(), asked.namespace);
        // Events are written after the status that they explain: the watch may not have brought them yet.
        if let Ok(list) = api.list(&ListParams::default()).await {
            for event in list.items {
                observed.apply(Change::Event(Box::new(event)));
            }
        }
        // Each kind has a watch of its own: a job's end may be seen before the end of its pod.
        let api: Api<Pod> = Api::namespaced(asked.client.clone(), asked.namespace);
        if let Ok(list) = api.list(&ListParams::default()).await {
            for pod in list.items {
                observed.apply(Change::Pod(Box::new(pod)));
            }
        }
        logs(&asked, observed).await
    };
    if let Ok(logs) = tokio::time::timeout(WITHIN, fetch).await {
        failure.logs = logs;
    }
    if let Cause::JobFailed { code: None, .. } = &failure.cause {
        let findings = asked.objects.iter().filter_map(|owned| {
            match observed.verdict(&owned.key, &owned.expected, Role::Complete, asked.limits) {
                Verdict::Failing(finding) => Some(finding),
                _ => None,
            }
        });
        if let Some(finding) = findings.into_iter().find(|finding| matches!(finding.cause, Cause::JobFailed { .. })) {
            (failure.cause, failure.message) = (finding.cause, finding.message);
        }
    }
    // How the service that was to issue a key came up explains nothing.
    let of_itself = if matches!(failure.cause, Cause::KeyNotIssued { .. }) { &[] } else { asked.objects };
    for owned in of_itself {
        let events = observed.events(&owned.key);
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

/// Of one pod: the one that shows the failure, else the first that isn't ready.
async fn logs(asked: &Question<'_>, observed: &Observed) -> Vec<LogTail> {
    let pods: Vec<&Pod> = asked.objects.iter().flat_map(|owned| observed.pods_of(&owned.key)).collect();
    let named = pods.iter().find(|pod| asked.pod.is_some() && pod.metadata.name.as_deref() == asked.pod);
    let failed = |pod: &&&Pod| pod.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Failed"));
    let chosen = named.or_else(|| pods.iter().find(failed)).or_else(|| pods.iter().find(|pod| !pods::is_ready(pod)));
    // All are ready where a service works but issues no key.
    let chosen = chosen.or(pods.last());
    let Some(pod) = chosen else { return Vec::new() };
    let Some(status) = pods::loudest_container(pod).filter(|status| !pods::never_ran(status)) else {
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
    if let [previous, current] = tails.as_slice()
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
    unhealthy
        .filter_map(|event| {
            let message = event.message.as_deref()?;
            let (probe, said) = message.split_once(" probe ")?;
            Some(ProbeResult {
                pod: event.involved_object.name.clone().unwrap_or_default(),
                probe: probe.to_owned(),
                message: one_line(said.strip_prefix("failed: ").unwrap_or(said)),
                count: count(event),
            })
        })
        .collect()
}

fn is_ordinary(event: &Event) -> bool {
    let reason = event.reason.as_deref().unwrap_or_default();
    reason == "Unhealthy" || (event.type_.as_deref() != Some("Warning") && ORDINARY.contains(&reason))
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
