//! What the workload controllers decide, as data: each file under `tests/golden/controllers` has an `input` (objects as the caches
//! show them) and the `output` it must lead to. `ENVCTL_UPDATE_GOLDEN=1` rewrites the outputs; read the difference before keeping it.

#![cfg(feature = "cli")]

use std::path::Path;
use std::sync::Arc;

use envctl::embedded::controllers::shared::events::Note;
use envctl::embedded::controllers::shared::view::Pod;
use envctl::embedded::controllers::{deployment, job, replica_set};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ReplicaSet;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// All inputs are seen at this moment.
const NOW: &str = "2026-01-01T00:01:00Z";

fn now() -> Timestamp {
    NOW.parse().expect("a time")
}

fn get<T: DeserializeOwned>(input: &Value, field: &str) -> T {
    serde_json::from_value(input[field].clone()).unwrap_or_else(|error| panic!("{field}: {error}"))
}

fn pods(input: &Value) -> Vec<Arc<Pod>> {
    let list: Option<Vec<Pod>> = get(input, "pods");
    list.unwrap_or_default().into_iter().map(Arc::new).collect()
}

fn names<'a>(pods: impl IntoIterator<Item = &'a Arc<Pod>>) -> Vec<&'a str> {
    pods.into_iter().filter_map(|pod| pod.metadata.name.as_deref()).collect()
}

fn said(note: &Note) -> String {
    format!("{}: {}", note.reason, note.message)
}

/// Without what is empty: an output says what happens.
fn compact(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept = map.into_iter().map(|(key, value)| (key, compact(value)));
            kept.filter(|(_, value)| !matches!(value, Value::Null) && *value != json!({}) && *value != json!([]))
                .collect()
        }
        Value::Array(list) => list.into_iter().map(compact).collect(),
        other => other,
    }
}

fn check(room: &str, decide: impl Fn(&Value) -> Value) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/controllers").join(room);
    let (mut seen, mut wrong) = (0, Vec::new());
    for entry in std::fs::read_dir(directory).expect("golden files") {
        let path = entry.expect("an entry").path();
        let text = std::fs::read_to_string(&path).expect("readable");
        let file: Value = serde_yaml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let output = compact(decide(&file["input"]));
        seen += 1;
        if std::env::var_os("ENVCTL_UPDATE_GOLDEN").is_some() {
            let input = text.split("\noutput:").next().expect("there is always a first part").trim_end();
            let output = serde_yaml::to_string(&json!({ "output": output })).expect("written");
            std::fs::write(&path, format!("{input}\n{output}")).expect("written");
        } else if output != file["output"] {
            let output = serde_yaml::to_string(&output).expect("written");
            wrong.push(format!("{}: decided\n{output}", path.display()));
        }
    }
    assert!(seen > 0 && wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn replica_sets() {
    check("replica_set", |input| {
        let (set, pods) = (get(input, "set"), pods(input));
        let observed = replica_set::decide::Observed { set: &set, pods: &pods, related: &pods, now: now() };
        match replica_set::decide::decide(&observed) {
            replica_set::decide::Action::Nothing => json!({"nothing": true}),
            replica_set::decide::Action::Create(count) => json!({"create": count}),
            replica_set::decide::Action::Delete(pods) => json!({"delete": names(&pods)}),
        }
    });
}

#[test]
fn jobs() {
    check("job", |input| {
        let (job, pods, backoff) = (get(input, "job"), pods(input), job::backoff::Backoff::default());
        let observed = job::decide::Observed { job: &job, pods: &pods, backoff: &backoff, now: now() };
        let decision = job::decide::decide(&observed);
        json!({
            "delete": names(decision.delete.iter().map(|(pod, _)| pod)),
            "create": decision.create.len(),
            "counted": decision.counted,
            "strip": decision.strip.iter().map(|meta| meta.name.clone()).collect::<Vec<_>>(),
            "settled": decision.settled,
            "events": decision.notes.iter().map(said).collect::<Vec<_>>(),
            "againSeconds": decision.again.map(|again| again.as_secs()),
        })
    });
}

#[test]
fn deployments() {
    use deployment::decide::Action;
    check("deployment", |input| {
        let (deployment, sets): (_, Option<Vec<ReplicaSet>>) = (get(input, "deployment"), get(input, "sets"));
        let sets: Vec<Arc<ReplicaSet>> = sets.unwrap_or_default().into_iter().map(Arc::new).collect();
        let running: Option<Vec<String>> = get(input, "running");
        let running = running.unwrap_or_default().into_iter().collect();
        let observed = deployment::decide::Observed { deployment: &deployment, sets: &sets, running, now: now() };
        let decision = deployment::decide::decide(&observed);
        let of_set = |set: &ReplicaSet, note: &Option<Note>| {
            let annotations = set.metadata.annotations.clone().unwrap_or_default();
            json!({"name": set.metadata.name, "replicas": set.spec.as_ref().and_then(|spec| spec.replicas),
                "revision": annotations.get("deployment.kubernetes.io/revision"), "event": note.as_ref().map(said)})
        };
        let actions = decision.actions.iter().map(|action| match action {
            Action::Create { set, note, .. } => json!({"create": of_set(set, note)}),
            Action::Update { set, note } => json!({"update": of_set(set, note)}),
            Action::Delete(meta) => json!({"delete": meta.name}),
            Action::Status(deployment) => json!({"status": deployment.status}),
            Action::Rollback(deployment) => json!({"rollback": deployment.spec.as_ref().map(|spec| &spec.template)}),
            Action::Note(note) => json!({"event": said(note)}),
        });
        json!({"actions": actions.collect::<Vec<_>>(), "againSeconds": decision.again.map(|again| again.as_secs())})
    });
}
