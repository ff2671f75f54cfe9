//! A container's environment, command line and service variables. Pure: objects in, variables out.
//!
//! Follows upstream's `pkg/kubelet/kubelet_pods.go` (`makeEnvironmentVariables`, `getServiceEnvVarMap`),
//! `pkg/kubelet/envvars/envvars.go` and `pkg/kubelet/container/helpers.go`. Upstream's order is a Go
//! map's; here it is the declared one.

mod services;

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Container, Pod, Secret};

use super::downward::{self, DownwardError, Facts};
use super::expansion::expand;
use super::image::Image;

pub use services::service_variables;

/// The ConfigMaps and Secrets that a container refers to, as far as they exist.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// By name, in the pod's namespace.
    pub config_maps: HashMap<String, Arc<ConfigMap>>,
    /// By name, in the pod's namespace.
    pub secrets: HashMap<String, Arc<Secret>>,
}

/// The names of ConfigMaps and Secrets that a container's variables refer to.
pub fn references(container: &Container) -> (Vec<String>, Vec<String>) {
    let mut config_maps = Vec::new();
    let mut secrets = Vec::new();
    for from in container.env_from.iter().flatten() {
        config_maps.extend(from.config_map_ref.as_ref().map(|reference| reference.name.clone()));
        secrets.extend(from.secret_ref.as_ref().map(|reference| reference.name.clone()));
    }
    for from in container.env.iter().flatten().filter_map(|var| var.value_from.as_ref()) {
        config_maps.extend(from.config_map_key_ref.as_ref().map(|reference| reference.name.clone()));
        secrets.extend(from.secret_key_ref.as_ref().map(|reference| reference.name.clone()));
    }
    for names in [&mut config_maps, &mut secrets] {
        names.sort_unstable();
        names.dedup();
    }
    (config_maps, secrets)
}

/// Why a container's environment cannot be made: `CreateContainerConfigError`, in upstream's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvError {
    /// The object doesn't exist.
    #[error("configmap \"{0}\" not found")]
    NoConfigMap(String),
    /// The object doesn't exist.
    #[error("secret \"{0}\" not found")]
    NoSecret(String),
    /// The object exists without that key.
    #[error("couldn't find key {key} in {kind} {namespace}/{name}")]
    NoKey {
        /// As referred to.
        key: String,
        /// `ConfigMap` or `Secret`.
        kind: &'static str,
        /// The pod's.
        namespace: String,
        /// The object's.
        name: String,
    },
    /// A `fieldRef` or `resourceFieldRef` that cannot be answered.
    #[error(transparent)]
    Downward(#[from] DownwardError),
    /// `fileKeyRef`.
    #[error("environment variable {0}: fileKeyRef is not supported on this node")]
    FileKeyRef(String),
}

/// Variables in order, names unique; a later value replaces an earlier one in its place.
#[derive(Debug, Default)]
struct Variables {
    list: Vec<(String, String)>,
    at: HashMap<String, usize>,
}

impl Variables {
    fn set(&mut self, name: String, value: String) {
        match self.at.get(&name) {
            Some(&at) => self.list[at].1 = value,
            None => {
                self.at.insert(name.clone(), self.list.len());
                self.list.push((name, value));
            }
        }
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.at.get(name).map(|&at| self.list[at].1.as_str())
    }
}

