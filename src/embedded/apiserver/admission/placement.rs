//! Where a pod runs, decided when it is created.
//!
//! A deviation that saves a round trip: upstream's scheduler binds pods after they are stored. Here, when
//! there is exactly one schedulable, ready node, the pod names no other scheduler, has no scheduling gates
//! and its node selector matches, it is stored already bound, with the condition the scheduler would
//! set. Everything else stays unbound and is left to a scheduler (the `binding` subresource).

use serde_json::{Value, json};

use super::super::Server;
use super::super::meta;
use super::super::store::ResourceId;

const NODES: ResourceId = ResourceId::new("", "nodes");

/// Binds a new pod to the only node, if it may run there.
pub fn admit(server: &Server, pod: &mut Value) {
    let spec = &pod["spec"];
    if spec["nodeName"].as_str().is_some_and(|name| !name.is_empty()) {
        return;
    }
    let nodes = server.store.all(NODES, "");
    let [node] = nodes.as_slice() else { return };
    let node = node.value();
    if !fits(spec, &node) {
        return;
    }
    let name = node["metadata"]["name"].clone();
    meta::child(pod, "spec").insert("nodeName".to_owned(), name);
    let conditions = meta::child(pod, "status").entry("conditions").or_insert_with(|| json!([]));
    if let Some(conditions) = conditions.as_array_mut() {
        conditions.push(json!({
            "type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": meta::now(),
        }));
    }
}

fn fits(spec: &Value, node: &Value) -> bool {
    let default_scheduler = matches!(spec["schedulerName"].as_str(), None | Some("" | "default-scheduler"));
    let gated = spec["schedulingGates"].as_array().is_some_and(|gates| !gates.is_empty());
    let conditions = node["status"]["conditions"].as_array().into_iter().flatten();
    let ready = conditions.into_iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True");
    let labels = &node["metadata"]["labels"];
    let selected = spec["nodeSelector"].as_object().into_iter().flatten().all(|(key, value)| labels[key] == *value);
    // What a required affinity asks for is a scheduler's to weigh.
    let affine = spec["affinity"].is_null();
    let taints = node["spec"]["taints"].as_array().into_iter().flatten();
    let tolerated =
        taints.filter(|taint| matches!(taint["effect"].as_str(), Some("NoSchedule" | "NoExecute"))).all(|taint| {
            spec["tolerations"].as_array().into_iter().flatten().any(|toleration| tolerates(toleration, taint))
        });
    default_scheduler && !gated && ready && node["spec"]["unschedulable"] != true && selected && affine && tolerated
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_unconstrained_pod_on_a_ready_node() {
        let ready = json!({"metadata": {"name": "node", "labels": {"a": "b"}}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}});
        assert!(fits(&json!({}), &ready));
        assert!(fits(&json!({"nodeSelector": {"a": "b"}}), &ready));
        assert!(!fits(&json!({"nodeSelector": {"a": "c"}}), &ready));
        assert!(!fits(&json!({"schedulingGates": [{"name": "g"}]}), &ready));
        assert!(!fits(&json!({"schedulerName": "mine"}), &ready));
        let mut tainted = ready.clone();
        tainted["spec"]["taints"] = json!([{"key": "k", "effect": "NoSchedule"}]);
        assert!(!fits(&json!({}), &tainted));
        assert!(fits(&json!({"tolerations": [{"operator": "Exists"}]}), &tainted));
        assert!(!fits(&json!({}), &json!({"metadata": {"name": "node"}})));
    }
}
