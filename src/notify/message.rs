//! What is told: the same in a mail's text and in a webhook's JSON.

use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::occasion::Occasion;

/// Longer causes are cut: the dump has all of them.
const LONGEST_CAUSE: usize = 1500;
/// Of each suite.
const TESTS: usize = 10;

/// A failure, as people are told of it.
#[derive(Debug, Clone)]
pub struct Message {
    /// The environment's name.
    pub environment: String,
    /// `envctl test` or `envctl up`.
    pub command: &'static str,
    /// What failed, in order.
    pub failures: Vec<Failed>,
    /// Where the dump is.
    pub dump: Option<PathBuf>,
    /// Which commit, which pull request, which run.
    pub occasion: Occasion,
}

/// One thing that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// Which suite; `None`: the environment.
    pub suite: Option<String>,
    /// Why.
    pub cause: String,
    /// Its tests that failed.
    pub tests: Vec<String>,
}

impl Message {
    /// One line.
    pub fn subject(&self) -> String {
        let suites: Vec<&str> = self.failures.iter().filter_map(|failed| failed.suite.as_deref()).collect();
        let what = match suites.as_slice() {
            [] => format!("{} failed", self.command),
            [one] => format!("suite {one} failed"),
            many => format!("suites {} failed", many.join(", ")),
        };
        format!("{}: {what}", self.environment)
    }

    /// Plain text.
    pub fn text(&self) -> String {
        let mut text = format!("{} of the environment {} failed.\n", self.command, self.environment);
        for failed in &self.failures {
            push(&mut text, &format!("\n{}\n", failed.line()));
            for test in failed.tests.iter().take(TESTS) {
                push(&mut text, &format!("  - {test}\n"));
            }
            if failed.tests.len() > TESTS {
                push(&mut text, &format!("  … and {} more\n", failed.tests.len() - TESTS));
            }
        }
        let facts = self.facts();
        let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0) + 1;
        text.push('\n');
        for (name, value) in facts {
            push(&mut text, &format!("{:<width$} {value}\n", format!("{name}:")));
        }
        text
    }

    /// Slack's JSON in the part that its likes take too: `text`, and one attachment with `fields`.
    pub fn slack(&self) -> Value {
        let mut details = String::new();
        for failed in &self.failures {
            push(&mut details, &format!("{}\n", failed.line()));
            for test in failed.tests.iter().take(TESTS) {
                push(&mut details, &format!("• {test}\n"));
            }
            if failed.tests.len() > TESTS {
                push(&mut details, &format!("… and {} more\n", failed.tests.len() - TESTS));
            }
        }
        let fields = self
            .facts()
            .into_iter()
            .map(|(name, value)| json!({ "title": name, "value": escaped(&value), "short": value.len() < 40 }));
        json!({
            "text": escaped(&self.subject()),
            "attachments": [{
                "color": "danger",
                "fallback": escaped(&self.subject()),
                "text": escaped(details.trim_end()),
                "fields": fields.collect::<Vec<_>>(),
            }],
        })
    }

    fn facts(&self) -> Vec<(&'static str, String)> {
        let Occasion { repository, branch, commit, pull_request, run, job } = &self.occasion;
        let run = run.as_ref().map(|run| match job {
            Some(job) => format!("{job}, {run}"),
            None => run.clone(),
        });
        // On another machine a path alone says little.
        let dump = self.dump.as_ref().map(|dump| match &run {
            Some(_) => format!("{}; an artifact of the run, if it uploads it", dump.display()),
            None => dump.display().to_string(),
        });
        let facts = [
            ("commit", commit.as_ref().map(ToString::to_string)),
            ("pull request", pull_request.as_ref().map(ToString::to_string)),
            ("branch", branch.clone()),
            ("repository", repository.clone()),
            ("run", run),
            ("dump", Some(dump.unwrap_or_else(|| "none".to_owned()))),
        ];
        facts.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

impl Failed {
    fn line(&self) -> String {
        let mut cause: String = self.cause.trim().chars().take(LONGEST_CAUSE).collect();
        if cause.len() < self.cause.trim().len() {
            cause.push('…');
        }
        match &self.suite {
            Some(suite) => format!("suite {suite}: {cause}"),
            None => cause,
        }
    }
}

fn push(text: &mut String, more: &str) {
    text.write_str(more).expect("writing to a String cannot fail");
}

/// Slack reads `&`, `<` and `>` as markup: docs.slack.dev, "Formatting message text", "Escaping text".
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::{Commit, PullRequest};

    fn message() -> Message {
        Message {
            environment: "shop".to_owned(),
            command: "envctl test",
            failures: vec![
                Failed {
                    suite: Some("smoke".to_owned()),
                    cause: "exited with code 1 (12 tests, 11 failed)".to_owned(),
                    tests: (1..=11).map(|number| format!("a<{number}>")).collect(),
                },
                Failed { suite: Some("deploy".to_owned()), cause: "did not end within 10m".to_owned(), tests: vec![] },
            ],
            dump: Some("/r/dump.tar.gz".into()),
            occasion: Occasion {
                repository: Some("o/r".to_owned()),
                branch: Some("topic".to_owned()),
                commit: Some(Commit {
                    id: "0123456789abcdef0123456789abcdef01234567".to_owned(),
                    subject: Some("Mend it & more".to_owned()),
                    author: Some("Ann".to_owned()),
                }),
                pull_request: Some(PullRequest {
                    number: 12,
                    title: Some("A thing".to_owned()),
                    url: Some("https://example.org/o/r/pull/12".to_owned()),
                }),
                run: Some("https://example.org/o/r/actions/runs/9".to_owned()),
                job: Some("integration".to_owned()),
            },
        }
    }

    #[test]
    fn as_text() {
        insta::assert_snapshot!(message().subject(), @"shop: suites smoke, deploy failed");
        insta::assert_snapshot!(message().text());
    }

    #[test]
    fn as_slack_reads_it() {
        let json = message().slack();
        assert_eq!(json["text"], "shop: suites smoke, deploy failed");
        let attachment = &json["attachments"][0];
        assert!(attachment["text"].as_str().unwrap().contains("• a&lt;1&gt;\n"), "{attachment}");
        assert_eq!(attachment["fields"][0]["value"], "0123456 Mend it &amp; more (Ann)");
    }

    #[test]
    fn without_a_suite_it_is_the_environment() {
        let failed = Failed { suite: None, cause: "x".repeat(2000), tests: vec![] };
        let message = Message {
            command: "envctl up",
            failures: vec![failed],
            dump: None,
            occasion: Occasion::default(),
            ..message()
        };
        assert_eq!(message.subject(), "shop: envctl up failed");
        assert!(message.text().contains("xxx…\n") && message.text().ends_with("\ndump: none\n"), "{}", message.text());
    }
}
