//! `envctl validate`: checks the environment file and says everything that is wrong with it.

use clap::Args;
use serde_json::json;

use super::exit::Exit;
use super::output::Format;
use super::{Context, FileFlag, load};
use crate::error::Error;
use crate::plan::{self, NodeKind, Plan};

/// The flags of this verb.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Which environment file.
    #[command(flatten)]
    pub file: FileFlag,
}

/// Runs the verb: without `--profile`, the file as it is and with each of its profiles.
///
/// # Errors
/// Everything that is wrong with the file: exit code 2.
pub fn run(_arguments: &Arguments, context: &mut Context) -> Result<Exit, Error> {
    let inputs = load::Inputs::of(context)?;
    let result = plan::validate(&inputs.request(context));
    let document = matches!(context.out.format, Format::Json | Format::Yaml);
    match result {
        Ok(plan) if document => {
            context
                .out
                .document(&json!({ "version": 1, "valid": true, "problems": [], "environment": plan.environment }))?;
            Ok(Exit::Ok)
        }
        Ok(plan) if context.out.format == Format::Name => {
            context.out.data(&plan.environment);
            Ok(Exit::Ok)
        }
        Ok(plan) => {
            let shown = inputs.request(context).shown(&inputs.file);
            context.out.data(format!("{shown}: valid ({})", counts(&plan)));
            Ok(Exit::Ok)
        }
        Err(problems) if document => {
            context.out.document(&problems.to_json())?;
            Ok(Exit::Usage)
        }
        Err(problems) => Err(load::report(&problems, context)),
    }
}

/// `3 services, 1 job`.
fn counts(plan: &Plan) -> String {
    let kinds = [NodeKind::Service, NodeKind::Job, NodeKind::Manifest, NodeKind::Key];
    let counted: Vec<String> = kinds
        .into_iter()
        .map(|kind| (kind, plan.nodes.iter().filter(|node| node.id.kind == kind).count()))
        .filter(|(_, count)| *count > 0)
        .map(|(kind, count)| format!("{count} {}{}", kind.word(), if count == 1 { "" } else { "s" }))
        .collect();
    if counted.is_empty() { "nothing to start".to_owned() } else { counted.join(", ") }
}
