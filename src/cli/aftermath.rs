//! What is done about a failure of `test` and `up`: a dump before the session goes, and word to whoever the file names.
//!
//! Neither changes how the run ends: what goes wrong here is told in one line.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::Context;
use super::exit::Exit;
use super::load;
use crate::dump;
use crate::error::Error;
use crate::notify::{self, Failed, Message};
use crate::plan::{Notify, Plan};
use crate::redact::Redactor;
use crate::session::lookup;
use crate::session::state::SessionDirectory;
use crate::suite::run::Interrupts;

/// Collects what failed while a verb runs.
pub struct Aftermath<'a> {
    plan: &'a Plan,
    command: &'static str,
    variables: BTreeMap<String, String>,
    /// Whoever is told, here.
    notify: Option<&'a Notify>,
    target: Option<PathBuf>,
    /// Where the dump is, once it is.
    dumped: Option<PathBuf>,
    failures: Vec<Failed>,
}

impl<'a> Aftermath<'a> {
    /// Of a verb with its `--dump`. Who is told of a failure is told where its dump is: then there is one without being asked for.
    ///
    /// # Errors
    /// When the variables cannot be read.
    pub fn new(context: &Context, plan: &'a Plan, command: &'static str, dump: Option<&Path>) -> Result<Self, Error> {
        let variables = load::variables(context)?;
        let notify = plan.notify.as_ref().filter(|notify| notify::applies(notify, &variables));
        let asked_for = dump.filter(|path| *path != Path::new(""));
        let target = asked_for.map(|path| context.working_directory.join(path)).or_else(|| {
            // A checkout that cannot be written is told of when it is written to.
            let own =
                || lookup::own_directory(&plan.project_root).unwrap_or_else(|_| plan.project_root.join(".envctl"));
            notify.map(|_| own().join("report").join("dump.tar.gz"))
        });
        if let Some(earlier) = target.as_ref().filter(|path| dump::is_archive(path) && path.is_file()) {
            // Of an earlier run, as reports are; anything else stays, and is told of when it is in the way.
            let _told_then = std::fs::remove_file(earlier);
        }
        Ok(Self { plan, command, variables, notify, target, dumped: None, failures: Vec::new() })
    }

    /// Whether a failed session must not go before it was dumped.
    pub fn wants_dump(&self) -> bool {
        self.target.is_some()
    }

    /// Something failed.
    pub fn failed(&mut self, suite: Option<&str>, cause: impl Into<String>, tests: Vec<String>) {
        self.failures.push(Failed { suite: suite.map(str::to_owned), cause: cause.into(), tests });
    }

    /// Dumps the session, if that is wanted. Once.
    pub async fn dump(&mut self, context: &mut Context, session: &SessionDirectory) {
        let Some(target) = self.target.take() else { return };
        let parent = target.parent().map_or(Ok(()), std::fs::create_dir_all);
        let written = match parent {
            Ok(()) => dump::dump(session, &target).await.map_err(|error| error.to_string()),
            Err(error) => Err(format!("cannot write the dump to {}: {error}", target.display())),
        };
        match written {
            Ok(index) => {
                for missing in &index.missing {
                    context.out.warn(&format!("{} could not be had for the dump: {}", missing.what, missing.why));
                }
                context.out.say(format!("dump: {}", target.display()));
                self.dumped = Some(target);
            }
            Err(error) => context.out.warn(&format!("{error}; the run's result does not change")),
        }
    }

    /// Whether something was said to have failed.
    pub fn knows(&self) -> bool {
        !self.failures.is_empty()
    }

    /// Tells whoever is to be told, if the verb has failed.
    pub fn tell(self, context: &mut Context, ended: &Result<Exit, Error>) {
        let Some(notify) = self.notify else { return };
        let mut failures = self.failures;
        match ended {
            // Who interrupts it knows.
            Ok(Exit::Ok | Exit::Interrupted) => return,
            Ok(_) => {}
            Err(error) => failures.push(Failed { suite: None, cause: error.to_string(), tests: Vec::new() }),
        }
        let secrets = Redactor::new(notify.secrets(&self.variables));
        // A key in what follows is hidden by the session's redactor, a secret of the file's `notify` by the other.
        let hidden = context.out.hidden();
        for failed in &mut failures {
            failed.cause = hidden.text(&failed.cause).into_owned();
            failed.tests.iter_mut().for_each(|test| *test = hidden.text(test).into_owned());
        }
        // One of its own, left without waiting: a name that nobody resolves holds a thread for as long as the resolver likes.
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return context.out.warn(&format!("nobody was told of the failure: {error}")),
        };
        let told = runtime.block_on(async {
            let mut message = Message {
                environment: self.plan.environment.clone(),
                command: self.command,
                failures,
                dump: self.dumped,
                occasion: notify::Occasion::default(),
            };
            let told = async {
                message.occasion = notify::gather(&self.plan.project_root, &self.variables).await;
                notify::tell(notify, &message, &self.variables, &secrets).await
            };
            tokio::select! {
                told = told => Some(told),
                () = interrupted() => None,
            }
        });
        runtime.shutdown_background();
        let Some(told) = told else {
            return context.out.warn("interrupted: not everybody was told of the failure");
        };
        for notify::Told { whom, result } in told {
            match result {
                Ok(()) => context.out.say(format!("told of the failure: {whom}")),
                Err(error) => {
                    let error = error.to_string();
                    context.out.warn(&format!("not told of the failure: {whom}: {}", secrets.text(&error)));
                }
            }
        }
    }
}

/// Ctrl-C or SIGTERM.
async fn interrupted() {
    let Ok(mut interrupts) = Interrupts::new() else { return std::future::pending().await };
    interrupts.next().await;
}
