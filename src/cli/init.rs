//! `envctl init`: writes a first environment file, which comes up as it is.

use std::io::Write as _;

use clap::Args;

use super::Context;
use super::exit::Exit;
use crate::envfile::dns_label;
use crate::error::Error;

/// The flags of this verb.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The environment's name [default: the project directory's]
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
}

/// Runs the verb. A file that is there already is never touched.
///
/// # Errors
/// When the name is no name, or the file exists or cannot be written.
pub fn run(arguments: &Arguments, context: &mut Context) -> Result<Exit, Error> {
    let name = match &arguments.name {
        Some(name) => name.clone(),
        None => default_name(context),
    };
    dns_label(&name).map_err(|what| Error::Usage { what, hint: None })?;
    let directory = context.root.join("envs");
    let path = directory.join(format!("{name}.yaml"));
    let shown = path.strip_prefix(&context.working_directory).unwrap_or(&path).display().to_string();
    std::fs::create_dir_all(&directory).map_err(Error::io(format!("make {}", directory.display())))?;
    let mut file = match std::fs::OpenOptions::new().write(true).create_new(true).open(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            return Err(Error::Usage {
                what: format!("{shown} is there already, and was not touched"),
                hint: Some("another name makes another environment: `envctl init NAME`".to_owned()),
            });
        }
        opened => opened.map_err(Error::io(format!("create {shown}")))?,
    };
    file.write_all(text(&name).as_bytes()).map_err(Error::io(format!("write {shown}")))?;
    context.out.data(&shown);
    context.out.say("`envctl validate` checks it, `envctl up` brings it up.");
    Ok(Exit::Ok)
}

/// The project directory's name as a label, else `dev`.
fn default_name(context: &Context) -> String {
    let directory = context.root.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
    let name: String = directory.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let name = name.trim_matches('-');
    if dns_label(name).is_ok() && name.len() <= 40 { name.to_owned() } else { "dev".to_owned() }
}

fn text(name: &str) -> String {
    TEMPLATE.replace("@NAME@", name)
}

const TEMPLATE: &str = r#"# An environment: `envctl up` brings it up, `envctl down` takes it away. `envctl schema` describes every field.
name: @NAME@

images:                                 # how a name becomes runnable
  app:
    process:                            # on the embedded cluster: a sandboxed process of this machine
      entrypoint: [sh, -c, "echo started; exec sleep infinity"]
      # build: [cargo, build]           # run before anything that uses the image starts
      # path: [target/debug]            # put in front of PATH

services:
  app:
    image: app
    # args: [--port, "8080"]
    # ports: { http: 8080 }             # the same in every session; others reach it as app:8080
    # ready: { http: /healthz }         # or tcp: http, or exec: [some, command]
    # env: { API: "${services.api.http.url}", REGION: "${REGION:-eu}" }
    # volumes: { /data: {} }            # { name: data } is shared and outlives pods
    # needs: [migrate]                  # services are waited for until they are ready, jobs until they have completed

# jobs:
#   migrate: { image: app, args: [migrate] }

# manifests:                            # plain Kubernetes YAML, in the same graph
#   - path: manifests/extra.yaml

# exports:                              # for tests, on top of APP_HOST, APP_PORT, APP_URL
#   BASE_URL: "${services.app.http.url}/v1"

# profiles:                             # `--profile ci` lays this over everything above
#   ci: { services: { app: { replicas: 2 } } }
"#;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use super::*;
    use crate::envfile::{Disk, Request};

    #[test]
    fn what_is_written_is_valid() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("new.yaml");
        std::fs::write(&file, text("new")).unwrap();
        let request = Request {
            file: &file,
            root: directory.path(),
            profiles: &[],
            cluster: None,
            variables: &BTreeMap::new(),
            engine: false,
            files: &Disk,
            shown_from: Path::new("/"),
        };
        let plan = crate::plan::validate(&request).unwrap_or_else(|problems| panic!("{problems}"));
        assert_eq!((plan.environment.as_str(), plan.nodes.len()), ("new", 1));
    }
}
