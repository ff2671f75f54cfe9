//! Services as Deployment and Service, jobs as Job.

use serde_json::{Map, Value, json};

use super::pod::{self, PodParts};
use super::{OnHost, Pods, RenderError, SLICE_MANAGER, Scope, access, pod_selector, storage};
use crate::plan::{Job, JobRestart, Port, Service, VolumeSource};

pub(super) fn service(scope: &Scope<'_>, service: &Service) -> Result<Vec<Value>, RenderError> {
    let workload = &service.workload;
    let storage = storage::render(scope, &workload.volumes)?;
    let parts = PodParts { ports: &service.ports, ready: service.ready.as_ref(), restart: None };
    let template = pod::template(scope, workload, &storage, &parts)?;

    let on_host = scope.context.on_host.get(scope.name());
    let aside = on_host.is_some_and(|on_host| on_host.pods == Pods::Aside);
    let mut spec = Map::new();
    spec.insert("replicas".to_owned(), json!(if aside { 0 } else { service.replicas }));
    spec.insert("selector".to_owned(), json!({ "matchLabels": pod_selector(&scope.node.id, scope.context) }));
    let keeps_data = workload.volumes.iter().any(|mount| matches!(mount.source, VolumeSource::Claim { .. }));
    // A database must not meet its successor over the same files. The other strategy is said with its defaults: what the API sets itself stays when
    // the type changes, and is refused beside `Recreate` (`pkg/apis/apps/validation`, `ValidateDeploymentStrategy`).
    let strategy = match keeps_data && service.replicas == 1 {
        true => json!({ "type": "Recreate" }),
        false => json!({ "type": "RollingUpdate", "rollingUpdate": { "maxSurge": "25%", "maxUnavailable": "25%" } }),
    };
    spec.insert("strategy".to_owned(), strategy);
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
                "ports": service.ports.iter().map(|port| service_port(port, &service.ports)).collect::<Vec<_>>(),
            },
        }));
    }
    if let Some(on_host) = on_host.filter(|on_host| !on_host.ports.is_empty()) {
        objects.push(slice(scope, service, on_host));
    }
    objects.push(json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": scope.metadata(scope.name()),
        "spec": spec,
    }));
    Ok(objects)
}

/// The endpoint on the host, beside those of pods.
fn slice(scope: &Scope<'_>, service: &Service, on_host: &OnHost) -> Value {
    let mut metadata = scope.metadata(&format!("{}-on-host", scope.name()));
    metadata["labels"]["kubernetes.io/service-name"] = json!(scope.name());
    metadata["labels"]["endpointslice.kubernetes.io/managed-by"] = json!(SLICE_MANAGER);
    let ports = service.ports.iter().filter_map(|port| {
        let number = on_host.ports.get(&port.name)?;
        Some(json!({ "name": port.name, "port": number, "protocol": port.protocol }))
    });
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": metadata,
        "addressType": "IPv4",
        "ports": ports.collect::<Vec<_>>(),
        "endpoints": [{ "addresses": [on_host.address], "conditions": { "ready": true } }],
    })
}

fn service_port(port: &Port, all: &[Port]) -> Value {
    let mut rendered = Map::from_iter([
        ("name".to_owned(), json!(port.name)),
        ("port".to_owned(), json!(port.port)),
        ("targetPort".to_owned(), json!(pod::behind(all, port).name)),
        ("protocol".to_owned(), json!(port.protocol)),
    ]);
    if let Some(protocol) = &port.app_protocol {
        rendered.insert("appProtocol".to_owned(), json!(protocol));
    }
    Value::Object(rendered)
}

/// How often a failed job is tried again unless the file says. Kubernetes' own 6 take ten minutes and a half, since the pauses double: longer than anybody
/// waits for an `up`. What was only too early (a service's address is known to nodes up to a second late) has gone well by the third.
const RETRIES: u32 = 2;

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
    spec.insert("backoffLimit".to_owned(), json!(job.retries.unwrap_or(RETRIES)));
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
