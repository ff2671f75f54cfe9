//! The environment of a service's process on the host: the variables of its pods, in their order, as the host sees them.
//!
//! References become the addresses where ports are forwarded, keys their values. What only a pod has is told: mounted volumes,
//! the fields of a pod. Instead of a pod's mounted token there is a kubeconfig of the same service account, so that a program which
//! uses Kubernetes may do here what it may do there, and no more.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{ConfigMap, Secret, ServiceAccount};
use kube::api::{Api, PostParams};

use super::OnHostError;
use crate::cli::env::{Style, write};
use crate::embedded::kubelet::expansion::expand;
use crate::images::process;
use crate::objects::unexpanded;
use crate::plan::{EntryRef, EnvValue, NodeKind, NodeSpec, Part, Plan, PortId, Reference, Template, Viewpoint};
use crate::session::record::write_private;
use crate::session::state::SessionDirectory;

/// How long the service account's token is good for: a long day.
const TOKEN_SECONDS: i64 = 24 * 3600;

/// Where values come from.
pub struct Sources<'a> {
    /// The session's plan.
    pub plan: &'a Plan,
    /// Where ports are forwarded.
    pub addresses: &'a BTreeMap<PortId, SocketAddr>,
    /// The issued keys.
    pub keys: &'a BTreeMap<String, String>,
    /// The session's own.
    pub client: &'a kube::Client,
    /// The session's.
    pub namespace: &'a str,
    /// The session's: its kubeconfig is there, and files for the process are written there.
    pub directory: &'a SessionDirectory,
}

/// What a service's process on the host is started with.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Environment {
    /// The service.
    pub service: String,
    /// On top of the caller's own.
    pub variables: BTreeMap<String, String>,
    /// Before the caller's own `PATH`.
    pub path: Vec<PathBuf>,
    /// What its pods run; empty where only the image knows.
    pub command: Vec<String>,
    /// What a pod has and the host doesn't, a sentence each.
    pub missing: Vec<String>,
}

/// The environment of a service's process.
///
/// # Errors
/// When there is no such service, a reference says nothing yet, or the cluster doesn't answer.
pub async fn environment(sources: &Sources<'_>, service: &str) -> Result<Environment, OnHostError> {
    let plan = sources.plan;
    let of = |node: &&crate::plan::Node| node.id.kind == NodeKind::Service && node.id.name == service;
    let workload = plan.nodes.iter().find(of).and_then(|node| match &node.spec {
        NodeSpec::Service(service) => Some(&service.workload),
        _ => None,
    });
    let workload = workload.ok_or_else(|| OnHostError::NoSuchService(service.to_owned()))?;
    let mut environment = Environment { service: service.to_owned(), ..Environment::default() };
    if let Some(image) = plan.images.get(&workload.image) {
        let image = process::node_image(image, &plan.project_root);
        environment.variables.extend(image.env);
        environment.path = image.path;
        environment.command = image.entrypoint;
    }
    let mut values =
        Values { sources, variables: &mut environment.variables, missing: &mut environment.missing, service };
    for variable in &workload.env {
        if let Some(value) = values.of(&variable.name, &variable.value).await? {
            values.variables.insert(variable.name.clone(), value);
        }
    }
    let text = |name: &str, template: &Template, variables: &BTreeMap<String, String>| {
        resolve(sources, template, variables)
            .map_err(|source| OnHostError::Unresolved { name: name.to_owned(), source })
    };
    let texts = |templates: &[Template]| -> Result<Vec<String>, OnHostError> {
        templates.iter().map(|template| text("of its command", template, &environment.variables)).collect()
    };
    if !workload.command.is_empty() {
        environment.command = texts(&workload.command)?;
    }
    environment.command.extend(texts(&workload.args)?);
    let mounted: Vec<&str> = workload.volumes.iter().map(|volume| volume.path.as_str()).collect();
    if !mounted.is_empty() {
        environment.missing.push(format!("on this machine it doesn't have its pods' volumes: {}", mounted.join(", ")));
    }
    let account = if workload.rbac.is_empty() { "default" } else { service };
    if !environment.variables.contains_key("KUBECONFIG") {
        let path = kubeconfig(sources, service, account).await?;
        environment.variables.insert("KUBECONFIG".to_owned(), path.display().to_string());
    }
    Ok(environment)
}

impl Environment {
    /// Writes the variables to a file of the session, to be sourced by a shell.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn write(&self, directory: &SessionDirectory) -> Result<PathBuf, OnHostError> {
        let mut text = String::from(
            "# The environment of a service's process on this machine; written by envctl, read by `. FILE`.\n",
        );
        // `sh` carries every value.
        let written = write(Style::Sh, &self.variables).unwrap_or_default();
        text.push_str(&written.text);
        if let Some(path) = self.own_path() {
            text.push_str(&format!("export PATH='{}':\"$PATH\"\n", path.replace('\'', r"'\''")));
        }
        let path = directory.on_host(&self.service, "env")?;
        write_private(&path, text.as_bytes())?;
        Ok(path)
    }

    /// What is to stand before the caller's `PATH`.
    pub fn own_path(&self) -> Option<String> {
        let path: Vec<String> = self.path.iter().map(|entry| entry.display().to_string()).collect();
        (!path.is_empty()).then(|| path.join(":"))
    }

    /// What its pods run, as it would be typed.
    pub fn command_line(&self) -> String {
        let plain = |word: &str| {
            !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./:=@%+,".contains(&byte))
        };
        let quoted = self.command.iter().map(|word| match plain(word) {
            true => word.clone(),
            false => format!("'{}'", word.replace('\'', r"'\''")),
        });
        quoted.collect::<Vec<_>>().join(" ")
    }
}

