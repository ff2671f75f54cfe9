//! `envctl config`: prints the resolved environment, or with `-o objects` its Kubernetes objects.
//!
//! Secrets are redacted: keys are only ever named, a host variable that the file takes as a key is masked wherever else its value
//! stands, and the data of Secrets in manifests is masked.

use std::collections::BTreeMap;

use clap::Args;
use serde::Serialize;
use serde_json::Value;

use super::exit::Exit;
use super::output::Format;
use super::{Context, FileFlag, load};
use crate::error::Error;
use crate::objects;
use crate::plan::{KeySource, NodeSpec, Plan};

/// What stands for a secret.
const MASK: &str = "***";

/// The flags of this verb.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Which environment file.
    #[command(flatten)]
    pub file: FileFlag,
}

/// `-o json` and `-o yaml`.
#[derive(Serialize)]
struct Document {
    version: u32,
    #[serde(flatten)]
    plan: Value,
}

/// Runs the verb.
///
/// # Errors
/// A bad environment file: exit code 2.
pub fn run(_arguments: &Arguments, context: &mut Context) -> Result<Exit, Error> {
    let plan = load::plan(context)?;
    match context.out.format {
        Format::Name => {
            for node in &plan.nodes {
                context.out.data(node.id.to_string());
            }
        }
        Format::Objects => context.out.data(objects_yaml(&plan)?.trim_end()),
        format => {
            let document = Document { version: 1, plan: redacted(&plan)? };
            if format == Format::Text {
                context.out.data(yaml(&document)?.trim_end());
            } else {
                context.out.document(&document)?;
            }
        }
    }
    Ok(Exit::Ok)
}

/// Every object of the plan as one stream of YAML documents, in the order of the graph. The session and its namespace, which do not
/// exist yet, are called like the environment.
fn objects_yaml(plan: &Plan) -> Result<String, Error> {
    let scope = objects::Context {
        session: plan.environment.clone(),
        namespace: plan.environment.clone(),
        image_digests: BTreeMap::new(),
    };
    let mut all = vec![objects::namespace(plan, &scope)];
    for node in &plan.nodes {
        let objects = objects::render(plan, &node.id, &scope).map_err(|error| Error::Failed {
            what: error.to_string(),
            hint: None,
            exit: Exit::Failed,
        })?;
        for object in objects {
            // What several nodes share is applied with each, and shown once.
            if !all.contains(&object) {
                all.push(object);
            }
        }
    }
    let secrets = host_secrets(plan);
    let mut documents = Vec::with_capacity(all.len());
    for mut object in all {
        mask(&mut object, &secrets);
        documents.push(yaml(&object)?);
    }
    Ok(documents.join("---\n"))
}

fn yaml(value: &impl Serialize) -> Result<String, Error> {
    serde_yaml::to_string(value).map_err(|error| Error::Failed {
        what: error.to_string(),
        hint: None,
        exit: Exit::Failed,
    })
}

fn redacted(plan: &Plan) -> Result<Value, Error> {
    let mut value = serde_json::to_value(plan).map_err(|error| Error::Failed {
        what: error.to_string(),
        hint: None,
        exit: Exit::Failed,
    })?;
    mask(&mut value, &host_secrets(plan));
    Ok(value)
}

/// The values of the host's variables that are keys. Very short ones would mask half the document.
fn host_secrets(plan: &Plan) -> Vec<String> {
    plan.nodes
        .iter()
        .filter_map(|node| match &node.spec {
            NodeSpec::Key(key) => match &key.source {
                KeySource::FromEnv(name) => std::env::var(name).ok(),
                _ => None,
            },
            _ => None,
        })
        .filter(|value| value.len() >= 4)
        .collect()
}

/// Masks the secrets in every text, and the data of Secrets.
fn mask(value: &mut Value, secrets: &[String]) {
    match value {
        Value::String(text) => {
            for secret in secrets {
                if text.contains(secret.as_str()) {
                    *text = text.replace(secret.as_str(), MASK);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| mask(item, secrets)),
        Value::Object(fields) => {
            if fields.get("kind").and_then(Value::as_str) == Some("Secret") {
                for field in ["data", "stringData"] {
                    if let Some(Value::Object(entries)) = fields.get_mut(field) {
                        entries.values_mut().for_each(|entry| *entry = Value::String(MASK.to_owned()));
                    }
                }
            }
            fields.values_mut().for_each(|field| mask(field, secrets));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn secrets_are_masked_wherever_they_stand() {
        let mut value = json!({
            "args": ["--token=hunter22", "plain"],
            "objects": [{ "kind": "Secret", "data": { "a": "YQ==" }, "stringData": { "b": "x" }, "metadata": { "name": "s" } }],
        });
        mask(&mut value, &["hunter22".to_owned()]);
        assert_eq!(
            value,
            json!({
                "args": ["--token=***", "plain"],
                "objects": [{ "kind": "Secret", "data": { "a": "***" }, "stringData": { "b": "***" }, "metadata": { "name": "s" } }],
            })
        );
    }
}
