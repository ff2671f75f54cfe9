//! What the API hears of the pod: its status, and in the end its deletion.

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions, Resource};
use kube::core::Request;
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::super::super::status::{self, Observed};
use super::super::decide::{decide, spec_of};
use super::super::messages::Message;
use super::super::state::{Kind, Run};
use super::{Actor, DEADLINE, Sandbox, TRY_AGAIN, Why};

impl Actor {
    pub(super) fn observed(&self) -> Observed {
        let initializing = self.spec().init_containers.as_ref().is_some_and(|list| !list.is_empty());
        let mut init = Vec::new();
        let mut regular = Vec::new();
        for (index, container) in self.containers.iter().enumerate() {
            let Some(spec) = spec_of(self.spec(), index) else { continue };
            let status = container.status(self.spec(), spec, initializing);
            if container.kind == Kind::Regular { regular.push(status) } else { init.push(status) }
        }
        Observed {
            init,
            regular,
            sandbox: matches!(self.sandbox, Sandbox::Up),
            pod_ip: self.pod_ip.map(|ip| ip.to_string()),
            host_ip: self.context.network.node_ip().to_string(),
            start_time: Time(self.start_time),
            terminal: self.terminal,
            has_initialized: self
                .containers
                .iter()
                .any(|container| container.kind == Kind::Regular && container.runs > 0),
            failed: (self.ending == Some(Why::Deadline)).then_some(("DeadlineExceeded", DEADLINE)),
        }
    }

    /// Makes the status and writes it, if it is another than the last.
    pub(super) fn publish(&mut self) {
        if matches!(self.ending, Some(Why::Gone | Why::Stop)) || self.deleting {
            return;
        }
        if self.is_first_starting() {
            return;
        }
        let started =
            !matches!(self.sandbox, Sandbox::Gone) || self.status.container_statuses.is_some() || self.ending.is_some();
        if !started {
            return;
        }
        let status = status::generate(&self.pod, &self.status, &self.observed(), Time(Timestamp::now()));
        if status != self.status {
            self.status = status;
            self.dirty = true;
        }
        if self.dirty && self.write_retry.is_none() {
            self.write();
        }
    }

    /// Whether the pod's first containers are being started. That they could be is nothing to tell: in a moment they run, or what
    /// holds them up is known. Upstream, which makes a status once per sync, doesn't tell either.
    fn is_first_starting(&self) -> bool {
        let first = self.containers.iter().all(|container| container.runs == 0 && container.waiting.is_none());
        first
            && self.ending.is_none()
            && matches!(self.sandbox, Sandbox::Up)
            && self.volumes.is_some()
            && (self.containers.iter().any(|container| matches!(container.run, Run::Starting))
                || !decide(self.spec(), &self.containers, false, Instant::now()).start.is_empty())
    }

    pub(super) fn retry_write(&mut self) {
        self.write_retry = Some(Instant::now() + self.write_delay);
        self.write_delay = (self.write_delay * 2).min(TRY_AGAIN);
    }

    pub(super) fn write(&mut self) {
        if self.writing || !self.dirty {
            return;
        }
        self.writing = true;
        self.dirty = false;
        let patch = Patch::Strategic(json!({"metadata": {"uid": self.uid()}, "status": whole(&self.status)}));
        let pods = Request::new(Pod::url_path(&(), self.pod.metadata.namespace.as_deref()));
        let request = pods.patch_subresource("status", self.name(), &PatchParams::default(), &patch);
        let (client, tell) = (self.context.client.clone(), self.tell.clone());
        self.jobs.spawn(async move {
            // The watch shows what became of it.
            let result = match request {
                Ok(request) => client.request::<IgnoredAny>(request).await.map(drop),
                Err(error) => Err(kube::Error::BuildRequest(error)),
            };
            let _ = tell.send(Message::StatusWritten(result.map_err(Box::new))).await;
        });
    }

    pub(super) fn delete(&mut self) {
        self.deleting = true;
        let api: Api<Pod> =
            Api::namespaced(self.context.client.clone(), self.pod.metadata.namespace.as_deref().unwrap_or_default());
        let parameters = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(Preconditions { uid: Some(self.uid()), resource_version: None }),
            ..DeleteParams::default()
        };
        let (name, tell) = (self.name().to_owned(), self.tell.clone());
        self.jobs.spawn(async move {
            let result = api.delete(&name, &parameters).await;
            let _ = tell.send(Message::Deleted(result.map(drop).map_err(Box::new))).await;
        });
    }
}

/// A status as a strategic patch that makes it all there is: what is no longer said is taken back, also from conditions, which are
/// merged by their type (upstream patches the difference, `pkg/util/pod/pod.go`).
fn whole(status: &PodStatus) -> Value {
    let mut status = serde_json::to_value(status).unwrap_or_default();
    clear_unsaid(&mut status);
    for condition in status.get_mut("conditions").and_then(Value::as_array_mut).into_iter().flatten() {
        clear_unsaid(condition);
    }
    status
}

fn clear_unsaid(value: &mut Value) {
    for field in ["reason", "message"] {
        if value.get(field).is_none() {
            value[field] = Value::Null;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_that_has_no_reason_any_more_takes_it_back() {
        let status: PodStatus = serde_json::from_value(json!({
            "phase": "Running", "conditions": [{"type": "Ready", "status": "True"}],
        }))
        .expect("a status");
        let whole = whole(&status);
        let condition = whole["conditions"][0].as_object().expect("a condition");
        assert_eq!((condition.get("reason"), condition.get("message")), (Some(&Value::Null), Some(&Value::Null)));
        assert_eq!(whole.get("message"), Some(&Value::Null));
    }
}
