//! `envctl exec`: runs a command inside a service, over the API server's WebSocket.
//!
//! The command's exit code is this process's. With `-t` the terminal is raw until the command ends, whatever the end.

use std::io::{self, Write};
use std::os::fd::AsFd;

use clap::Args;
use futures::SinkExt;
use futures::channel::mpsc::Sender;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::api::{Api, AttachParams, AttachedProcess, TerminalSize};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::signal::unix::{SignalKind, signal};

use super::conversation::runtime;
use super::exit::Exit;
use super::output::Output;
use super::{Context, FileFlag, cluster, ps};
use crate::cluster::refusal::in_words;
use crate::error::Error;
use crate::keys;
use crate::readiness::words;
use crate::redact::Redactor;
use crate::session::touch;

/// The flags of this verb.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Which environment file.
    #[command(flatten)]
    pub file: FileFlag,
    /// The service
    #[arg(value_name = "SERVICE")]
    pub service: String,
    /// Pass standard input
    #[arg(short = 'i', long, env = "ENVCTL_STDIN", hide_env_values = true)]
    pub stdin: bool,
    /// On a terminal
    #[arg(short = 't', long, env = "ENVCTL_TTY", hide_env_values = true)]
    pub tty: bool,
    /// Pass its output on as it is, with the session's keys if it prints them
    #[arg(long, env = "ENVCTL_RAW", hide_env_values = true)]
    pub raw: bool,
    /// The command and its arguments
    #[arg(value_name = "COMMAND", last = true, required = true)]
    pub command: Vec<String>,
}

/// Runs the verb.
///
/// # Errors
/// When there is no session or service, or the command could not be started.
pub fn run(arguments: &Arguments, context: &mut Context) -> Result<Exit, Error> {
    let (state, record) = context.session()?;
    touch(&state, &record.id);
    let runtime = runtime()?;
    let exit = runtime.block_on(async {
        let client = cluster::client(&record).await?;
        let pods = cluster::pods(&client, std::slice::from_ref(&arguments.service)).await?;
        // The newest that is ready: an older one may be on its way out.
        let staying = || pods.iter().rev().filter(|pod| pod.metadata.deletion_timestamp.is_none());
        let going_on = staying().find(|pod| ps::is_ready(pod)).or_else(|| staying().find(|pod| !has_ended(pod)));
        let pod = going_on.or_else(|| staying().next()).or_else(|| pods.first());
        let name = pod.and_then(|pod| pod.metadata.name.clone()).unwrap_or_default();
        if pod.is_some_and(has_ended) {
            return Err(Error::Failed {
                what: format!("nothing runs in {name} any more: {} has ended", arguments.service),
                hint: Some(format!("`envctl logs {}` prints what it said", arguments.service)),
                exit: Exit::Failed,
            });
        }
        execute(arguments, &mut context.out, Api::default_namespaced(client), &name).await
    });
    // A read of standard input cannot be cancelled; this process ends with it pending.
    runtime.shutdown_background();
    exit
}

/// Whether all of a pod's containers have ended, for good.
fn has_ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

async fn execute(arguments: &Arguments, out: &mut Output, api: Api<Pod>, pod: &str) -> Result<Exit, Error> {
    let parameters = AttachParams {
        stdin: arguments.stdin,
        stdout: true,
        stderr: !arguments.tty,
        tty: arguments.tty,
        ..AttachParams::default()
    };
    let mut process = api.exec(pod, &arguments.command, &parameters).await.map_err(|error| {
        could_not_start(format!("run {} in {pod}: {}", arguments.command[0], words::plain(&in_words(&error))))
    })?;
    let status = process.take_status();
    let raw = arguments.tty.then(Raw::enter).flatten();
    pump(&mut process, arguments, out).await?;
    let status = match status {
        Some(status) => status.await,
        None => None,
    };
    drop(raw);
    match status {
        Some(status) => ended(&status, &arguments.command[0], pod),
        None => Err(Error::Failed {
            what: format!("the connection to {pod} broke before the command ended"),
            hint: None,
            exit: Exit::Failed,
        }),
    }
}

