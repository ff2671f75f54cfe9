//! The parser's events become the tree: anchors are expanded and merge keys merged here, within the limits.

use std::collections::{HashMap, HashSet};

use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, Span as YamlSpan, Tag};

use super::super::problem::Problem;
use super::super::source::Span;
use super::{Entry, MAX_BYTES, MAX_DEPTH, MAX_NODES, Node, Scalar, Value};

/// Parses one document. `None` if it is empty or can't be parsed; what is wrong is added to `problems`.
pub fn parse(text: &str, source: u32, problems: &mut Vec<Problem>) -> Option<Node> {
    let start = Span { source, start: 0, end: 0 };
    if text.len() > MAX_BYTES {
        problems.push(Problem::at(start, format!("the file has more than {MAX_BYTES} bytes")));
        return None;
    }
    let mut options = granit_parser::Options::default();
    options.block_nesting_limit = MAX_DEPTH * 2;
    options.flow_nesting_limit = MAX_DEPTH;
    options.emit_comments = false;
    let mut builder =
        Builder { source, problems, stack: Vec::new(), anchors: Vec::new(), nodes: 0, root: None, documents: 0 };
    for next in Parser::new_from_str_with_options(text, options) {
        match next {
            Ok((event, span)) => {
                if builder.event(event, span).is_err() {
                    return None;
                }
            }
            Err(error) => {
                let at = u32::try_from(error.marker().byte_offset().unwrap_or(0).min(text.len())).unwrap_or(0);
                let message = format!("this is not YAML: {}", error.kind());
                let hint = match error.kind() {
                    ErrorKind::UnknownAnchor => {
                        Some("an anchor (`&name`) is defined before it is used, in the same file".into())
                    }
                    _ if text[..at as usize]
                        .rsplit('\n')
                        .next()
                        .is_some_and(|line| line.trim_start_matches(' ').starts_with('\t'))
                        || text[at as usize..].starts_with('\t') =>
                    {
                        Some("indent with spaces: YAML takes no tabs there".into())
                    }
                    _ => None,
                };
                builder.problems.push(Problem::at(Span { source, start: at, end: at }, message).hint(hint));
                return None;
            }
        }
    }
    let root = builder.root.take();
    if root.is_none() {
        problems
            .push(Problem::at(start, "the file is empty").hint(Some("`envctl init` writes one to start from".into())));
    }
    root
}

/// A value with what it costs to expand.
#[derive(Clone)]
struct Costed {
    node: Node,
    nodes: usize,
    height: usize,
}

enum Frame {
    List {
        start: u32,
        anchor: usize,
        items: Vec<Node>,
        nodes: usize,
        height: usize,
    },
    Map {
        start: u32,
        anchor: usize,
        entries: Vec<RawEntry>,
        key: Option<(Option<String>, Span, bool)>,
        nodes: usize,
        height: usize,
    },
}

struct RawEntry {
    key: Option<String>,
    key_span: Span,
    merge: bool,
    value: Node,
}

struct Builder<'a> {
    source: u32,
    problems: &'a mut Vec<Problem>,
    stack: Vec<Frame>,
    anchors: Vec<(usize, Costed)>,
    nodes: usize,
    root: Option<Node>,
    documents: usize,
}

/// Nothing after this makes sense.
struct Stop;

