//! What explains a suite's failure: the services' logs of its time, what was not as it should be, the cluster's warnings.
//!
//! Asked of the API once, after the failure; what cannot be had within a moment is left out rather than waited for.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use futures::future::join_all;
use k8s_openapi::api::core::v1::{ContainerStatus, Event, Pod};
use kube::api::{Api, ListParams, LogParams};

use crate::objects;

/// For everything together.
const WITHIN: Duration = Duration::from_secs(5);
/// Of each container, for the file.
const LINES: i64 = 10_000;
/// Of each container, on the screen.
const SHOWN: usize = 15;
/// Warnings on the screen.
const WARNINGS: usize = 8;

/// The log of one container's time.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Log {
    of: Run,
    /// With their times.
    lines: Vec<String>,
}

/// A run of a container that may have written something.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Run {
    node: String,
    pod: String,
    container: String,
    /// The run before a restart.
    previous: bool,
}

/// What there was to find.
#[derive(Debug, Default)]
pub struct Diagnosis {
    logs: Vec<Log>,
    /// Which logs could not be had, and why.
    unread: Vec<String>,
    troubles: Vec<String>,
    warnings: Vec<String>,
    unasked: Option<String>,
}

/// Asks the cluster about the time since `from`.
pub async fn gather(client: &kube::Client, from: SystemTime) -> Diagnosis {
    let asked = async {
        let pods: Api<Pod> = Api::default_namespaced(client.clone());
        let events: Api<Event> = Api::default_namespaced(client.clone());
        let all = ListParams::default();
        let (listed, told) = futures::join!(pods.list(&all), events.list(&all));
        let listed = listed.map_err(|error| error.to_string())?.items;
        let logs = listed.iter().flat_map(runs).map(|run| log(&pods, run, from));
        let (mut read, mut unread) = (Vec::new(), Vec::new());
        for log in join_all(logs).await {
            match log {
                Ok(log) => read.push(log),
                Err(why) => unread.push(why),
            }
        }
        let told = told.map(|list| list.items).unwrap_or_default();
        Ok::<_, String>(Diagnosis {
            logs: read,
            unread,
            troubles: listed.iter().filter_map(|pod| trouble(pod, from)).collect(),
            warnings: told.iter().filter(|event| is_warning(event, from)).map(line).collect(),
            unasked: None,
        })
    };
    match tokio::time::timeout(WITHIN, asked).await {
        Ok(Ok(diagnosis)) => diagnosis,
        Ok(Err(why)) => Diagnosis { unasked: Some(why), ..Diagnosis::default() },
        Err(_elapsed) => {
            Diagnosis { unasked: Some("the cluster did not answer in time".to_owned()), ..Diagnosis::default() }
        }
    }
}

impl Diagnosis {
    /// All of the logs, for a file.
    pub fn logs(&self) -> String {
        let mut text = String::new();
        for log in self.logs.iter().filter(|log| !log.lines.is_empty()) {
            push(&mut text, format_args!("==> {}\n", log.of.title()));
            for line in &log.lines {
                push(&mut text, format_args!("{line}\n"));
            }
        }
        text
    }

    /// The part of one screen that is about the cluster.
    pub fn render(&self) -> String {
        let mut text = String::new();
        if let Some(why) = &self.unasked {
            push(&mut text, format_args!("  the cluster could not be asked: {why}\n"));
        }
        section(&mut text, "not as it should be", &self.troubles);
        section(&mut text, "warnings of the cluster", &self.warnings[self.warnings.len().saturating_sub(WARNINGS)..]);
        section(&mut text, "logs that could not be read", &self.unread);
        for log in self.logs.iter().filter(|log| !log.lines.is_empty()) {
            let from = log.lines.len().saturating_sub(SHOWN);
            let of = if from > 0 { format!(", the last {SHOWN} of {} lines", log.lines.len()) } else { String::new() };
            push(&mut text, format_args!("  log of {}{of}:\n", log.of.title()));
            for line in &log.lines[from..] {
                // The file has the times.
                push(&mut text, format_args!("    | {}\n", line.split_once(' ').map_or("", |(_time, text)| text)));
            }
        }
        text
    }
}

impl Run {
    fn title(&self) -> String {
        let before = if self.previous { " before its restart" } else { "" };
        if self.node == self.pod {
            format!("{}{before}", self.pod)
        } else {
            format!("{} ({}/{}){before}", self.node, self.pod, self.container)
        }
    }
}

