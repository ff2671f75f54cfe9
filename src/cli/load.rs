//! The plan of the environment file that is meant, for the verbs that need one.
//!
//! The edge of the pure stages: here files are read and the process's variables taken.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::Context;
use super::exit::Exit;
use crate::envfile::{Disk, Problems, Request, parse_dotenv};
use crate::error::Error;
use crate::images::docker;
use crate::plan::{self, Cluster, Plan};
use crate::session::project;

/// Reads and checks the environment file; all of its problems are reported.
///
/// # Errors
/// When there is no such file or it is not a valid environment: exit code 2.
pub fn plan(context: &Context) -> Result<Plan, Error> {
    let inputs = Inputs::of(context)?;
    plan::load(&inputs.request(context)).map_err(|problems| report(&problems, context))
}

/// What a plan is made from, gathered from this process.
pub struct Inputs {
    /// The environment file.
    pub file: PathBuf,
    root: PathBuf,
    profiles: Vec<String>,
    cluster: Option<Cluster>,
    variables: BTreeMap<String, String>,
}

impl Inputs {
    /// Gathers them: which file, which project, the variables.
    ///
    /// # Errors
    /// When no file is meant, or a flag is wrong.
    pub fn of(context: &Context) -> Result<Self, Error> {
        let file = context.env_file()?;
        // A file of another project is read as that project's.
        let root = project::find_root(file.parent().unwrap_or(&context.root));
        Ok(Self {
            root,
            file,
            profiles: context.globals.profile.iter().filter(|name| !name.is_empty()).cloned().collect(),
            cluster: chosen(context)?,
            variables: variables(context)?,
        })
    }

    /// The request for the pure stages.
    pub fn request<'a>(&'a self, context: &'a Context) -> Request<'a> {
        Request {
            file: &self.file,
            root: &self.root,
            profiles: &self.profiles,
            cluster: self.cluster.as_ref(),
            variables: &self.variables,
            engine: docker::engine_listens(&self.variables),
            files: &Disk,
            shown_from: &context.working_directory,
        }
    }
}

/// A bad environment file, as people read it.
pub fn report(problems: &Problems, context: &Context) -> Error {
    Error::Report { text: problems.render(context.out.colours()), exit: Exit::Usage }
}

/// The process's variables over those of `--env-file`. What isn't UTF-8 can't stand in a file and is left out.
///
/// # Errors
/// When that file is not one.
pub fn variables(context: &Context) -> Result<BTreeMap<String, String>, Error> {
    let process: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let Some(path) = context.globals.env_file.as_deref().filter(|path| *path != Path::new("")) else {
        return Ok(process);
    };
    let text = std::fs::read_to_string(context.working_directory.join(path)).map_err(|error| Error::Usage {
        what: format!("cannot read the variables in {}: {error}", path.display()),
        hint: None,
    })?;
    parse_dotenv(path, &text, &process).map_err(|problems| report(&problems, context))
}

/// The cluster that the flags choose, over the file's.
///
/// # Errors
/// When there is no such kind.
pub fn chosen(context: &Context) -> Result<Option<Cluster>, Error> {
    let set = |flag: &Option<String>| flag.clone().filter(|value| !value.is_empty());
    match set(&context.globals.context) {
        Some(name) => Ok(Some(Cluster::Context(name))),
        None => set(&context.globals.cluster).as_deref().map(cluster).transpose(),
    }
}

fn cluster(kind: &str) -> Result<Cluster, Error> {
    match kind {
        "embedded" => Ok(Cluster::Embedded),
        "kind" => Ok(Cluster::Kind { fresh: false }),
        "minikube" => Ok(Cluster::Minikube { fresh: false }),
        _ => match kind.strip_prefix("context:").filter(|name| !name.is_empty()) {
            Some(name) => Ok(Cluster::Context(name.to_owned())),
            None => Err(Error::Usage {
                what: format!("there is no kind of cluster called `{kind}`"),
                hint: Some("`embedded`, `kind`, `minikube` or `context:NAME`".to_owned()),
            }),
        },
    }
}
