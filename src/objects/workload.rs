//! Services as Deployment and Service, jobs as Job.

use serde_json::{Map, Value, json};

use super::pod::{self, PodParts};
use super::{RenderError, Scope, access, pod_selector, storage};
use crate::plan::{Job, JobRestart, Port, Service, VolumeSource};

pub(super) fn service(scope: &Scope<'_>, service: &Service) -> Result<Vec<Value>, RenderError> {
    let workload = &service.workload;
    let storage = storage::render(scope, &workload.volumes)?;
    let parts = PodParts { ports: &service.ports, ready: service.ready.as_ref(), restart: None };
    let template = pod::template(scope, workload, &storage, &parts)?;

    let mut spec = Map::new();
    spec.insert("replicas".to_owned(), json!(service.replicas));
    spec.insert("selector".to_owned(), json!({ "matchLabels": pod_selector(&scope.node.id, scope.context) }));
    let keeps_data = workload.volumes.iter().any(|mount| matches!(mount.source, VolumeSource::Claim { .. }));
    if keeps_data && service.replicas == 1 {
        // A database must not meet its successor over the same files.
        spec.insert("strategy".to_owned(), json!({ "type": "Recreate" }));
    }
    spec.insert("template".to_owned(), template);

    let mut objects = access::objects(scope, &workload.rbac);
    objects.extend(storage.objects);
    if !service.ports.is_empty() {
        objects.push(json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": scope.metadata(scope.name()),
            "spec": {
                "type": "ClusterIP",
                "selector": pod_selector(&scope.node.id, scope.context),
                "ports": service.ports.iter().map(service_port).collect::<Vec<_>>(),
            },
        }));
    }
    objects.push(json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": scope.metadata(scope.name()),
        "spec": spec,
    }));
    Ok(objects)
}

fn service_port(port: &Port) -> Value {
    let mut rendered = Map::from_iter([
        ("name".to_owned(), json!(port.name)),
        ("port".to_owned(), json!(port.port)),
        ("targetPort".to_owned(), json!(port.name)),
        ("protocol".to_owned(), json!(port.protocol)),
    ]);
    if let Some(protocol) = &port.app_protocol {
        rendered.insert("appProtocol".to_owned(), json!(protocol));
    }
    Value::Object(rendered)
}

pub(super) fn job(scope: &Scope<'_>, job: &Job) -> Result<Vec<Value>, RenderError> {
    let workload = &job.workload;
    let storage = storage::render(scope, &workload.volumes)?;
    let restart = match job.restart {
        JobRestart::Never => "Never",
        JobRestart::OnFailure => "OnFailure",
    };
    let parts = PodParts { ports: &[], ready: None, restart: Some(restart) };
    let template = pod::template(scope, workload, &storage, &parts)?;

    let mut spec = Map::new();
    if let Some(retries) = job.retries {
        spec.insert("backoffLimit".to_owned(), json!(retries));
    }
    if let Some(timeout) = job.timeout {
        spec.insert("activeDeadlineSeconds".to_owned(), json!(timeout.seconds()));
    }
    spec.insert("template".to_owned(), template);

    let mut objects = access::objects(scope, &workload.rbac);
    objects.extend(storage.objects);
    objects.push(json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": scope.metadata(scope.name()),
        "spec": spec,
    }));
    Ok(objects)
}
