//! Rows of what runs pods.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::format::{
    age, any_text, condition, containers, count, human, labels, list, name, selector, since, text, text_or, time,
};
use super::{Cells, Printer, pods};

pub(super) fn printer(group: &str, kind: &str) -> Option<Printer> {
    let (columns, cells): (&'static [&'static str], Cells) = match (group, kind) {
        ("", "Pod") => (pods::COLUMNS, pods::cells),
        ("apps", "Deployment") => {
            (&["Name", "Ready", "Up-to-date", "Available", "Age", "Containers*", "Images*", "Selector*"], deployment)
        }
        ("apps", "ReplicaSet") | ("", "ReplicationController") => (
            &[
                "Name",
                "Desired:integer",
                "Current:integer",
                "Ready:integer",
                "Age",
                "Containers*",
                "Images*",
                "Selector*",
            ],
            replica_set,
        ),
        ("apps", "StatefulSet") => (&["Name", "Ready", "Age", "Containers*", "Images*"], stateful_set),
        ("apps", "DaemonSet") => (
            &[
                "Name",
                "Desired:integer",
                "Current:integer",
                "Ready:integer",
                "Up-to-date:integer",
                "Available:integer",
                "Node Selector",
                "Age",
                "Containers*",
                "Images*",
                "Selector*",
            ],
            daemon_set,
        ),
        ("batch", "Job") => {
            (&["Name", "Status", "Completions", "Duration", "Age", "Containers*", "Images*", "Selector*"], job)
        }
        ("batch", "CronJob") => (
            &[
                "Name",
                "Schedule",
                "Timezone",
                "Suspend:boolean",
                "Active:integer",
                "Last Schedule",
                "Age",
                "Containers*",
                "Images*",
                "Selector*",
            ],
            cron_job,
        ),
        ("apps", "ControllerRevision") => (&["Name", "Controller", "Revision", "Age"], controller_revision),
        ("policy", "PodDisruptionBudget") => {
            (&["Name", "Min Available", "Max Unavailable", "Allowed Disruptions:integer", "Age"], disruption_budget)
        }
        ("autoscaling", "HorizontalPodAutoscaler") => {
            (&["Name", "Reference", "Targets", "MinPods", "MaxPods", "Replicas", "Age"], autoscaler)
        }
        _ => return None,
    };
    Some(Printer { columns, cells })
}

/// Containers, images and the selector, shown only wide.
fn wide(object: &Value) -> [Value; 3] {
    let [names, images] = containers(&object["spec"]["template"]["spec"]);
    [names, images, selector(&object["spec"]["selector"]).into()]
}

fn replicas(object: &Value) -> i64 {
    object["spec"]["replicas"].as_i64().unwrap_or(1)
}

fn deployment(object: &Value, now: Timestamp) -> Vec<Value> {
    let status = &object["status"];
    let ready = format!("{}/{}", count(&status["readyReplicas"]), replicas(object));
    let numbers = [count(&status["updatedReplicas"]).into(), count(&status["availableReplicas"]).into()];
    [name(object), ready.into()].into_iter().chain(numbers).chain([age(object, now)]).chain(wide(object)).collect()
}

fn replica_set(object: &Value, now: Timestamp) -> Vec<Value> {
    let status = &object["status"];
    let counts = [replicas(object), count(&status["replicas"]), count(&status["readyReplicas"])].map(Value::from);
    let mut wide = wide(object);
    if object["kind"] == "ReplicationController" {
        wide[2] = labels(&object["spec"]["selector"]).into();
    }
    [name(object)].into_iter().chain(counts).chain([age(object, now)]).chain(wide).collect()
}

fn stateful_set(object: &Value, now: Timestamp) -> Vec<Value> {
    let ready = format!("{}/{}", count(&object["status"]["readyReplicas"]), replicas(object));
    let wide = containers(&object["spec"]["template"]["spec"]);
    [name(object), ready.into(), age(object, now)].into_iter().chain(wide).collect()
}

fn daemon_set(object: &Value, now: Timestamp) -> Vec<Value> {
    let of = [
        "desiredNumberScheduled",
        "currentNumberScheduled",
        "numberReady",
        "updatedNumberScheduled",
        "numberAvailable",
    ];
    let counts = of.map(|of| Value::from(count(&object["status"][of])));
    let nodes = labels(&object["spec"]["template"]["spec"]["nodeSelector"]);
    [name(object)].into_iter().chain(counts).chain([nodes.into(), age(object, now)]).chain(wide(object)).collect()
}