/// Carries the streams until both outputs have ended.
async fn pump(process: &mut AttachedProcess, arguments: &Arguments, out: &mut Output) -> Result<(), Error> {
    let (mut stdout, mut stderr) = (process.stdout(), process.stderr());
    let input = process.stdin();
    let mut size = process.terminal_size();
    let mut stdin = tokio::io::stdin();
    let mut resized = signal(SignalKind::window_change()).map_err(Error::io("receive signals"))?;
    if let Some(size) = &mut size {
        tell_size(size).await;
    }
    // Beside the outputs, not between them: a command that answers while it is still being written to would wait for
    // its answer to be read, and this for its input to be taken.
    let feeding = async {
        let Some(mut input) = input else { return };
        let mut typed = vec![0; 4096];
        loop {
            let count = stdin.read(&mut typed).await.unwrap_or(0);
            if count == 0 || input.write_all(&typed[..count]).await.is_err() {
                break;
            }
        }
        // End of input, or a command that reads no more.
        let _closed_by_the_other_side = input.shutdown().await;
    };
    tokio::pin!(feeding);
    let mut fed = !arguments.stdin;
    let redactor = if arguments.raw { Redactor::default() } else { out.hidden() };
    let (mut clean_out, mut clean_err) = (redactor.stream(), redactor.stream());
    let (mut from_out, mut from_err) = (vec![0; 32 * 1024], vec![0; 32 * 1024]);
    while stdout.is_some() || stderr.is_some() {
        tokio::select! {
            read = read_some(&mut stdout, &mut from_out) => match read {
                Some(count) => out.bytes(&clean_out.push(&from_out[..count])),
                None => stdout = None,
            },
            read = read_some(&mut stderr, &mut from_err), if stderr.is_some() => match read {
                Some(count) => out.bytes_err(&clean_err.push(&from_err[..count])),
                None => stderr = None,
            },
            () = &mut feeding, if !fed => fed = true,
            _ = resized.recv(), if size.is_some() => {
                if let Some(size) = &mut size {
                    tell_size(size).await;
                }
            }
        }
    }
    out.bytes(&clean_out.finish());
    out.bytes_err(&clean_err.finish());
    Ok(())
}

/// What was read; none at the end. Pending for ever where there is no stream.
async fn read_some(stream: &mut Option<impl AsyncRead + Unpin>, buffer: &mut [u8]) -> Option<usize> {
    match stream {
        Some(stream) => stream.read(buffer).await.ok().filter(|count| *count > 0),
        None => std::future::pending().await,
    }
}

async fn tell_size(sender: &mut Sender<TerminalSize>) {
    if let Some((height, width)) = console::Term::stdout().size_checked() {
        // The other side is gone when the command has ended.
        let _ended = sender.send(TerminalSize { width, height }).await;
    }
}

fn ended(status: &Status, command: &str, pod: &str) -> Result<Exit, Error> {
    if status.status.as_deref() == Some("Success") {
        return Ok(Exit::Ok);
    }
    if let Some(code) = keys::exit_code(status) {
        return Ok(Exit::Command(u8::try_from(code).unwrap_or(u8::MAX)));
    }
    let message = words::plain(status.message.as_deref().unwrap_or("no reason was given"));
    Err(could_not_start(format!("run {command} in {pod}: {message}")))
}

/// 127 and 126 by the runtimes' words (runc's and ours): the protocol has no field for it.
fn could_not_start(what: String) -> Error {
    let exit = if what.contains("executable file not found") || what.contains("no such file or directory") {
        Exit::NotFound
    } else if what.to_lowercase().contains("permission denied") {
        Exit::NotExecutable
    } else {
        Exit::Failed
    };
    Error::Failed { what, hint: None, exit }
}

/// The terminal passes every key on, until this is dropped.
struct Raw(Termios);

impl Raw {
    /// None where standard input is no terminal.
    fn enter() -> Option<Self> {
        let stdin = io::stdin();
        let before = tcgetattr(stdin.as_fd()).ok()?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(stdin.as_fd(), SetArg::TCSADRAIN, &raw).ok()?;
        Some(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _terminal_is_gone = io::stdout().flush();
        let _terminal_is_gone = tcsetattr(io::stdin().as_fd(), SetArg::TCSADRAIN, &self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(status: serde_json::Value) -> u8 {
        let status: Status = serde_json::from_value(status).unwrap();
        match ended(&status, "sh", "api") {
            Ok(exit) => exit.code(),
            Err(error) => error.exit().code(),
        }
    }

    #[test]
    fn the_commands_code_passes_through_and_what_never_ran_is_126_or_127() {
        assert_eq!(code(serde_json::json!({"status": "Success"})), 0);
        let exited = serde_json::json!({"status": "Failure", "reason": "NonZeroExitCode",
            "details": {"causes": [{"reason": "ExitCode", "message": "3"}]}});
        assert_eq!(code(exited), 3);
        let missing = r#"exec: "nope": executable file not found in $PATH"#;
        assert_eq!(code(serde_json::json!({"status": "Failure", "message": missing})), 127);
        let denied = r#"exec: "/etc/passwd": Permission denied (os error 13)"#;
        assert_eq!(code(serde_json::json!({"status": "Failure", "message": denied})), 126);
        assert_eq!(code(serde_json::json!({"status": "Failure", "message": "container not found"})), 125);
    }
}
