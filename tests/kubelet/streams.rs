//! Logs and exec, over TLS by kube-rs.

use futures::{AsyncBufReadExt as _, StreamExt as _};
use kube::api::{AttachParams, LogParams};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::rig::{Rig, exit_code, shell, shell_with};

#[tokio::test(flavor = "multi_thread")]
async fn logs_are_followed_to_the_end() {
    let Some(rig) = Rig::start().await else { return };
    let script = "mkfifo /kept/more; echo one; echo two >&2; echo three; cat /kept/more";
    let container = shell_with(
        script,
        json!({"volumeMounts": [{"name": "kept", "mountPath": "/kept"}],
        "readinessProbe": {"exec": {"command": ["test", "-p", "/kept/more"]}}}),
    );
    rig.pod(
        "talk",
        json!({"restartPolicy": "Never", "volumes": [{"name": "kept", "emptyDir": {}}], "containers": [container]}),
    )
    .await;
    rig.until_ready("talk").await;
    let parameters = LogParams { follow: true, ..LogParams::default() };
    let mut lines = rig.pods().log_stream("talk", &parameters).await.expect("a log").lines();
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.push(lines.next().await.expect("a line").expect("read"));
    }
    // Two streams: their order among each other is not the log's to know.
    seen.sort();
    assert_eq!(seen, ["one", "three", "two"]);
    // The container ends on it, and may take this command with it.
    rig.exec("talk", "echo four >/kept/more").await;
    assert_eq!(lines.next().await.expect("a line").expect("read"), "four");
    assert!(lines.next().await.is_none(), "the log ends with the container");
    let tail = LogParams { tail_lines: Some(1), timestamps: true, ..LogParams::default() };
    let last = rig.pods().logs("talk", &tail).await.expect("a log");
    let (time, line) = last.trim_end().split_once(' ').expect("a time");
    assert!(time.parse::<jiff::Timestamp>().is_ok() && line == "four", "{last}");
    let none = rig.pods().logs("talk", &LogParams { previous: true, ..LogParams::default() }).await;
    let Err(kube::Error::Api(status)) = none else { panic!("a log of a run that never was: {none:?}") };
    assert!(status.message.contains("previous terminated container \"main\" in pod \"talk\" not found"), "{status:?}");
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn exec_has_streams_and_a_code() {
    let Some(rig) = Rig::start().await else { return };
    rig.pod("app", json!({"containers": [shell("exec sleep 1000")]})).await;
    rig.until_ready("app").await;
    let parameters = AttachParams { stdin: true, stdout: true, stderr: true, ..AttachParams::default() };
    let script = "read line; echo \"got $line\"; echo oops >&2; exit 7";
    let mut process = rig.pods().exec("app", ["sh", "-c", script], &parameters).await.expect("it runs");
    let status = process.take_status().expect("asked for once");
    let mut input = process.stdin().expect("asked for");
    input.write_all(b"hello\n").await.expect("written");
    let (mut out, mut err) = (String::new(), String::new());
    process.stdout().expect("asked for").read_to_string(&mut out).await.expect("read");
    process.stderr().expect("asked for").read_to_string(&mut err).await.expect("read");
    assert_eq!((out.as_str(), err.as_str()), ("got hello\n", "oops\n"));
    assert_eq!(exit_code(&status.await.expect("a status")), 7);

    // The end of the input is passed on.
    let mut process = rig.pods().exec("app", ["cat"], &parameters).await.expect("it runs");
    let (mut input, mut output) = (process.stdin().expect("asked for"), process.stdout().expect("asked for"));
    let mut out = Vec::new();
    // At once: who writes everything first waits for a reader.
    let write = async {
        input.write_all(&[b'x'; 300_000]).await.expect("written");
        input.shutdown().await.expect("closed");
        drop(input);
    };
    let (_, read) = tokio::join!(write, output.read_to_end(&mut out));
    assert_eq!(read.expect("read"), 300_000);

    let terminal = AttachParams { stdin: true, stdout: true, stderr: false, tty: true, ..AttachParams::default() };
    let mut process = rig
        .pods()
        .exec("app", ["sh", "-c", "test -t 0 && test -t 1 && echo terminal"], &terminal)
        .await
        .expect("it runs");
    let mut out = String::new();
    process.stdout().expect("asked for").read_to_string(&mut out).await.expect("read");
    assert_eq!(out.trim_end(), "terminal");

    let mut process = rig.pods().exec("app", ["no-such-program"], &AttachParams::default()).await.expect("answered");
    let status = process.take_status().expect("asked for once").await.expect("a status");
    assert!(status.message.is_some_and(|message| message.contains("executable file not found in $PATH")));
    rig.end().await;
}
