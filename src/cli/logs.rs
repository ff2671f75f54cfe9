//! `envctl logs`: logs straight from the session's API server, one prefix and colour a service.
//!
//! Without `--follow`, the lines of all containers in the order of their times. With it, as they come; containers
//! that are started later are followed from their first line, and a restarted one again.

use std::collections::HashMap;
use std::time::Duration;

use clap::Args;
use console::{Color, Style};
use futures::{AsyncBufReadExt, StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, LogParams};
use kube::runtime::watcher::{self, Event};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::conversation::runtime;
use super::duration::duration;
use super::exit::Exit;
use super::output::Output;
use super::{Context, cluster};
use crate::error::Error;
use crate::reading;
use crate::session::record::Record;
use crate::session::state::SessionDirectory;

/// The flags of this verb.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The services (default: all)
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
    /// Go on as lines come
    #[arg(short, long, env = "ENVCTL_FOLLOW", hide_env_values = true)]
    pub follow: bool,
    /// Only the last lines of each container
    #[arg(long, env = "ENVCTL_TAIL", hide_env_values = true, value_name = "LINES")]
    pub tail: Option<i64>,
    /// Only what is younger
    #[arg(long, env = "ENVCTL_SINCE", hide_env_values = true, value_name = "DURATION", value_parser = duration)]
    pub since: Option<Duration>,
    /// Of the container before the last restart
    #[arg(short, long, env = "ENVCTL_PREVIOUS", hide_env_values = true)]
    pub previous: bool,
    /// With the time of each line
    #[arg(long, env = "ENVCTL_TIMESTAMPS", hide_env_values = true)]
    pub timestamps: bool,
}

/// A line with whose it is.
#[derive(Debug)]
struct Line {
    node: String,
    /// RFC 3339 with nanoseconds in UTC, so that text order is time order.
    time: String,
    text: String,
}

/// Runs the verb.
///
/// # Errors
/// When there is no session, no such service, or the cluster cannot be asked.
pub fn run(arguments: &Arguments, context: &mut Context) -> Result<Exit, Error> {
    let (state, record) = context.session()?;
    let directory = state.session(&record.id);
    let runtime = runtime()?;
    if arguments.follow {
        runtime.block_on(async {
            let client = cluster::client(&record).await?;
            if !arguments.services.is_empty() {
                cluster::pods(&client, &arguments.services).await?;
            }
            follow(&mut context.out, &client, arguments, &directory).await
        })?;
    } else {
        runtime.block_on(print(context, &record, arguments))?;
    }
    Ok(Exit::Ok)
}

/// Follows every service until the cluster is gone.
///
/// # Errors
/// When it cannot be asked.
pub async fn follow_all(context: &mut Context, record: &Record) -> Result<(), Error> {
    let client = cluster::client(record).await?;
    let arguments =
        Arguments { services: Vec::new(), follow: true, tail: None, since: None, previous: false, timestamps: false };
    let directory = context.state()?.session(&record.id);
    follow(&mut context.out, &client, &arguments, &directory).await
}

impl Arguments {
    fn parameters(&self, follow: bool) -> LogParams {
        LogParams {
            follow,
            previous: self.previous,
            since_seconds: self.since.map(|since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX).max(1)),
            tail_lines: self.tail,
            // Always asked for: they are the order of lines from several containers.
            timestamps: true,
            ..LogParams::default()
        }
    }
}

