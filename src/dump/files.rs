//! What the session's own directory tells: also when its agent is gone.

use std::fs;
use std::io;
use std::path::Path;

use serde_json::{Value, json};

use super::{Missing, Sink};
use crate::provision::Failure;
use crate::session::record::Record;
use crate::session::state::SessionDirectory;

/// Adds the session's files. Returns its record, if it has one that can be read.
pub(super) fn gather(
    session: &SessionDirectory,
    sink: &mut Sink,
    missing: &mut Vec<Missing>,
) -> io::Result<Option<Record>> {
    let record = match session.record() {
        Ok(record) => {
            let mut shown = serde_json::to_value(&record)?;
            sink.redactor().value(&mut shown);
            sink.add("session.json", &serde_json::to_vec_pretty(&shown)?)?;
            Some(record)
        }
        Err(error) => {
            missing.push(Missing { what: "session.json".to_owned(), why: error.to_string() });
            None
        }
    };
    if let Some(text) = read(&session.plan(), "plan.json", missing) {
        // As a value: a key is found in its texts however JSON writes them.
        match serde_json::from_slice::<Value>(&text) {
            Ok(mut plan) => {
                sink.redactor().object(&mut plan);
                sink.add("plan.json", &serde_json::to_vec_pretty(&plan)?)?;
            }
            Err(error) => missing.push(Missing { what: "plan.json".to_owned(), why: error.to_string() }),
        }
    }
    if let Some(text) = read(&session.timeline(), "timeline.txt", missing) {
        let (timeline, failure) = told(&String::from_utf8_lossy(&text));
        sink.add("timeline.txt", timeline.as_bytes())?;
        if let Some(failure) = failure {
            sink.add("failure.txt", failure.render().as_bytes())?;
        }
    }
    if let Some(text) = read(&session.log(), "agent.log", missing) {
        sink.add("agent.log", &text)?;
    }
    let versions = versions(record.as_ref());
    sink.add("versions.json", &serde_json::to_vec_pretty(&versions)?)?;
    Ok(record)
}

/// The logs that the embedded cluster's kubelet kept: `node/logs/NAMESPACE_POD_UID/CONTAINER/RUN.log`.
pub(super) fn logs(session: &SessionDirectory, sink: &mut Sink, missing: &mut Vec<Missing>) -> io::Result<()> {
    let root = session.path().join("node/logs");
    let Ok(pods) = fs::read_dir(&root) else {
        missing.push(Missing {
            what: "logs".to_owned(),
            why: "they are in a cluster that cannot be asked any more".to_owned(),
        });
        return Ok(());
    };
    for pod in pods.flatten() {
        let name = pod.file_name().to_string_lossy().into_owned();
        // A pod's name has no underscore: NAMESPACE_POD_UID.
        let pod_name = name.split('_').nth(1).unwrap_or(&name).to_owned();
        for container in fs::read_dir(pod.path()).into_iter().flatten().flatten() {
            for run in fs::read_dir(container.path()).into_iter().flatten().flatten() {
                let (container, run_name) = (container.file_name(), run.file_name());
                let path = format!("logs/{pod_name}/{}.{}", container.to_string_lossy(), run_name.to_string_lossy());
                if let Some(text) = read(&run.path(), &path, missing) {
                    sink.add(&path, &text)?;
                }
            }
        }
    }
    Ok(())
}

fn read(path: &Path, what: &str, missing: &mut Vec<Missing>) -> Option<Vec<u8>> {
    match fs::read(path) {
        Ok(text) => Some(text),
        Err(error) => {
            missing.push(Missing { what: what.to_owned(), why: error.to_string() });
            None
        }
    }
}

/// One line an event, as people read it; and the last failure, unless something came up after it.
fn told(timeline: &str) -> (String, Option<Failure>) {
    let mut text = String::new();
    let mut last = None;
    for line in timeline.lines() {
        let Ok(mut line) = serde_json::from_str::<Value>(line) else { continue };
        let time = line["time"].as_str().unwrap_or_default().to_owned();
        let event = line["event"].take();
        if let Ok(failure) = serde_json::from_value::<Failure>(line["failure"].take()) {
            text.push_str(&format!("{time} FAILED {}\n", failure.message));
            last = Some(failure);
            continue;
        }
        let word = event["type"].as_str().unwrap_or_default();
        if word == "ready" {
            last = None;
        }
        let node = match (&event["node"]["kind"], &event["node"]["name"]) {
            (Value::String(kind), Value::String(name)) => format!(" {kind} {name}"),
            _ => String::new(),
        };
        let mut said: Vec<String> = Vec::new();
        for field in ["detail", "message", "command", "image", "cluster"] {
            said.extend(event[field].as_str().filter(|text| !text.is_empty()).map(str::to_owned));
        }
        let state = event["state"]["is"].as_str().map(|state| format!(" {state}")).unwrap_or_default();
        let said = if said.is_empty() { String::new() } else { format!(": {}", said.join(", ")) };
        let at = event["at"].as_u64().unwrap_or_default();
        text.push_str(&format!("{time} +{at}ms {word}{node}{state}{said}\n"));
    }
    (text, last)
}

fn versions(record: Option<&Record>) -> Value {
    let line = |path: &str| fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
    let system = line("/etc/os-release").and_then(|text| {
        let name = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
        Some(name.trim_matches('"').to_owned())
    });
    json!({
        "envctl": env!("CARGO_PKG_VERSION"),
        "kernel": line("/proc/sys/kernel/osrelease"),
        "system": system,
        "architecture": std::env::consts::ARCH,
        "processors": std::thread::available_parallelism().ok().map(std::num::NonZero::get),
        "cluster": record.map(|record| record.cluster.clone()),
        "user": nix::unistd::Uid::current().as_raw(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timeline_reads_as_it_happened_and_a_failure_that_was_mended_is_none() {
        let failure = Failure::new(None, crate::provision::Cause::NeverReady, "too slow");
        let lines = [
            json!({"time": "T1", "event": {"type": "node", "node": {"kind": "service", "name": "api"},
                "state": {"is": "starting"}, "detail": "0 of 1 ready", "at": 12}}),
            json!({"time": "T2", "failure": failure}),
        ];
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let (shown, last) = told(&text);
        assert_eq!(shown, "T1 +12ms node service api starting: 0 of 1 ready\nT2 FAILED too slow\n");
        assert_eq!(last, Some(failure));
        let ready = json!({"time": "T3", "event": {"type": "ready", "at": 20}});
        assert_eq!(told(&format!("{text}{ready}\n")).1, None);
    }
}
