//! `envctl env`: prints the session's variables, quoted for whoever reads them.

mod format;

use clap::Args;

pub use format::{Style, Written, write};

use super::exit::Exit;
use super::output::Format;
use super::wait::with_variables;
use super::{Context, FileFlag};
use crate::error::Error;
use crate::session::touch;

/// The flags of this verb.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Which environment file.
    #[command(flatten)]
    pub file: FileFlag,
    /// Who reads it
    #[arg(long, env = "ENVCTL_FORMAT", hide_env_values = true, value_enum, default_value_t = Style::Sh)]
    pub format: Style,
}

/// Runs the verb.
///
/// # Errors
/// When there is no session, or a value cannot be written in the format.
pub fn run(arguments: &Arguments, context: &mut Context) -> Result<Exit, Error> {
    let (state, record) = context.session()?;
    touch(&state, &record.id);
    let record = with_variables(context, &state, record)?;
    let style = if context.out.format == Format::Json { Style::Json } else { arguments.format };
    let written = write(style, &record.exports).map_err(|unwritable| Error::Failed {
        what: unwritable.to_string(),
        hint: Some("let the tests read it through `envctl run` or the session client".to_owned()),
        exit: Exit::Failed,
    })?;
    for name in written.only_compose {
        context.out.warn(&format!("{name} is quoted as docker compose reads it; python-dotenv reads it otherwise"));
    }
    if style == Style::Github && std::env::var_os("GITHUB_ACTIONS").is_some() {
        // The runner hides what it is told of here, in the logs of all later steps. It swallows the line itself.
        for key in state.session(&record.id).keys()?.values() {
            let masks: String =
                key.value.lines().filter(|line| !line.is_empty()).map(|line| format!("::add-mask::{line}\n")).collect();
            context.out.bytes_err(masks.as_bytes());
        }
    }
    context.out.bytes(written.text.as_bytes());
    Ok(Exit::Ok)
}
