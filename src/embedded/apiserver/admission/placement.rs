//! Where a pod runs: this cluster's scheduler.
//!
//! A deviation that saves a round trip: upstream's scheduler binds pods after they are stored. Here a pod
//! that fits a node is stored already bound, with the condition the scheduler would set; one that
//! fits nowhere says why, in upstream's words, and is bound as soon as a node changes so that it fits.
//! Filters follow `pkg/scheduler/framework/plugins/{nodeunschedulable,tainttoleration,nodeaffinity}`. Requests aren't
//! weighed, preferences neither; required pod affinity is left to another scheduler, and the pod says so.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::super::store::{Index, Key, ResourceId, Stored, Write, fields};
use super::super::{Scheduling, Server, meta};

const NODES: ResourceId = ResourceId::new("", "nodes");
const PODS: ResourceId = ResourceId::new("", "pods");
const EVENTS: ResourceId = ResourceId::new("", "events");

/// What there is to say of a pod.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// It runs on the node of this name.
    Here(String),
    /// It fits no node, for this reason.
    Nowhere(String),
    /// It is bound or gated, names another scheduler, or there is no node at all yet.
    Nothing,
}

/// Binds a new pod, or says why it can't be.
pub fn admit(server: &Server, pod: &mut Value) {
    judge(server, pod);
}

/// A pod or node was written: places what can be placed now. A pod that was admitted before a node came, and stored
/// after that node looked for waiting pods, is found here too. `is_new` pods that fit nowhere get an event.
pub fn stored(server: &Server, resource: ResourceId, stored: &Arc<Stored>, is_new: bool) {
    if resource == PODS && waits(&stored.index) {
        place(server, Arc::clone(stored), is_new);
    } else if resource == NODES {
        for pod in server.store.all(PODS, "").into_iter().filter(|pod| waits(&pod.index)) {
            place(server, pod, false);
        }
    }
}

/// Whether a pod is bound to no node yet.
fn waits(pod: &Index) -> bool {
    let at = fields::selectable(PODS).iter().position(|field| *field == "spec.nodeName");
    !pod.deleting && at.and_then(|at| pod.fields.get(at)).is_some_and(|node| node.is_empty())
}

fn place(server: &Server, mut stored: Arc<Stored>, is_new: bool) {
    loop {
        let mut pod = stored.value();
        let before = pod["status"]["conditions"].clone();
        let verdict = judge(server, &mut pod);
        if let (Verdict::Nowhere(message), true) = (&verdict, is_new) {
            tell(server, &stored, message);
        }
        if verdict == Verdict::Nothing || pod["status"]["conditions"] == before {
            return;
        }
        let key = Key::new(&stored.index.namespace, &stored.index.name);
        if server.store.commit(PODS, key, Some(&stored), Write::Put(&mut pod)).is_ok() {
            return;
        }
        // Somebody else wrote it: the newer state is judged.
        match server.store.get(PODS, &stored.index.namespace, &stored.index.name) {
            Some(newer) if waits(&newer.index) => stored = newer,
            _ => return,
        }
    }
}

