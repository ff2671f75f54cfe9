//! JUnit XML: what a suite wrote is read for its numbers, and one is written for a suite that wrote none.
//!
//! There is no schema that all writers keep to; what is read is what all share: `testcase` elements below `testsuite` or
//! `testsuites`, with `failure`, `error` or `skipped` inside.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};
use quick_xml::events::{BytesStart, Event};
use quick_xml::{Reader, XmlVersion};
use serde::Serialize;

/// How many failed tests are named.
const NAMED: usize = 20;

/// What a JUnit file says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// Test cases.
    pub tests: usize,
    /// Those with a failure.
    pub failures: usize,
    /// Those with an error.
    pub errors: usize,
    /// Those that were skipped.
    pub skipped: usize,
    /// The names of the first that failed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<String>,
}

impl std::fmt::Display for Counts {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} test{}", self.tests, if self.tests == 1 { "" } else { "s" })?;
        for (count, word) in [(self.failures, "failed"), (self.errors, "with errors"), (self.skipped, "skipped")] {
            if count > 0 {
                write!(formatter, ", {count} {word}")?;
            }
        }
        Ok(())
    }
}

/// Why a suite's JUnit file is of no use.
#[derive(Debug, thiserror::Error)]
pub enum JunitError {
    /// There is none.
    #[error("the suite wrote no JUnit file {}", .0.display())]
    Missing(PathBuf),
    /// It is from an earlier run.
    #[error("{} is from an earlier run: the suite did not write it this time", .0.display())]
    Stale(PathBuf),
    /// It cannot be read.
    #[error("cannot read {}: {source}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// It is not XML.
    #[error("{} is not XML at byte {at}: {source}", .path.display())]
    NotXml {
        /// The file.
        path: PathBuf,
        /// Where.
        at: u64,
        /// Why.
        source: quick_xml::Error,
    },
    /// It is XML of something else, or was cut off.
    #[error("{} is not JUnit XML: {why}", .path.display())]
    NotJunit {
        /// The file.
        path: PathBuf,
        /// Why.
        why: &'static str,
    },
}

/// A file as it was before the suite ran, so that an old one is not taken for this run's.
#[derive(Debug, PartialEq, Eq)]
pub struct Before(Option<(u64, u64, i64, i64)>);

impl Before {
    /// As it is now.
    pub fn of(path: &Path) -> Self {
        Self(fs::metadata(path).ok().map(|file| (file.ino(), file.size(), file.mtime(), file.mtime_nsec())))
    }
}

/// Reads what the suite wrote: what it says, and the file itself.
///
/// # Errors
/// When it wrote nothing, or not JUnit XML.
pub fn read(path: &Path, before: &Before) -> Result<(Counts, Vec<u8>), JunitError> {
    let now = Before::of(path);
    if now.0.is_some() && now == *before {
        return Err(JunitError::Stale(path.to_owned()));
    }
    let text = fs::read(path).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => JunitError::Missing(path.to_owned()),
        _ => JunitError::Unreadable { path: path.to_owned(), source },
    })?;
    Ok((counted(path, &text)?, text))
}

fn counted(path: &Path, text: &[u8]) -> Result<Counts, JunitError> {
    let mut reader = Reader::from_reader(text);
    let mut counts = Counts::default();
    let mut depth = 0_usize;
    let mut has_root = false;
    let mut case: Option<(usize, String, Option<Verdict>)> = None;
    let mut buffer = Vec::new();
    loop {
        buffer.clear();
        let event = reader.read_event_into(&mut buffer).map_err(|source| JunitError::NotXml {
            path: path.to_owned(),
            at: reader.error_position(),
            source,
        })?;
        let (start, empty) = match &event {
            Event::Start(start) => (start, false),
            Event::Empty(start) => (start, true),
            Event::End(_) => {
                depth = depth.saturating_sub(1);
                if case.as_ref().is_some_and(|(at, ..)| *at == depth) {
                    counts.add(case.take());
                }
                continue;
            }
            Event::Eof => break,
            _ => continue,
        };
        let name = start.local_name();
        match name.as_ref() {
            b"testsuites" | b"testsuite" if depth == 0 => has_root = true,
            _ if !has_root => {
                return Err(JunitError::NotJunit {
                    path: path.to_owned(),
                    why: "its root is not testsuites or testsuite",
                });
            }
            b"testcase" => {
                case = Some((depth, label(start), None));
                if empty {
                    counts.add(case.take());
                }
            }
            name => {
                if let Some((_, _, verdict)) = &mut case {
                    *verdict = Verdict::of(name).or(*verdict);
                }
            }
        }
        if !empty {
            depth += 1;
        }
    }
    if !has_root {
        return Err(JunitError::NotJunit { path: path.to_owned(), why: "it has no element at all" });
    }
    if depth > 0 {
        return Err(JunitError::NotJunit { path: path.to_owned(), why: "it ends in the middle" });
    }
    Ok(counts)
}

#[derive(Debug, Clone, Copy)]
enum Verdict {
    Failure,
    Error,
    Skipped,
}

impl Verdict {
    fn of(element: &[u8]) -> Option<Self> {
        match element {
            b"failure" => Some(Self::Failure),
            b"error" => Some(Self::Error),
            b"skipped" => Some(Self::Skipped),
            _ => None,
        }
    }
}