impl Builder<'_> {
    fn span(&self, span: &YamlSpan) -> Span {
        let offset =
            |marker: granit_parser::Marker| u32::try_from(marker.byte_offset().unwrap_or(0)).unwrap_or(u32::MAX);
        Span { source: self.source, start: offset(span.start), end: offset(span.end) }
    }

    fn event(&mut self, event: Event<'_>, yaml: YamlSpan) -> Result<(), Stop> {
        let span = self.span(&yaml);
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents == 2 {
                    self.problems.push(
                        Problem::at(span, "an environment file is one document").hint(Some(
                            "put Kubernetes YAML in a file of its own and name it under `manifests`".into(),
                        )),
                    );
                    return Err(Stop);
                }
            }
            Event::Scalar(text, style, anchor, tag) => {
                let tagged = self.tag(tag.as_deref(), span);
                let plain = style == ScalarStyle::Plain && !tagged;
                // A missing value has an empty place right after its key.
                let scalar = Scalar { text: text.into_owned(), plain };
                self.value(Costed { node: Node { span, value: Value::Scalar(scalar) }, nodes: 1, height: 0 }, anchor)?;
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.tag(tag.as_deref(), span);
                self.open(Frame::List { start: span.start, anchor, items: Vec::new(), nodes: 1, height: 0 }, span)?;
            }
            Event::MappingStart(_, anchor, tag) => {
                self.tag(tag.as_deref(), span);
                let frame =
                    Frame::Map { start: span.start, anchor, entries: Vec::new(), key: None, nodes: 1, height: 0 };
                self.open(frame, span)?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(span)?,
            Event::Alias(id) => {
                let found = self.anchors.iter().rev().find(|(anchor, _)| *anchor == id);
                let Some((nodes, height)) = found.map(|(_, target)| (target.nodes, target.height)) else {
                    self.problems.push(Problem::at(span, "this anchor contains itself"));
                    return Err(Stop);
                };
                // Counted before it is copied: this is where a few bytes could become gigabytes.
                self.check(nodes, height, span)?;
                let Some((_, target)) = self.anchors.iter().rev().find(|(anchor, _)| *anchor == id) else {
                    return Ok(());
                };
                let target = target.clone();
                self.value(target, 0)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether the tag makes a scalar a string; others of YAML's own change nothing, an application's are refused.
    fn tag(&mut self, tag: Option<&Tag>, span: Span) -> bool {
        let Some(tag) = tag else { return false };
        match tag.core_suffix() {
            Some(suffix) => suffix == "str",
            None if tag.original() == "!" => true,
            None => {
                self.problems.push(Problem::at(span, format!("the tag `{}` means nothing here", tag.original())));
                false
            }
        }
    }

    fn check(&mut self, nodes: usize, height: usize, span: Span) -> Result<(), Stop> {
        if self.nodes + nodes > MAX_NODES {
            self.problems.push(Problem::at(
                span,
                format!("the file has more than {MAX_NODES} values, with its anchors expanded"),
            ));
            return Err(Stop);
        }
        if self.stack.len() + height > MAX_DEPTH {
            self.problems.push(Problem::at(span, format!("values are nested more than {MAX_DEPTH} deep")));
            return Err(Stop);
        }
        Ok(())
    }

    fn open(&mut self, frame: Frame, span: Span) -> Result<(), Stop> {
        self.check(1, 1, span)?;
        self.stack.push(frame);
        Ok(())
    }

    fn close(&mut self, end: Span) -> Result<(), Stop> {
        let source = self.source;
        match self.stack.pop() {
            Some(Frame::List { start, anchor, items, nodes, height }) => {
                let span = Span { source, start, end: end.end.max(start) };
                self.value(Costed { node: Node { span, value: Value::List(items) }, nodes, height: height + 1 }, anchor)
            }
            Some(Frame::Map { start, anchor, entries, nodes, height, .. }) => {
                let span = Span { source, start, end: end.end.max(start) };
                let value = Value::Map(self.merged(entries));
                self.value(Costed { node: Node { span, value }, nodes, height: height + 1 }, anchor)
            }
            None => Ok(()),
        }
    }

    /// Puts a finished value where it belongs.
    fn value(&mut self, value: Costed, anchor: usize) -> Result<(), Stop> {
        self.check(1, 0, value.node.span)?;
        self.nodes += value.nodes;
        if anchor != 0 {
            self.anchors.push((anchor, value.clone()));
        }
        let Costed { node, nodes: count, height: tall } = value;
        match self.stack.last_mut() {
            None => self.root = Some(node),
            Some(Frame::List { items, nodes, height, .. }) => {
                *nodes += count;
                *height = tall.max(*height);
                items.push(node);
            }
            Some(Frame::Map { entries, key, nodes, height, .. }) => {
                *nodes += count;
                *height = tall.max(*height);
                match key.take() {
                    Some((key, key_span, merge)) => entries.push(RawEntry { key, key_span, merge, value: node }),
                    None => {
                        let span = node.span;
                        let (text, merge) = match node.value {
                            Value::Scalar(scalar) => {
                                let merge = scalar.plain && scalar.text == "<<";
                                (Some(scalar.text), merge)
                            }
                            _ => (None, false),
                        };
                        if text.is_none() {
                            self.problems.push(Problem::at(span, "a key is a text"));
                        }
                        *key = Some((text, span, merge));
                    }
                }
            }
        }
        Ok(())
    }

    /// Duplicate keys reported, merge keys merged: what stands in the mapping itself wins, then the earlier of several merged ones.
    fn merged(&mut self, raw: Vec<RawEntry>) -> Vec<Entry> {
        let mut own: HashMap<String, Span> = HashMap::with_capacity(raw.len());
        for entry in raw.iter().filter(|entry| !entry.merge) {
            let Some(key) = &entry.key else { continue };
            match own.get(key) {
                Some(first) => self.problems.push(
                    Problem::at(entry.key_span, format!("`{key}` stands here twice")).related(*first, "first here"),
                ),
                None => {
                    own.insert(key.clone(), entry.key_span);
                }
            }
        }
        let mut merged_in: HashSet<String> = HashSet::new();
        let mut entries: Vec<Entry> = Vec::with_capacity(raw.len());
        for entry in raw {
            if entry.merge {
                let maps = match entry.value.value {
                    Value::List(items) => items,
                    _ => vec![entry.value],
                };
                for map in maps {
                    let Value::Map(merged) = map.value else {
                        self.problems
                            .push(Problem::at(map.span, format!("`<<` merges mappings, found {}", map.describe())));
                        continue;
                    };
                    for merged in merged {
                        if !own.contains_key(&merged.key) && merged_in.insert(merged.key.clone()) {
                            entries.push(merged);
                        }
                    }
                }
            } else if let Some(key) = entry.key
                && own.get(&key) == Some(&entry.key_span)
            {
                entries.push(Entry { key, key_span: entry.key_span, value: entry.value });
            }
        }
        entries
    }
}
