//! Answers for the kubelet's own API: which container runs, where its log is.

use k8s_openapi::api::core::v1::ContainerStatus;

use super::super::super::logs;
use super::super::messages::{Found, Handle, LogRefusal};
use super::{Actor, Running};

impl Actor {
    pub(super) fn find(&self, name: &str) -> Found {
        let Some(index) = self.containers.iter().position(|container| container.name == name) else {
            return Found::NoSuchContainer;
        };
        match &self.running[index] {
            Some(Running { live, .. }) => Found::Running(Handle {
                id: live.id.clone(),
                attach: live.attach.clone(),
                stdin: live.stdin.clone(),
                terminal: live.terminal.clone(),
                exit: live.exit.clone(),
                stdin_once: self.container_spec(index).stdin_once.unwrap_or(false).then(|| self.tell.clone()),
            }),
            None => Found::NotRunning,
        }
    }

    /// As upstream's `validateContainerLogStatus` (`kubelet_pods.go`).
    pub(super) fn log(&self, name: &str, previous: bool) -> Result<logs::reader::Target, LogRefusal> {
        let (container_name, pod) = (name.to_owned(), self.name().to_owned());
        let Some(index) = self.containers.iter().position(|container| container.name == name) else {
            return Err(LogRefusal::NoSuchContainer { container: container_name, pod });
        };
        let container = &self.containers[index];
        let shown = container.status(self.spec(), &self.container_spec(index), self.spec().init_containers.is_some());
        let last_state = |status: &ContainerStatus| status.last_state.clone().and_then(|state| state.terminated);
        let directory = logs::pod_directory(&self.context.state_dir, &self.pod);
        // While nothing runs after an end, the last run is the current one, as upstream has it.
        let current = container.runs.checked_sub(1);
        match (previous, current) {
            (false, Some(run)) => Ok(logs::reader::Target {
                path: logs::run_file(&directory, name, run),
                progress: self.running[index].as_ref().and_then(|running| running.live.log.clone()),
            }),
            (false, None) => {
                let reason =
                    shown.state.and_then(|state| state.waiting).and_then(|waiting| waiting.reason).unwrap_or_default();
                Err(LogRefusal::Waiting { container: container_name, pod, reason })
            }
            // The run that the status calls the last: of one that will start again, that is the one that ended last.
            (true, Some(run)) if last_state(&shown).is_some() => {
                let over =
                    container.is_running() || shown.state.as_ref().is_some_and(|state| state.terminated.is_some());
                let run = if over { run.saturating_sub(1) } else { run };
                Ok(logs::reader::Target { path: logs::run_file(&directory, name, run), progress: None })
            }
            _ => Err(LogRefusal::NoPrevious { container: container_name, pod }),
        }
    }
}