/// The values of variables.
struct Values<'a> {
    sources: &'a Sources<'a>,
    variables: &'a mut BTreeMap<String, String>,
    missing: &'a mut Vec<String>,
    service: &'a str,
}

impl Values<'_> {
    async fn of(&mut self, name: &str, value: &EnvValue) -> Result<Option<String>, OnHostError> {
        let unresolved = |source| OnHostError::Unresolved { name: name.to_owned(), source };
        let sources = self.sources;
        Ok(match value {
            EnvValue::Value(template) => Some(resolve(sources, template, self.variables).map_err(unresolved)?),
            EnvValue::Key(key) => {
                let key = Template::reference(Reference::Key { name: key.clone() });
                Some(resolve(sources, &key, self.variables).map_err(unresolved)?)
            }
            EnvValue::Secret(entry) => {
                let api: Api<Secret> = Api::namespaced(sources.client.clone(), sources.namespace);
                let secret =
                    api.get_opt(&entry.name).await.map_err(asking(format!("reading Secret {}", entry.name)))?;
                let value = secret.and_then(|secret| secret.data?.remove(&entry.key));
                self.entry(name, entry, value.map(|value| String::from_utf8_lossy(&value.0).into_owned()))
            }
            EnvValue::ConfigMap(entry) => {
                let api: Api<ConfigMap> = Api::namespaced(sources.client.clone(), sources.namespace);
                let map =
                    api.get_opt(&entry.name).await.map_err(asking(format!("reading ConfigMap {}", entry.name)))?;
                self.entry(name, entry, map.and_then(|map| map.data?.remove(&entry.key)))
            }
            EnvValue::FieldRef(path) => match path.as_str() {
                "metadata.namespace" => Some(sources.namespace.to_owned()),
                "metadata.name" => Some(format!("{}-on-host", self.service)),
                "status.podIP" | "status.hostIP" | "status.podIPs" | "status.hostIPs" => Some("127.0.0.1".to_owned()),
                _ => {
                    self.missing.push(format!(
                        "its variable {name} is {path} of a pod, which a process on this machine doesn't have"
                    ));
                    None
                }
            },
        })
    }

    fn entry(&mut self, name: &str, entry: &EntryRef, value: Option<String>) -> Option<String> {
        if value.is_none() {
            self.missing
                .push(format!("its variable {name} is entry {} of {}, which isn't there", entry.key, entry.name));
        }
        value
    }
}

/// A text as the host sees it. `$(NAME)` is Kubernetes': it sees the variables before it, and nothing in a key is expanded.
fn resolve(
    sources: &Sources<'_>,
    template: &Template,
    variables: &BTreeMap<String, String>,
) -> Result<String, crate::plan::ResolveError> {
    let host = Viewpoint::Host(sources.addresses);
    let mut text = String::new();
    let mut keys = BTreeMap::new();
    for part in template.parts() {
        match part {
            Part::Text(part) => text.push_str(&unexpanded(part)),
            Part::Reference(Reference::Key { name }) => {
                let key = Template::reference(Reference::Key { name: name.clone() });
                let helper = format!("ENVCTL_KEY_{name}");
                text.push_str(&format!("$({helper})"));
                keys.insert(helper, key.resolve(sources.plan, host, sources.keys)?);
            }
            Part::Reference(reference) => {
                text.push_str(&Template::reference(reference.clone()).resolve(sources.plan, host, sources.keys)?);
            }
        }
    }
    Ok(expand(&text, |name| keys.get(name).or_else(|| variables.get(name)).map(String::as_str)))
}

/// Writes a kubeconfig like the session's own, but of a service account.
async fn kubeconfig(sources: &Sources<'_>, service: &str, account: &str) -> Result<PathBuf, OnHostError> {
    let own = sources.directory.kubeconfig();
    let unreadable = |source: std::io::Error| crate::session::SessionError::io("read", own.clone())(source);
    let text = std::fs::read(&own).map_err(unreadable)?;
    let mut kubeconfig: serde_json::Value =
        serde_json::from_slice(&text).map_err(std::io::Error::from).map_err(unreadable)?;
    let token = token(sources, account).await?;
    for user in kubeconfig["users"].as_array_mut().into_iter().flatten() {
        user["user"] = serde_json::json!({ "token": token });
    }
    let path = sources.directory.on_host(service, "kubeconfig")?;
    write_private(&path, kubeconfig.to_string().as_bytes())?;
    Ok(path)
}

async fn token(sources: &Sources<'_>, account: &str) -> Result<String, OnHostError> {
    let api: Api<ServiceAccount> = Api::namespaced(sources.client.clone(), sources.namespace);
    let spec = TokenRequestSpec { expiration_seconds: Some(TOKEN_SECONDS), ..TokenRequestSpec::default() };
    let request = TokenRequest { spec: Some(spec), ..TokenRequest::default() };
    let asked = api.create_token_request(account, &PostParams::default(), &request).await;
    let answer = asked.map_err(asking(format!("asking for a token of service account {account}")))?;
    Ok(answer.status.and_then(|status| status.token).unwrap_or_default())
}

fn asking(attempt: String) -> impl FnOnce(kube::Error) -> OnHostError {
    move |source| OnHostError::Asking { attempt, source: Box::new(source) }
}
