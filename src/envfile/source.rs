//! The texts that were read, and places in them.

use std::ops::Range;

/// Part of one of the [`Sources`]: bytes `start..end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Span {
    /// Which source, by its number.
    pub source: u32,
    /// The first byte.
    pub start: u32,
    /// The byte after the last.
    pub end: u32,
}

impl Span {
    /// The bytes.
    pub fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// Every file that was read, in the order of reading.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    files: Vec<Source>,
}

/// One file.
#[derive(Debug, Clone)]
pub struct Source {
    /// As people see it in messages.
    pub name: String,
    /// Its whole text.
    pub text: String,
}

impl Sources {
    /// Adds a file; its number is what [`Span::source`] says.
    pub fn add(&mut self, name: String, text: String) -> u32 {
        self.files.push(Source { name, text });
        u32::try_from(self.files.len() - 1).unwrap_or(u32::MAX)
    }

    /// The number here of another collection's file, which is added if it isn't the same.
    pub(super) fn adopt(&mut self, other: &Self, source: u32) -> u32 {
        let Some(file) = other.get(source) else { return source };
        match self.files.iter().position(|own| own.name == file.name) {
            Some(own) => u32::try_from(own).unwrap_or(u32::MAX),
            None => self.add(file.name.clone(), file.text.clone()),
        }
    }

    /// The file a span is in.
    pub fn get(&self, source: u32) -> Option<&Source> {
        self.files.get(source as usize)
    }

    /// The text of a span as it stands in the file.
    pub fn slice(&self, span: Span) -> &str {
        self.get(span.source).and_then(|source| source.text.get(span.range())).unwrap_or_default()
    }

    /// The part of `span` that reads `needle`, else all of it: what a parsed text says need not be what stands in
    /// the file (escapes, folding), but usually is.
    pub fn narrow(&self, span: Span, needle: &str) -> Span {
        match self.slice(span).find(needle) {
            Some(at) if !needle.is_empty() => {
                let start = span.start + u32::try_from(at).unwrap_or(0);
                Span { start, end: start + u32::try_from(needle.len()).unwrap_or(0), ..span }
            }
            _ => span,
        }
    }
}

impl Source {
    /// Line and column, from 1, of a byte; columns count characters.
    pub fn position(&self, byte: usize) -> (usize, usize) {
        let mut end = byte.min(self.text.len());
        while !self.text.is_char_boundary(end) {
            end -= 1;
        }
        let before = &self.text[..end];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }

    /// The whole line, from 1, without its end.
    pub fn line(&self, line: usize) -> &str {
        self.text.lines().nth(line - 1).unwrap_or_default()
    }
}
