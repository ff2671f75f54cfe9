//! Variables as others read them. Each format follows its reader's own parser; `tests/formats.rs` asks the real ones.

use std::collections::BTreeMap;

use clap::ValueEnum;

/// Who reads the variables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Style {
    /// `eval "$(envctl env)"` in bash, zsh and other POSIX shells.
    Sh,
    /// `envctl env --format fish | source`.
    Fish,
    /// A dotenv file, for docker compose and python-dotenv.
    Dotenv,
    /// One JSON object.
    Json,
    /// `envctl env --format github >> "$GITHUB_ENV"`.
    Github,
    /// `envctl env --format nextest >> "$NEXTEST_ENV"`, in a nextest setup script.
    Nextest,
}

/// What to print.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Written {
    /// Whole lines.
    pub text: String,
    /// The variables that only docker compose reads back, of the dotenv readers.
    pub only_compose: Vec<String>,
}

/// A value that the format cannot carry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name} {why}, which nextest's environment file cannot carry")]
pub struct Unwritable {
    name: String,
    why: &'static str,
}

/// All variables in a format.
///
/// # Errors
/// When the format cannot carry a value.
pub fn write(style: Style, exports: &BTreeMap<String, String>) -> Result<Written, Unwritable> {
    let mut written = Written::default();
    if style == Style::Json {
        written.text = format!("{:#}\n", serde_json::json!(exports));
        return Ok(written);
    }
    for (name, value) in exports {
        let line = match style {
            // Single quotes keep everything, newlines too; a single quote itself leaves and re-enters them.
            Style::Sh | Style::Json => format!("export {name}='{}'\n", value.replace('\'', r"'\''")),
            Style::Fish => format!("set -gx {name} '{}'\n", value.replace('\\', r"\\").replace('\'', r"\'")),
            Style::Github => github(name, value),
            Style::Nextest => nextest(name, value)?,
            Style::Dotenv => {
                let (quoted, readers) = dotenv(value);
                if readers == Readers::Compose {
                    written.only_compose.push(name.clone());
                }
                format!("{name}={quoted}\n")
            }
        };
        written.text.push_str(&line);
    }
    Ok(written)
}

/// actions/runner `src/Runner.Worker/FileCommandManager.cs`, `SetEnvFileCommand`: a value of several lines ends at the first
/// line that is the delimiter.
fn github(name: &str, value: &str) -> String {
    if !value.contains('\n') {
        return format!("{name}={value}\n");
    }
    let mut end = "ENVCTL_END".to_owned();
    while value.contains(&end) {
        end.push('_');
    }
    format!("{name}<<{end}\n{value}\n{end}\n")
}

/// nextest-runner `src/runner/script_helpers.rs`: `NAME=value` a line, the end of which may be `\r\n`.
fn nextest(name: &str, value: &str) -> Result<String, Unwritable> {
    let unwritable = |why| Err(Unwritable { name: name.to_owned(), why });
    match value {
        value if value.contains('\n') => unwritable("has several lines"),
        value if value.ends_with('\r') => unwritable("ends with a carriage return"),
        value => Ok(format!("{name}={value}\n")),
    }
}

/// Who reads a dotenv value back as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Readers {
    All,
    Compose,
}

/// A quoting on which compose-go's `dotenv/parser.go` and python-dotenv's `parser.py` agree, else compose's own.
///
/// Both take a plain value as it is. In single quotes both know `\'`, but python-dotenv also `\\`, and a file in text mode loses carriage
/// returns. In double quotes both know `\\`, `\"`, `\n` and `\r`, but only compose `\$`, and python-dotenv cannot end in `\\`.
/// python-dotenv puts `${…}` in wherever it stands.
fn dotenv(value: &str) -> (String, Readers) {
    let interpolated = value.contains("${");
    let single = !value.contains(r"\\") && !value.contains(r"\'") && !value.ends_with('\\') && !value.contains('\r');
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:@%+,=\\".contains(c);
    let readers = if interpolated { Readers::Compose } else { Readers::All };
    if !value.is_empty() && value.chars().all(plain) {
        return (value.to_owned(), Readers::All);
    }
    if single && !value.contains(['\'', '\n']) {
        return (format!("'{value}'"), readers);
    }
    if !value.contains('$') && !value.ends_with('\\') {
        return (in_double_quotes(value), Readers::All);
    }
    if single {
        return (format!("'{}'", value.replace('\'', r"\'")), readers);
    }
    // python-dotenv must at least see where it ends, or it would take what follows for a part of it.
    let mut quoted = in_double_quotes(value.strip_suffix('\\').unwrap_or(value));
    if value.ends_with('\\') {
        quoted.pop();
        quoted.push_str("\\0134\"");
    }
    (quoted, Readers::Compose)
}

fn in_double_quotes(value: &str) -> String {
    let mut escaped = String::from("\"");
    for c in value.chars() {
        match c {
            '\n' => escaped.push_str("\\n"),
            '\r' => escaped.push_str("\\r"),
            '"' | '\\' | '$' => escaped.extend(['\\', c]),
            other => escaped.push(other),
        }
    }
    escaped.push('"');
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(style: Style, value: &str) -> String {
        write(style, &BTreeMap::from([("V".to_owned(), value.to_owned())])).unwrap().text
    }

    #[test]
    fn each_format_quotes_by_its_own_rules_and_only_where_it_must() {
        assert_eq!(line(Style::Sh, "it's"), "export V='it'\\''s'\n");
        assert_eq!(line(Style::Fish, r"it's \"), "set -gx V 'it\\'s \\\\'\n");
        assert_eq!(line(Style::Dotenv, "http://127.0.0.1:80/x"), "V=http://127.0.0.1:80/x\n");
        assert_eq!(line(Style::Dotenv, "a b#$c"), "V='a b#$c'\n");
        assert_eq!(line(Style::Dotenv, "it's\nx"), "V=\"it's\\nx\"\n");
        assert_eq!(line(Style::Dotenv, "it's $x"), "V='it\\'s $x'\n");
        assert_eq!(line(Style::Github, "a\nb"), "V<<ENVCTL_END\na\nb\nENVCTL_END\n");
        assert_eq!(line(Style::Nextest, "a b"), "V=a b\n");
        assert_eq!(line(Style::Json, "a\"b"), "{\n  \"V\": \"a\\\"b\"\n}\n");
    }

    #[test]
    fn what_a_format_cannot_carry_is_said() {
        let exports = BTreeMap::from([("PEM".to_owned(), "a\nb".to_owned())]);
        let error = write(Style::Nextest, &exports).unwrap_err();
        assert_eq!(error.to_string(), "PEM has several lines, which nextest's environment file cannot carry");
        let exports = BTreeMap::from([("V".to_owned(), "$a\\".to_owned())]);
        assert_eq!(write(Style::Dotenv, &exports).unwrap().only_compose, ["V"]);
    }
}
