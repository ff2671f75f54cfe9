//! Keys out of everything that is shown or kept: one [`Redactor`] knows a session's keys in every form in which they are likely
//! to appear (`forms`) and puts `[redacted NAME]` in their place.
//!
//! ```
//! use envctl::redact::Redactor;
//!
//! let redactor = Redactor::new([("API_KEY", "sk-2f9c")]);
//! assert_eq!(redactor.text("key=sk-2f9c"), "key=[redacted API_KEY]");
//!
//! // A stream in chunks, as a process writes it. Nothing is held back but what may be the beginning of a key.
//! let mut stream = redactor.stream();
//! assert_eq!(stream.push(b"key=sk-"), b"key=");
//! assert_eq!(stream.push(b"2f9c\n"), b"[redacted API_KEY]\n");
//! assert_eq!(stream.finish(), b"");
//!
//! // The same as an `io::Write`: `writer.finish()?` (or dropping it) writes what is held back.
//! let mut writer = redactor.writer(Vec::new());
//! # use std::io::Write as _;
//! writer.write_all(b"sk-2f9c")?;
//! assert_eq!(writer.finish()?, b"[redacted API_KEY]");
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! Neighbours: `session::state::SessionDirectory::redactor` makes the one of a session; the agent redacts events, failures and
//! its log ([`Shared`]), the command line what it reads from the cluster. A redactor is cheap to clone, and one without keys costs nothing.
//!
//! Invariants: what is in a form that `forms` lists never gets through, however it is cut into chunks; what is no key is passed on byte for byte.

mod forms;
mod stream;

pub use stream::{Stream, Writer};

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, PoisonError, RwLock};

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Shorter values are not looked for: they would be found everywhere.
pub const SHORTEST: usize = 4;

/// Finds keys and takes them out.
#[derive(Debug, Clone, Default)]
pub struct Redactor(Option<Arc<Known>>);

/// The redactor of now, for those who live longer than one: keys come and go while they write.
#[derive(Debug, Clone, Default)]
pub struct Shared(Arc<RwLock<Redactor>>);

impl Shared {
    /// The one of now.
    pub fn get(&self) -> Redactor {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From now on another one.
    pub fn set(&self, redactor: Redactor) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = redactor;
    }
}

/// What is looked for.
struct Known {
    automaton: AhoCorasick,
    /// In order, as the automaton numbers them: for the question whether a key may have begun.
    sorted: Vec<Vec<u8>>,
    /// What stands in a pattern's place.
    shown: Vec<String>,
    /// Which bytes a pattern begins with.
    begins: [bool; 256],
    longest: usize,
}

impl std::fmt::Debug for Known {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Nothing of what is secret.
        formatter.debug_struct("Known").field("patterns", &self.shown.len()).finish_non_exhaustive()
    }
}

