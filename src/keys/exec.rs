//! A command in a running pod of a service, by the API's exec: the same on every kind of cluster.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::api::{Api, AttachParams, AttachedProcess, ListParams};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

use super::call::{CallError, last_lines, one_line};
use crate::objects;
use crate::plan::{NodeId, NodeKind};
use crate::readiness::{pods, words};

/// Longer output is not a key.
const LONGEST: usize = 64 * 1024;

/// What a command wrote.
struct Written {
    out: Vec<u8>,
    err: Vec<u8>,
}

/// Runs a command that prints a key.
pub(super) async fn issue(client: &kube::Client, service: &str, command: &[String]) -> Result<String, CallError> {
    let Written { out, err } = run(client, service, command, None).await?;
    let said = last_lines(&err, &out);
    one_line(out, said)
}

/// Runs a command that reads a key.
pub(super) async fn revoke(
    client: &kube::Client,
    service: &str,
    command: &[String],
    key: &str,
) -> Result<(), CallError> {
    run(client, service, command, Some(key)).await.map(drop)
}

/// Ends the connection with itself: a dropped [`AttachedProcess`] goes on by itself.
struct Attached(AttachedProcess);

impl Drop for Attached {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn run(
    client: &kube::Client,
    service: &str,
    command: &[String],
    input: Option<&str>,
) -> Result<Written, CallError> {
    let api: Api<Pod> = Api::default_namespaced(client.clone());
    let pod = ready_pod(&api, service).await?;
    let parameters = AttachParams { stdin: input.is_some(), ..AttachParams::default() };
    let mut process = Attached(api.exec(&pod, command, &parameters).await.map_err(CallError::Cluster)?);
    let status = process.0.take_status();
    let (stdin, stdout, stderr) = (process.0.stdin(), process.0.stdout(), process.0.stderr());
    let feed = async {
        if let (Some(mut stdin), Some(input)) = (stdin, input) {
            // A command that reads no more has what it needs: its exit code says how it went.
            let _read_no_more = stdin.write_all(format!("{input}\n").as_bytes()).await;
            let _read_no_more = stdin.shutdown().await;
        }
    };
    let ((), out, err) = tokio::join!(feed, read(stdout, Excess::Fails), read(stderr, Excess::IsDropped));
    let (out, err) = (out?, err?);
    let status = match status {
        Some(status) => status.await,
        None => None,
    };
    ended(status.as_ref(), &out, &err)?;
    Ok(Written { out, err })
}

/// A ready pod of the service; the newest, since an older one may be on its way out.
async fn ready_pod(api: &Api<Pod>, service: &str) -> Result<String, CallError> {
    let label = NodeId::new(NodeKind::Service, service).label();
    let selector = ListParams::default().labels(&format!("{}={label}", objects::NODE));
    let mut found = api.list(&selector).await.map_err(CallError::Cluster)?.items;
    found.retain(|pod| pod.metadata.deletion_timestamp.is_none() && pods::is_ready(pod));
    found.sort_by(|one, other| one.metadata.creation_timestamp.cmp(&other.metadata.creation_timestamp));
    let newest = found.pop().and_then(|pod| pod.metadata.name);
    newest.ok_or_else(|| CallError::NoPod { service: service.to_owned() })
}

/// What happens to what is too much.
enum Excess {
    Fails,
    /// What came last is kept: it explains.
    IsDropped,
}

async fn read(stream: Option<impl AsyncRead + Unpin>, excess: Excess) -> Result<Vec<u8>, CallError> {
    let Some(mut stream) = stream else { return Ok(Vec::new()) };
    let mut all = Vec::new();
    let mut some = [0; 4096];
    // An end by error is an end: the status says the rest.
    while let Ok(count @ 1..) = stream.read(&mut some).await {
        all.extend_from_slice(&some[..count]);
        if all.len() > LONGEST {
            match excess {
                Excess::Fails => return Err(CallError::TooLong(LONGEST)),
                Excess::IsDropped => drop(all.drain(..all.len() - LONGEST)),
            }
        }
    }
    Ok(all)
}

fn ended(status: Option<&Status>, out: &[u8], err: &[u8]) -> Result<(), CallError> {
    let Some(status) = status else {
        let message = "the connection to it broke".to_owned();
        return Err(CallError::Broken { message, output: last_lines(err, out) });
    };
    if status.status.as_deref() == Some("Success") {
        return Ok(());
    }
    if let Some(code) = exit_code(status) {
        return Err(CallError::Exited { code, output: last_lines(err, out) });
    }
    let message = words::plain(status.message.as_deref().unwrap_or("no reason was given")).into_owned();
    Err(CallError::NotStarted { message })
}

/// The exit code in a status of exec, as the kubelet tells it (apimachinery `pkg/util/remotecommand/constants.go`: reason
/// `NonZeroExitCode`, cause `ExitCode`).
pub fn exit_code(status: &Status) -> Option<i32> {
    let causes = status.details.as_ref().and_then(|details| details.causes.as_deref()).unwrap_or_default();
    let code = causes.iter().find(|cause| cause.reason.as_deref() == Some("ExitCode"));
    code?.message.as_deref()?.parse().ok()
}
