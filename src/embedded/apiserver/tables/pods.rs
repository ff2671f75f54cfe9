//! A pod's row: `printPod` of `printers.go`.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::format::{age, condition, count, list, name, since, text, text_or, time};

pub(super) const COLUMNS: &[&str] =
    &["Name", "Ready", "Status", "Restarts", "Age", "IP*", "Node*", "Nominated Node*", "Readiness Gates*"];

#[derive(Default)]
struct Restarts {
    count: i64,
    last: Option<Timestamp>,
    last_text: Value,
}

impl Restarts {
    fn add(&mut self, status: &Value) {
        self.count += count(&status["restartCount"]);
        let at = &status["lastState"]["terminated"]["finishedAt"];
        if time(at) > self.last {
            (self.last, self.last_text) = (time(at), at.clone());
        }
    }
}

pub(super) fn cells(pod: &Value, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (&pod["spec"], &pod["status"]);
    let is_sidecar = |name: &Value| {
        list(&spec["initContainers"]).iter().any(|c| c["name"] == *name && c["restartPolicy"] == "Always")
    };
    let sidecars = list(&spec["initContainers"]).iter().filter(|c| c["restartPolicy"] == "Always").count();
    let total = list(&spec["containers"]).len() + sidecars;
    let mut reason = text_or(&status["reason"], &text(&status["phase"]));
    if condition(pod, "PodScheduled").is_some_and(|condition| condition["reason"] == "SchedulingGated") {
        reason = "SchedulingGated".to_owned();
    }
    let (mut all, mut of_sidecars) = (Restarts::default(), Restarts::default());
    let (mut ready, mut initializing) = (0, false);
    for (at, init) in list(&status["initContainerStatuses"]).iter().enumerate() {
        all.add(init);
        let sidecar = is_sidecar(&init["name"]);
        if sidecar {
            of_sidecars.add(init);
        }
        let (terminated, waiting) = (&init["state"]["terminated"], &init["state"]["waiting"]);
        if terminated.is_object() && count(&terminated["exitCode"]) == 0 {
            continue;
        }
        if sidecar && init["started"] == true {
            ready += usize::from(init["ready"] == true);
            continue;
        }
        let waits = text(&waiting["reason"]);
        reason = if terminated.is_object() {
            format!("Init:{}", ended(terminated))
        } else if !waits.is_empty() && waits != "PodInitializing" {
            format!("Init:{waits}")
        } else {
            format!("Init:{at}/{}", list(&spec["initContainers"]).len())
        };
        initializing = true;
        break;
    }
    let initialized = condition(pod, "Initialized").is_some_and(|condition| condition["status"] == "True");
    if !initializing || initialized {
        all = of_sidecars;
        let (mut running, mut failed) = (false, None);
        for container in list(&status["containerStatuses"]).iter().rev() {
            all.add(container);
            let (terminated, waiting) = (&container["state"]["terminated"], &container["state"]["waiting"]);
            if !text(&waiting["reason"]).is_empty() {
                reason = text(&waiting["reason"]);
            } else if terminated.is_object() {
                reason = ended(terminated);
                if count(&terminated["exitCode"]) != 0 {
                    failed = Some(reason.clone());
                }
            } else if container["ready"] == true && container["state"]["running"].is_object() {
                running = true;
                ready += 1;
            }
        }
        if reason == "Completed" {
            let pod_ready = condition(pod, "Ready").is_some_and(|condition| condition["status"] == "True");
            if running && pod_ready {
                reason = "Running".to_owned();
            } else if let Some(failed) = failed {
                reason = failed;
            } else if running {
                reason = "NotReady".to_owned();
            }
        }
    }
    if pod["metadata"]["deletionTimestamp"].is_string() {
        let finished = matches!(status["phase"].as_str(), Some("Succeeded" | "Failed"));
        if status["reason"] == "NodeLost" {
            reason = "Unknown".to_owned();
        } else if !finished {
            reason = "Terminating".to_owned();
        }
    }
    let restarts = if all.count != 0 && all.last.is_some() {
        format!("{} ({} ago)", all.count, since(&all.last_text, now))
    } else {
        all.count.to_string()
    };
    vec![
        name(pod),
        format!("{ready}/{total}").into(),
        reason.into(),
        restarts.into(),
        age(pod, now),
        text_or(&status["podIPs"][0]["ip"], "<none>").into(),
        text_or(&spec["nodeName"], "<none>").into(),
        text_or(&status["nominatedNodeName"], "<none>").into(),
        gates(pod),
    ]
}

/// Why a container ended.
fn ended(terminated: &Value) -> String {
    let reason = text(&terminated["reason"]);
    if !reason.is_empty() {
        reason
    } else if count(&terminated["signal"]) != 0 {
        format!("Signal:{}", terminated["signal"])
    } else {
        format!("ExitCode:{}", count(&terminated["exitCode"]))
    }
}

fn gates(pod: &Value) -> Value {
    let gates = list(&pod["spec"]["readinessGates"]);
    if gates.is_empty() {
        return json!("<none>");
    }
    let met = |gate: &&Value| {
        condition(pod, gate["conditionType"].as_str().unwrap_or_default()).is_some_and(|of| of["status"] == "True")
    };
    format!("{}/{}", gates.iter().filter(met).count(), gates.len()).into()
}