/// The container's whole environment, on top of the image's own, without `PATH` of the image's `path`
/// entries and `HOSTNAME`, which [`process_environment`] adds.
pub fn container_environment(
    pod: &Pod,
    container: &Container,
    sources: &Sources,
    services: &[(String, String)],
    facts: &Facts,
) -> Result<Vec<(String, String)>, EnvError> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let by_service: HashMap<&str, &str> =
        services.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let mut variables = Variables::default();
    for from in container.env_from.iter().flatten() {
        let prefix = from.prefix.as_deref().unwrap_or_default();
        if let Some(reference) = &from.config_map_ref {
            match sources.config_maps.get(&reference.name) {
                Some(map) => {
                    for (key, value) in map.data.iter().flatten() {
                        variables.set(format!("{prefix}{key}"), value.clone());
                    }
                }
                None if reference.optional == Some(true) => {}
                None => return Err(EnvError::NoConfigMap(reference.name.clone())),
            }
        } else if let Some(reference) = &from.secret_ref {
            match sources.secrets.get(&reference.name) {
                Some(secret) => {
                    for (key, value) in secret.data.iter().flatten() {
                        variables.set(format!("{prefix}{key}"), String::from_utf8_lossy(&value.0).into_owned());
                    }
                }
                None if reference.optional == Some(true) => {}
                None => return Err(EnvError::NoSecret(reference.name.clone())),
            }
        }
    }
    for var in container.env.iter().flatten() {
        let value = match (&var.value, &var.value_from) {
            (Some(value), _) if !value.is_empty() => {
                expand(value, |name| variables.get(name).or_else(|| by_service.get(name).copied()))
            }
            (_, Some(from)) => {
                if let Some(reference) = &from.field_ref {
                    downward::field(pod, &reference.field_path, facts)?
                } else if let Some(reference) = &from.resource_field_ref {
                    downward::resource(pod, Some(container), reference, facts.allocatable)?
                } else if let Some(reference) = &from.config_map_key_ref {
                    let optional = reference.optional == Some(true);
                    match sources.config_maps.get(&reference.name) {
                        Some(map) => match map.data.as_ref().and_then(|data| data.get(&reference.key)) {
                            Some(value) => value.clone(),
                            None if optional => continue,
                            None => return Err(no_key("ConfigMap", namespace, &reference.name, &reference.key)),
                        },
                        None if optional => continue,
                        None => return Err(EnvError::NoConfigMap(reference.name.clone())),
                    }
                } else if let Some(reference) = &from.secret_key_ref {
                    let optional = reference.optional == Some(true);
                    match sources.secrets.get(&reference.name) {
                        Some(secret) => match secret.data.as_ref().and_then(|data| data.get(&reference.key)) {
                            Some(value) => String::from_utf8_lossy(&value.0).into_owned(),
                            None if optional => continue,
                            None => return Err(no_key("Secret", namespace, &reference.name, &reference.key)),
                        },
                        None if optional => continue,
                        None => return Err(EnvError::NoSecret(reference.name.clone())),
                    }
                } else {
                    return Err(EnvError::FileKeyRef(var.name.clone()));
                }
            }
            _ => String::new(),
        };
        variables.set(var.name.clone(), value);
    }
    for (name, value) in services {
        if variables.get(name).is_none() {
            variables.set(name.clone(), value.clone());
        }
    }
    Ok(variables.list)
}

fn no_key(kind: &'static str, namespace: &str, name: &str, key: &str) -> EnvError {
    EnvError::NoKey { key: key.to_owned(), kind, namespace: namespace.to_owned(), name: name.to_owned() }
}

/// What a program that inherits nothing finds programs with.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The process's environment: `PATH` and `HOSTNAME` first, then the image's, then the container's, which wins.
/// The image's `path` entries come before whatever `PATH` came out.
pub fn process_environment(image: &Image, hostname: &str, container: Vec<(String, String)>) -> Vec<(String, String)> {
    let mut variables = Variables::default();
    variables.set("PATH".to_owned(), DEFAULT_PATH.to_owned());
    variables.set("HOSTNAME".to_owned(), hostname.to_owned());
    for (name, value) in image.env.iter().cloned().chain(container) {
        variables.set(name, value);
    }
    if !image.path.is_empty() {
        let mut path =
            image.path.iter().map(|entry| entry.to_string_lossy().into_owned()).collect::<Vec<_>>().join(":");
        if let Some(rest) = variables.get("PATH").filter(|rest| !rest.is_empty()) {
            path.push(':');
            path.push_str(rest);
        }
        variables.set("PATH".to_owned(), path);
    }
    variables.list
}

