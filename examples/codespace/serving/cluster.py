"""Models as Kubernetes objects: a Deployment and a Service each, in the namespace that this process runs in."""

import functools
import json
import time
import urllib.request
from pathlib import Path

from django.conf import settings

PORT = 8080
NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


@functools.cache
def clients():
    """The two APIs and the namespace. The client's import takes longer than all else, so only who needs it pays."""
    from kubernetes import client, config

    config.load_incluster_config()
    return client.AppsV1Api(), client.CoreV1Api(), NAMESPACE.read_text()


def deploy(name, weights, bias):
    from kubernetes import client

    apps, core, namespace = clients()
    labels = {"model": name}
    metadata = client.V1ObjectMeta(name=name, labels=labels)
    container = client.V1Container(
        name="model",
        image=settings.MODEL_IMAGE,
        # Kubernetes would pull a name without a tag each time, also where the nodes were given the image.
        image_pull_policy="IfNotPresent",
        args=["examples/codespace/model.py"],
        env=[
            client.V1EnvVar(name="WEIGHTS", value=json.dumps(weights)),
            client.V1EnvVar(name="BIAS", value=json.dumps(bias)),
        ],
        ports=[client.V1ContainerPort(name="http", container_port=PORT)],
        readiness_probe=client.V1Probe(
            http_get=client.V1HTTPGetAction(path="/healthz", port="http"), period_seconds=1
        ),
    )
    template = client.V1PodTemplateSpec(
        metadata=client.V1ObjectMeta(labels=labels),
        spec=client.V1PodSpec(containers=[container], automount_service_account_token=False),
    )
    deployment = client.V1Deployment(
        metadata=metadata,
        spec=client.V1DeploymentSpec(
            replicas=1, selector=client.V1LabelSelector(match_labels=labels), template=template
        ),
    )
    created = apps.create_namespaced_deployment(namespace, deployment)
    owner = client.V1OwnerReference(api_version="apps/v1", kind="Deployment", name=name, uid=created.metadata.uid)
    service = client.V1Service(
        metadata=client.V1ObjectMeta(name=name, labels=labels, owner_references=[owner]),
        spec=client.V1ServiceSpec(selector=labels, ports=[client.V1ServicePort(port=PORT, target_port="http")]),
    )
    core.create_namespaced_service(namespace, service)


def ready(name, wait):
    """Whether the model answers, for which at most `wait` seconds are waited; `None` if there is no such model."""
    until = time.monotonic() + wait
    deployment = read(name)
    if deployment is None:
        return None
    if deployment.status.available_replicas or not wait:
        return bool(deployment.status.available_replicas) and answers(name, until)
    for event, deployment in changes(deployment, wait):
        if event == "DELETED":
            return None
        if deployment.status.available_replicas:
            return answers(name, until)
    return False


def answers(name, until):
    """Whether the model's service leads to it by then. A ready pod is not enough, and nothing tells: kube-proxy writes new
    services and endpoints at most once a second. Until then connections are refused, or leave the cluster, where somebody
    else may answer: only not as the model does."""
    while True:
        try:
            with urllib.request.urlopen(f"http://{name}:{PORT}/healthz", timeout=10):
                return True
        except OSError:
            if time.monotonic() > until:
                return False
            time.sleep(0.05)


def delete(name, wait):
    """Deletes the model with its service and pods and waits at most `wait` seconds until they are gone; `None` if there
    is no such model, else whether it is gone."""
    deployment = read(name)
    if deployment is None:
        return None
    apps, _, namespace = clients()
    apps.delete_namespaced_deployment(name, namespace, propagation_policy="Foreground")
    return any(event == "DELETED" for event, _ in changes(deployment, wait))


def read(name):
    from kubernetes import client

    apps, _, namespace = clients()
    try:
        return apps.read_namespaced_deployment(name, namespace)
    except client.ApiException as error:
        if error.status == 404:
            return None
        raise


def changes(deployment, seconds):
    """What happens to a deployment from its state on, for so long."""
    from kubernetes import watch

    apps, _, namespace = clients()
    stream = watch.Watch()
    events = stream.stream(
        apps.list_namespaced_deployment,
        namespace,
        field_selector=f"metadata.name={deployment.metadata.name}",
        resource_version=deployment.metadata.resource_version,
        timeout_seconds=seconds,
    )
    try:
        for event in events:
            yield event["type"], event["object"]
    finally:
        stream.stop()