async fn print(context: &mut Context, record: &Record, arguments: &Arguments) -> Result<(), Error> {
    let client = cluster::client(record).await?;
    let pods = cluster::pods(&client, &arguments.services).await?;
    let api: Api<Pod> = Api::default_namespaced(client);
    let mut lines = Vec::new();
    for pod in &pods {
        let (Some(name), Some(node)) = (&pod.metadata.name, cluster::node_of(pod)) else { continue };
        match api.logs(name, &arguments.parameters(false)).await {
            Ok(text) => lines.extend(text.lines().map(|line| parsed(node, line))),
            // A container that has not started, or not twice, has no log (of that kind): not what was asked about.
            Err(kube::Error::Api(status)) if status.code == 400 => {
                if !arguments.services.is_empty() {
                    context.out.warn(&format!("{name}: {}", status.message));
                }
            }
            Err(error) => return Err(cluster::refused(format!("read the log of {name}"))(error)),
        }
    }
    lines.sort_by(|one, other| one.time.cmp(&other.time));
    let mut printer = Printer::new(arguments, pods.iter().filter_map(cluster::node_of));
    for line in &lines {
        printer.print(&mut context.out, line);
    }
    Ok(())
}

async fn follow(
    out: &mut Output,
    client: &kube::Client,
    arguments: &Arguments,
    directory: &SessionDirectory,
) -> Result<(), Error> {
    let api: Api<Pod> = Api::default_namespaced(client.clone());
    let selector = cluster::selector(&arguments.services);
    let config = watcher::Config::default().labels(&selector);
    let mut events = reading::watch::<Pod>(client.clone(), Some(client.default_namespace()), config);
    let (sender, mut lines) = mpsc::channel(256);
    let mut readers = JoinSet::new();
    // Of each pod, how often its container was restarted before the run that has begun.
    let mut followed: HashMap<String, watch::Sender<i32>> = HashMap::new();
    let mut listed = Vec::new();
    let mut any = false;
    let mut printer = Printer::new(arguments, std::iter::empty());
    loop {
        tokio::select! {
            biased;
            Some(line) = lines.recv() => {
                out.hide_new(directory);
                printer.print(out, &line);
            }
            event = events.next() => {
                let pod = match event {
                    Some(Ok(Event::Apply(pod))) => pod,
                    Some(Ok(Event::InitApply(pod))) => {
                        listed.extend(pod.metadata.name.clone());
                        pod
                    }
                    Some(Ok(Event::Init)) => continue,
                    Some(Ok(Event::InitDone)) => {
                        let listed = std::mem::take(&mut listed);
                        followed.retain(|name, _| listed.contains(name));
                        continue;
                    }
                    Some(Ok(Event::Delete(pod))) => {
                        _ = pod.metadata.name.and_then(|name| followed.remove(&name));
                        continue;
                    }
                    Some(Err(error)) => return gone(&error, any),
                    None => return Ok(()),
                };
                let (Some(name), Some(node), Some(restarts)) = (pod.metadata.name.clone(), cluster::node_of(&pod), run_of(&pod)) else {
                    continue;
                };
                if let Some(begun) = followed.get(&name) {
                    begun.send_if_modified(|run| std::mem::replace(run, restarts) != restarts);
                } else {
                    any = true;
                    let (begun, runs) = watch::channel(restarts);
                    followed.insert(name.clone(), begun);
                    let reader = Reader { api: api.clone(), name, node: node.clone(), runs, sender: sender.clone(), last: None };
                    readers.spawn(reader.read(arguments.parameters(true)));
                }
            }
            Some(_) = readers.join_next() => {}
        }
    }
}

/// A cluster that goes away while it is followed is the end of the logs, not an error.
fn gone(error: &watcher::Error, any_followed: bool) -> Result<(), Error> {
    if !any_followed {
        return Err(Error::Failed { what: format!("watch pods: {error}"), hint: None, exit: Exit::NoCluster });
    }
    Ok(())
}

/// Which run of its container has begun, if one has.
fn run_of(pod: &Pod) -> Option<i32> {
    let container = pod.status.as_ref()?.container_statuses.as_ref()?.first()?;
    let state = container.state.as_ref()?;
    (state.running.is_some() || state.terminated.is_some()).then_some(container.restart_count)
}

