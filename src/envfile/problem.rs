//! What is wrong with a file: *what* ([`Problem`]) and *where* ([`Span`]) are separate, and one renderer shows them all.

use std::fmt;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use serde::Serialize;
use serde_json::{Value, json};

use super::source::{Sources, Span};

/// More problems than this are counted, not shown, to people.
const MAX_SHOWN: usize = 100;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What, in one sentence without a full stop.
    pub message: String,
    /// Where; `None`: not in a file (a flag, a file that can't be read).
    pub span: Option<Span>,
    /// What to do about it.
    pub hint: Option<String>,
    /// Other places that matter, each with a few words.
    pub related: Vec<(Span, String)>,
}

impl Problem {
    /// A problem at a place.
    pub fn at(span: Span, message: impl Into<String>) -> Self {
        Self { message: message.into(), span: Some(span), hint: None, related: Vec::new() }
    }

    /// A problem outside any file.
    pub fn nowhere(message: impl Into<String>) -> Self {
        Self { message: message.into(), span: None, hint: None, related: Vec::new() }
    }

    /// With what to do about it.
    pub fn hint(mut self, hint: impl Into<Option<String>>) -> Self {
        self.hint = hint.into();
        self
    }

    /// With another place that matters.
    pub fn related(mut self, span: Span, words: impl Into<String>) -> Self {
        self.related.push((span, words.into()));
        self
    }
}

/// Everything that is wrong, in the files' order, with the files' texts: the error of the pure stages.
#[derive(Debug, Clone, Default)]
pub struct Problems {
    sources: Sources,
    list: Vec<Problem>,
}

/// One problem as `-o json` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProblemDocument {
    /// The file; `None`: the problem is in no file.
    pub file: Option<String>,
    /// From 1.
    pub line: Option<usize>,
    /// From 1, in characters.
    pub column: Option<usize>,
    /// Of the end, which is the character after the last.
    #[serde(rename = "endLine")]
    pub end_line: Option<usize>,
    /// Of the end.
    #[serde(rename = "endColumn")]
    pub end_column: Option<usize>,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// The whole line.
    pub source: Option<String>,
}

impl Problems {
    /// Sorted by place, each once. `None` if there are none.
    pub fn new(sources: Sources, mut list: Vec<Problem>) -> Option<Self> {
        list.sort_by_key(|problem| problem.span);
        let mut unique: Vec<Problem> = Vec::with_capacity(list.len());
        for problem in list {
            // An anchor's content is seen once a use.
            if !unique
                .iter()
                .rev()
                .take_while(|seen| seen.span == problem.span)
                .any(|seen| seen.message == problem.message)
            {
                unique.push(problem);
            }
        }
        (!unique.is_empty()).then_some(Self { sources, list: unique })
    }

    /// Each problem.
    pub fn list(&self) -> &[Problem] {
        &self.list
    }

    /// For people: each with its line and a caret; styled for a terminal, else plain ASCII.
    pub fn render(&self, styled: bool) -> String {
        let renderer = if styled {
            Renderer::styled().decor_style(DecorStyle::Unicode)
        } else {
            Renderer::plain().decor_style(DecorStyle::Ascii)
        };
        let mut blocks: Vec<String> =
            self.list.iter().take(MAX_SHOWN).map(|problem| self.render_one(&renderer, problem)).collect();
        if self.list.len() > MAX_SHOWN {
            blocks.push(format!("… and {} more problems", self.list.len() - MAX_SHOWN));
        }
        blocks.join("\n\n")
    }

    fn render_one(&self, renderer: &Renderer, problem: &Problem) -> String {
        let title = Level::ERROR.primary_title(problem.message.as_str());
        let mut group = Group::with_title(title);
        if let Some((span, source)) = problem.span.and_then(|span| Some((span, self.sources.get(span.source)?))) {
            let mut snippet = Snippet::source(source.text.as_str())
                .path(source.name.as_str())
                .annotation(AnnotationKind::Primary.span(one_line(&source.text, span)));
            let mut others = Vec::new();
            for (other, words) in &problem.related {
                if other.source == span.source {
                    let annotation = AnnotationKind::Context.span(one_line(&source.text, *other)).label(words.as_str());
                    snippet = snippet.annotation(annotation);
                } else if let Some(source) = self.sources.get(other.source) {
                    let annotation = AnnotationKind::Context.span(one_line(&source.text, *other)).label(words.as_str());
                    others
                        .push(Snippet::source(source.text.as_str()).path(source.name.as_str()).annotation(annotation));
                }
            }
            group = group.element(snippet).elements(others);
        }
        if let Some(hint) = &problem.hint {
            group = group.element(Level::HELP.with_name("hint").message(hint.as_str()));
        }
        renderer.render(&[group])
    }

    /// For machines.
    pub fn documents(&self) -> Vec<ProblemDocument> {
        self.list
            .iter()
            .map(|problem| {
                let place = problem.span.and_then(|span| Some((span, self.sources.get(span.source)?)));
                let start = place.map(|(span, source)| source.position(span.range().start));
                let end = place.map(|(span, source)| source.position(span.range().end));
                ProblemDocument {
                    file: place.map(|(_, source)| source.name.clone()),
                    line: start.map(|(line, _)| line),
                    column: start.map(|(_, column)| column),
                    end_line: end.map(|(line, _)| line),
                    end_column: end.map(|(_, column)| column),
                    message: problem.message.clone(),
                    hint: problem.hint.clone(),
                    source: place.zip(start).map(|((_, source), (line, _))| source.line(line).to_owned()),
                }
            })
            .collect()
    }

    /// The versioned document of `validate -o json`.
    pub fn to_json(&self) -> Value {
        json!({ "version": 1, "valid": false, "problems": self.documents() })
    }

    /// Adds another run's problems over the same files (another profile's); each problem stays once.
    pub fn merge(self, other: Option<Self>) -> Self {
        let Some(other) = other else { return self };
        let mut merged = self;
        for problem in other.list {
            let key = |problem: &Problem, sources: &Sources| {
                let name = problem.span.and_then(|span| sources.get(span.source)).map(|source| source.name.clone());
                (name, problem.span.map(Span::range), problem.message.clone())
            };
            let new = key(&problem, &other.sources);
            if !merged.list.iter().any(|seen| key(seen, &merged.sources) == new) {
                let mut problem = problem;
                let mut moved = std::collections::BTreeMap::new();
                let spans = problem.span.iter_mut().chain(problem.related.iter_mut().map(|(span, _)| span));
                for span in spans {
                    let source =
                        *moved.entry(span.source).or_insert_with(|| merged.sources.adopt(&other.sources, span.source));
                    span.source = source;
                }
                merged.list.push(problem);
            }
        }
        merged.list.sort_by_key(|problem| problem.span);
        merged
    }
}

/// The part of a span on its first line (a caret under a whole service helps nobody), at least one byte wide where the text allows.
fn one_line(text: &str, span: Span) -> std::ops::Range<usize> {
    let floor = |mut at: usize| {
        at = at.min(text.len());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    };
    let start = floor(span.range().start);
    let end = floor(span.range().end).max(start);
    let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
    let end = end.min(line_end);
    let trimmed = start + text[start..end].trim_end().len();
    start..trimmed.max(start)
}

/// Plain, as for a pipe.
impl fmt::Display for Problems {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.render(false))
    }
}

impl std::error::Error for Problems {}
