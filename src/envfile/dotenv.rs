//! `--env-file`: dotenv files as compose reads them.
//!
//! `NAME=value` a line, `export` allowed, `#` comments; in double quotes `\n`, `\t`, `\"`, `\\` and `\$` are escapes; single quotes keep everything.
//! Outside single quotes, variables are put in as in the environment file, from earlier lines and the process.

use std::collections::BTreeMap;
use std::path::Path;

use super::decode::KeyKind as _;
use super::names::VariableName;
use super::problem::{Problem, Problems};
use super::source::{Sources, Span};
use super::template::Template;

/// The variables of a dotenv file, over which `process` wins, as in compose.
///
/// # Errors
/// Every line that is wrong.
pub fn parse(
    path: &Path,
    text: &str,
    process: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, Problems> {
    let mut sources = Sources::default();
    let source = sources.add(path.display().to_string(), text.to_owned());
    let mut problems = Vec::new();
    let mut variables = process.clone();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let offset = start + (line.len() - line.trim_start().len());
        start += line.len();
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let at = |from: usize, length: usize| Span {
            source,
            start: u32::try_from(from).unwrap_or(u32::MAX),
            end: u32::try_from(from + length).unwrap_or(u32::MAX),
        };
        let assignment = line.strip_prefix("export ").unwrap_or(line);
        let Some((name, value)) = assignment.split_once('=') else {
            problems.push(Problem::at(at(offset, line.len()), "expected `NAME=value`"));
            continue;
        };
        let name = name.trim();
        if let Err(message) = VariableName::check(name) {
            problems.push(Problem::at(at(offset, line.len()), message));
            continue;
        }
        let lookup = |name: &str| variables.get(name).cloned();
        match dotenv_value(value.trim(), &lookup) {
            Ok(value) => {
                if !process.contains_key(name) {
                    variables.insert(name.to_owned(), value);
                }
            }
            Err(message) => problems.push(Problem::at(at(offset, line.len()), message)),
        }
    }
    Problems::new(sources, problems).map_or(Ok(variables), Err)
}

fn dotenv_value(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let put_in = |text: &str| match Template::parse(text, lookup) {
        Ok(template) => Ok(template.as_text().map_or_else(|| template.to_string(), str::to_owned)),
        Err(errors) => Err(errors.iter().map(|error| error.kind.to_string()).collect::<Vec<_>>().join("; ")),
    };
    let closed = |rest: &str| rest.trim().is_empty() || rest.trim_start().starts_with('#');
    if let Some(rest) = text.strip_prefix('\'') {
        let (value, rest) = rest.split_once('\'').ok_or("the quote is never closed")?;
        return if closed(rest) {
            Ok(value.to_owned())
        } else {
            Err("there is more after the closing quote".to_owned())
        };
    }
    if let Some(rest) = text.strip_prefix('"') {
        let mut value = String::new();
        let mut characters = rest.char_indices();
        while let Some((at, character)) = characters.next() {
            match character {
                '"' if closed(&rest[at + 1..]) => return put_in(&value),
                '"' => return Err("there is more after the closing quote".to_owned()),
                '\\' => match characters.next() {
                    Some((_, 'n')) => value.push('\n'),
                    Some((_, 't')) => value.push('\t'),
                    Some((_, '$')) => value.push_str("$$"),
                    Some((_, other)) => value.push(other),
                    None => break,
                },
                other => value.push(other),
            }
        }
        return Err("the quote is never closed".to_owned());
    }
    let end = text.find(" #").or_else(|| text.starts_with('#').then_some(0)).unwrap_or(text.len());
    put_in(text[..end].trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_compose_reads_them() {
        let process =
            BTreeMap::from([("HOME".to_owned(), "/home/me".to_owned()), ("WINS".to_owned(), "process".to_owned())]);
        let text = "# comment\nA=1\nexport B='$A #x'  # why\nC=\"x\\n${A}\"\nD=two words # c\nE=\nF=${HOME}/f\nWINS=file\nG=\"\\$A\"\n";
        let variables = parse(Path::new(".env"), text, &process).unwrap();
        for (name, value) in [
            ("A", "1"),
            ("B", "$A #x"),
            ("C", "x\n1"),
            ("D", "two words"),
            ("E", ""),
            ("F", "/home/me/f"),
            ("WINS", "process"),
            ("G", "$A"),
        ] {
            assert_eq!(variables[name], value, "{name}");
        }
    }

    #[test]
    fn every_bad_line_is_reported() {
        let problems = parse(Path::new(".env"), "A\n1B=2\nC='x\nD=\"x\" y\nE=${NOPE}\n", &BTreeMap::new()).unwrap_err();
        let lines: Vec<_> = problems.documents().iter().map(|problem| problem.line.unwrap()).collect();
        assert_eq!(lines, [1, 2, 3, 4, 5]);
    }
}
