//! One suite: run, judged, told of, and its files written.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use nix::unistd::Pid;

use super::Arguments;
use super::session::Session;
use crate::cli::Context;
use crate::cli::duration::human;
use crate::cli::exit::Exit;
use crate::cli::output::Format;
use crate::cli::run::exists;
use crate::cli::up::milliseconds;
use crate::error::Error;
use crate::images::build::display;
use crate::plan::{Plan, PortId, Suite, Viewpoint};
use crate::redact::Redactor;
use crate::session::lookup;
use crate::session::protocol::Reply;
use crate::session::record::Record;
use crate::suite::diagnosis::{Diagnosis, gather};
use crate::suite::junit::{self, Before, Told};
use crate::suite::report::{self, Folder};
use crate::suite::result::{JunitPart, Reason, SuiteResult, judged};
use crate::suite::run::{End, Interrupts, Ran, Spec};
use crate::suite::stream::Writer;

/// What is the same for every suite of a test.
pub(super) struct Around<'a> {
    pub arguments: &'a Arguments,
    pub plan: &'a Plan,
    pub client: &'a kube::Client,
}

/// Runs one suite to its end and says how it went.
pub(super) async fn run(
    around: &Around<'_>,
    context: &mut Context,
    session: &mut Session,
    (name, suite): (&str, &Suite),
    interrupts: &mut Interrupts,
) -> Result<(SuiteResult, Exit), Error> {
    let kept = session.state.session(&session.record.id);
    // A key may have been issued anew since the last suite. Where there is no record any more, the suite is told that its session is lost.
    if let Ok(record) = kept.record() {
        session.record = record;
    }
    context.out.hide_new(&kept);
    let folder = Folder::new(&directory(around, context), name);
    let before = suite.junit.as_deref().map(Before::of);
    let command = display(&suite.run);
    context.out.say(format!("{name}: {command}"));
    let ran = ran(around, context, session, (name, suite), interrupts).await?;
    let program = suite.run.first().map(String::as_str).unwrap_or_default();
    let (reason, message, exit) = judged(&ran, exists(program.as_ref(), &suite.workdir));
    let diagnosis = match reason {
        Reason::Passed | Reason::Interrupted | Reason::SessionLost | Reason::NotExecutable | Reason::NotFound => None,
        Reason::Failed | Reason::Signalled | Reason::TimedOut | Reason::SupervisorLost => {
            Some(gather(around.client, ran.started).await)
        }
    };
    let took = ran.took;
    let mut result = SuiteResult {
        name: name.to_owned(),
        stage: suite.stage.clone(),
        command,
        reason,
        message,
        exit_code: exit.code(),
        started: jiff::Timestamp::try_from(ran.started).map(|time| time.to_string()).unwrap_or_default(),
        took_milliseconds: milliseconds(took),
        ended_processes: ran.left,
        remaining_processes: ran.remain,
        junit: JunitPart::default(),
        failure: None,
        logs: None,
    };
    // While it ran as well.
    context.out.hide_new(&kept);
    let redactor = context.out.hidden();
    let screen = redactor.text(&screen(&result, took, &folder, diagnosis.as_ref())).into_owned();
    let files = Files {
        folder: &folder,
        suite,
        before: before.as_ref(),
        output: &ran.output,
        screen: &screen,
        redactor: &redactor,
    };
    if let Err(error) = files.write(&mut result, took, diagnosis.as_ref()) {
        result.junit.problem.get_or_insert(error.to_string());
    }
    say(context, &result, ran.end, took, &screen);
    Ok((result, exit))
}

/// Where reports go.
fn directory(around: &Around<'_>, context: &Context) -> PathBuf {
    match around.arguments.report.as_deref().filter(|path| *path != Path::new("")) {
        Some(path) => context.working_directory.join(path),
        // A checkout that cannot be written is told of by whoever writes there.
        None => lookup::own_directory(&around.plan.project_root)
            .unwrap_or_else(|_unwritable| around.plan.project_root.join(".envctl"))
            .join("report"),
    }
}

async fn ran(
    around: &Around<'_>,
    context: &mut Context,
    session: &mut Session,
    (name, suite): (&str, &Suite),
    interrupts: &mut Interrupts,
) -> Result<Ran, Error> {
    let variables = variables(around.plan, &session.record, suite)?;
    let structured = matches!(context.out.format, Format::Json | Format::Yaml);
    let writer = Writer::start(structured).map_err(Error::io("start a thread"))?;
    let spec = Spec {
        command: &suite.run,
        directory: &suite.workdir,
        variables: &variables,
        timeout: around.arguments.timeout.or(suite.timeout.map(|timeout| timeout.0)),
        grace: around.arguments.grace,
        redactor: context.out.hidden(),
        except: i32::try_from(session.record.agent_pid).ok().filter(|pid| *pid > 0).map(Pid::from_raw),
    };
    let conversation = &mut session.conversation;
    let lost = async {
        while let Ok(Some(reply)) = conversation.next_or_end().await {
            if matches!(reply, Reply::Ended { .. }) {
                return;
            }
        }
    };
    let out = &mut context.out;
    let mut ran = crate::suite::run::run(&spec, &writer.sender(), interrupts, lost, |sentence| out.say(sentence))
        .await
        .map_err(Error::io(format!("run suite {name}")))?;
    tokio::select! {
        () = writer.finish() => {}
        // The output is stuck, and the user does not want to wait for it.
        _ = interrupts.next() => ran.end = End::Interrupted,
    }
    Ok(ran)
}

