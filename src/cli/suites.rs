//! `envctl suites`: which suite runs where, and how.

use clap::Args;
use serde::Serialize;

use super::exit::Exit;
use super::output::Format;
use super::{Context, FileFlag, load};
use crate::error::Error;
use crate::images::build::display;

/// The flags of this verb.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Which environment file.
    #[command(flatten)]
    pub file: FileFlag,
}

/// `-o json`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    version: u32,
    suites: Vec<Row>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    suite: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    stage: Option<String>,
    /// What runs it, as it would be typed.
    runs: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout_seconds: Option<u64>,
    /// On a developer's machine.
    local: String,
    /// In a job of its stage, with every suite of that stage.
    ci: String,
}

/// Runs the verb.
///
/// # Errors
/// A bad environment file.
pub fn run(_arguments: &Arguments, context: &mut Context) -> Result<Exit, Error> {
    let plan = load::plan(context)?;
    let file = context.file.as_ref().map(|file| format!(" -f {}", display(&[file.display().to_string()])));
    let file = file.unwrap_or_default();
    let mut rows: Vec<Row> = plan
        .suites
        .iter()
        .map(|(name, suite)| {
            let quoted = display(std::slice::from_ref(name));
            let chosen = match &suite.stage {
                Some(stage) => format!("--stage {}", display(std::slice::from_ref(stage))),
                None => quoted.clone(),
            };
            Row {
                suite: name.clone(),
                stage: suite.stage.clone(),
                runs: display(&suite.run),
                timeout_seconds: suite.timeout.map(crate::plan::TimeSpan::seconds),
                local: format!("envctl test{file} {quoted}"),
                ci: format!(
                    "envctl test{file} {chosen} --report report --result report/result.json --dump report/dump.tar.gz"
                ),
            }
        })
        .collect();
    rows.sort_by(|one, other| (&one.stage, &one.suite).cmp(&(&other.stage, &other.suite)));
    match context.out.format {
        Format::Json | Format::Yaml => context.out.document(&Document { version: 1, suites: rows })?,
        Format::Name => rows.iter().for_each(|row| context.out.data(&row.suite)),
        Format::Text | Format::Objects if rows.is_empty() => {
            context.out.say(format!("{} has no suites", plan.file.display()));
        }
        Format::Text | Format::Objects => {
            let rows: Vec<Vec<String>> = rows
                .into_iter()
                .map(|row| vec![row.suite, row.stage.unwrap_or_else(|| "-".to_owned()), row.runs, row.local, row.ci])
                .collect();
            context.out.table(&["SUITE", "STAGE", "RUNS", "LOCAL", "CI"], &rows);
        }
    }
    Ok(Exit::Ok)
}
