//! `envctl doctor`: what this machine can do, why, and what would improve it.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use clap::Args;
use console::Style;
use serde::Serialize;

use super::conversation::runtime;
use super::exit::Exit;
use super::output::Format;
use super::{Context, load};
use crate::cluster::refusal::chain;
use crate::embedded;
use crate::error::Error;
use crate::images::docker::Engine;
use crate::session::launch;

/// The flags of this verb.
#[derive(Debug, Args)]
pub struct Arguments {}

/// How one thing stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    /// It works.
    Ok,
    /// Not needed for the default; with it, more works.
    Absent,
    /// It will trouble.
    Warning,
    /// Nothing works without.
    Failed,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Check {
    /// Stable, for machines.
    name: &'static str,
    verdict: Verdict,
    /// What was found.
    found: String,
    /// What would improve it.
    #[serde(skip_serializing_if = "Option::is_none")]
    cure: Option<String>,
}

/// `-o json`.
#[derive(Serialize)]
struct Document {
    version: u32,
    checks: Vec<Check>,
}

/// Runs the verb.
///
/// # Errors
/// None of what it looks at: those are its findings.
pub fn run(_arguments: &Arguments, context: &mut Context) -> Result<Exit, Error> {
    let checks = vec![
        sandbox()?,
        state_directory(context),
        files(),
        inotify(),
        docker(context)?,
        program("kubectl", &["version", "--client"], "kubectl shows and changes a session like any cluster"),
        program("kind", &["version"], "only needed for `cluster: kind`"),
        program("minikube", &["version", "--short"], "only needed for `cluster: minikube`"),
    ];
    let exit = if checks.iter().any(|check| check.verdict == Verdict::Failed) { Exit::NoCluster } else { Exit::Ok };
    match context.out.format {
        Format::Json | Format::Yaml => context.out.document(&Document { version: 1, checks })?,
        Format::Text | Format::Name | Format::Objects => checks.iter().for_each(|check| print(context, check)),
    }
    Ok(exit)
}

fn print(context: &mut Context, check: &Check) {
    let (mark, style) = match check.verdict {
        Verdict::Ok => ("✓", Style::new().green()),
        Verdict::Absent => ("-", Style::new().dim()),
        Verdict::Warning => ("!", Style::new().yellow()),
        Verdict::Failed => ("✗", Style::new().red()),
    };
    let mark = context.out.out_style(style).apply_to(mark).to_string();
    context.out.data(format!("{mark} {:<10} {}", check.name, check.found));
    if let Some(cure) = &check.cure {
        context.out.data(format!("             {cure}"));
    }
}

fn state_directory(context: &Context) -> Check {
    let name = "state";
    let state = match context.state() {
        Ok(state) => state,
        Err(error) => return Check { name, verdict: Verdict::Failed, found: error.to_string(), cure: error.hint() },
    };
    let tried = std::fs::create_dir_all(state.sessions())
        .and_then(|()| tempfile::Builder::new().prefix(".probe").tempfile_in(state.path()).map(drop));
    match tried {
        Ok(()) => {
            Check { name, verdict: Verdict::Ok, found: format!("{} is writable", state.path().display()), cure: None }
        }
        Err(error) => Check {
            name,
            verdict: Verdict::Failed,
            found: format!("{} cannot be written: {error}", state.path().display()),
            cure: Some("set ENVCTL_STATE_DIR to a directory that you can write".to_owned()),
        },
    }
}

/// 200 pods need a few descriptors each, in one process.
const FILES_WANTED: u64 = 4096;
/// Programs under test watch files too; 128 is a common default that editors use up.
const INOTIFY_WANTED: u64 = 256;

fn files() -> Check {
    let limit = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE);
    let (_, hard) = limit.unwrap_or((0, 0));
    let enough = hard >= FILES_WANTED;
    Check {
        name: "files",
        verdict: if enough { Verdict::Ok } else { Verdict::Warning },
        found: format!("a process may open {hard} files"),
        cure: (!enough).then(|| format!("raise the hard limit: ulimit -Hn {FILES_WANTED}")),
    }
}

fn inotify() -> Check {
    let read = |name: &str| -> Option<u64> {
        std::fs::read_to_string(format!("/proc/sys/fs/inotify/{name}")).ok()?.trim().parse().ok()
    };
    let (instances, watches) = (read("max_user_instances"), read("max_user_watches"));
    let enough = instances.is_none_or(|instances| instances >= INOTIFY_WANTED);
    let shown = |limit: Option<u64>| limit.map_or_else(|| "unknown".to_owned(), |limit| limit.to_string());
    Check {
        name: "inotify",
        verdict: if enough { Verdict::Ok } else { Verdict::Warning },
        found: format!("{} instances, {} watches per user", shown(instances), shown(watches)),
        cure: (!enough).then(|| format!("sudo sysctl fs.inotify.max_user_instances={INOTIFY_WANTED}")),
    }
}

fn docker(context: &Context) -> Result<Check, Error> {
    // As `up` finds it.
    let variables = load::variables(context)?;
    let asked = runtime()?.block_on(async { Engine::connect(&variables).await?.version().await });
    Ok(match asked {
        Ok(version) => Check {
            name: "docker",
            verdict: Verdict::Ok,
            found: format!("engine {}", version.unwrap_or_else(|| "of unknown version".to_owned())),
            cure: None,
        },
        Err(error) => Check {
            name: "docker",
            verdict: Verdict::Absent,
            found: chain(&error),
            cure: Some("only needed for `cluster: kind` and `minikube`, and on the embedded cluster for images without `process:`".to_owned()),
        },
    })
}

fn program(name: &'static str, arguments: &[&str], what_for: &str) -> Check {
    match Command::new(name).args(arguments).stdin(Stdio::null()).output() {
        Ok(output) if output.status.success() => {
            let said = String::from_utf8_lossy(&output.stdout);
            let found = said.lines().next().unwrap_or("present").trim().to_owned();
            Check { name, verdict: Verdict::Ok, found, cure: None }
        }
        Ok(output) => Check {
            name,
            verdict: Verdict::Warning,
            found: format!("`{name} {}` failed ({})", arguments.join(" "), output.status),
            cure: Some(String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or(what_for).to_owned()),
        },
        Err(_) => {
            Check { name, verdict: Verdict::Absent, found: "not installed".to_owned(), cure: Some(what_for.to_owned()) }
        }
    }
}

/// Tries it for real.
fn sandbox() -> Result<Check, Error> {
    let name = "sandbox";
    Ok(match runtime()?.block_on(embedded::try_sandbox(PathBuf::from(launch::THIS_PROGRAM))) {
        Ok(mode) => {
            let found = format!("pods run as processes in namespaces of their own, {mode}");
            Check { name, verdict: Verdict::Ok, found, cure: None }
        }
        Err(refusal) => {
            Check { name, verdict: Verdict::Failed, found: refusal.to_string(), cure: refusal.error.cure() }
        }
    })
}
