//! Manifests: which files a path means, and their documents.

use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::load::{Builder, Draft};
use super::{Manifest, NodeId, NodeKind, NodeSpec};
use crate::envfile::model::ManifestFile;
use crate::envfile::{Problem, Span, nearest};

/// What a manifest is called, and where that stands.
pub(super) fn name(manifest: &ManifestFile) -> (&str, Span) {
    match &manifest.name {
        Some(name) => (name.value.text.as_str(), name.span),
        None => (manifest.path.value.text.as_str(), manifest.path.span),
    }
}

/// A manifest's node; `None` after reporting why its files can't be read.
pub(super) fn manifest(builder: &mut Builder<'_>, file: &ManifestFile) -> Option<Draft> {
    let (name, _) = name(file);
    let edges = builder.needs(&file.needs, name);
    let files = match expand(builder, &file.path.value.text) {
        Ok(files) => files,
        Err(problem) => {
            builder.problem(Problem { span: Some(file.path.span), ..problem });
            return None;
        }
    };
    let mut objects = Vec::new();
    for path in &files {
        documents(builder, path, file.path.span, &mut objects);
    }
    if objects.is_empty() && builder.problems.is_empty() {
        builder.problem(Problem::at(file.path.span, "there are no Kubernetes objects in it"));
    }
    Some(Draft {
        id: NodeId::new(NodeKind::Manifest, name),
        edges,
        spec: NodeSpec::Manifest(Manifest { files, objects }),
    })
}

fn is_manifest(path: &Path) -> bool {
    path.extension().is_some_and(|extension| ["yaml", "yml", "json"].iter().any(|known| extension == *known))
}

/// The files that a path, a directory or a pattern means, sorted.
fn expand(builder: &Builder<'_>, text: &str) -> Result<Vec<PathBuf>, Problem> {
    let path = builder.absolute(text);
    let files = builder.request.files;
    let shown = builder.request.shown(&path);
    let (directory, pattern) = match (path.parent(), path.file_name().and_then(|name| name.to_str())) {
        (Some(parent), Some(pattern)) if pattern.contains(['*', '?']) => (parent.to_owned(), Some(pattern.to_owned())),
        _ => (path.clone(), None),
    };
    let mut found: Vec<PathBuf> = match files.list(&directory) {
        Ok(paths) => paths,
        Err(_) if pattern.is_none() && files.exists(&path) => return Ok(vec![path]),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let around = path.parent().and_then(|parent| files.list(parent).ok()).unwrap_or_default();
            let names: Vec<String> =
                around.iter().filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned())).collect();
            let own = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let hint = nearest(&own, names.iter().map(String::as_str)).map(|near| format!("did you mean `{near}`?"));
            let default = format!("paths start at the project root, {}", builder.request.root.display());
            return Err(Problem::nowhere(format!("there is no {shown}")).hint(hint.or(Some(default))));
        }
        Err(error) => return Err(Problem::nowhere(format!("{shown} cannot be read: {error}"))),
    };
    found.retain(|path| match (&pattern, path.file_name().and_then(|name| name.to_str())) {
        (Some(pattern), Some(name)) => matches(pattern.as_bytes(), name.as_bytes()),
        (None, _) => is_manifest(path),
        (_, None) => false,
    });
    found.sort();
    if found.is_empty() { Err(Problem::nowhere(format!("{shown} has no manifests"))) } else { Ok(found) }
}