/// Follows the runs of one pod's container, one after the other.
///
/// The API gives the log of whichever run is the newest by then, which may be a later one than the one that was told of: what was printed
/// already is left out, and each time the run before is asked for too.
struct Reader {
    api: Api<Pod>,
    name: String,
    node: String,
    runs: watch::Receiver<i32>,
    sender: mpsc::Sender<Line>,
    /// When the last line was written that was passed on.
    last: Option<String>,
}

impl Reader {
    async fn read(mut self, parameters: LogParams) {
        let mut going_on = self.pass_on(&parameters).await;
        // Of what was left out on purpose, nothing comes later.
        let is_part = parameters.tail_lines.is_some() || parameters.since_seconds.is_some();
        let later = LogParams { tail_lines: None, since_seconds: None, ..parameters };
        let before = LogParams { previous: true, follow: false, ..later.clone() };
        while going_on && self.runs.changed().await.is_ok() {
            if !later.previous && (self.last.is_some() || !is_part) {
                self.pass_on(&before).await;
            }
            going_on = self.pass_on(&later).await;
        }
    }

    /// Lines that were written after the last one that was passed on, to the end of the run. `false`: nobody wants them any more.
    async fn pass_on(&mut self, parameters: &LogParams) -> bool {
        let after = self.last.clone();
        // A pod that is removed meanwhile has no more lines; the watch goes on with the others.
        let Ok(stream) = self.api.log_stream(&self.name, parameters).await else { return true };
        let mut lines = stream.lines();
        while let Ok(Some(line)) = lines.try_next().await {
            let line = parsed(&self.node, &line);
            if after.as_ref().is_some_and(|after| line.time <= *after) {
                continue;
            }
            // What two streams say side by side may be a little out of order.
            self.last = self.last.take().max(Some(line.time.clone()));
            if self.sender.send(line).await.is_err() {
                return false;
            }
        }
        true
    }
}

fn parsed(node: &str, line: &str) -> Line {
    let (time, text) = line.split_once(' ').unwrap_or((line, ""));
    Line { node: node.to_owned(), time: time.to_owned(), text: text.to_owned() }
}

/// Prefixes, aligned and coloured.
struct Printer {
    timestamps: bool,
    prefixed: bool,
    width: usize,
    colours: HashMap<String, Color>,
}

impl Printer {
    fn new<'a>(arguments: &'a Arguments, nodes: impl Iterator<Item = &'a String>) -> Self {
        let width = arguments.services.iter().chain(nodes).map(String::len).max().unwrap_or(0);
        Self {
            timestamps: arguments.timestamps,
            prefixed: arguments.services.len() != 1,
            width,
            colours: HashMap::new(),
        }
    }

    fn print(&mut self, out: &mut Output, line: &Line) {
        const COLOURS: [Color; 6] = [Color::Cyan, Color::Yellow, Color::Green, Color::Magenta, Color::Blue, Color::Red];
        let time = if self.timestamps { format!("{} ", line.time) } else { String::new() };
        let hidden = out.hidden();
        let text = hidden.text(&line.text);
        if !self.prefixed {
            out.data(format!("{time}{text}"));
            return;
        }
        self.width = self.width.max(line.node.len());
        let next = COLOURS[self.colours.len() % COLOURS.len()];
        let colour = *self.colours.entry(line.node.clone()).or_insert(next);
        let prefix = format!("{:width$} |", line.node, width = self.width);
        let prefix = out.out_style(Style::new().fg(colour)).apply_to(prefix);
        out.data(format!("{prefix} {time}{text}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_keeps_its_blanks_and_an_empty_one_is_a_line() {
        let line = parsed("api", "2026-11-21T10:00:00.000000001Z   two  blanks ");
        assert_eq!((line.time.as_str(), line.text.as_str()), ("2026-11-21T10:00:00.000000001Z", "  two  blanks "));
        assert_eq!(parsed("api", "2026-11-21T10:00:00Z ").text, "");
    }
}
