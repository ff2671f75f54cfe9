//! Container logs: files in the CRI's format, written by the container's task, read by the log endpoint.
//!
//! One file per run, `logs/NAMESPACE_POD_UID/CONTAINER/RUN.log`, each with at most one rotated
//! predecessor `RUN.log.1`; the current and the previous run are kept. A reader that follows is woken by
//! the writer, never polls, and ends when the writer is gone.

pub mod line;
pub mod reader;
pub mod writer;

use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Pod;

/// A pod's log directory, as under `/var/log/pods` (`kuberuntime/helpers.go`, `BuildPodLogsDirectory`).
pub fn pod_directory(root: &Path, pod: &Pod) -> PathBuf {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let name = format!("{}_{}_{}", text(&pod.metadata.namespace), text(&pod.metadata.name), text(&pod.metadata.uid));
    root.join("logs").join(name)
}

/// The file of a container's run number `run` (its restart count then).
pub fn run_file(pod_directory: &Path, container: &str, run: u32) -> PathBuf {
    pod_directory.join(container).join(format!("{run}.log"))
}

/// Where a log file's older part is, once it has been rotated.
pub fn rotated(file: &Path) -> PathBuf {
    file.with_extension("log.1")
}
