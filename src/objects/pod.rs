//! The pod template of a service or job: one container.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::storage::Storage;
use super::{Content, FILES_DIGEST, IMAGE_DIGEST, KEYS_SECRET, REGISTRIES_SECRET, RenderError, Scope};
use crate::plan::{Check, EnvValue, EnvVar, Part, Port, Ready, Reference, Template, TimeSpan, Viewpoint, Workload};

/// What a pod template is made from besides the workload.
pub(super) struct PodParts<'a> {
    pub ports: &'a [Port],
    pub ready: Option<&'a Ready>,
    pub restart: Option<&'static str>,
}

/// `spec.template`.
pub(super) fn template(
    scope: &Scope<'_>,
    workload: &Workload,
    storage: &Storage,
    parts: &PodParts<'_>,
) -> Result<Value, RenderError> {
    let mut metadata = Map::new();
    metadata.insert("labels".to_owned(), json!(scope.labels()));
    let mut annotations = BTreeMap::new();
    if let Some(Content::Stamp(digest)) = scope.context.images.get(&workload.image) {
        annotations.insert(IMAGE_DIGEST, digest);
    }
    if let Some(digest) = &storage.digest {
        annotations.insert(FILES_DIGEST, digest);
    }
    if !annotations.is_empty() {
        metadata.insert("annotations".to_owned(), json!(annotations));
    }

    let mut spec = Map::new();
    if !workload.rbac.is_empty() {
        spec.insert("serviceAccountName".to_owned(), json!(scope.name()));
    }
    if scope.plan.needs_pull_secret().any(|name| name == workload.image) {
        spec.insert("imagePullSecrets".to_owned(), json!([{ "name": REGISTRIES_SECRET }]));
    }
    // Kubernetes would add variables for every Service that happens to exist already (`API_PORT=tcp://…`): they clash with
    // programs' own names and depend on the order of starting.
    spec.insert("enableServiceLinks".to_owned(), json!(false));
    if let Some(grace) = workload.grace {
        spec.insert("terminationGracePeriodSeconds".to_owned(), json!(grace.seconds()));
    }
    if let Some(restart) = parts.restart {
        spec.insert("restartPolicy".to_owned(), json!(restart));
    }
    spec.insert("containers".to_owned(), json!([container(scope, workload, storage, parts)?]));
    if !storage.volumes.is_empty() {
        spec.insert("volumes".to_owned(), json!(storage.volumes));
    }
    Ok(json!({ "metadata": metadata, "spec": spec }))
}

fn container(
    scope: &Scope<'_>,
    workload: &Workload,
    storage: &Storage,
    parts: &PodParts<'_>,
) -> Result<Value, RenderError> {
    let mut container = Map::new();
    let mut set = |key: &str, value: Value| {
        container.insert(key.to_owned(), value);
    };
    set("name", json!(scope.name()));
    let content = scope.context.images.get(&workload.image);
    let image = match content {
        Some(Content::Reference(reference)) => reference,
        _ => &workload.image,
    };
    set("image", json!(image));
    // What a node has, or was given: Kubernetes would pull a name without a tag (`:latest`) regardless. What nodes are to pull with the user's
    // credentials is theirs to pull.
    let is_there = scope.plan.images.get(&workload.image).is_some_and(|image| !image.image_pull_secret);
    if content.is_some() || is_there {
        set("imagePullPolicy", json!("IfNotPresent"));
    }
    for (key, texts) in [("command", &workload.command), ("args", &workload.args)] {
        if !texts.is_empty() {
            let texts: Result<Vec<String>, RenderError> =
                texts.iter().map(|text| Ok(unexpanded(&plain(scope, text)?))).collect();
            set(key, json!(texts?));
        }
    }
    let env = env(scope, &workload.env)?;
    if !env.is_empty() {
        set("env", json!(env));
    }
    if let Some(workdir) = &workload.workdir {
        set("workingDir", json!(workdir));
    }
    if !parts.ports.is_empty() {
        let own = parts.ports.iter().filter(|port| behind(parts.ports, port).name == port.name);
        set("ports", own.map(container_port).collect());
    }
    if let Some(ready) = parts.ready {
        set("readinessProbe", probe(ready, parts.ports, ready.failures));
        if let Some(startup) = ready.startup {
            set("startupProbe", probe(ready, parts.ports, tries(startup, ready.interval)));
        }
    }
    let quantities: BTreeMap<&str, &String> =
        [("cpu", &workload.resources.cpu), ("memory", &workload.resources.memory)]
            .into_iter()
            .filter_map(|(name, quantity)| Some((name, quantity.as_ref()?)))
            .collect();
    if !quantities.is_empty() {
        set("resources", json!({ "requests": quantities, "limits": quantities }));
    }
    if let Some(user) = workload.user {
        let mut context = Map::from_iter([("runAsUser".to_owned(), json!(user.uid))]);
        if let Some(gid) = user.gid {
            context.insert("runAsGroup".to_owned(), json!(gid));
        }
        set("securityContext", Value::Object(context));
    }
    if !storage.mounts.is_empty() {
        set("volumeMounts", json!(storage.mounts));
    }
    Ok(Value::Object(container))
}

