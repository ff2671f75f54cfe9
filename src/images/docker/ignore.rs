//! `.dockerignore`, as the docker CLI reads it: a port of moby/patternmatcher (`patternmatcher.go`, `ignorefile/ignorefile.go`).
//!
//! The last pattern that matches a path or one of the directories above it decides; `!` takes back. A pattern matches from the
//! context's root; `*` and `?` stop at a slash, `**` doesn't.

/// The patterns of one file.
#[derive(Debug, Default)]
pub struct Ignore {
    patterns: Vec<Pattern>,
}

#[derive(Debug)]
struct Pattern {
    /// `!`: what matches is kept after all.
    keeps: bool,
    glob: Vec<u8>,
}

impl Ignore {
    /// Reads a file's text.
    pub fn parse(text: &str) -> Self {
        let lines = text.trim_start_matches('\u{feff}').lines().filter(|line| !line.starts_with('#'));
        let patterns = lines.filter_map(|line| {
            let line = line.trim();
            let (keeps, line) = line.strip_prefix('!').map_or((false, line), |rest| (true, rest.trim()));
            let glob = clean(line);
            // `.` would be everything, which upstream skips too.
            (!glob.is_empty()).then(|| Pattern { keeps, glob: glob.into_bytes() })
        });
        Self { patterns: patterns.collect() }
    }

    /// Whether something below an ignored directory may be kept after all: some `!` pattern begins as its path does, or before that isn't literal.
    /// (Upstream compares whole patterns, `pkg/archive/archive.go`; BuildKit also looks where `!**/NAME` leads, and so does this.)
    pub fn keeps_below(&self, directory: &str) -> bool {
        let within = format!("{directory}/");
        self.patterns.iter().filter(|pattern| pattern.keeps).any(|pattern| {
            let literal = pattern.glob.iter().position(|byte| b"*?[\\".contains(byte)).unwrap_or(pattern.glob.len());
            let literal = &pattern.glob[..literal];
            literal.starts_with(within.as_bytes())
                || within.as_bytes().starts_with(literal) && literal.len() < pattern.glob.len()
        })
    }

    /// Whether a path (relative to the context's root, with `/`) is left out: upstream's `MatchesOrParentMatches`.
    pub fn ignores(&self, path: &str) -> bool {
        let parents = path.match_indices('/').map(|(end, _)| &path[..end]);
        let all: Vec<&str> = parents.chain([path]).collect();
        self.patterns.iter().fold(false, |ignored, pattern| {
            if pattern.keeps != ignored {
                return ignored;
            }
            let matched = all.iter().any(|path| matches(&pattern.glob, path.as_bytes()));
            if matched { !pattern.keeps } else { ignored }
        })
    }
}

