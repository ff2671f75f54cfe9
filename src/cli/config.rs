//! `envctl config`: prints the resolved environment, or with `-o objects` its Kubernetes objects.
//!
//! Secrets are redacted: keys are only ever named, a host variable that the file takes as a key is redacted wherever else its value
//! stands, and so is the data of Secrets in manifests.

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
use crate::redact::Redactor;

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
        on_host: std::collections::BTreeMap::new(),
        session: plan.environment.clone(),
        namespace: plan.environment.clone(),
        images: BTreeMap::new(),
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
    let redactor = host_secrets(plan);
    let mut documents = Vec::with_capacity(all.len());
    for mut object in all {
        redactor.object(&mut object);
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
    host_secrets(plan).object(&mut value);
    Ok(value)
}

/// Takes out the values of the host's variables that are keys.
fn host_secrets(plan: &Plan) -> Redactor {
    let variables = plan.nodes.iter().filter_map(|node| match &node.spec {
        NodeSpec::Key(key) => match &key.source {
            KeySource::FromEnv(variable) => Some((node.id.name.as_str(), std::env::var(variable).ok()?)),
            _ => None,
        },
        _ => None,
    });
    let values: Vec<(&str, String)> = variables.collect();
    Redactor::new(values.iter().map(|(name, value)| (*name, value.as_str())))
}
