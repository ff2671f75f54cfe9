//! `envctl env`: prints the session's variables, quoted for whoever reads them.

use std::collections::BTreeMap;

use clap::{Args, ValueEnum};

use super::exit::Exit;
use super::output::Format;
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

/// Who reads the variables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Style {
    /// `eval "$(envctl env)"` in bash, zsh and other POSIX shells.
    Sh,
    /// `envctl env --format fish | source`.
    Fish,
    /// A dotenv file.
    Dotenv,
    /// One JSON object.
    Json,
    /// `envctl env --format github >> "$GITHUB_ENV"`.
    Github,
    /// `envctl env --format nextest >> "$NEXTEST_ENV"`, in a nextest setup script.
    Nextest,
}

/// Runs the verb.
///
/// # Errors
/// When there is no session, or a value cannot be written in the format.
pub fn run(arguments: &Arguments, context: &mut Context) -> Result<Exit, Error> {
    let (state, record) = context.session()?;
    touch(&state, &record.id);
    let style = if context.out.format == Format::Json { Style::Json } else { arguments.format };
    let text = written(style, &record.exports)?;
    context.out.bytes(text.as_bytes());
    Ok(Exit::Ok)
}

fn written(style: Style, exports: &BTreeMap<String, String>) -> Result<String, Error> {
    if style == Style::Json {
        return serde_json::to_string_pretty(exports)
            .map(|text| text + "\n")
            .map_err(std::io::Error::other)
            .map_err(Error::io("write the variables"));
    }
    exports.iter().map(|(name, value)| line(style, name, value)).collect()
}

fn line(style: Style, name: &str, value: &str) -> Result<String, Error> {
    Ok(match style {
        // Single quotes keep everything, newlines too; a single quote itself leaves and re-enters them.
        Style::Sh => format!("export {name}='{}'\n", value.replace('\'', r"'\''")),
        Style::Fish => format!("set -gx {name} '{}'\n", value.replace('\\', r"\\").replace('\'', r"\'")),
        Style::Dotenv => dotenv(name, value),
        Style::Github if value.contains('\n') => {
            // A delimiter that is not in the value, as the workflow commands' documentation asks.
            let mut end = "ENVCTL_END".to_owned();
            while value.contains(&end) {
                end.push('_');
            }
            format!("{name}<<{end}\n{value}\n{end}\n")
        }
        Style::Nextest if value.contains('\n') => {
            return Err(Error::Failed {
                what: format!("{name} has several lines, which nextest's environment file cannot carry"),
                hint: Some("let the tests read it through `envctl run` or the session client".to_owned()),
                exit: Exit::Failed,
            });
        }
        Style::Github | Style::Nextest | Style::Json => format!("{name}={value}\n"),
    })
}

/// Single quotes where they keep the value as it is, else double quotes with the escapes that dotenv readers share.
fn dotenv(name: &str, value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:@%+,=".contains(c);
    if !value.is_empty() && value.chars().all(plain) {
        format!("{name}={value}\n")
    } else if !value.contains(['\'', '\n', '\r']) {
        format!("{name}='{value}'\n")
    } else {
        let mut escaped = String::new();
        for c in value.chars() {
            match c {
                '\n' => escaped.push_str("\\n"),
                '\r' => escaped.push_str("\\r"),
                '"' | '\\' | '$' => escaped.extend(['\\', c]),
                other => escaped.push(other),
            }
        }
        format!("{name}=\"{escaped}\"\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NASTY: &str = "it's \"$HOME\" `id` \\ a\nb !x";

    #[test]
    fn a_shell_reads_back_every_value() {
        let script = format!("{}printf %s \"$V\"", line(Style::Sh, "V", NASTY).unwrap());
        let output = std::process::Command::new("sh").arg("-c").arg(script).output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), NASTY);
    }

    #[test]
    fn the_other_formats_quote_by_their_own_rules() {
        assert_eq!(line(Style::Fish, "V", r"it's \").unwrap(), "set -gx V 'it\\'s \\\\'\n");
        assert_eq!(line(Style::Dotenv, "V", "http://127.0.0.1:80/x").unwrap(), "V=http://127.0.0.1:80/x\n");
        assert_eq!(line(Style::Dotenv, "V", "a b#$c").unwrap(), "V='a b#$c'\n");
        assert_eq!(line(Style::Dotenv, "V", "it's\n$x").unwrap(), "V=\"it's\\n\\$x\"\n");
        assert_eq!(line(Style::Github, "V", "a\nb").unwrap(), "V<<ENVCTL_END\na\nb\nENVCTL_END\n");
        assert_eq!(line(Style::Nextest, "V", "a b").unwrap(), "V=a b\n");
        assert!(line(Style::Nextest, "V", "a\nb").is_err());
    }
}
