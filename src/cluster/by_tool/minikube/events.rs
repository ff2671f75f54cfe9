//! What minikube says with `--output json`: a line of JSON each, CloudEvents (minikube, `pkg/minikube/out/register`).

use serde::Deserialize;

use crate::cluster::ClusterError;
use crate::cluster::by_tool::tool::{Tool, ToolError};

/// How many last lines of a long reason are shown.
const SHOWN_LINES: usize = 12;

/// One line, as far as it is of use here.
#[derive(Debug, PartialEq, Eq)]
pub enum Said {
    /// What is begun.
    Step(String),
    /// Something else for people.
    Aside(String),
    /// Why it ends.
    Error(Reason),
}

/// minikube's own reason for a failure (`pkg/minikube/reason`).
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Reason {
    /// Its stable name, `DRV_AS_ROOT`.
    name: String,
    message: String,
    /// What the user can do.
    advice: String,
    /// Where to read about it.
    url: String,
}

#[derive(Deserialize)]
struct Line {
    r#type: String,
    data: serde_json::Value,
}

impl Said {
    /// `None`: no event, or one without words (how far a download is).
    pub fn read(line: &str) -> Option<Self> {
        let Line { r#type, data } = serde_json::from_str(line).ok()?;
        let message = || Some(data["message"].as_str().filter(|message| !message.is_empty())?.to_owned());
        match r#type.strip_prefix("io.k8s.sigs.minikube.")? {
            "step" => message().map(Self::Step),
            "download" => Some(Self::Step(format!("Downloading {}", data["artifact"].as_str()?))),
            "error" => serde_json::from_value(data).ok().map(Self::Error),
            _ => message().map(Self::Aside),
        }
    }
}

/// A failure, by what minikube said of it.
pub fn failed(tool: &Tool, attempt: &str, error: ToolError) -> ClusterError {
    let ToolError::Failed { command, status, output } = error else { return tool.failed(attempt)(error) };
    let said: Vec<Option<Said>> = output.iter().map(|line| Said::read(line)).collect();
    let reasons: Vec<&Reason> = said.iter().flatten().filter_map(Said::reason).collect();
    // What follows one with advice is a consequence of it; what comes before one with a name, words for people.
    let with_advice = reasons.iter().find(|reason| !reason.advice.is_empty());
    if let Some(reason) = with_advice.or_else(|| reasons.iter().rfind(|reason| !reason.name.is_empty())) {
        let words = match (reason.message.as_str(), &reason.name) {
            ("", name) => name.clone(),
            (message, name) => format!("{} ({name})", shortened(message)),
        };
        return match reason.cure() {
            Some(cure) => ClusterError::Unsupported { what: format!("{attempt}: {words}"), cure },
            None => ClusterError::unavailable(attempt, words),
        };
    }
    let output = output.into_iter().zip(said).filter_map(|(line, said)| match said {
        Some(Said::Step(message) | Said::Aside(message) | Said::Error(Reason { message, .. })) => Some(message),
        // An event without words.
        None if line.starts_with('{') => None,
        None => Some(line),
    });
    tool.failed(attempt)(ToolError::Failed { command, status, output: output.collect() })
}

/// The beginning and the end: all that kubeadm said may be in it.
fn shortened(message: &str) -> String {
    let lines: Vec<&str> = message.lines().collect();
    match lines.as_slice() {
        [first, rest @ ..] if rest.len() > SHOWN_LINES => {
            format!("{first}\n…\n{}", rest[rest.len() - SHOWN_LINES..].join("\n"))
        }
        _ => message.to_owned(),
    }
}

impl Said {
    fn reason(&self) -> Option<&Reason> {
        match self {
            Self::Error(reason) => Some(reason),
            Self::Step(_) | Self::Aside(_) => None,
        }
    }
}

impl Reason {
    fn cure(&self) -> Option<String> {
        match self.name.as_str() {
            // What minikube advises is a flag.
            "DRV_AS_ROOT" => Some("run envctl as another user, or set MINIKUBE_FORCE=true".to_owned()),
            _ => [&self.advice, &self.url].into_iter().find(|words| !words.is_empty()).cloned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;

    /// What minikube v1.38.1 wrote (`testdata/README.md`), as a failure of it.
    fn failure(said: &str) -> ClusterError {
        let tool = Tool {
            program: "minikube",
            version: &[],
            oldest: (0, 0),
            install: "",
            variables: std::collections::BTreeMap::new(),
        };
        let output = said.lines().map(str::to_owned).collect();
        let status = std::process::ExitStatus::from_raw(63 << 8);
        failed(&tool, "making it", ToolError::Failed { command: "minikube start".to_owned(), status, output })
    }

    #[test]
    fn a_failure_is_told_in_minikubes_words_with_its_advice() {
        for (said, words, cure) in [
            (
                include_str!("testdata/start-engine-not-running.jsonl"),
                "Cannot connect to the Docker daemon at unix:///nowhere/docker.sock",
                Some("Start the Docker service"),
            ),
            (
                include_str!("testdata/start-forced-engine-not-running.jsonl"),
                "(PROVIDER_DOCKER_NOT_RUNNING)",
                Some("Start the Docker service"),
            ),
            (include_str!("testdata/start-no-driver.jsonl"), "(DRV_DOCKER_NOT_RUNNING)", None),
            (
                include_str!("testdata/start-as-root.jsonl"),
                "should not be used with root privileges. (DRV_AS_ROOT)",
                Some("run envctl as another user, or set MINIKUBE_FORCE=true"),
            ),
            // No advice: what `driver` says instead, before anything is begun.
            (include_str!("testdata/start-none-profile.jsonl"), "(DRV_UNSUPPORTED_PROFILE)", None),
            // Advice and no message.
            (
                include_str!("testdata/start-none-no-plugins.jsonl"),
                "making it: NOT_FOUND_CNI_PLUGINS",
                Some("requires containernetworking-plugins."),
            ),
        ] {
            let error = failure(said);
            assert!(error.to_string().contains(words), "{error}");
            let hint = error.hint();
            assert_eq!(hint.is_some(), cure.is_some(), "{error}");
            assert!(cure.is_none_or(|cure| hint.is_some_and(|hint| hint.contains(cure))), "{error}");
        }
        let error = failure("out of memory\n{\"type\":\"io.k8s.sigs.minikube.download.progress\",\"data\":{}}");
        assert!(error.to_string().ends_with(":\n  out of memory"), "{error}");
    }

    #[test]
    fn steps_are_told_as_they_begin() {
        let said = include_str!("testdata/start-as-root.jsonl");
        let steps: Vec<_> = said.lines().filter_map(Said::read).collect();
        assert!(
            steps.contains(&Said::Step("Using the docker driver based on user configuration".to_owned())),
            "{steps:?}"
        );
        // A start that succeeds has errors among its events: words for people, without a name.
        let said: Vec<_> = include_str!("testdata/start-none.jsonl").lines().filter_map(Said::read).collect();
        assert!(
            matches!(said.last(), Some(Said::Step(step)) if step.starts_with("Done! kubectl is now configured to use")),
            "{said:?}"
        );
        assert!(said.iter().filter_map(Said::reason).all(|reason| reason.name.is_empty()), "{said:?}");
        assert_eq!(Said::read("* Starting"), None);
    }
}