/// What runs: `command` replaces the image's entrypoint and its arguments, `args` only the arguments
/// (`pkg/kubelet/container/helpers.go`, and the table in "Define a Command and Arguments for a Container").
pub fn argv(container: &Container, image: &Image, environment: &[(String, String)]) -> Vec<String> {
    let values: HashMap<&str, &str> = environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let expanded = |words: &[String]| -> Vec<String> {
        words.iter().map(|word| expand(word, |name| values.get(name).copied())).collect()
    };
    let command = container.command.as_deref().unwrap_or_default();
    let args = container.args.as_deref().unwrap_or_default();
    match (command.is_empty(), args.is_empty()) {
        (false, _) => [expanded(command), expanded(args)].concat(),
        (true, false) => [image.entrypoint.clone(), expanded(args)].concat(),
        (true, true) => [image.entrypoint.clone(), image.cmd.clone()].concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::downward::tests::FACTS;
    use super::*;
    use serde_json::json;

    fn build(container: serde_json::Value, services: &[(String, String)]) -> Result<HashMap<String, String>, EnvError> {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "ns"}})).unwrap();
        let container: Container = serde_json::from_value(container).unwrap();
        let map: ConfigMap = serde_json::from_value(json!({"data": {"REPLACE_ME": "a", "DUPE": "cm"}})).unwrap();
        let secret: Secret = serde_json::from_value(json!({"data": {"KEY": "czNjcjN0"}})).unwrap();
        let sources = Sources {
            config_maps: HashMap::from([("map".to_owned(), Arc::new(map))]),
            secrets: HashMap::from([("secret".to_owned(), Arc::new(secret))]),
        };
        container_environment(&pod, &container, &sources, services, &FACTS).map(|list| list.into_iter().collect())
    }

    #[test]
    fn env_wins_over_env_from_and_services() {
        let services = [("TEST_HOST".to_owned(), "1.2.3.3".to_owned()), ("OTHER".to_owned(), "x".to_owned())];
        let env = build(
            json!({"name": "c",
            "envFrom": [{"configMapRef": {"name": "map"}}, {"prefix": "p_", "secretRef": {"name": "secret"}},
                        {"configMapRef": {"name": "gone", "optional": true}}],
            "env": [
                {"name": "DUPE", "value": "ENV_VAR"},
                {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                {"name": "REF", "value": "host:$(TEST_HOST) $(p_KEY) $(LATER) $$(DUPE)"},
                {"name": "LATER", "value": "l"},
                {"name": "SEC", "valueFrom": {"secretKeyRef": {"name": "secret", "key": "KEY"}}},
                {"name": "OPT", "valueFrom": {"configMapKeyRef": {"name": "map", "key": "no", "optional": true}}},
                {"name": "EMPTY"},
                {"name": "TEST_HOST", "value": "mine"}
            ]}),
            &services,
        )
        .unwrap();
        assert_eq!(env["REPLACE_ME"], "a");
        assert_eq!(env["DUPE"], "ENV_VAR");
        assert_eq!(env["p_KEY"], "s3cr3t");
        assert_eq!(env["REF"], "host:1.2.3.3 s3cr3t $(LATER) $(DUPE)");
        assert_eq!(env["SEC"], "s3cr3t");
        assert_eq!(env["IP"], "10.244.0.7");
        assert_eq!(env["EMPTY"], "");
        assert_eq!(env["TEST_HOST"], "mine");
        assert_eq!(env["OTHER"], "x");
        assert!(!env.contains_key("OPT"));
    }

    #[test]
    fn missing_objects_and_keys_in_upstreams_words() {
        for (container, words) in [
            (json!({"name": "c", "envFrom": [{"configMapRef": {"name": "gone"}}]}), "configmap \"gone\" not found"),
            (json!({"name": "c", "envFrom": [{"secretRef": {"name": "gone"}}]}), "secret \"gone\" not found"),
            (
                json!({"name": "c", "env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "map", "key": "k"}}}]}),
                "couldn't find key k in ConfigMap ns/map",
            ),
            (
                json!({"name": "c", "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "secret", "key": "k"}}}]}),
                "couldn't find key k in Secret ns/secret",
            ),
        ] {
            assert_eq!(build(container, &[]).unwrap_err().to_string(), words);
        }
    }

    #[test]
    fn command_and_args_replace_the_images() {
        let image = Image { entrypoint: vec!["/ep".into()], cmd: vec!["c".into()], ..Image::default() };
        let env = [("A".to_owned(), "1".to_owned())];
        for (command, args, expected) in [
            (json!(null), json!(null), vec!["/ep", "c"]),
            (json!(["run"]), json!(null), vec!["run"]),
            (json!(null), json!(["$(A)"]), vec!["/ep", "1"]),
            (json!(["run"]), json!(["x$(A)", "$(B)"]), vec!["run", "x1", "$(B)"]),
        ] {
            let container: Container =
                serde_json::from_value(json!({"name": "c", "command": command, "args": args})).unwrap();
            assert_eq!(argv(&container, &image, &env), expected);
        }
    }

    #[test]
    fn image_path_comes_first() {
        let image =
            Image { path: vec!["/a".into(), "/b".into()], env: vec![("X".into(), "i".into())], ..Image::default() };
        let env: HashMap<_, _> =
            process_environment(&image, "h", vec![("X".into(), "c".into()), ("PATH".into(), "/p".into())])
                .into_iter()
                .collect();
        assert_eq!(env["PATH"], "/a:/b:/p");
        assert_eq!(env["X"], "c");
        assert_eq!(env["HOSTNAME"], "h");
    }
}
