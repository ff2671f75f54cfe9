"""The cluster as the official Python client sees it from outside, with the session's kubeconfig."""

import os

import pytest
from kubernetes import client, config, dynamic
from kubernetes.stream import stream


@pytest.fixture(scope="session")
def core():
    config.load_kube_config()
    return client.CoreV1Api()


@pytest.fixture(scope="session")
def namespace():
    return os.environ["ENVCTL_SESSION_NAMESPACE"]


def only_pod(core, namespace, selector):
    [pod] = core.list_namespaced_pod(namespace, label_selector=selector).items
    return pod.metadata.name


def test_a_models_pods_go_with_it(api, model, core, namespace):
    name = model([1], 0)
    selector = f"model={name}"
    pods = core.list_namespaced_pod(namespace, label_selector=selector)
    assert [pod.spec.containers[0].image for pod in pods.items] == ["codespace"]
    assert api.call("DELETE", f"/models/{name}") == (200, {"name": name, "gone": True})
    assert not core.list_namespaced_pod(namespace, label_selector=selector).items
    assert not core.list_namespaced_service(namespace, label_selector=selector).items


def test_a_command_runs_in_a_models_pod(model, core, namespace):
    pod = only_pod(core, namespace, f"model={model([1], 7)}")
    command = ["sh", "-c", "echo bias $BIAS; echo wrong >&2; exit 3"]
    session = stream(
        core.connect_get_namespaced_pod_exec, pod, namespace, command=command, stdout=True, stderr=True,
        _preload_content=False,
    )  # fmt: skip
    session.run_forever(timeout=30)
    assert (session.read_stdout(), session.read_stderr(), session.returncode) == ("bias 7\n", "wrong\n", 3)


def test_a_models_log_can_be_read(api, model, core, namespace):
    name = model([1], 0)
    assert api.call("POST", f"/models/{name}/predict", {"inputs": [1]})[0] == 200
    log = core.read_namespaced_pod_log(only_pod(core, namespace, f"model={name}"), namespace)
    assert '"POST /predict HTTP/1.1" 200' in log


def test_discovery_finds_deployments(core, namespace):
    deployments = dynamic.DynamicClient(core.api_client).resources.get(api_version="apps/v1", kind="Deployment")
    names = [deployment.metadata.name for deployment in deployments.get(namespace=namespace).items]
    assert {"api", "db", "worker"} <= set(names)
