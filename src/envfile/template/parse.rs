//! From a text with `${…}` to its pieces: what the module above says is allowed, and every error with its place.

use std::ops::Range;

use super::{Part, PortField, Reference, Template, TemplateError, TemplateErrorKind};

/// Defaults may nest; more deeply than this is nobody's file.
const MAX_NESTING: usize = 16;

/// Parses a text, putting in the variables that `lookup` knows.
///
/// # Errors
/// Everything that is wrong with it, in order.
pub(super) fn parse(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<Template, Vec<TemplateError>> {
    let mut parser = Parser { lookup, errors: Vec::new() };
    let mut template = Template::default();
    parser.run(text, 0, 0, true, &mut template);
    if parser.errors.is_empty() { Ok(template) } else { Err(parser.errors) }
}

struct Parser<'a> {
    lookup: &'a dyn Fn(&str) -> Option<String>,
    errors: Vec<TemplateError>,
}

impl Parser<'_> {
    fn error(&mut self, at: Range<usize>, kind: TemplateErrorKind) {
        self.errors.push(TemplateError { at, kind });
    }

    /// Appends `text`, which starts at byte `base` of the whole; where it is not `live` (a default that isn't used)
    /// variables are not looked up.
    fn run(&mut self, text: &str, base: usize, depth: usize, live: bool, out: &mut Template) {
        let mut at = 0;
        while let Some(found) = text[at..].find('$') {
            out.push_text(&text[at..at + found]);
            at += found;
            let rest = &text[at + 1..];
            if rest.starts_with('$') {
                out.push_text("$");
                at += 2;
            } else if rest.starts_with('{') {
                let Some(end) = closing(rest) else {
                    self.error(base + at..base + text.len(), TemplateErrorKind::Unclosed);
                    return;
                };
                self.braced(&rest[1..end], base + at + 2, depth, live, out);
                at += end + 2;
            } else {
                let name = variable_name(rest);
                if name.is_empty() {
                    out.push_text("$");
                } else if live {
                    match (self.lookup)(name) {
                        Some(value) => out.push_text(&value),
                        None => {
                            self.error(base + at..base + at + 1 + name.len(), TemplateErrorKind::Unset(name.to_owned()))
                        }
                    }
                }
                at += 1 + name.len();
            }
        }
        out.push_text(&text[at..]);
    }

    /// Appends what stands for the inside of `${…}`, which starts at byte `base`.
    fn braced(&mut self, inside: &str, base: usize, depth: usize, live: bool, out: &mut Template) {
        let whole = base - 2..base + inside.len() + 1;
        if depth >= MAX_NESTING {
            return self.error(whole, TemplateErrorKind::TooDeep);
        }
        let name = variable_name(inside);
        let rest = &inside[name.len()..];
        if name.is_empty() {
            return self.error(whole, TemplateErrorKind::BadName(inside.to_owned()));
        }
        if rest.starts_with('.') {
            return match reference(inside) {
                Some(reference) => out.parts.push(Part::Reference(reference)),
                None => self.error(whole, TemplateErrorKind::BadReference(inside.to_owned())),
            };
        }
        let value = (self.lookup)(name);
        let (operator, word, value) = match rest.strip_prefix(':') {
            // With a colon an empty variable counts as one that isn't set.
            Some(rest) => (rest.chars().next(), rest.get(1..), value.filter(|value| !value.is_empty())),
            None => (rest.chars().next(), rest.get(1..), value),
        };
        let word = word.unwrap_or_default();
        let word_base = base + inside.len() - word.len();
        match (operator, value) {
            (None, Some(value)) if rest.is_empty() => out.push_text(&value),
            (None, None) if rest.is_empty() => {
                if live {
                    self.error(whole, TemplateErrorKind::Unset(name.to_owned()));
                }
            }
            (Some('-'), Some(value)) => {
                self.run(word, word_base, depth + 1, false, &mut Template::default());
                out.push_text(&value);
            }
            (Some('-'), None) => self.run(word, word_base, depth + 1, live, out),
            (Some('?'), Some(value)) => out.push_text(&value),
            (Some('?'), None) => {
                if live {
                    let why = if word.is_empty() { "it is not set" } else { word };
                    self.error(whole, TemplateErrorKind::Required { name: name.to_owned(), why: why.to_owned() });
                }
            }
            (Some('+'), Some(_)) => self.run(word, word_base, depth + 1, live, out),
            (Some('+'), None) => self.run(word, word_base, depth + 1, false, &mut Template::default()),
            _ => self.error(whole, TemplateErrorKind::BadOperator { name: name.to_owned(), rest: rest.to_owned() }),
        }
    }
}

/// The byte of the `}` that closes the `{` at the start of `text`.
fn closing(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut depth = 0_usize;
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'$' if bytes.get(at + 1) == Some(&b'$') => at += 1,
            b'$' if bytes.get(at + 1) == Some(&b'{') => {
                depth += 1;
                at += 1;
            }
            b'{' if at == 0 => depth += 1,
            b'}' => {
                depth -= 1;
                if depth == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
        at += 1;
    }
    None
}

/// The longest variable name at the start of `text`; empty if there is none.
fn variable_name(text: &str) -> &str {
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(text.len());
    if text.starts_with(|c: char| c.is_ascii_digit()) { "" } else { &text[..end] }
}

fn reference(text: &str) -> Option<Reference> {
    let parts: Vec<&str> = text.split('.').collect();
    if parts
        .iter()
        .any(|part| part.is_empty() || part.contains(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_')))
    {
        return None;
    }
    match parts.as_slice() {
        ["services", service, "host"] => Some(Reference::Host { service: (*service).to_owned() }),
        ["services", service, port, field] => {
            let (field, _) = PortField::ALL.into_iter().find(|(_, word)| word == field)?;
            Some(Reference::Port { service: (*service).to_owned(), port: (*port).to_owned(), field })
        }
        ["keys", name] => Some(Reference::Key { name: (*name).to_owned() }),
        _ => None,
    }
}