impl Counts {
    fn add(&mut self, case: Option<(usize, String, Option<Verdict>)>) {
        let Some((_, name, verdict)) = case else { return };
        self.tests += 1;
        match verdict {
            None => return,
            Some(Verdict::Skipped) => {
                self.skipped += 1;
                return;
            }
            Some(Verdict::Failure) => self.failures += 1,
            Some(Verdict::Error) => self.errors += 1,
        }
        if self.failed.len() < NAMED {
            self.failed.push(name);
        }
    }
}

fn label(start: &BytesStart<'_>) -> String {
    let attribute = |name: &str| {
        let found = start.try_get_attribute(name).ok().flatten()?;
        // What a writer did not escape as it should is shown as it stands.
        let unescaped = found.normalized_value(XmlVersion::Implicit1_0);
        Some(unescaped.unwrap_or_else(|_| String::from_utf8_lossy(&found.value)).into_owned())
    };
    match (attribute("classname"), attribute("name")) {
        (Some(class), Some(name)) => format!("{class}::{name}"),
        (None, Some(name)) => name,
        _ => "(a test without a name)".to_owned(),
    }
}

/// What is known of a suite that wrote no JUnit file itself.
#[derive(Debug)]
pub struct Told<'a> {
    /// Its name.
    pub name: &'a str,
    /// How long it took.
    pub took: Duration,
    /// Why it did not pass, with its stable name; whether that is the suite's own failure.
    pub failure: Option<(&'a str, &'a str, bool)>,
    /// The end of its output.
    pub output: &'a str,
    /// The diagnosis and the services' logs.
    pub diagnosis: &'a str,
}

/// JUnit XML with one test case for the suite.
///
/// # Errors
/// Never for what a suite can print: what XML cannot hold is left out.
pub fn written(told: &Told<'_>) -> std::io::Result<Vec<u8>> {
    let status = match told.failure {
        None => TestCaseStatus::success(),
        Some((reason, message, suites_own)) => {
            let kind = if suites_own { NonSuccessKind::Failure } else { NonSuccessKind::Error };
            let mut status = TestCaseStatus::non_success(kind);
            status.set_type(reason).set_message(message);
            status
        }
    };
    let mut case = TestCase::new(told.name, status);
    case.set_time(told.took).set_system_out(told.output);
    if !told.diagnosis.is_empty() {
        case.set_system_err(told.diagnosis);
    }
    let mut suite = TestSuite::new(told.name);
    suite.set_time(told.took).add_test_case(case);
    let mut report = Report::new("envctl");
    report.set_time(told.took).add_test_suite(suite);
    let mut text = Vec::new();
    report.serialize(&mut text).map_err(|error| std::io::Error::other(error.to_string()))?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted_of(text: &str) -> Result<Counts, JunitError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("junit.xml");
        fs::write(&path, text).unwrap();
        read(&path, &Before(None)).map(|(counts, _)| counts)
    }

    #[test]
    fn what_runners_write_is_counted() {
        let pytest = r#"<?xml version="1.0" encoding="utf-8"?><testsuites><testsuite name="pytest" errors="0">
            <testcase classname="a" name="one" time="0.1" /><testcase classname="a" name="two"><failure message="x">why</failure></testcase>
            <testcase name="three"><skipped/></testcase><testcase name="four"><error>e</error><system-out>o</system-out></testcase>
            </testsuite></testsuites>"#;
        let counts = counted_of(pytest).unwrap();
        assert_eq!(counts.to_string(), "4 tests, 1 failed, 1 with errors, 1 skipped");
        assert_eq!(counts.failed, ["a::two", "four"]);
    }

    #[test]
    fn names_are_as_the_tests_have_them() {
        let failed = |name: &str| {
            let text = format!("<testsuite><testcase name='{name}'><failure/></testcase></testsuite>");
            counted_of(&text).unwrap().failed.concat()
        };
        assert_eq!(failed("a&lt;b&gt; &amp;&quot;&#65;"), "a<b> &\"A");
        assert_eq!(failed("a &nothing; b"), "a &nothing; b");
    }

    #[test]
    fn what_is_not_junit_is_refused_with_a_reason() {
        let said = |text: &str| counted_of(text).unwrap_err().to_string();
        assert!(said("all tests passed\n").ends_with("is not JUnit XML: it has no element at all"));
        assert!(said("<html></html>").ends_with("its root is not testsuites or testsuite"));
        assert!(said("<testsuite><testcase name='a'></testsuite>").contains("is not XML at byte"));
        assert!(said("<testsuite><testcase name='a'/>").ends_with("it ends in the middle"));
        assert!(said("").ends_with("it has no element at all"));
    }

    #[test]
    fn an_old_file_is_not_this_runs() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("junit.xml");
        assert!(matches!(read(&path, &Before::of(&path)), Err(JunitError::Missing(_))));
        fs::write(&path, "<testsuite/>").unwrap();
        assert!(matches!(read(&path, &Before::of(&path)), Err(JunitError::Stale(_))));
    }

    #[test]
    fn what_is_written_can_be_read_whatever_the_suite_printed() {
        let told = Told {
            name: "smoke",
            took: Duration::from_millis(1500),
            failure: Some(("Failed", "exited with code 3", true)),
            output: "\u{1b}[31mred\u{1b}[0m ]]> <&> \u{0}\u{1}\n",
            diagnosis: "api | gone",
        };
        let text = String::from_utf8(written(&told).unwrap()).unwrap();
        assert!(text.contains("exited with code 3") && text.contains("api | gone"), "{text}");
        let counts = counted_of(&text).unwrap();
        assert_eq!((counts.tests, counts.failures), (1, 1));
    }
}
