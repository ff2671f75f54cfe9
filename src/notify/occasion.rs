//! What was tested: commit, branch, pull request and run, from the variables that GitHub sets (docs.github.com, "Default environment
//! variables"; GitLab, Buildkite and others are told by git alone) and from git.
//!
//! In a pull request `GITHUB_SHA` is a merge that GitHub made and nobody wrote; the event's payload has the commit that was pushed.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::process::Command;

/// git reads a few files; on a hung file system it doesn't answer.
const GIT_WITHIN: Duration = Duration::from_secs(2);

/// On what occasion something failed; what isn't known is `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Occasion {
    /// `OWNER/NAME`.
    pub repository: Option<String>,
    /// The branch; of a pull request its own.
    pub branch: Option<String>,
    /// The last commit.
    pub commit: Option<Commit>,
    /// The pull request.
    pub pull_request: Option<PullRequest>,
    /// The address of the CI run.
    pub run: Option<String>,
    /// The job in it.
    pub job: Option<String>,
}

/// A commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// In full.
    pub id: String,
    /// Its first line; not known where it isn't in the checkout.
    pub subject: Option<String>,
    /// Who wrote it.
    pub author: Option<String>,
}

/// A pull request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullRequest {
    /// Its number.
    pub number: u64,
    /// Its title.
    pub title: Option<String>,
    /// Its address.
    pub url: Option<String>,
}

impl fmt::Display for Commit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.id.get(..7).unwrap_or(&self.id))?;
        if let Some(subject) = &self.subject {
            write!(formatter, " {subject}")?;
        }
        self.author.as_ref().map_or(Ok(()), |author| write!(formatter, " ({author})"))
    }
}

impl fmt::Display for PullRequest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "#{}", self.number)?;
        if let Some(title) = &self.title {
            write!(formatter, " {title}")?;
        }
        self.url.as_ref().map_or(Ok(()), |url| write!(formatter, " {url}"))
    }
}

/// Asks the variables, the event's payload and git in the project.
pub async fn gather(root: &Path, variables: &BTreeMap<String, String>) -> Occasion {
    let event = variables.get("GITHUB_EVENT_PATH").and_then(|path| std::fs::read(path).ok());
    let event = event.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or(Value::Null);
    let mut occasion = of(variables, &event);
    let asked = occasion.commit.as_ref().map(|commit| commit.id.clone());
    if let Some(known) = commit(root, variables, asked.as_deref().unwrap_or("HEAD")).await {
        occasion.commit = Some(known);
    }
    if occasion.branch.is_none() && asked.is_none() {
        let branch = git(root, variables, &["symbolic-ref", "--quiet", "--short", "HEAD"]).await;
        occasion.branch = branch.filter(|branch| !branch.is_empty());
    }
    occasion
}

/// What variables and payload say.
fn of(variables: &BTreeMap<String, String>, event: &Value) -> Occasion {
    let variable = |name: &str| variables.get(name).cloned().filter(|value| !value.is_empty());
    let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let (server, repository) = (variable("GITHUB_SERVER_URL"), variable("GITHUB_REPOSITORY"));
    let place = server.zip(repository.clone()).map(|(server, repository)| format!("{server}/{repository}"));
    let request = &event["pull_request"];
    // refs/pull/NUMBER/merge
    let by_ref =
        variable("GITHUB_REF").and_then(|name| name.strip_prefix("refs/pull/")?.split('/').next()?.parse::<u64>().ok());
    let pull_request = request["number"].as_u64().or(by_ref).map(|number| PullRequest {
        number,
        title: text(&request["title"]),
        url: text(&request["html_url"]).or_else(|| place.as_ref().map(|place| format!("{place}/pull/{number}"))),
    });
    // Nothing else is given to git.
    let id = text(&request["head"]["sha"]).or_else(|| variable("GITHUB_SHA"));
    let id = id.filter(|id| id.len() >= 7 && id.bytes().all(|byte| byte.is_ascii_hexdigit()));
    Occasion {
        branch: variable("GITHUB_HEAD_REF").or_else(|| variable("GITHUB_REF_NAME")),
        commit: id.map(|id| Commit { id, subject: None, author: None }),
        pull_request,
        run: place.zip(variable("GITHUB_RUN_ID")).map(|(place, run)| format!("{place}/actions/runs/{run}")),
        job: variable("GITHUB_JOB"),
        repository,
    }
}

async fn commit(root: &Path, variables: &BTreeMap<String, String>, which: &str) -> Option<Commit> {
    let shown =
        git(root, variables, &["log", "-1", "--no-show-signature", "--format=%H%x00%s%x00%an", which, "--"]).await?;
    let mut parts = shown.split('\0').map(str::to_owned);
    Some(Commit { id: parts.next()?, subject: parts.next(), author: parts.next() })
}

/// What git prints, without its last line's end; `None` where there is no git or it refuses.
async fn git(root: &Path, variables: &BTreeMap<String, String>, arguments: &[&str]) -> Option<String> {
    let mut git = Command::new("git");
    git.arg("-C").arg(root).args(arguments).env_clear().envs(variables).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(GIT_WITHIN, git.output()).await.ok()?.ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn variables(all: &[(&str, &str)]) -> BTreeMap<String, String> {
        all.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_pull_requests_commit_is_the_one_that_was_pushed() {
        let given = variables(&[
            ("GITHUB_SERVER_URL", "https://example.org"),
            ("GITHUB_REPOSITORY", "o/r"),
            ("GITHUB_RUN_ID", "9"),
            ("GITHUB_SHA", "aaaaaaaaaaaaaaaa"),
            ("GITHUB_REF", "refs/pull/12/merge"),
            ("GITHUB_REF_NAME", "12/merge"),
            ("GITHUB_HEAD_REF", "topic"),
        ]);
        let event = json!({"pull_request": {"number": 12, "title": "T", "head": {"sha": "bbbbbbbbbbbbbbbb"}}});
        let occasion = of(&given, &event);
        assert_eq!(occasion.commit.map(|commit| commit.id).as_deref(), Some("bbbbbbbbbbbbbbbb"));
        assert_eq!(occasion.branch.as_deref(), Some("topic"));
        assert_eq!(occasion.pull_request.unwrap().to_string(), "#12 T https://example.org/o/r/pull/12");
        assert_eq!(occasion.run.as_deref(), Some("https://example.org/o/r/actions/runs/9"));
        // Without a payload.
        let occasion = of(&given, &Value::Null);
        assert_eq!(occasion.commit.map(|commit| commit.id).as_deref(), Some("aaaaaaaaaaaaaaaa"));
        assert_eq!(occasion.pull_request.map(|request| request.number), Some(12));
    }

    #[test]
    fn what_is_no_commit_is_not_given_to_git() {
        assert_eq!(of(&variables(&[("GITHUB_SHA", "--output=/etc/passwd")]), &Value::Null), Occasion::default());
    }
}
