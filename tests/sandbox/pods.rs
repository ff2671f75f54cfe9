//! Programs in pods: how they start, run and end.

use envctl::embedded::kubelet::runtime::{ExitStatus, Runtime};

use crate::rig::{node, run_script};

#[tokio::test]
async fn a_program_writes_and_exits() {
    let node = node().await;
    let outcome = run_script(&node, "echo out; echo err >&2; exit 3").await;
    assert_eq!((outcome.out.as_str(), outcome.err.as_str()), ("out", "err"));
    assert_eq!(outcome.status, ExitStatus::Code(3));
    node.stop().await;
}