impl Redactor {
    /// For keys by name and value. Values below [`SHORTEST`] bytes are not looked for.
    pub fn new<'a>(keys: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut patterns: BTreeMap<Vec<u8>, String> = BTreeMap::new();
        for (name, value) in keys {
            for form in forms::of(value) {
                patterns.entry(form).or_insert_with(|| format!("[redacted {name}]"));
            }
        }
        if patterns.is_empty() {
            return Self(None);
        }
        let (sorted, shown): (Vec<_>, Vec<_>) = patterns.into_iter().unzip();
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .kind(Some(AhoCorasickKind::ContiguousNFA))
            .build(&sorted);
        let Ok(automaton) = automaton else {
            // Only for patterns of gigabytes, which no Secret can hold.
            return Self(None);
        };
        let mut begins = [false; 256];
        for pattern in &sorted {
            begins[usize::from(pattern[0])] = true;
        }
        let longest = sorted.iter().map(Vec::len).max().unwrap_or(0);
        Self(Some(Arc::new(Known { automaton, sorted, shown, begins, longest })))
    }

    /// Whether there is nothing to look for.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// A whole text without keys.
    pub fn text<'t>(&self, text: &'t str) -> Cow<'t, str> {
        match self.bytes(text.as_bytes()) {
            Cow::Borrowed(_) => Cow::Borrowed(text),
            Cow::Owned(bytes) => Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()),
        }
    }

    /// Whole bytes without keys.
    pub fn bytes<'b>(&self, bytes: &'b [u8]) -> Cow<'b, [u8]> {
        match &self.0 {
            Some(known) if known.automaton.is_match(bytes) => {
                let mut out = Vec::with_capacity(bytes.len());
                let rest = known.take_out(bytes, &mut out, true);
                debug_assert_eq!(rest, bytes.len(), "nothing is held back of what is whole");
                Cow::Owned(out)
            }
            _ => Cow::Borrowed(bytes),
        }
    }

    /// Every text in a JSON value, names of fields included.
    pub fn value(&self, value: &mut Value) {
        match value {
            Value::String(text) => {
                if let Cow::Owned(clean) = self.text(text) {
                    *text = clean;
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.value(item)),
            Value::Object(fields) => {
                let spoilt: Vec<String> =
                    fields.keys().filter(|name| matches!(self.text(name), Cow::Owned(_))).cloned().collect();
                for name in spoilt {
                    if let Some(field) = fields.remove(&name) {
                        fields.insert(self.text(&name).into_owned(), field);
                    }
                }
                fields.values_mut().for_each(|field| self.value(field));
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// The same of Kubernetes objects, and the data of every Secret among them, whosever it is.
    pub fn object(&self, value: &mut Value) {
        hide_secret_data(value);
        self.value(value);
    }

    /// Every text in something that is JSON, but for the names of nodes and words of a fixed set (the kind of an event, of a cause), which stand
    /// in the environment file or in the program. What has no key in it is handed back as it is.
    pub fn of<T: Serialize + DeserializeOwned>(&self, thing: T) -> T {
        if self.is_empty() {
            return thing;
        }
        let Ok(mut value) = serde_json::to_value(&thing) else { return thing };
        let mut texts = Vec::new();
        paths(&value, String::new(), &mut texts);
        let mut changed = None;
        for path in texts {
            let Some(Value::String(text)) = value.pointer_mut(&path) else { continue };
            let Cow::Owned(clean) = self.text(text) else { continue };
            let word = std::mem::replace(text, clean);
            match serde_json::from_value(value.clone()) {
                Ok(clean) => changed = Some(clean),
                // Only a word of a fixed set cannot be replaced: it is no key, although one has the same value.
                Err(_) => {
                    if let Some(place) = value.pointer_mut(&path) {
                        *place = Value::String(word);
                    }
                }
            }
        }
        changed.unwrap_or(thing)
    }

    /// For bytes that come in chunks.
    pub fn stream(&self) -> Stream {
        Stream::new(self.0.clone())
    }

    /// For bytes that are written somewhere.
    pub fn writer<W: io::Write>(&self, inner: W) -> Writer<W> {
        Writer::new(self.stream(), inner)
    }
}

/// Fields that hold nodes' ids.
const IDS: [&str; 3] = ["node", "needs", "waiting"];

/// Where the texts of a value are, as JSON pointers, but for those in [`IDS`].
fn paths(value: &Value, at: String, found: &mut Vec<String>) {
    match value {
        Value::String(_) => found.push(at),
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                paths(item, format!("{at}/{index}"), found);
            }
        }
        Value::Object(fields) => {
            for (name, field) in fields.iter().filter(|(name, _)| !IDS.contains(&name.as_str())) {
                paths(field, format!("{at}/{}", name.replace('~', "~0").replace('/', "~1")), found);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn hide_secret_data(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(hide_secret_data),
        Value::Object(fields) => {
            if fields.get("kind").and_then(Value::as_str) == Some("Secret") {
                for field in ["data", "stringData"] {
                    if let Some(Value::Object(entries)) = fields.get_mut(field) {
                        entries.values_mut().for_each(|entry| *entry = Value::from("[redacted]"));
                    }
                }
                // What `kubectl apply` keeps there is the whole object.
                if let Some(Value::Object(annotations)) =
                    fields.get_mut("metadata").and_then(|meta| meta.get_mut("annotations"))
                {
                    annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
                }
            }
            fields.values_mut().for_each(hide_secret_data);
        }
        _ => {}
    }
}

impl Known {
    /// Appends `bytes` without keys to `out`, as far as that is certain: where a key may have begun, it stops unless this is
    /// the `end`. Returns how many bytes were dealt with.
    fn take_out(&self, bytes: &[u8], out: &mut Vec<u8>, end: bool) -> usize {
        let mut at = 0;
        loop {
            let found = self.automaton.find(&bytes[at..]);
            let begun = if end { None } else { self.begun(bytes, at) };
            match (found, begun) {
                (Some(found), begun) if begun.is_none_or(|begun| at + found.start() < begun) => {
                    out.extend_from_slice(&bytes[at..at + found.start()]);
                    out.extend_from_slice(self.shown[found.pattern().as_usize()].as_bytes());
                    at += found.end();
                }
                (_, Some(begun)) => {
                    out.extend_from_slice(&bytes[at..begun]);
                    return begun;
                }
                _ => {
                    out.extend_from_slice(&bytes[at..]);
                    return bytes.len();
                }
            }
        }
    }

    /// From where on, at or after `from`, everything up to the end could be the beginning of a key.
    fn begun(&self, bytes: &[u8], from: usize) -> Option<usize> {
        let first = from.max(bytes.len().saturating_sub(self.longest - 1));
        (first..bytes.len()).find(|&start| {
            let rest = &bytes[start..];
            self.begins[usize::from(rest[0])] && {
                // The first pattern after `rest` in order is the first that begins with it, if one does.
                let next = self.sorted.partition_point(|pattern| pattern.as_slice() <= rest);
                self.sorted.get(next).is_some_and(|pattern| pattern.starts_with(rest))
            }
        })
    }
}

#[cfg(test)]
mod tests;