/// The container's port that a service's port leads to, by the first service port that leads there: Kubernetes takes each number once.
pub(super) fn behind<'p>(ports: &'p [Port], port: &'p Port) -> &'p Port {
    let same = |other: &&Port| other.target_port == port.target_port && other.protocol == port.protocol;
    ports.iter().find(same).unwrap_or(port)
}

fn container_port(port: &Port) -> Value {
    json!({ "name": port.name, "containerPort": port.target_port, "protocol": port.protocol })
}

fn probe(ready: &Ready, ports: &[Port], failures: u32) -> Value {
    let named = |name: &String| {
        let port = ports.iter().find(|port| port.name == *name);
        json!(port.map_or(name, |port| &behind(ports, port).name))
    };
    let (key, action) = match &ready.check {
        Check::Http { path, port, scheme, headers } => {
            let mut get = Map::from_iter([
                ("path".to_owned(), json!(path)),
                ("port".to_owned(), named(port)),
                ("scheme".to_owned(), json!(scheme)),
            ]);
            if !headers.is_empty() {
                let headers: Vec<Value> =
                    headers.iter().map(|(name, value)| json!({ "name": name, "value": value })).collect();
                get.insert("httpHeaders".to_owned(), json!(headers));
            }
            ("httpGet", Value::Object(get))
        }
        Check::Tcp { port } => ("tcpSocket", json!({ "port": named(port) })),
        Check::Exec { command } => ("exec", json!({ "command": command })),
    };
    Value::Object(Map::from_iter([
        (key.to_owned(), action),
        ("periodSeconds".to_owned(), json!(ready.interval.seconds())),
        ("timeoutSeconds".to_owned(), json!(ready.timeout.seconds())),
        ("failureThreshold".to_owned(), json!(failures)),
    ]))
}

/// How many tries fit into the time that starting may take; at least one.
fn tries(startup: TimeSpan, interval: TimeSpan) -> u32 {
    let interval = interval.seconds().max(1);
    u32::try_from(startup.seconds().div_ceil(interval).max(1)).unwrap_or(u32::MAX)
}

/// A text such that Kubernetes, which reads `$$` as `$` in variables and arguments (`third_party/forked/golang/expansion`), makes this of it again:
/// a password may have any. `$(NAME)`, and what stands before it, is meant for Kubernetes.
pub fn unexpanded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let (before, dollars) = rest.split_at(at);
        let after = dollars.trim_start_matches('$');
        let run = &dollars[..dollars.len() - after.len()];
        out.push_str(before);
        out.push_str(run);
        if !after.starts_with('(') && (run.len() > 1 || after.is_empty()) {
            out.push_str(run);
        }
        rest = after;
    }
    out + rest
}

/// A text for the pod that must not have keys in it.
fn plain(scope: &Scope<'_>, text: &Template) -> Result<String, RenderError> {
    text.resolve(scope.plan, Viewpoint::Pod, &BTreeMap::new()).map_err(|source| scope.reference_error(source))
}

/// The container's variables. A key never stands in an object: alone it is a `secretKeyRef`; inside a longer text it becomes a
/// variable of its own, which Kubernetes puts in by `$(NAME)`.
fn env(scope: &Scope<'_>, variables: &[EnvVar]) -> Result<Vec<Value>, RenderError> {
    let mut rendered = Vec::with_capacity(variables.len());
    let mut helpers = BTreeSet::new();
    for EnvVar { name, value } in variables {
        let from = |key: &str, value: Value| json!({ "name": name, "valueFrom": { key: value } });
        let variable = match value {
            EnvValue::Key(key) => secret_variable(name, key),
            EnvValue::Secret(entry) => from("secretKeyRef", json!(entry)),
            EnvValue::ConfigMap(entry) => from("configMapKeyRef", json!(entry)),
            EnvValue::FieldRef(path) => from("fieldRef", json!({ "fieldPath": path })),
            EnvValue::Value(text) => match text.parts() {
                [Part::Reference(Reference::Key { name: key })] => secret_variable(name, key),
                parts => {
                    let mut value = String::new();
                    for part in parts {
                        match part {
                            Part::Text(text) => value.push_str(&unexpanded(text)),
                            Part::Reference(Reference::Key { name: key }) => {
                                let helper = format!("ENVCTL_KEY_{key}");
                                value.push_str(&format!("$({helper})"));
                                if helpers.insert(helper.clone()) {
                                    rendered.push(secret_variable(&helper, key));
                                }
                            }
                            Part::Reference(reference) => {
                                value.push_str(&plain(scope, &Template::reference(reference.clone()))?);
                            }
                        }
                    }
                    json!({ "name": name, "value": value })
                }
            },
        };
        rendered.push(variable);
    }
    Ok(rendered)
}

fn secret_variable(name: &str, key: &str) -> Value {
    json!({ "name": name, "valueFrom": { "secretKeyRef": { "name": KEYS_SECRET, "key": key } } })
}

#[cfg(test)]
mod tests {
    use super::unexpanded;

    #[test]
    fn dollars_are_kept_from_kubernetes_unless_they_are_its_own() {
        for (text, expected) in [
            ("plain", "plain"),
            ("pa$$wo$rd", "pa$$$$wo$rd"),
            ("ends$", "ends$$"),
            ("$$$x", "$$$$$$x"),
            ("$(WHERE)-$$(WHERE)", "$(WHERE)-$$(WHERE)"),
        ] {
            assert_eq!(unexpanded(text), expected);
        }
    }
}