/// Whether a name is of a pattern of `*` and `?`.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut star, mut p) = (0, None, 0);
    while at < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, at));
                p += 1;
            }
            Some(c) if *c == b'?' || *c == name[at] => {
                p += 1;
                at += 1;
            }
            _ => match star {
                Some((star_p, star_at)) => {
                    p = star_p + 1;
                    at = star_at + 1;
                    star = Some((star_p, at));
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

/// Modes of files that are written as octal numbers, as Kubernetes' documentation writes them (YAML 1.1 has those), become numbers.
fn modes(value: &mut Value) {
    let octal = |mode: &mut Value| {
        let digits = mode.as_str().filter(|text| text.starts_with('0') && text.len() > 1);
        if let Some(number) = digits.and_then(|digits| u32::from_str_radix(digits, 8).ok()) {
            *mode = number.into();
        }
    };
    match value {
        Value::Object(fields) => {
            if let Some(mode) = fields.get_mut("defaultMode") {
                octal(mode);
            }
            let is_file = fields.contains_key("path");
            if let Some(mode) = fields.get_mut("mode").filter(|_| is_file) {
                octal(mode);
            }
            fields.values_mut().for_each(modes);
        }
        Value::Array(values) => values.iter_mut().for_each(modes),
        _ => {}
    }
}

/// Adds a file's documents.
fn documents(builder: &mut Builder<'_>, path: &Path, from: Span, objects: &mut Vec<Value>) {
    let shown = builder.request.shown(path);
    let text = match builder.request.files.read(path) {
        Ok(text) => text,
        Err(error) => return builder.problem(Problem::at(from, format!("{shown} cannot be read: {error}"))),
    };
    // The scalars that Kubernetes' own YAML library would read as texts.
    let options = serde_yaml::options! {
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        with_snippet: false,
    };
    let parsed: Result<Vec<Value>, serde_yaml::Error> = serde_yaml::from_multiple_with_options(&text, options);
    match parsed {
        Ok(documents) => {
            for (number, mut document) in documents.into_iter().enumerate() {
                modes(&mut document);
                if !document.is_null() {
                    object(builder, document, &format!("document {} of {shown}", number + 1), from, objects);
                }
            }
        }
        Err(error) => {
            let at = error.location().map(|location| (location.line(), location.column()));
            let offset = at.map_or(0, |(line, column)| byte_of(&text, line, column));
            let source = builder.sources.add(shown, text);
            let span = Span { source, start: offset, end: offset };
            let message = error.without_snippet().to_string();
            builder.problem(Problem::at(span, format!("this is not YAML: {message}")).related(from, "named here"));
        }
    }
}

fn byte_of(text: &str, line: u64, column: u64) -> u32 {
    let line = usize::try_from(line).unwrap_or(1).max(1);
    let column = usize::try_from(column).unwrap_or(1).max(1);
    let start: usize = text.split_inclusive('\n').take(line - 1).map(str::len).sum();
    let within: usize = text[start..].chars().take(column - 1).map(char::len_utf8).sum();
    u32::try_from((start + within).min(text.len())).unwrap_or(0)
}

/// Adds one object, or a list's items.
fn object(builder: &mut Builder<'_>, document: Value, shown: &str, from: Span, objects: &mut Vec<Value>) {
    let text = |field: &str| document.pointer(field).and_then(Value::as_str).filter(|text| !text.is_empty());
    let missing: Vec<&str> = [("/apiVersion", "`apiVersion`"), ("/kind", "`kind`")]
        .into_iter()
        .filter(|(field, _)| text(field).is_none())
        .map(|(_, words)| words)
        .collect();
    if !missing.is_empty() {
        return builder.problem(Problem::at(
            from,
            format!("{shown} is not a Kubernetes object: it has no {}", missing.join(" and no ")),
        ));
    }
    if text("/kind").is_some_and(|kind| kind.ends_with("List")) && document["items"].is_array() {
        let mut document = document;
        let items = document["items"].as_array_mut().map(std::mem::take).unwrap_or_default();
        for item in items {
            object(builder, item, shown, from, objects);
        }
        return;
    }
    if text("/metadata/name").is_none() {
        let hint =
            text("/metadata/generateName").map(|_| "it is applied, so it can't have a `generateName`".to_owned());
        return builder.problem(Problem::at(from, format!("{shown} has no `metadata.name`")).hint(hint));
    }
    objects.push(document);
}

#[cfg(test)]
mod tests {
    #[test]
    fn patterns() {
        for (pattern, name, expected) in [
            ("*.yaml", "a.yaml", true),
            ("*.yaml", "a.yml", false),
            ("a?c*", "abcd", true),
            ("*a*b", "xaxb", true),
            ("*a*b", "xbxa", false),
            ("*", "", true),
        ] {
            assert_eq!(super::matches(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
        }
    }
}
