//! From a file's path to its typed content: read, include, lay the profile over it, decode.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::decode::{Decode, Decoder, Spanned};
use super::merge;
use super::model::EnvironmentFile;
use super::names::{AnyText, Name};
use super::problem::Problem;
use super::source::{Sources, Span};
use super::suggest;
use super::tree::{self, Entry, Node, Value};

/// Where files come from; this keeps the stages pure.
pub trait Files {
    /// A file's text.
    ///
    /// # Errors
    /// As reading a file has them; bytes that aren't UTF-8 are `InvalidData`.
    fn read(&self, path: &Path) -> io::Result<String>;

    /// The paths in a directory, in any order.
    ///
    /// # Errors
    /// As reading a directory has them; `NotADirectory` for a file.
    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>>;

    /// Whether there is such a file or directory.
    fn exists(&self, path: &Path) -> bool;
}

/// The machine's own files.
#[derive(Debug, Clone, Copy, Default)]
pub struct Disk;

impl Files for Disk {
    fn read(&self, path: &Path) -> io::Result<String> {
        std::fs::read_to_string(path)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        std::fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect()
    }

    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }
}

/// What is asked for.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// The environment file, absolute.
    pub file: &'a Path,
    /// The project root, absolute: relative paths in the file start here.
    pub root: &'a Path,
    /// The profiles to lay over it, in order.
    pub profiles: &'a [String],
    /// Replaces the file's `cluster`.
    pub cluster: Option<&'a crate::plan::Cluster>,
    /// The host's variables: the process's, over those of `--env-file`.
    pub variables: &'a BTreeMap<String, String>,
    /// Whether a Docker engine is reachable: then the embedded cluster also runs images that have no `process`.
    pub engine: bool,
    /// Where files are read from.
    pub files: &'a dyn Files,
    /// Messages show paths relative to this directory (the working directory).
    pub shown_from: &'a Path,
}

impl Request<'_> {
    /// A path as messages show it.
    pub fn shown(&self, path: &Path) -> String {
        path.strip_prefix(self.shown_from).unwrap_or(path).display().to_string()
    }

    /// A path of the file, which starts at the project root.
    pub fn absolute(&self, path: &str) -> PathBuf {
        // `components` drops every `.` that isn't the first one.
        self.root.join(path).components().collect()
    }
}

/// What was read, and everything that was wrong so far.
pub struct Loaded {
    /// The files' texts.
    pub sources: Sources,
    /// What is wrong.
    pub problems: Vec<Problem>,
    /// The content; complete only if there are no problems. `None`: nothing could be read.
    pub file: Option<EnvironmentFile>,
}

/// Reads a file with everything that it includes.
pub fn load(request: &Request<'_>) -> Loaded {
    let mut loader =
        Loader { request, sources: Sources::default(), problems: Vec::new(), stack: Vec::new(), seen: Vec::new() };
    let root = loader.file(request.file, None);
    let Loader { sources, mut problems, .. } = loader;
    let Some(mut root) = root else { return Loaded { sources, problems, file: None } };
    for profile in request.profiles {
        apply_profile(&mut root, profile, &mut problems);
    }
    let lookup = |name: &str| request.variables.get(name).cloned();
    let mut decoder = Decoder { variables: &lookup, sources: &sources, problems };
    let file = EnvironmentFile::decode(&root, &mut decoder);
    let problems = decoder.problems;
    Loaded { sources, problems, file }
}

/// The names of a file's profiles, for checking each; empty if it can't be read.
pub fn profile_names(request: &Request<'_>) -> Vec<String> {
    load(&Request { profiles: &[], ..*request })
        .file
        .map(|file| file.profiles.names().map(str::to_owned).collect())
        .unwrap_or_default()
}

fn apply_profile(root: &mut Node, name: &str, problems: &mut Vec<Problem>) {
    let profiles = root.get("profiles").cloned();
    let entries = match profiles.map(|node| node.value) {
        Some(Value::Map(entries)) => entries,
        _ => Vec::new(),
    };
    match entries.iter().find(|entry| entry.key == name) {
        Some(profile) if profile.value.is_null() => {}
        Some(profile) => {
            // What a profile must not change is reported where it is decoded.
            let mut change = profile.value.clone();
            if let Value::Map(sections) = &mut change.value {
                sections.retain(|entry| EnvironmentFile::overlay_fields().any(|field| field == entry.key));
                merge::overlay(root, change, problems);
            }
        }
        None => {
            let names = entries.iter().map(|entry| entry.key.as_str());
            let hint = suggest::hint(name, names, "its profiles are").or(Some("it has none".to_owned()));
            problems.push(Problem::nowhere(format!("the environment file has no profile `{name}`")).hint(hint));
        }
    }
}

struct Loader<'a> {
    request: &'a Request<'a>,
    sources: Sources,
    problems: Vec<Problem>,
    /// The files that are being included, outermost first.
    stack: Vec<PathBuf>,
    /// Every file that was read.
    seen: Vec<PathBuf>,
}

impl Loader<'_> {
    fn file(&mut self, path: &Path, from: Option<Span>) -> Option<Node> {
        let shown = self.request.shown(path);
        let text = match self.request.files.read(path) {
            Ok(text) => text,
            Err(error) => {
                let message = match error.kind() {
                    io::ErrorKind::NotFound => format!("there is no file {shown}"),
                    io::ErrorKind::InvalidData => format!("{shown} is not UTF-8"),
                    _ => format!("{shown} cannot be read: {error}"),
                };
                let hint =
                    from.map(|_| format!("included paths start at the project root, {}", self.request.root.display()));
                let problem =
                    from.map_or_else(|| Problem::nowhere(message.clone()), |span| Problem::at(span, message.clone()));
                self.problems.push(problem.hint(hint));
                return None;
            }
        };
        let source = self.sources.add(shown, text);
        // The parser borrows the text, which the collection owns; a file is at most a megabyte.
        let text = self.sources.get(source)?.text.clone();
        let mut root = tree::parse(&text, source, &mut self.problems)?;
        self.seen.push(path.to_owned());
        self.stack.push(path.to_owned());
        self.includes(&mut root);
        self.stack.pop();
        Some(root)
    }

    /// Puts what the file includes in front of its own parts.
    fn includes(&mut self, root: &mut Node) {
        let Some(list) = root.get("include") else { return };
        let lookup = |name: &str| self.request.variables.get(name).cloned();
        let mut decoder = Decoder { variables: &lookup, sources: &self.sources, problems: Vec::new() };
        let paths = Vec::<Spanned<Name<AnyText>>>::decode(list, &mut decoder).unwrap_or_default();
        self.problems.append(&mut decoder.problems);

        let mut parts: Vec<Entry> = Vec::new();
        for Spanned { span, value } in paths {
            let path = self.request.absolute(&value.text);
            if let Some(at) = self.stack.iter().position(|open| *open == path) {
                let names = self.stack[at..].iter().chain([&path]).map(|path| self.request.shown(path));
                let cycle: Vec<String> = names.collect();
                self.problems.push(Problem::at(span, format!("these files include each other: {}", cycle.join(" → "))));
            } else if !self.seen.contains(&path)
                && let Some(Node { value: Value::Map(entries), .. }) = self.file(&path, Some(span))
            {
                let entries =
                    entries.into_iter().filter(|entry| entry.key != "include" && entry.key != "name").collect();
                merge::include(&mut parts, entries, false, &mut self.problems);
            }
        }
        if let Value::Map(own) = &mut root.value {
            let own_parts = std::mem::take(own);
            merge::include(&mut parts, own_parts, true, &mut self.problems);
            *own = parts;
        }
    }
}