/// Judges a pod and writes the verdict into it.
fn judge(server: &Server, pod: &mut Value) -> Verdict {
    if server.config.scheduling == Scheduling::Scheduler {
        return Verdict::Nothing;
    }
    let nodes: Vec<Value> = server.store.all(NODES, "").iter().map(|node| node.value()).collect();
    let verdict = verdict(pod, &nodes);
    match &verdict {
        Verdict::Here(node) => {
            meta::child(pod, "spec").insert("nodeName".to_owned(), node.clone().into());
            set_scheduled(pod, &json!({"type": "PodScheduled", "status": "True"}));
        }
        Verdict::Nowhere(message) => set_scheduled(
            pod,
            &json!({"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}),
        ),
        Verdict::Nothing => {}
    }
    verdict
}

/// Sets the condition, unless it says so already.
fn set_scheduled(pod: &mut Value, condition: &Value) {
    let conditions = meta::child(pod, "status").entry("conditions").or_insert_with(|| json!([]));
    let Some(conditions) = conditions.as_array_mut() else { return };
    let says = |old: &Value| ["status", "reason", "message"].iter().all(|field| old[field] == condition[field]);
    let old = conditions.iter_mut().find(|old| old["type"] == "PodScheduled");
    if old.as_ref().is_some_and(|old| says(old)) {
        return;
    }
    let mut condition = condition.clone();
    condition["lastProbeTime"] = Value::Null;
    condition["lastTransitionTime"] = meta::now().into();
    match old {
        Some(old) => *old = condition,
        None => conditions.push(condition),
    }
}

fn verdict(pod: &Value, nodes: &[Value]) -> Verdict {
    let spec = &pod["spec"];
    let bound = spec["nodeName"].as_str().is_some_and(|name| !name.is_empty());
    let ours = matches!(spec["schedulerName"].as_str(), None | Some("" | "default-scheduler"));
    let gated = spec["schedulingGates"].as_array().is_some_and(|gates| !gates.is_empty());
    let over = matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    if bound || !ours || gated || over || nodes.is_empty() {
        return Verdict::Nothing;
    }
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    for node in nodes {
        match obstacle(spec, node) {
            None => return Verdict::Here(meta::text(node, "name").to_owned()),
            Some(reason) => *reasons.entry(reason).or_default() += 1,
        }
    }
    // `FitError.Error`
    let reasons: Vec<String> = reasons.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    Verdict::Nowhere(format!("0/{} nodes are available: {}.", nodes.len(), reasons.join(", ")))
}

/// Why a pod doesn't fit a node.
fn obstacle(spec: &Value, node: &Value) -> Option<&'static str> {
    let tolerated = |taint: &Value| {
        spec["tolerations"].as_array().into_iter().flatten().any(|toleration| tolerates(toleration, taint))
    };
    let taint = |key: &str| json!({"key": key, "effect": "NoSchedule"});
    if node["spec"]["unschedulable"] == true && !tolerated(&taint("node.kubernetes.io/unschedulable")) {
        return Some("node(s) were unschedulable");
    }
    let conditions = node["status"]["conditions"].as_array().into_iter().flatten();
    let ready = conditions.into_iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True");
    let taints = node["spec"]["taints"].as_array().into_iter().flatten();
    let mut hard = taints.filter(|taint| matches!(taint["effect"].as_str(), Some("NoSchedule" | "NoExecute")));
    // A node that isn't ready is tainted so by upstream's node lifecycle controller.
    if (!ready && !tolerated(&taint("node.kubernetes.io/not-ready"))) || !hard.all(tolerated) {
        return Some("node(s) had untolerated taint(s)");
    }
    let labels = &node["metadata"]["labels"];
    let mut wanted = spec["nodeSelector"].as_object().into_iter().flatten();
    if !wanted.all(|(key, value)| labels[key] == *value) || !affine(&spec["affinity"]["nodeAffinity"], node) {
        return Some("node(s) didn't match Pod's node affinity/selector");
    }
    let required = |kind: &str| {
        spec["affinity"][kind]["requiredDuringSchedulingIgnoredDuringExecution"]
            .as_array()
            .is_some_and(|terms| !terms.is_empty())
    };
    (required("podAffinity") || required("podAntiAffinity"))
        .then_some("node(s) were not weighed: this cluster leaves required pod affinity to another scheduler")
}

/// `RequiredNodeAffinity.Match`: any term of all its requirements.
fn affine(affinity: &Value, node: &Value) -> bool {
    let required = &affinity["requiredDuringSchedulingIgnoredDuringExecution"];
    let Some(terms) = required["nodeSelectorTerms"].as_array() else { return true };
    let meets = |requirement: &Value, value: Option<&str>| {
        let values: Vec<&str> =
            requirement["values"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let number = |text: Option<&str>| text.and_then(|text| text.parse::<i64>().ok());
        let bound = number(values.first().copied());
        match requirement["operator"].as_str() {
            Some("In") => value.is_some_and(|value| values.contains(&value)),
            Some("NotIn") => value.is_none_or(|value| !values.contains(&value)),
            Some("Exists") => value.is_some(),
            Some("DoesNotExist") => value.is_none(),
            Some("Gt") => number(value).zip(bound).is_some_and(|(value, bound)| value > bound),
            Some("Lt") => number(value).zip(bound).is_some_and(|(value, bound)| value < bound),
            _ => false,
        }
    };
    terms.iter().any(|term| {
        let list = |field: &str| term[field].as_array().cloned().unwrap_or_default();
        let (labels, fields) = (list("matchExpressions"), list("matchFields"));
        let label = |requirement: &Value| {
            let key = requirement["key"].as_str().unwrap_or_default();
            meets(requirement, node["metadata"]["labels"][key].as_str())
        };
        let name = |requirement: &Value| meets(requirement, Some(meta::text(node, "name")));
        // A term without requirements matches nothing.
        !(labels.is_empty() && fields.is_empty()) && labels.iter().all(label) && fields.iter().all(name)
    })
}

/// `Toleration.ToleratesTaint`
fn tolerates(toleration: &Value, taint: &Value) -> bool {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let effect = text(&toleration["effect"]);
    let key = text(&toleration["key"]);
    (effect.is_empty() || effect == text(&taint["effect"]))
        && (key.is_empty() || key == text(&taint["key"]))
        && match toleration["operator"].as_str() {
            Some("Exists") => true,
            _ => text(&toleration["value"]) == text(&taint["value"]),
        }
}

/// The scheduler's event of a pod that fits nowhere.
fn tell(server: &Server, pod: &Stored, message: &str) {
    let now = jiff::Timestamp::now();
    let (namespace, name, time) = (&*pod.index.namespace, &*pod.index.name, meta::timestamp(now));
    let mut event = json!({
        "kind": "Event", "apiVersion": "v1",
        "metadata": {
            "name": format!("{name}.{:x}", now.as_nanosecond()), "namespace": namespace,
            "uid": meta::new_uid(), "creationTimestamp": time,
        },
        "involvedObject": {
            "kind": "Pod", "apiVersion": "v1", "namespace": namespace, "name": name, "uid": &*pod.index.uid,
            "resourceVersion": pod.index.revision.to_string(),
        },
        "type": "Warning", "reason": "FailedScheduling", "message": message, "count": 1,
        "firstTimestamp": time, "lastTimestamp": time, "source": {"component": "default-scheduler"},
        "reportingComponent": "default-scheduler", "reportingInstance": "",
    });
    let key = Key::new(namespace, meta::text(&event, "name"));
    if let Err(error) = server.store.commit(EVENTS, key, None, Write::Put(&mut event)) {
        tracing::debug!(%error, pod = name, "an event of a pod that fits nowhere");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(spec: Value, node: &Value) -> bool {
        obstacle(&spec, node).is_none()
    }

    #[test]
    fn only_what_a_node_takes() {
        let ready = json!({"metadata": {"name": "node", "labels": {"a": "b"}}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}});
        assert!(fits(json!({}), &ready));
        assert!(fits(json!({"nodeSelector": {"a": "b"}}), &ready));
        assert!(!fits(json!({"nodeSelector": {"a": "c"}}), &ready));
        let mut tainted = ready.clone();
        tainted["spec"]["taints"] = json!([{"key": "k", "effect": "NoSchedule"}]);
        assert!(!fits(json!({}), &tainted));
        assert!(fits(json!({"tolerations": [{"operator": "Exists"}]}), &tainted));
        assert!(!fits(json!({}), &json!({"metadata": {"name": "node"}})));
        let affinity = |operator: &str, values: Value| {
            json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                {"matchExpressions": [{"key": "a", "operator": operator, "values": values}]},
            ]}}}})
        };
        for (operator, values, expected) in [
            ("In", json!(["b", "c"]), true),
            ("In", json!(["c"]), false),
            ("NotIn", json!(["b"]), false),
            ("Exists", Value::Null, true),
            ("DoesNotExist", Value::Null, false),
            ("Gt", json!(["1"]), false),
        ] {
            assert_eq!(fits(affinity(operator, values), &ready), expected, "{operator}");
        }
        assert!(fits(
            json!({"affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{}]}}}),
            &ready
        ));
        assert!(!fits(
            json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{}]}}}),
            &ready
        ));
    }

    #[test]
    fn what_fits_nowhere_says_why_and_what_is_not_ours_is_left() {
        let node = json!({"metadata": {"name": "n"}, "spec": {"unschedulable": true}});
        let words = "0/2 nodes are available: 1 node(s) had untolerated taint(s), 1 node(s) were unschedulable.";
        let nodes = [node, json!({"metadata": {"name": "m"}})];
        assert_eq!(verdict(&json!({"spec": {}}), &nodes), Verdict::Nowhere(words.to_owned()));
        for spec in
            [json!({"schedulingGates": [{"name": "g"}]}), json!({"schedulerName": "mine"}), json!({"nodeName": "x"})]
        {
            assert_eq!(verdict(&json!({"spec": spec}), &nodes), Verdict::Nothing);
        }
        assert_eq!(verdict(&json!({"spec": {}}), &[]), Verdict::Nothing);
    }
}
