//! One line of a CRI log: `2026-01-02T15:04:05.000000000Z stdout F text`. Pure.
//!
//! Follows upstream's `cri-client/pkg/logs/logs.go` (`parseCRILog`); the tag is `F` for a full line, `P`
//! for a part without its newline.

use std::io::Write as _;

use k8s_openapi::jiff::Timestamp;

/// Longer lines are cut into parts, as containerd's `max_container_log_line_size`.
pub const MAX_LINE: usize = 16 * 1024;

/// Which of a process's streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Standard output, or the terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Source {
    fn word(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// One parsed line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line<'a> {
    /// As written.
    pub timestamp: &'a [u8],
    /// Where it came from.
    pub source: Source,
    /// Whether its newline follows in a later line.
    pub partial: bool,
    /// Without newline.
    pub content: &'a [u8],
}

/// Parses a line without its newline. `None` for what no writer of ours wrote.
pub fn parse(line: &[u8]) -> Option<Line<'_>> {
    let mut fields = line.splitn(4, |byte| *byte == b' ');
    let timestamp = fields.next()?;
    let source = match fields.next()? {
        b"stdout" => Source::Stdout,
        b"stderr" => Source::Stderr,
        _ => return None,
    };
    let partial = match fields.next()? {
        b"P" => true,
        b"F" => false,
        _ => return None,
    };
    Some(Line { timestamp, source, partial, content: fields.next().unwrap_or_default() })
}

/// Cuts one stream's bytes into lines. Holds at most [`MAX_LINE`] bytes back.
#[derive(Debug, Default)]
pub struct Cutter {
    carry: Vec<u8>,
}

impl Cutter {
    /// Appends `chunk`'s lines to `output` in CRI format.
    pub fn cut(&mut self, chunk: &[u8], source: Source, now: Timestamp, output: &mut Vec<u8>) {
        let mut rest = chunk;
        while let Some(at) = rest.iter().position(|byte| *byte == b'\n') {
            self.take(&rest[..at], source, now, output);
            emit(&self.carry, false, source, now, output);
            self.carry.clear();
            rest = &rest[at + 1..];
        }
        self.take(rest, source, now, output);
        if self.carry.is_empty() {
            // Two hundred idle containers should not keep two hundred buffers.
            self.carry = Vec::new();
        }
    }

    /// Writes what has no newline, at the stream's end.
    pub fn finish(&mut self, source: Source, now: Timestamp, output: &mut Vec<u8>) {
        if !self.carry.is_empty() {
            emit(&self.carry, true, source, now, output);
            self.carry = Vec::new();
        }
    }

    fn take(&mut self, mut bytes: &[u8], source: Source, now: Timestamp, output: &mut Vec<u8>) {
        while self.carry.len() + bytes.len() > MAX_LINE {
            let (head, tail) = bytes.split_at(MAX_LINE - self.carry.len());
            self.carry.extend_from_slice(head);
            emit(&self.carry, true, source, now, output);
            self.carry.clear();
            bytes = tail;
        }
        self.carry.extend_from_slice(bytes);
    }
}

fn emit(content: &[u8], partial: bool, source: Source, now: Timestamp, output: &mut Vec<u8>) {
    // Writing to a Vec cannot fail.
    let _ = write!(output, "{now:.9} {} {} ", source.word(), if partial { 'P' } else { 'F' });
    output.extend_from_slice(content);
    output.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(chunks: &[&[u8]]) -> String {
        let mut cutter = Cutter::default();
        let mut output = Vec::new();
        for chunk in chunks {
            cutter.cut(chunk, Source::Stdout, Timestamp::UNIX_EPOCH, &mut output);
        }
        cutter.finish(Source::Stdout, Timestamp::UNIX_EPOCH, &mut output);
        String::from_utf8(output).unwrap()
    }

    #[test]
    fn lines_across_chunks() {
        assert_eq!(
            cut(&[b"one\ntw", b"o\n\nlast"]),
            "1970-01-01T00:00:00.000000000Z stdout F one\n1970-01-01T00:00:00.000000000Z stdout F two\n\
             1970-01-01T00:00:00.000000000Z stdout F \n1970-01-01T00:00:00.000000000Z stdout P last\n"
        );
    }

    #[test]
    fn long_lines_are_cut_into_parts() {
        let long = vec![b'x'; MAX_LINE * 2 + 5];
        let text = cut(&[&long, b"\n"]);
        let lines: Vec<_> = text.lines().map(|line| parse(line.as_bytes()).unwrap()).collect();
        assert_eq!(
            lines.iter().map(|line| (line.partial, line.content.len())).collect::<Vec<_>>(),
            [(true, MAX_LINE), (true, MAX_LINE), (false, 5)]
        );
    }

    #[test]
    fn parses_what_it_writes() {
        let line = parse(b"2026-01-02T15:04:05.000000000Z stderr P a b  c").unwrap();
        assert_eq!((line.source, line.partial, line.content), (Source::Stderr, true, &b"a b  c"[..]));
        assert_eq!(parse(b"2026-01-02T15:04:05.000000000Z stdout F ").unwrap().content, b"");
        assert_eq!(parse(b"nonsense"), None);
    }
}