/// Go's `filepath.Clean`, without a leading slash: `./a//b/` is `a/b`.
fn clean(pattern: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in pattern.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

fn matches(pattern: &[u8], path: &[u8]) -> bool {
    match pattern {
        [] => path.is_empty(),
        [b'*', b'*', rest @ ..] => {
            let rest = rest.strip_prefix(b"/").unwrap_or(rest);
            // At the end it is everything, elsewhere any number of directories.
            rest.is_empty()
                || matches(rest, path)
                || (0..path.len()).any(|at| path[at] == b'/' && matches(rest, &path[at + 1..]))
        }
        [b'*', rest @ ..] => {
            let end = path.iter().position(|&byte| byte == b'/').unwrap_or(path.len());
            (0..=end).any(|skipped| matches(rest, &path[skipped..]))
        }
        [b'?', rest @ ..] => path.split_first().is_some_and(|(&first, path)| first != b'/' && matches(rest, path)),
        [b'[', rest @ ..] => match class(rest) {
            Some((class, rest)) => path
                .split_first()
                .is_some_and(|(&first, path)| first != b'/' && has(class, first) && matches(rest, path)),
            None => path.split_first().is_some_and(|(&first, path)| first == b'[' && matches(rest, path)),
        },
        [b'\\', literal, rest @ ..] | [literal, rest @ ..] => {
            path.split_first().is_some_and(|(first, path)| first == literal && matches(rest, path))
        }
    }
}

/// What is between brackets, and what follows them.
fn class(rest: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = rest.iter().position(|&byte| byte == b']').filter(|&end| end > 0)?;
    Some((&rest[..end], &rest[end + 1..]))
}

fn has(class: &[u8], byte: u8) -> bool {
    let (negated, class) = class.strip_prefix(b"^").map_or((false, class), |class| (true, class));
    let mut found = false;
    let mut rest = class;
    while let [first, more @ ..] = rest {
        rest = match more {
            [b'-', last, more @ ..] => {
                found |= (*first..=*last).contains(&byte);
                more
            }
            more => {
                found |= *first == byte;
                more
            }
        };
    }
    found != negated
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ignores(text: &str, path: &str) -> bool {
        Ignore::parse(text).ignores(path)
    }

    /// Cases of upstream's `TestMatches`, `TestExclusionPatternMatchesPatternBefore` and others.
    #[test]
    fn patterns_match_as_upstream() {
        let yes = [
            ("**", "dir/file"),
            ("**/", "dir/file"),
            ("**/**", "dir/file"),
            ("dir/**", "dir/dir2/file"),
            ("**/dir2/*", "dir/dir2/file"),
            ("**/dir2/**", "dir/dir2/dir2/file"),
            ("**file", "dir/file"),
            ("**/file", "dir/dir/file"),
            ("**/file*txt", "dir/dir/file.txt"),
            ("**/**/*.txt", "dir/dir/file.txt"),
            ("a**/*.txt", "a/dir/file.txt"),
            ("a/*.txt", "a/file.txt"),
            ("a/*.txt/**", "a/file.txt/x"),
            ("a[b-d]e", "ace"),
            ("abc.def", "abc.def"),
            ("a\\*b", "a*b"),
            ("[^a]b", "cb"),
            ("**/foo/bar", "foo/bar"),
            ("abc/**", "abc/def/ghi"),
            ("**/.foo", "bar/.foo"),
            ("/docs", "docs/a"),
            ("target", "target/debug/x"),
            ("./a/../b/", "b/c"),
        ];
        for (pattern, path) in yes {
            assert!(ignores(pattern, path), "{pattern} {path}");
        }
        let no = [
            ("a/*.txt", "a/dir/file.txt"),
            ("a/*.txt/**", "a/dir/file.txt"),
            ("abc.def", "abcdef"),
            ("abc?def", "abc/def"),
            ("dir", "adir"),
            ("**/foo/bar", "foobar"),
            ("*.txt", "a/b.txt"),
            ("# c", "# c"),
            ("", "a"),
            (".", "a"),
        ];
        for (pattern, path) in no {
            assert!(!ignores(pattern, path), "{pattern} {path}");
        }
    }

    #[test]
    fn the_last_pattern_decides() {
        assert!(!ignores("docs\n!docs/README.md", "docs/README.md"));
        assert!(ignores("docs\n!docs/README.md", "docs/other.md"));
        assert!(ignores("!fileutils.go\n*.go", "fileutils.go"));
        assert!(!ignores("*.go\n!fileutils.go", "fileutils.go"));
        assert!(ignores("*\n!src\nsrc/*.tmp", "src/a.tmp") && !ignores("*\n!src\nsrc/*.tmp", "src/a.rs"));
    }

    #[test]
    fn only_directories_that_may_hold_what_is_kept_are_looked_through() {
        let below = |text: &str, directory: &str| Ignore::parse(text).keeps_below(directory);
        let text = "*\n!target/debug/examples/platform\n!src/*.rs";
        for (directory, kept) in
            [("target", true), ("target/debug", true), ("target/release", false), ("src", true), (".git", false)]
        {
            assert_eq!(below(text, directory), kept, "{directory}");
        }
        assert!(below("*\n!**/Cargo.toml", "any/where"));
    }
}