/// The suite's variables: the session's exports, and its own over them.
fn variables(plan: &Plan, record: &Record, suite: &Suite) -> Result<BTreeMap<String, String>, Error> {
    let mut variables = record.exports.clone();
    let addresses: BTreeMap<PortId, SocketAddr> = record
        .addresses
        .iter()
        .filter_map(|(name, address)| {
            let (service, port) = name.rsplit_once('.')?;
            Some((PortId { service: service.to_owned(), port: port.to_owned() }, address.parse().ok()?))
        })
        .collect();
    for (name, template) in &suite.env {
        // Every key is exported under its own name.
        let resolved = template.resolve(plan, Viewpoint::Host(&addresses), &record.exports);
        let value = resolved.map_err(|error| Error::Failed {
            what: format!("the suite's variable {name}: {error}"),
            hint: None,
            exit: Exit::Failed,
        })?;
        variables.insert(name.clone(), value);
    }
    Ok(variables)
}

/// What there is to write.
struct Files<'a> {
    folder: &'a Folder,
    suite: &'a Suite,
    before: Option<&'a Before>,
    output: &'a str,
    screen: &'a str,
    redactor: &'a Redactor,
}

impl Files<'_> {
    fn write(
        &self,
        result: &mut SuiteResult,
        took: std::time::Duration,
        diagnosis: Option<&Diagnosis>,
    ) -> Result<(), Error> {
        let unwritable =
            |error: report::ReportError| Error::Failed { what: error.to_string(), hint: None, exit: Exit::Failed };
        // Before anything is removed or written: the suite's file may be the report's own.
        let collected = match (&self.suite.junit, self.before) {
            (Some(path), Some(before)) => junit::read(path, before).map(Some),
            _ => Ok(None),
        };
        let collected = collected.unwrap_or_else(|error| {
            if result.reason.is_suites() {
                result.junit.problem = Some(error.to_string());
            }
            None
        });
        self.folder.renew().map_err(unwritable)?;
        let write = |name: &str, content: &[u8]| {
            let path = self.folder.file(name);
            report::write(&path, content).map_err(unwritable).map(|()| Some(path))
        };
        let text = if let Some((counts, text)) = collected {
            result.junit.counts = Some(counts);
            result.junit.collected = true;
            Ok(text)
        } else {
            let failure = (result.reason != Reason::Passed).then_some((
                result.reason.name(),
                result.message.as_str(),
                result.reason.is_suites(),
            ));
            let told = Told { name: &result.name, took, failure, output: self.output, diagnosis: self.screen };
            junit::written(&told).map_err(Error::io("write JUnit XML"))
        };
        // What cannot be written of one is no reason to go without the others.
        let junit = text.and_then(|text| write("junit.xml", &self.redactor.bytes(&text)));
        if let Some(diagnosis) = diagnosis {
            result.failure = write("failure.txt", self.screen.as_bytes())?;
            result.logs = write("logs.txt", self.redactor.text(&diagnosis.logs()).as_bytes())?;
        }
        result.junit.path = junit?;
        Ok(())
    }
}

/// The one screen of a failure; empty for a suite that passed.
fn screen(result: &SuiteResult, took: std::time::Duration, folder: &Folder, diagnosis: Option<&Diagnosis>) -> String {
    let Some(diagnosis) = diagnosis else { return String::new() };
    let mut text = format!("suite {} {} after {}\n", result.name, result.message, human(took));
    text.push_str(&diagnosis.render());
    text.push_str(&format!("  all logs of its time: {}\n", folder.file("logs.txt").display()));
    text
}

fn say(context: &mut Context, result: &SuiteResult, end: End, took: std::time::Duration, screen: &str) {
    let SuiteResult { name, message, junit, .. } = result;
    let counts = junit.counts.as_ref().map(|counts| format!("  ({counts})")).unwrap_or_default();
    if screen.is_empty() {
        let after = if let End::NotStarted(_) = end { String::new() } else { format!(" after {}", human(took)) };
        context.out.say(format!("{name}: {message}{after}{counts}"));
    } else {
        context.out.say("");
        context.out.raw_err(screen);
        if !counts.is_empty() {
            context.out.say(format!("  its tests:{counts}"));
        }
        for test in junit.counts.iter().flat_map(|counts| &counts.failed) {
            context.out.say(format!("    - {test}"));
        }
    }
    for process in &result.ended_processes {
        context.out.warn(&format!("{name} left a process running, which was ended: {process}"));
    }
    for process in &result.remaining_processes {
        context.out.warn(&format!("{name} left a process running that this user may not end: {process}"));
    }
    if let Some(problem) = &junit.problem {
        context.out.warn(problem);
    }
}
