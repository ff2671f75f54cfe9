//! Priority, default tolerations and requests of pods (`plugin/pkg/admission/{priority,defaulttolerationseconds}`,
//! and `SetDefaults_Pod` for requests that follow from limits).

use serde_json::{Value, json};

use super::super::context::Context;
use super::super::meta;
use super::super::status::Status;
use super::super::store::ResourceId;

const CLASSES: ResourceId = ResourceId::new("scheduling.k8s.io", "priorityclasses");
const TOLERATION_SECONDS: u32 = 300;

/// Fills in a new pod.
pub fn admit(context: &Context<'_>, pod: &mut Value) -> Result<(), Status> {
    priority(context, pod)?;
    tolerations(pod);
    let class = super::super::strategy::qos_class(&pod["spec"]);
    meta::child(pod, "status").insert("qosClass".to_owned(), class.into());
    Ok(())
}

fn priority(context: &Context<'_>, pod: &mut Value) -> Result<(), Status> {
    let name = meta::text(pod, "name").to_owned();
    let spec = meta::child(pod, "spec");
    let class = spec.get("priorityClassName").and_then(Value::as_str).filter(|class| !class.is_empty());
    let (value, policy) = match class {
        None => {
            let default = context.server.store.all(CLASSES, "").into_iter().map(|class| class.value());
            let default = default.into_iter().find(|class| class["globalDefault"] == true);
            let policy = default.as_ref().and_then(|class| class["preemptionPolicy"].as_str()).map(str::to_owned);
            if let Some(class) = &default {
                spec.insert("priorityClassName".to_owned(), class["metadata"]["name"].clone());
            }
            (default.and_then(|class| class["value"].as_i64()).unwrap_or(0), policy)
        }
        Some(class) => {
            let found = context.server.store.get(CLASSES, "", class).ok_or_else(|| {
                Status::forbidden(
                    context.row.resource(),
                    &name,
                    &format!("no PriorityClass with name {class} was found"),
                )
            })?;
            let found = found.value();
            (found["value"].as_i64().unwrap_or(0), found["preemptionPolicy"].as_str().map(str::to_owned))
        }
    };
    if let Some(given) = spec.get("priority").and_then(Value::as_i64).filter(|given| *given != value) {
        return Err(Status::forbidden(
            context.row.resource(),
            &name,
            &format!(
                "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller computed {value} from the given PriorityClass name"
            ),
        ));
    }
    spec.insert("priority".to_owned(), value.into());
    spec.entry("preemptionPolicy")
        .or_insert_with(|| policy.unwrap_or_else(|| "PreemptLowerPriority".to_owned()).into());
    Ok(())
}

fn tolerations(pod: &mut Value) {
    let spec = meta::child(pod, "spec");
    let list = spec.entry("tolerations").or_insert_with(|| json!([]));
    if list.is_null() {
        *list = json!([]);
    }
    let Some(list) = list.as_array_mut() else { return };
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let tolerated = list.iter().any(|toleration| {
            let keyed = toleration["key"].as_str().unwrap_or_default();
            let effect = toleration["effect"].as_str().unwrap_or_default();
            (keyed == key || keyed.is_empty()) && (effect == "NoExecute" || effect.is_empty())
        });
        if !tolerated {
            list.push(json!({
                "key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": TOLERATION_SECONDS,
            }));
        }
    }
}
