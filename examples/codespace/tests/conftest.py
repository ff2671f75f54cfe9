"""The system as its users see it: an address and a key, from the environment."""

import os
import uuid

import pytest
import requests


class Api:
    """Calls the API with a key; answers are (status, JSON)."""

    def __init__(self, url, key):
        self.url = url
        self.session = requests.Session()
        self.session.headers["authorization"] = f"Bearer {key}"

    def call(self, method, path, body=None):
        answer = self.session.request(method, self.url + path, json=body, timeout=90)
        return answer.status_code, answer.json()


@pytest.fixture(scope="session")
def api():
    return Api(os.environ["API_URL"], os.environ["API_KEY"])


@pytest.fixture
def stranger():
    return Api(os.environ["API_URL"], "guessed")


@pytest.fixture
def model(api):
    """Deploys models and waits until they answer; deletes those that are left when the test is over."""
    deployed = []

    def deploy(weights, bias):
        name = f"model-{uuid.uuid4().hex[:8]}"
        assert api.call("POST", "/models", {"name": name, "weights": weights, "bias": bias}) == (201, {"name": name})
        deployed.append(name)
        assert api.call("GET", f"/models/{name}?wait=60") == (200, {"name": name, "ready": True})
        return name

    yield deploy
    for name in deployed:
        assert api.call("DELETE", f"/models/{name}")[0] in (200, 404)
