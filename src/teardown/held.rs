//! What a namespace's deletion waits for, object by object, with who could help. Asked only once it has taken too long.

use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, DynamicObject, ListParams};
use kube::discovery::{Discovery, Scope, verbs};

/// How long looking for it may take.
const LOOKING: Duration = Duration::from_secs(15);
/// More names than this say no more.
const MANY: usize = 20;

/// One sentence for each object that holds the namespace; never empty.
pub async fn by(client: &kube::Client, name: &str) -> Vec<String> {
    let looked = tokio::time::timeout(LOOKING, look(client, name)).await;
    let found = match looked {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => {
            vec![format!("namespace {name} is still being deleted (what holds it cannot be told: {error})")]
        }
        Err(_late) => Vec::new(),
    };
    if found.is_empty() {
        vec![format!("namespace {name} is still being deleted; `envctl gc` looks again")]
    } else {
        found
    }
}

async fn look(client: &kube::Client, name: &str) -> kube::Result<Vec<String>> {
    let namespace: Option<Namespace> = Api::all(client.clone()).get_opt(name).await?;
    let Some(namespace) = namespace else { return Ok(Vec::new()) };
    let discovery = Discovery::new(client.clone()).run().await?;
    let mut lists = Vec::new();
    for group in discovery.groups() {
        for (resource, capabilities) in group.recommended_resources() {
            if capabilities.scope == Scope::Namespaced && capabilities.supports_operation(verbs::LIST) {
                let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), name, &resource);
                lists.push(async move { (resource.kind, resource.plural, api.list(&ListParams::default()).await) });
            }
        }
    }
    let mut found = Vec::new();
    for (kind, plural, list) in join_all(lists).await {
        // A kind that cannot be listed holds the namespace too; its own condition says so, below.
        for object in list.map(|list| list.items).unwrap_or_default() {
            found.extend(sentence(&kind, &plural, name, &object));
        }
    }
    found.sort();
    let more = found.len().saturating_sub(MANY);
    found.truncate(MANY);
    if more > 0 {
        found.push(format!("and {more} more objects in namespace {name}"));
    }
    if found.is_empty() {
        found = conditions(&namespace);
    }
    Ok(found)
}

/// Why an object that is to go isn't gone, and what to do. Nothing for one that nobody has deleted yet.
fn sentence(kind: &str, plural: &str, namespace: &str, object: &DynamicObject) -> Option<String> {
    object.metadata.deletion_timestamp.as_ref()?;
    let name = object.metadata.name.as_deref().unwrap_or_default();
    let finalizers = object.metadata.finalizers.as_deref().unwrap_or_default();
    if finalizers.is_empty() {
        return Some(format!("{kind}/{name} in namespace {namespace} is still ending"));
    }
    Some(format!(
        "{kind}/{name} in namespace {namespace} is held by its finalizer {}: whoever put that there has to finish; if that \
         is gone for good: kubectl -n {namespace} patch {plural} {name} --type=merge -p '{{\"metadata\":{{\"finalizers\":null}}}}'",
        finalizers.join(", ")
    ))
}

/// What the namespace itself says about why it cannot go.
fn conditions(namespace: &Namespace) -> Vec<String> {
    let name = namespace.metadata.name.as_deref().unwrap_or_default();
    let conditions = namespace.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let hindering = conditions.filter(|condition| condition.status == "True");
    hindering
        .map(|condition| {
            format!(
                "namespace {name} is still being deleted: {}",
                condition.message.as_deref().unwrap_or(&condition.type_)
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(metadata: serde_json::Value) -> Option<String> {
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata});
        sentence("ConfigMap", "configmaps", "n", &serde_json::from_value(object).expect("an object"))
    }

    #[test]
    fn a_finalizer_is_named_with_what_to_do() {
        let held = of(json!({"name": "a", "deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["x.dev/never"]}));
        assert_eq!(
            held.as_deref(),
            Some(
                "ConfigMap/a in namespace n is held by its finalizer x.dev/never: whoever put that there has to finish; if that \
                 is gone for good: kubectl -n n patch configmaps a --type=merge -p '{\"metadata\":{\"finalizers\":null}}'"
            )
        );
        let ending = of(json!({"name": "a", "deletionTimestamp": "2026-01-01T00:00:00Z"}));
        assert_eq!(ending.as_deref(), Some("ConfigMap/a in namespace n is still ending"));
        assert_eq!(of(json!({"name": "a", "finalizers": ["x.dev/never"]})), None);
    }
}