fn push(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.write_fmt(arguments).expect("writing to a String cannot fail");
}

fn section(text: &mut String, title: &str, lines: &[String]) {
    if lines.is_empty() {
        return;
    }
    push(text, format_args!("  {title}:\n"));
    for line in lines {
        push(text, format_args!("    - {line}\n"));
    }
}

fn runs(pod: &Pod) -> Vec<Run> {
    let name = pod.metadata.name.clone().unwrap_or_default();
    let labels = pod.metadata.labels.as_ref();
    let node = labels.and_then(|labels| labels.get(objects::NODE)).unwrap_or(&name).clone();
    let mut runs = Vec::new();
    for status in containers(pod) {
        let run = |previous| Run { node: node.clone(), pod: name.clone(), container: status.name.clone(), previous };
        if status.restart_count > 0 {
            runs.push(run(true));
        }
        if status.container_id.is_some() {
            runs.push(run(false));
        }
    }
    runs
}

async fn log(api: &Api<Pod>, run: Run, from: SystemTime) -> Result<Log, String> {
    let from = jiff::Timestamp::try_from(from).ok();
    let parameters = LogParams {
        container: Some(run.container.clone()),
        previous: run.previous,
        // Kubernetes has whole seconds there, and kube-rs rounds to the nearest, which may be too late.
        since_time: from.and_then(|from| jiff::Timestamp::from_second(from.as_second()).ok()),
        tail_lines: Some(LINES),
        timestamps: true,
        ..LogParams::default()
    };
    match api.logs(&run.pod, &parameters).await {
        Ok(text) => {
            let within = |line: &&str| {
                let at = line.split(' ').next().and_then(|time| time.parse::<jiff::Timestamp>().ok());
                at.zip(from).is_none_or(|(at, from)| at >= from)
            };
            Ok(Log { of: run, lines: text.lines().filter(within).map(str::to_owned).collect() })
        }
        Err(error) => Err(format!("{}: {error}", run.title())),
    }
}

fn containers(pod: &Pod) -> &[ContainerStatus] {
    pod.status.as_ref().and_then(|status| status.container_statuses.as_deref()).unwrap_or_default()
}

/// What a pod's status says that it should not.
fn trouble(pod: &Pod, from: SystemTime) -> Option<String> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default();
    let since = jiff::Timestamp::try_from(from).ok()?;
    for status in containers(pod) {
        let waiting = status.state.as_ref().and_then(|state| state.waiting.as_ref());
        let ended = status.last_state.as_ref().and_then(|state| state.terminated.as_ref());
        let ended = ended.filter(|ended| {
            // Whole seconds, as the API has them.
            ended.finished_at.as_ref().is_some_and(|time| time.0.as_second() >= since.as_second())
        });
        let reason = waiting.and_then(|waiting| waiting.reason.as_deref());
        match (ended, reason) {
            (Some(ended), reason) => {
                let reason = reason.map(|reason| format!("; {reason}")).unwrap_or_default();
                return Some(format!("{name}: restarted, having exited with code {}{reason}", ended.exit_code));
            }
            (None, Some(reason)) if reason != "ContainerCreating" => return Some(format!("{name}: {reason}")),
            _ => {}
        }
    }
    match phase {
        "Running" if !crate::cli::ps::is_ready(pod) => Some(format!("{name}: running, not ready")),
        "Pending" => Some(format!("{name}: pending")),
        "Failed" => Some(format!("{name}: failed")),
        _ => None,
    }
}

fn is_warning(event: &Event, from: SystemTime) -> bool {
    let Ok(from) = jiff::Timestamp::try_from(from) else { return false };
    let last = event.last_timestamp.as_ref().map(|time| time.0);
    let last = last.or(event.event_time.as_ref().map(|time| time.0));
    // Times of events may have whole seconds only.
    let within = last.is_none_or(|last| last.as_second() >= from.as_second());
    within && event.type_.as_deref() == Some("Warning")
}

fn line(event: &Event) -> String {
    let about = &event.involved_object;
    let times = event.count.filter(|count| *count > 1).map(|count| format!(" (×{count})")).unwrap_or_default();
    format!(
        "{}/{} {}: {}{times}",
        about.kind.as_deref().unwrap_or_default(),
        about.name.as_deref().unwrap_or_default(),
        event.reason.as_deref().unwrap_or_default(),
        event.message.as_deref().unwrap_or_default().lines().next().unwrap_or_default(),
    )
}