fn job(object: &Value, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (&object["spec"], &object["status"]);
    let (done, parallelism) = (count(&status["succeeded"]), count(&spec["parallelism"]));
    let completions = match spec["completions"].as_i64() {
        Some(completions) => format!("{done}/{completions}"),
        None if parallelism > 1 => format!("{done}/1 of {parallelism}"),
        None => format!("{done}/1"),
    };
    let took = time(&status["startTime"]).map(|start| {
        let end = time(&status["completionTime"]).unwrap_or(now);
        human(end.as_second() - start.as_second())
    });
    let has = |type_: &str| condition(object, type_).is_some_and(|condition| condition["status"] == "True");
    let state = if has("Complete") {
        "Complete"
    } else if has("Failed") {
        "Failed"
    } else if object["metadata"]["deletionTimestamp"].is_string() {
        "Terminating"
    } else if has("Suspended") {
        "Suspended"
    } else if has("FailureTarget") {
        "FailureTarget"
    } else if has("SuccessCriteriaMet") {
        "SuccessCriteriaMet"
    } else {
        "Running"
    };
    let cells = [name(object), state.into(), completions.into(), took.unwrap_or_default().into(), age(object, now)];
    cells.into_iter().chain(wide(object)).collect()
}

fn cron_job(object: &Value, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (&object["spec"], &object["status"]);
    let last = &status["lastScheduleTime"];
    let last = if last.is_null() { "<none>".to_owned() } else { since(last, now) };
    let suspend = spec["suspend"].as_bool().map_or("<unset>", |suspend| if suspend { "True" } else { "False" });
    let cells = [
        name(object),
        text(&spec["schedule"]).into(),
        text_or(&spec["timeZone"], "<none>").into(),
        suspend.into(),
        list(&status["active"]).len().into(),
        last.into(),
        age(object, now),
    ];
    cells.into_iter().chain(wide(&spec["jobTemplate"])).collect()
}

fn controller_revision(object: &Value, now: Timestamp) -> Vec<Value> {
    let owners = list(&object["metadata"]["ownerReferences"]);
    let owner = owners.iter().find(|owner| owner["controller"] == true).map(|owner| {
        let api = text(&owner["apiVersion"]);
        let group = api.split_once('/').map(|(group, _)| format!(".{group}")).unwrap_or_default();
        format!("{}{group}/{}", text(&owner["kind"]).to_lowercase(), text(&owner["name"]))
    });
    let owner = owner.unwrap_or_else(|| "<none>".to_owned());
    vec![name(object), owner.into(), count(&object["revision"]).into(), age(object, now)]
}

fn disruption_budget(object: &Value, now: Timestamp) -> Vec<Value> {
    let of = |field: &str| {
        let value = &object["spec"][field];
        if value.is_null() { json!("N/A") } else { any_text(value).into() }
    };
    let allowed = count(&object["status"]["disruptionsAllowed"]).into();
    vec![name(object), of("minAvailable"), of("maxUnavailable"), allowed, age(object, now)]
}

fn autoscaler(object: &Value, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (&object["spec"], &object["status"]);
    let target = &spec["scaleTargetRef"];
    let minimum = spec["minReplicas"].as_i64().map_or_else(|| "<unset>".to_owned(), |minimum| minimum.to_string());
    let metrics: Vec<String> = list(&spec["metrics"])
        .iter()
        .enumerate()
        .map(|(at, metric)| metric_text(metric, &status["currentMetrics"][at]))
        .collect();
    vec![
        name(object),
        format!("{}/{}", text(&target["kind"]), text(&target["name"])).into(),
        // Upstream separates these by a comma and a space.
        super::format::first(&metrics, 2, ", ").into(),
        minimum.into(),
        count(&spec["maxReplicas"]).into(),
        count(&status["currentReplicas"]).into(),
        age(object, now),
    ]
}

/// One metric of `formatHPAMetrics`.
fn metric_text(metric: &Value, current: &Value) -> String {
    let (field, named) = match metric["type"].as_str() {
        Some("External") => ("external", false),
        Some("Pods") => ("pods", false),
        Some("Object") => ("object", false),
        Some("Resource") => ("resource", true),
        Some("ContainerResource") => ("containerResource", true),
        _ => return "<unknown type>".to_owned(),
    };
    let (target, now) = (&metric[field]["target"], &current[field]["current"]);
    let prefix = if named { format!("{}: ", text(&metric[field]["name"])) } else { String::new() };
    let value = |of: &str| text_or(&now[of], "<unknown>");
    if let Some(average) = target["averageValue"].as_str() {
        let suffix = if matches!(field, "external" | "object") { " (avg)" } else { "" };
        return format!("{prefix}{}/{average}{suffix}", value("averageValue"));
    }
    if named {
        let percent =
            |of: &Value, otherwise: &str| of.as_i64().map_or_else(|| otherwise.to_owned(), |of| format!("{of}%"));
        let (now, target) = (&now["averageUtilization"], &target["averageUtilization"]);
        return format!("{prefix}{}/{}", percent(now, "<unknown>"), percent(target, "<auto>"));
    }
    format!("{}/{}", value("value"), text(&target["value"]))
}
